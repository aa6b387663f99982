"""Figures and tables of the chapter on the published curves, examined."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from aevb.colours import GREY
from aevb.reproduction import figures, results, tables
from aevb.reproduction.curves import distinct


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
    return tables.markdown_table(["", "latents", *(name.split()[-1] for name in means)], rows)


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


def minibatches(on_test: dict[tuple[int, str], pd.Series], windows: dict[tuple[int, str], float]) -> Markdown:
    """The table of minibatches: root mean square differences per panel and in all, and the mean first train window.

    `on_test` has the differences from the published test points and `windows` those of the first train points, in
    nats, by number of latents and reading.
    """
    dims, names = list(dict.fromkeys(d for d, _ in on_test)), list(dict.fromkeys(name for _, name in on_test))
    rows = [(f"{d} latents", *(f"{rms(on_test[d, name]):.0f}" for name in names)) for d in dims]
    rows.append(("all four", *(f"**{rms(pd.concat([on_test[d, name] for d in dims])):.0f}**" for name in names)))
    first = (f"{np.mean([windows[d, name] for d in dims]):+.0f}" for name in names)
    return tables.markdown_table(["AEVB, Frey Face", *names], [*rows, ("first train window, mean", *first)])


def rms(differences: pd.Series) -> float:
    """The root mean square of differences, in their unit."""
    return float(np.sqrt((differences**2).mean()))
