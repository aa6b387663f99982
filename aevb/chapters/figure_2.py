"""Figures and tables of the chapter on figure 2."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from aevb.reproduction import claims, verdicts
from aevb.reproduction.curves import MISSES, OUTCOMES, Curves, value_at
from aevb.reproduction.figures import COLOURS, NAMES, SOURCES, title
from aevb.reproduction.leads import PAPER_END
from aevb.reproduction.settings import FIGURE2, LATENT_DIMS
from aevb.reproduction.tables import markdown_table

_CLOSING = (  # the curves of the closing box: dataset, latents, algorithm, split
    ("mnist", 3, "aevb", "test"),
    ("mnist", 20, "aevb", "test"),
    ("mnist", 3, "wake-sleep", "test"),
    ("mnist", 20, "wake-sleep", "test"),
    ("frey", 10, "aevb", "test"),
    ("frey", 20, "wake-sleep", "train"),
)


def outcomes_table(points: pd.DataFrame) -> Markdown:
    """The numbers of published points by outcome, one row per dataset and algorithm.

    `points` are those of `curves.against_points`.
    """
    counts = points.groupby(["dataset", "algorithm"])["outcome"].value_counts().unstack(fill_value=0)
    rows = []
    for (dataset, algorithm), row in counts.reindex(columns=OUTCOMES, fill_value=0).iterrows():
        share = 1 - row[list(MISSES)].sum() / row.sum()
        rows.append((NAMES[dataset], NAMES[algorithm], *row, f"{share:.0%}"))
    return markdown_table(["", "algorithm", *OUTCOMES, "met or beaten"], rows)


def misses_table(missed: pd.DataFrame) -> Markdown:
    """The points of `curves.misses`, one row per panel, algorithm and outcome.

    How many there are, the first and the last, how far off the worst is; how many a shift in time meets, with the
    median shift; how many another seed meets, of those that another reaches.
    """
    panel = ["dataset", "algorithm", "latent_dim", "outcome"]
    rows = []
    for (dataset, algorithm, latent_dim, outcome), part in missed.groupby(panel):
        off, reached = part["ours"] - part["bound"], part[part["seeds"] > 1]
        cells = (
            " to ".join(f"{samples / 1e6:.1f}M" for samples in (part["samples"].min(), part["samples"].max())),
            f"{off.loc[off.abs().idxmax()]:+.1f}",
            _in_time(part["late"].dropna()),
            f"{(reached['met_by'] > 0).sum()} of {len(reached)}" if len(reached) else "",
        )
        rows.append((f"{title(dataset, algorithm)}, {latent_dim}", outcome, len(part), *cells))
    titles = ["curves", "ours", "points", "between", "furthest", "met in time", "met by another seed"]
    return markdown_table(titles, rows)


def _in_time(late: pd.Series) -> str:
    if late.empty:
        return "0"
    shift = late.median() - 1
    return f"{len(late)}: {abs(shift):.0%} {'late' if shift > 0 else 'early'}"


def claims_table(*numbers: int) -> Markdown:
    """The rows of the table of claims with these `numbers`, measured on the record."""
    columns = ["claim", "measure", "published", "ours", "seeds", "verdict"]
    judged = claims.of_record().set_index("number").loc[list(numbers), columns]
    titles = {"measure": "measured by", "seeds": "over seeds"}
    return markdown_table([titles.get(name, name) for name in columns], [tuple(row) for row in judged.values])


def verdict_rows(*numbers: int) -> list[tuple[str, str, str]]:
    """Rows of a closing box: the claims with these `numbers`, our measure on the record with the verdict, its rule."""
    judged = claims.of_record().set_index("number").loc[list(numbers)]
    return [(row.claim, f"{row.ours}: {row.verdict}", "the seeds' interval") for row in judged.itertuples()]


def differences_table(table: pd.DataFrame) -> Markdown:
    """Ours minus published at each place of `table`, that of `curves.agreement` on one split, one row per panel."""
    differences = table.set_index(["dataset", "latent_dim", "algorithm", "samples"])["difference"]
    wide = differences.unstack(["algorithm", "samples"]).sort_index(axis=1)
    heads = [f"{NAMES[algorithm]} {samples / 1e6:.0f}M" for algorithm, samples in wide.columns]
    rows = [
        (NAMES[dataset], latent_dim, *("" if math.isnan(value) else f"{value:+.1f}" for value in row))
        for (dataset, latent_dim), row in zip(wide.index, wide.values.tolist(), strict=True)
    ]
    return markdown_table(["", "latents", *heads], rows)


def gaps_table(theirs: pd.Series, ours: pd.Series, samples: float) -> Markdown:
    """The train-test gaps, published and ours after so many samples, one row per number of latents."""
    rows = [(dim, f"{theirs[dim]:+.1f}", f"{ours[dim]:+.1f}") for dim in theirs.index]
    return markdown_table(["latents", f"published, {samples / 1e6:.0f}M", "ours"], rows)


def of_face(curves: Curves, latent_dim: int, until: float = PAPER_END, algorithm: str = "aevb") -> pd.Series:
    """The test bound on the faces, by samples, up to `until`, by default the end of the paper's axes."""
    name = {"dataset": "frey", "algorithm": algorithm, "split": "test", "latent_dim": latent_dim}
    return curves.select(until, **name).mean()


def faces_figure(published: Curves, hundred: Curves, larger: Curves, algorithms: Sequence[str] = ("aevb",)) -> None:
    """Draw the test bound on the faces: published, with the paper's minibatches of 100, and with larger ones."""
    styles: tuple[dict[str, Any], ...] = SOURCES["published"], {"linestyle": ":"}, {}
    _, axes = plt.subplots(1, len(LATENT_DIMS["frey"]), figsize=(10, 2.9), sharey=True)
    for axis, latent_dim in zip(axes, LATENT_DIMS["frey"], strict=True):
        for curves, style in zip((published, hundred, larger), styles, strict=True):
            for algorithm in algorithms:
                axis.plot(of_face(curves, latent_dim, math.inf, algorithm=algorithm), color=COLOURS[algorithm], **style)
        axis.set(xscale="log", xlim=(1e5, PAPER_END), ylim=(400, 1400), xlabel="samples", title=f"{latent_dim} latents")
    axes[0].set_ylabel("test bound, nats per face")


def faces_table(published: Curves, ours: dict[str, Curves]) -> Markdown:
    """The maxima of AEVB's test bound on the faces, and ours minus published where ours ends; a row per number.

    `ours` has our curves by the minibatch.
    """
    ends = {name: f"{min(curves.end, PAPER_END) / 1e6:.0f}M" for name, curves in ours.items()}
    heads = [f"maximum, {name}" for name in ("published", *ours)]
    rows = []
    for latent_dim in LATENT_DIMS["frey"]:
        theirs, *mine = (of_face(curves, latent_dim) for curves in (published, *ours.values()))
        maxima = (f"{curve.max():.0f} ({curve.idxmax() / 1e6:.0f}M)" for curve in (theirs, *mine))
        whole = of_face(published, latent_dim, math.inf)
        last = (f"{curve.iloc[-1] - value_at(whole, curve.index[-1]):+.0f}" for curve in mine)
        rows.append((latent_dim, *maxima, *last))
    return markdown_table(["latents", *heads, *(f"{name} minus published, {end}" for name, end in ends.items())], rows)


def met_table(met: pd.DataFrame) -> Markdown:
    """The counts of `curves.met_by_seeds`, a row per dataset, algorithm and seed."""
    rows = [(NAMES[row.dataset], NAMES[row.algorithm], *row[3:]) for row in met.reset_index().itertuples()]
    return markdown_table(["", "algorithm", "seed", *met.columns], rows)


def leaving(curves: Curves, level: float) -> set[int]:
    """The numbers of latents with which a run of wake-sleep on the faces has a training bound above `level`."""
    chosen = curves.select(dataset="frey", algorithm="wake-sleep", split="train").table
    return set(chosen.loc[chosen[curves.kind.value] > level, "latent_dim"])


def among_seeds(live: Curves, seeds: Curves, samples: float, by: list[str]) -> pd.DataFrame:
    """The test value of the live runs at `samples`, the mean over the panels of a figure, and where seeds put it.

    One row per combination of the columns `by`: the value, `live`, and the ends of Student's prediction interval from
    the recorded `seeds`, `low` and `high`.
    """

    def over_panels(curves: Curves) -> pd.Series:
        return curves.at_each_seed(samples).xs("test", level="split").groupby([*by, "seed"]).mean()

    here = over_panels(live).droplevel("seed")
    limits = over_panels(seeds).groupby(by).agg(verdicts.prediction_interval)
    table = pd.DataFrame({"live": here, "low": limits.str[0], "high": limits.str[1]}).loc[here.index]
    print(f"at {samples:,.0f} samples, nats; live, and where 999 of 1000 seeds lie:")
    for name, row in table.iterrows():
        title = ", ".join(NAMES[part] for part in (name if isinstance(name, tuple) else (name,)))
        print(f"{title}: {row['live']:.1f}, {row['low']:.1f} to {row['high']:.1f}")
    return table


def step_sizes_figure(tried: Curves) -> None:
    """Draw the training bound on MNIST at step size 0.02 minus that at 0.01, against training samples."""
    _, axis = plt.subplots(figsize=(7, 3.4))
    for (algorithm, latent_dim), part in tried.select(dataset="mnist", split="train").each("algorithm", "latent_dim"):
        gain = part.select(step_size=0.02).mean() - part.select(step_size=0.01).mean()
        alpha = 0.3 + 0.17 * LATENT_DIMS["mnist"].index(latent_dim)
        axis.plot(gain.dropna(), color=COLOURS[algorithm], alpha=alpha)
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set(xscale="log", ylim=(-60, 60), xlabel="training samples", ylabel="0.02 minus 0.01 (nats)")


def closing_rows(points: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Rows of the closing box: published bounds, ours with its outcome, and the tolerance.

    `points` are those of `curves.against_points`; the last one of a curve is compared.
    """
    by_curve = points.set_index(["dataset", "latent_dim", "algorithm", "split"]).sort_index()
    return [_closing_row(*name, by_curve.loc[[name]].iloc[-1]) for name in _CLOSING]


def _closing_row(dataset: str, latent_dim: int, algorithm: str, split: str, end: pd.Series) -> tuple[str, str, str]:
    panel = FIGURE2[dataset]
    return (
        f"{title(dataset, algorithm)}, {latent_dim} latents, {split}: "
        f"{end['bound']:.1f} at {end['samples'] / 1e6:.0f}M",
        f"{end['ours']:.1f}: {end['outcome']}",
        f"{panel.nats:.0f} nats" if panel.nats else f"{100 * panel.share:.0f} %",
    )
