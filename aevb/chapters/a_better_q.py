"""Figures and tables of the chapter on flows."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from aevb.chapters.where_the_gap_is import GAPS, table_of_methods
from aevb.colours import BLUE, GREY, ORANGE
from aevb.reproduction.figures import NAMES
from aevb.reproduction.settings import FLOWS

BELOW = [-8.0, -4.5, -2.0, -0.5]  # the contours, in nats below the highest: four, three, two deviations and one
METHODS = ("aevb", *FLOWS)


def contours(panels: dict[str, Callable[[Tensor], Tensor]], centre: Tensor, reach: Tensor) -> Figure:
    """A density over two latents in each panel, by its logarithm up to a constant, nats, a function of `(L, 1, 2)`.

    The first is the posterior, which the others show too, in grey. The plane is `centre` plus and minus `reach`.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(2.1 * len(panels), 2.5), sharey=True)
    across, up = (torch.linspace(-1, 1, 161, dtype=centre.dtype) * reach[i] + centre[i] for i in (0, 1))
    z = torch.cartesian_prod(across, up)[:, None]
    heights = [log_density(z).reshape(161, 161).T for log_density in panels.values()]
    for axis, title, height in zip(axes, panels, heights, strict=True):
        axis.contour(across, up, heights[0] - heights[0].max(), BELOW, colors=GREY, linewidths=0.8, linestyles="-")
        if height is not heights[0]:
            axis.contour(across, up, height - height.max(), BELOW, colors=BLUE, linestyles="-")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("$z_1$")
    axes[0].set_ylabel("$z_2$")
    return figure


def ladder(left: dict[str, Tensor]) -> Figure:
    """What the best q of each family lacks of log p(x), nats: a dot for each digit, a bar for their mean."""
    figure, axis = plt.subplots(figsize=(7.0, 3.0))
    for height, values in enumerate(left.values()):
        axis.plot(values.clamp(min=1e-3), [height] * len(values), "o", color=BLUE, alpha=0.35, markersize=4)
        axis.plot([values.mean()] * 2, [height - 0.35, height + 0.35], color=ORANGE, linewidth=2)
    axis.set_yticks(range(len(left)), list(left))
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="log p(x) minus the bound of the best q, nats")
    return figure


def gap_bars(accounts: pd.DataFrame) -> Figure:
    """The two gaps of each method, a panel per training set; dots are seeds' sums.

    `accounts` are those at one number of samples.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.0), sharey=True)
    for axis, (n_train, part) in zip(axes, accounts.groupby("n_train"), strict=True):
        means = part.groupby("algorithm")[list(GAPS)].mean()
        names = [name for name in METHODS if name in means.index]
        before = pd.Series(0.0, names)
        for gap, colour in reversed(GAPS.items()):
            axis.barh(range(len(names)), means.loc[names, gap], 0.6, before, color=colour, label=gap)
            before = before + means.loc[names, gap]
        for height, name in enumerate(names):
            each = part.xs(name, level="algorithm")[list(GAPS)].sum(axis=1)
            axis.plot(each, [height] * len(each), ".", color=GREY)
        axis.set_yticks(range(len(names)), [NAMES[name] for name in names])
        axis.set(title=f"{n_train:,} training digits", xlabel="nats per test digit")
    axes[0].invert_yaxis()
    axes[1].legend(loc="center right")
    return figure


def methods_table(accounts: pd.DataFrame) -> Markdown:
    """log p(x), the bound and the two gaps of each method on test digits, seeds' mean and half their range; nats."""
    return table_of_methods(accounts, {"log p(x)": 1, "bound": 1} | dict.fromkeys(GAPS, 2))


def between(values: pd.Series) -> str:
    """The least and the largest of `values` that are there, nats, in words."""
    return f"{values.min():.2f} to {values.max():.2f} nats"
