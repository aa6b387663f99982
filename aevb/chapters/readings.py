"""Figures and tables of the chapter on what the paper does not say."""

import math
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aevb.book import choices
from aevb.colours import BLUE, GREEN, GREY, ORANGE, PINK
from aevb.model import VAE
from aevb.reproduction import figures, readings, results, tables
from aevb.reproduction.curves import Curves
from aevb.reproduction.settings import MINIBATCHES
from aevb.trainer import Trainer

ASIDES = ("hidden units", "samples and minibatch")  # questions that are not left open
RUINOUS = "0.1"  # the step size that ruins every run: what it does is no matter of degree


SHOWN = {  # the limits of the bound and the questions of each figure of curves, by dataset
    "mnist": ((-260, -95), ("warm-up", "initial weights", "step size", "pixels")),
    "frey": ((300, 1050), ("warm-up", "initial weights", "step size", "weight prior")),
}
AT_REST = "mnist", readings.BASELINE_LATENT_DIM["mnist"]  # the panel of choices as paper has it
COLOURS = (BLUE, ORANGE, GREEN, PINK)  # of the answers to one question


def comparisons() -> list[tuple[Curves, Curves]]:
    """The recorded readings, record by record, each beside the unchanged runs that it is compared with.

    Where the baseline goes on from one seed alone, readings of as long curves are compared with that seed.
    """
    base = figures.trained_alike()
    one_seed = base.select(seed=0)
    (tried, unchanged), by_latents, (of_plateau, _), *others = choices.recorded(base)
    left_open = [question for question in tried.table["question"].unique() if question not in ASIDES]
    plateau = of_plateau.select(answer=["none", "whole in each minibatch", "on the decoder alone"])
    sizes = results.recorded("figure2-minibatches").select(algorithm="aevb")

    def of_size(size: int, until: float = math.inf) -> tuple[Curves, Curves]:
        return choices.named(sizes.select(until, batch_size=size), "size of a minibatch", f"{size}"), one_seed

    return [
        (tried.select(question=left_open), unchanged),
        by_latents,
        *others[:3],  # a step size, and both algorithms on MNIST in figure 2
        (plateau, one_seed),
        *(of_size(size, 2e6) for size in MINIBATCHES[1:]),
        of_size(300),
    ]


def ranking(ranked: pd.DataFrame, nearness: pd.DataFrame) -> Markdown:
    """The table of all open questions: `ranked` effects, and what `nearness` says that the published curves want.

    A row per question: the largest effect at each moment (bold where it is visible), what makes the last of them, what
    the published curves want, and the book's answer.
    """
    moments = sorted(ranked["samples"].unique())
    rows = []
    for question in ranked["question"].unique():
        choice = choices.CHOICES[question]
        at = ranked[ranked["question"] == question].set_index("samples")
        cells = [_times(at.loc[samples]) if samples in at.index else "" for samples in moments]
        last = at.iloc[-1]
        made_by = f"{last['answer']}: {last['change']:+.0f} ({figures.title(last['dataset'], last['algorithm'])})"
        wanted = _wanted(nearness[nearness["question"] == question], choice.baseline)
        rows.append((choices.link(question), *cells, made_by, wanted, choice.ours))
    titles = [f"{samples / 1e6:.1f}M" if samples < 1e6 else f"{samples / 1e6:.0f}M" for samples in moments]
    header = ["left open", *titles, "the last, in nats", "the published curves want", "this book"]
    return tables.markdown_table(header, rows)


def _times(row: pd.Series) -> str:
    return f"**{row['times']:.1f}**" if row["visible"] else f"{row['times']:.1f}"


def _wanted(nearness: pd.DataFrame, baseline: str | dict[str, str]) -> str:
    wanted: dict[str, list[str]] = {}
    for name, part in nearness.groupby(["dataset", "algorithm"]):
        nearer = part[part["outcome"] == "nearer"]
        if len(nearer):
            answer = nearer.sort_values("distance")["answer"].iloc[0]
        elif "farther" in set(part["outcome"]):
            answer = baseline if isinstance(baseline, str) else baseline[name[0]]
        else:
            continue
        wanted.setdefault(answer, []).append(figures.title(*name))
    return "; ".join(f"{answer} ({'; '.join(of)})" for answer, of in wanted.items()) or "not told apart"


def changes(effects: pd.DataFrame, baseline: Curves, samples: float) -> Markdown:
    """The table of what each reading of the record "readings" does: a row per reading, a column per panel.

    `effects` are those at one moment, in nats; bold where they are visible. Above them stand the bound of the
    `baseline` after so many samples, and its range over seeds.
    """
    columns = [(run.dataset, run.algorithm) for run in readings.ALL]
    seeds = [
        baseline.select(dataset=dataset, algorithm=algorithm, split="test").at_each_seed(samples)
        for dataset, algorithm in columns
    ]
    rows: list[tuple] = [
        ("baseline", "bound", *(f"{values.mean():.1f}" for values in seeds)),
        ("baseline", "range", *(f"{values.max() - values.min():.1f}" if len(values) > 1 else "" for values in seeds)),
    ]
    for (question, answer), part in effects.groupby(["question", "answer"], sort=False):
        cells = dict.fromkeys(columns, "")
        for row in part.itertuples():
            text = f"{row.change:+.1f}" if abs(row.change) < 1e4 else f"{row.change:+.0e}"
            cells[row.dataset, row.algorithm] = f"**{text}**" if row.visible else text
        rows.append((question, answer, *cells.values()))
    return tables.markdown_table(["question", "reading", *(figures.title(*column) for column in columns)], rows)


def curves(record: Curves, published: Curves, dataset: str, algorithms: tuple[str, ...]) -> Figure:
    """The readings that move a dataset's curves: a column per question, a row per algorithm, test bounds.

    Published pale and wide, the baseline black. The published points stand where the paper has them.
    """
    limits, questions = SHOWN[dataset]
    figure, grid = plt.subplots(
        len(algorithms), 4, figsize=(9.6, 0.4 + 2.4 * len(algorithms)), sharex=True, sharey=True, squeeze=False
    )
    for row, algorithm in zip(grid, algorithms, strict=True):
        for axis, question in zip(row, questions, strict=True):
            where: dict[str, Any] = {"dataset": dataset, "algorithm": algorithm, "split": "test"}
            _draw(axis, question, record.select(**where), published.select(**where))
            axis.set(xscale="log", xlim=(1e4, 1e6), ylim=limits)
            axis.set_title(f"{question}, {figures.NAMES[algorithm]}", fontsize=9)
        row[0].set_ylabel("bound (nats)")
    figure.supxlabel("training samples seen", fontsize=10)
    return figure


def _draw(axis: Axes, question: str, record: Curves, published: Curves) -> None:
    (latent_dim,) = record.table["latent_dim"].unique()
    theirs = published.select(latent_dim=latent_dim).mean()
    axis.plot(theirs, color=GREY, **figures.SOURCES["published"])
    axis.plot(record.select(question=readings.BASELINE).mean(), "k", linewidth=1.3)
    of_question = record.select(question=question)
    answers = of_question.table["answer"].unique()
    for answer, colour in zip(answers, COLOURS, strict=False):
        axis.plot(of_question.select(answer=answer).mean(), color=colour, linewidth=1.3, label=answer)
    axis.legend(fontsize=7)


def by_latents(apart: pd.DataFrame, size: pd.DataFrame) -> Markdown:
    """The table of readings in every panel of MNIST: `apart` in nats, a row per panel, and its root mean squares.

    Both have a column per reading; `size` has a row per algorithm and one for all.
    """
    rows = [
        (figures.NAMES[algorithm], latent_dim, *(_signed(value) for value in values))
        for (algorithm, latent_dim), values in apart.iterrows()
    ]
    for name, values in size.iterrows():
        cells = ("" if np.isnan(value) else f"**{value:.1f}**" for value in values)
        rows.append((figures.NAMES.get(name, name), "r.m.s.", *cells))
    return tables.markdown_table(["MNIST", "latents", *apart.columns], rows)


def _signed(value: float) -> str:
    return "" if np.isnan(value) else f"{value:+.1f}"


@torch.no_grad()
def slope_of_units(trainer: Trainer) -> float:
    """The mean slope `1 - tanh^2` of the encoder's hidden units on the training images, over units and images."""
    x = trainer.images.unit(trainer.images.train)
    hidden = cast(VAE, trainer.model).encoder.hidden(x)
    return float((1 - hidden.tanh().square()).mean())


def slopes(of_runs: dict[str, list[float]]) -> Markdown:
    """The table of mean slopes of hidden units, a row per run, a column per moment."""
    rows = [(name, *(f"{slope:.4f}" for slope in row), *[""] * (3 - len(row))) for name, row in of_runs.items()]
    return tables.markdown_table(["10 latents", "at the start", "after 40,000 samples", "after 200,000 samples"], rows)


def stays(left: dict[str, list[list[int | None]]]) -> Markdown:
    """The table of when wake-sleep leaves its plateau: a row per reading, its seeds with 10 and with 20 latents."""
    rows = [(name, *(_places(seeds) for seeds in row)) for name, row in left.items()]
    return tables.markdown_table(["weight prior; warm-up", "10 latents", "20 latents"], rows)


def _places(seeds: list[int | None]) -> str:
    gone = [f"{samples / 1e6:.1f}M" for samples in seeds if samples]
    if len(seeds) == 1:
        return f"leaves by {gone[0]}" if gone else "stays"
    return f"stays ({len(seeds) - len(gone)} of {len(seeds)} seeds)" + "".join(f"; leaves by {g}" for g in gone)


def at_rest(widget: choices.Choices) -> None:
    """Draw the panel of choices as paper has it: for four questions, what is recorded, over the paper's curve."""
    figures.use_style()
    shown = [
        ("warm-up", "wake-sleep"),
        ("log-variance of q", "wake-sleep"),
        ("initial weights", "aevb"),
        ("pixels", "aevb"),
    ]
    _, axes = plt.subplots(1, len(shown), figsize=(9.6, 2.9), sharey=True)
    for axis, (question, algorithm) in zip(axes, shown, strict=True):
        (of_choice,) = (
            p for p in widget.panels if (p["dataset"], p["latent_dim"], p["algorithm"]) == (*AT_REST, algorithm)
        )
        axis.plot(of_choice["paper"]["samples"], of_choice["paper"]["mean"], color=GREY, **figures.SOURCES["published"])
        axis.plot(of_choice["baseline"]["samples"], of_choice["baseline"]["mean"], color="black", linewidth=1.2)
        lines = iter(("-", "--", ":"))
        for reading in of_choice["readings"]:
            if reading["question"] == question:
                axis.plot(reading["samples"], reading["mean"], next(lines), color=ORANGE, label=reading["answer"])
        axis.set(xscale="log", xlim=choices.FRAME, ylim=(-200, -95))
        axis.set_title(f"{question}, {figures.NAMES[algorithm]}", fontsize=9)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("test bound (nats)")
    axes[0].figure.supxlabel("training samples seen", fontsize=10)
    plt.show()
