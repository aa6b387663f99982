"""Figures and tables of the chapter on the published curves, examined."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from aevb.colours import GREY
from aevb.reproduction import figures, results, settings, tables
from aevb.reproduction.curves import Curves, averages_between, distinct, values_at


def points(dataset: str, algorithm: str, split: str, latent_dim: int) -> pd.Series:
    """The published points of one curve of figure 2, in nats by samples, near-coincident ones dropped."""
    panel: dict[str, Any] = {"dataset": dataset, "algorithm": algorithm, "split": split, "latent_dim": latent_dim}
    return distinct(results.published("figure2").select(**panel).mean())


def lags(of_curves: dict[tuple[str, float], tuple[pd.Series, pd.Series]]) -> Markdown:
    """The table of train bounds minus the published ones, in nats: averaged over the windows, and evaluated.

    `of_curves` has both by algorithm and step size.
    """
    rows = [
        (figures.NAMES[algorithm], size, *(", ".join(f"{value:+.0f}" for value in part) for part in parts))
        for (algorithm, size), parts in of_curves.items()
    ]
    return tables.markdown_table(["train, MNIST, 20 latents", "step size", "averaged", "evaluated"], rows)


def digits(against: pd.DataFrame) -> Markdown:
    """The table of the bound on each ten thousand digits, in nats: the mean over the models of each dimension.

    `against` has a row per model, indexed by `algorithm`, `latent_dim` and `seed`, and a column per part.
    """
    means = against.groupby(["algorithm", "latent_dim"]).mean()
    rows = [
        (figures.NAMES[algorithm], latent_dim, *(f"{value:+.1f}" for value in row))
        for (algorithm, latent_dim), row in means.iterrows()
    ]
    return tables.markdown_table(["", "latents", *means], rows)


def train_minus_test(gaps: pd.DataFrame) -> Figure:
    """Three panels of our gaps against the published ones, in nats: a mark per run, with the line of equality.

    `gaps` has a row per run, indexed by `algorithm`, `latent_dim` and `seed`, a column "published" and three of ours.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 3.3), sharex=True, sharey=True)
    fewest = gaps.index.get_level_values("latent_dim").min()
    marks = dict(zip(gaps.index.unique(0), "os", strict=False))
    for axis, title in zip(axes, gaps.columns.drop("published"), strict=True):
        axis.axline((0, 0), slope=1, color=GREY, linewidth=1)
        for (algorithm, latent_dim, _), row in gaps.iterrows():
            colour = figures.COLOURS[algorithm]
            filled = "none" if latent_dim == fewest else colour
            style = {"color": colour, "markerfacecolor": filled, "markersize": 5}
            axis.plot(row["published"], row[title], marks[algorithm], **style)
        axis.set(title=title, xlabel="published, nats")
    axes[0].set_ylabel("ours, nats")
    return figure


def distances(of_gaps: pd.DataFrame) -> Markdown:
    """The table of how far our gaps are from the published ones, in nats; `of_gaps` has a row per run."""
    of_seed_0 = of_gaps.index.get_level_values("seed") == 0
    first, others = of_gaps[of_seed_0], of_gaps[~of_seed_0]
    summaries = {
        f"r.m.s., the {len(first)} runs of seed 0": (first**2).mean() ** 0.5,
        f"r.m.s., the {len(others)} of seeds 1 and 2": (others**2).mean() ** 0.5,
        "median distance, all": of_gaps.abs().median(),
    }
    rows = [(title, *(f"{value:.2f}" for value in values)) for title, values in summaries.items()]
    return tables.markdown_table(["ours minus the published gap, nats", *of_gaps.columns], rows)


def minibatches(by_size: dict[str, Curves]) -> Markdown:
    """The table of minibatches: `from_paper` of each record in `by_size`, and its mean first train window, in nats."""
    dims = settings.LATENT_DIMS["frey"]
    apart = [(f"{d} latents", *(f"{_rms(_apart(record, d)):.0f}" for record in by_size.values())) for d in dims]
    in_all = ("all four", *(f"**{from_paper(record):.0f}**" for record in by_size.values()))
    windows = (np.mean([_apart(record, d, "train").iloc[0] for d in dims]) for record in by_size.values())
    first = ("first train window, mean", *(f"{window:+.0f}" for window in windows))
    return tables.markdown_table(["AEVB, Frey Face", *by_size], [*apart, in_all, first])


def from_paper(record: Curves, stretch: int = 1) -> float:
    """The root mean square difference of AEVB from all published test points of the faces to 2M samples, in nats.

    Every sample of the `record` counts `stretch` times.
    """
    return _rms(pd.concat([_apart(record, d, stretch=stretch) for d in settings.LATENT_DIMS["frey"]]))


def _apart(record: Curves, latent_dim: int, split: str = "test", stretch: int = 1) -> pd.Series:
    """Ours minus the published points of AEVB on the faces to 2M samples; train is averaged over the windows."""
    theirs = points("frey", "aevb", split, latent_dim).loc[:2_000_000]
    shown, read = ("running", averages_between) if split == "train" else (split, values_at)
    ours = record.select(dataset="frey", latent_dim=latent_dim, algorithm="aevb", split=shown).mean()
    ours.index = ours.index * stretch
    return read(ours, theirs.index) - theirs


def _rms(differences: pd.Series) -> float:
    """The root mean square of differences, in their unit."""
    return float(np.sqrt((differences**2).mean()))
