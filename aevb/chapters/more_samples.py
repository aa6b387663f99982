"""Figures and tables of the chapter on the importance-weighted bound."""

import math

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from aevb.chapters.where_the_gap_is import spread
from aevb.colours import BLUE, GREEN, GREY, ORANGE
from aevb.reproduction import burda, results
from aevb.reproduction.after import RIVAL
from aevb.reproduction.figures import COLOURS, NAMES
from aevb.reproduction.tables import markdown_table

LINES = {"theta": (GREY, "$\\theta$"), "naive": (ORANGE, "$\\phi$, naive"), "doubly": (BLUE, "$\\phi$, doubly")}


def rising(bounds: dict[int, float], errors: dict[int, float], elbo: float, evidence: float) -> Figure:
    """The bound of k samples, by k, with five standard errors, between the bound of eq. 2 and log p(x); nats."""
    figure, axis = plt.subplots(figsize=(6.0, 3.0))
    five = [5 * error for error in errors.values()]
    axis.errorbar(list(bounds), list(bounds.values()), five, fmt="o-", color=BLUE, label="$\\mathcal{L}_k$")
    axis.axhline(evidence, color=GREEN, label="log p(x)")
    axis.axhline(elbo, color=ORANGE, label="the bound of equation 2")
    axis.set(xscale="log", xlabel="k", ylabel="nats per datapoint")
    axis.legend()
    return figure


def signals(found: dict[str, dict[int, float]], floor: float) -> Figure:
    """Signal to noise of one draw's gradient by k, each of LINES; below `floor` a number is only noise."""
    figure, axis = plt.subplots(figsize=(6.0, 3.4))
    for name, by_k in found.items():
        colour, label = LINES[name]
        axis.plot(list(by_k), list(by_k.values()), "o-", color=colour, label=label)
    axis.axhspan(axis.get_ylim()[0], floor, color=GREY, alpha=0.2, linewidth=0)
    axis.set(xscale="log", yscale="log", xlabel="k", ylabel="|mean| / deviation")
    axis.legend()
    return figure


def methods_table(accounts: pd.DataFrame) -> Markdown:
    """log p(x), L_50 and the two gaps of each method on test digits, seeds' mean and half their range; nats."""
    columns = ["log p(x)", "L_50", "amortization", "family"]
    rows = [
        (f"{n_train:,}", f"{samples / 1e6:g}M", f"`{name}`", *(spread(part[column]) for column in columns))
        for (n_train, samples, name), part in accounts.groupby(["n_train", "samples", "algorithm"])
    ]
    return markdown_table(["digits", "samples", "trained by", *columns], rows)


def burda_table() -> Markdown:
    """The recorded negative log-likelihoods of `burda` by passes, and theirs, a row per k; nats."""
    found, _ = results.table("burda")
    by_passes = found.pivot(index="k", columns="passes", values="nll")
    rows = [
        (k, *("" if math.isnan(nll) else f"{nll:.1f}" for nll in row), f"{burda.PUBLISHED[k]:.2f}")
        for k, row in zip(by_passes.index, by_passes.to_numpy(), strict=True)
    ]
    passes = [f"{n} passes" if n > 1 else "1 pass" for n in by_passes.columns]
    return markdown_table(["$k$", *passes, "they, 3280 passes"], rows)


def leads(accounts: pd.DataFrame) -> Figure:
    """log p(x) of each method minus that of AEVB with the same seed and samples, a panel per training set.

    A dot is a seed: a ring at the fewest samples, filled at the most.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 2.8), sharey=True)
    places = accounts.index.unique("samples").sort_values()
    others = [name for name in NAMES if name in accounts.index.unique("algorithm") and name != RIVAL]
    for axis, (n_train, part) in zip(axes, accounts.groupby("n_train"), strict=True):
        for samples, found in part["log p(x)"].droplevel(["n_train", "split"]).groupby("samples"):
            by_name = found.droplevel("samples").unstack("algorithm").reindex(columns=[RIVAL, *others])
            shift, fill = (-0.15, "none") if samples < places[-1] else (0.15, None)
            for height, name in enumerate(others):
                lead = (by_name[name] - by_name[RIVAL]).dropna()
                axis.scatter(lead, [height + shift] * len(lead), edgecolor=COLOURS[name], color=fill or COLOURS[name])
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.set_yticks(range(len(others)), [NAMES[name] for name in others])
        axis.set(title=f"{n_train:,} training digits", xlabel=f"log p(x) minus that of {NAMES[RIVAL]}, nats")
        axis.set_ylim(-0.5, len(others) - 0.5)
    return figure
