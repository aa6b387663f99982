"""Figures and tables of the chapter on the two gaps."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from aevb.colours import GREEN, GREY, ORANGE
from aevb.reproduction.figures import NAMES
from aevb.reproduction.tables import markdown_table

GAPS = {"amortization": ORANGE, "family": GREEN}  # the gaps and their colours


def spread(values: pd.Series, digits: int = 1) -> str:
    """The mean over seeds and, where there are several, half of their range."""
    half = (values.max() - values.min()) / 2
    return f"{values.mean():.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def in_order(accounts: pd.DataFrame) -> list[str]:
    """The algorithms of `accounts`, in the order in which the library lists them."""
    return [name for name in NAMES if name in accounts.index.unique("algorithm")]


def by_place(accounts: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """The accounts of each method at each place: its digits and samples in words, its name, its seeds."""
    for (n_train, samples), place in accounts.groupby(["n_train", "samples"]):
        for name in in_order(place):
            part = place[place.index.get_level_values("algorithm") == name]
            yield f"{n_train:,}", f"{samples / 1e6:g}M", name, part


def table_of_methods(accounts: pd.DataFrame, decimals: dict[str, int]) -> Markdown:
    """Some columns of each method's account in so many `decimals`, means over seeds and half their range; nats."""
    rows = [
        (*place, f"`{name}`", *(spread(part[column], digits) for column, digits in decimals.items()))
        for *place, name, part in by_place(accounts)
    ]
    return markdown_table(["digits", "samples", "trained by", *decimals], rows)


def account_table(accounts: pd.DataFrame) -> Markdown:
    """log p(x), the bound and the two gaps of AEVB, a row per training set, split and place; half the seeds' range."""
    rows = [
        (f"{n_train:,}", split, f"{samples:,}", *(spread(part[c]) for c in ("log p(x)", "bound", *GAPS)))
        for (n_train, split, samples), part in accounts.groupby(["n_train", "split", "samples"])
    ]
    return markdown_table(["digits", "split", "samples", "log p(x)", "bound", *GAPS], rows)


def bars(accounts: pd.DataFrame) -> Figure:
    """The two gaps on top of each other, a panel per training set, a bar per split and place; dots are seeds' sums."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), sharey=True)
    for axis, (n_train, part) in zip(axes, accounts.groupby("n_train"), strict=True):
        means = part.groupby(["split", "samples"])[list(GAPS)].mean()
        below = 0 * means["family"].to_numpy()
        for gap, colour in reversed(GAPS.items()):
            axis.bar(range(len(means)), means[gap], 0.6, below, color=colour, label=gap)
            below = below + means[gap].to_numpy()
        for k, place in enumerate(means.index):
            each = part.xs(place, level=("split", "samples"))[list(GAPS)].sum(axis=1)
            axis.plot([k] * len(each), each, ".", color=GREY)
        axis.set_xticks(range(len(means)), [f"{split}\n{samples:,}" for split, samples in means.index])
        axis.set_title(f"{n_train:,} training digits")
    axes[0].set_ylabel("nats per digit")
    axes[0].legend()
    return figure


def widths(amortization: dict[int, float], family: float) -> Figure:
    """The amortization gap by the width of the encoder for one decoder, whose family gap is a line; nats per digit."""
    figure, axis = plt.subplots(figsize=(6.0, 3.0))
    axis.plot(list(amortization), list(amortization.values()), "o-", color=ORANGE, label="amortization")
    axis.axhline(family, color=GREEN, label="family")
    axis.set(xscale="log", yscale="log", xlabel="hidden units of the encoder", ylabel="nats per digit")
    axis.set_xticks(list(amortization), [str(width) for width in amortization])
    axis.minorticks_off()
    axis.legend()
    return figure
