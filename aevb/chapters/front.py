"""Figures and tables of the front page."""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from aevb.colours import BLUE
from aevb.model import VAE
from aevb.reproduction import figures, tables
from aevb.reproduction.curves import Curves


def first_screen(x: Tensor, model: VAE, published: Curves, recorded: Curves) -> Figure:
    """A digit `x` (1, D), its encoding by `model`, its reconstruction, and below them the curve of such a model.

    `published` and `recorded` are one curve each, in nats per datapoint.
    """
    figure = plt.figure(figsize=(5.2, 4.4))
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.35), width_ratios=(1, 1.5, 1))
    digit, code, again = (figure.add_subplot(grid[0, column]) for column in range(3))
    with torch.no_grad():
        mu, log_var = model.posterior(x)
        figures.show_images(digit, x, 1, "mnist")
        figures.show_images(again, model.decoder.mean(mu), 1, "mnist")
    digit.set_title("a digit $x$")
    again.set_title("decoded")
    latents = range(1, mu.shape[1] + 1)
    code.errorbar(latents, mu[0], torch.exp(log_var[0] / 2), fmt="o", color=BLUE, markersize=4)
    code.set_title(f"{mu.shape[1]} latents: $\\mu \\pm \\sigma$")
    code.set(xticks=[], ylim=(-3, 3))
    axis = figure.add_subplot(grid[1, :])
    curves(axis, {"the paper": published, "this book": recorded})
    axis.set_ylim(-175, -95)
    return figure


def over_the_papers(live: dict[int, float], published: Curves) -> Figure:
    """The points of a live curve, its bound in nats per digit by training samples, over a published curve."""
    figure, axis = plt.subplots(figsize=(5.2, 2.6))
    curves(axis, {"the paper": published})
    axis.plot(list(live), list(live.values()), "o-", color=BLUE, markersize=4, label="the lines above, just now")
    axis.set(xlim=(4e4, 2e6), ylim=(-180, -115))
    axis.legend(loc="lower right")
    return figure


def claims_table(judged: pd.DataFrame) -> Markdown:
    """The table of claims, each with what is measured and a link to its chapter; a phone shows the first columns."""
    return tables.markdown_table(
        ["the paper claims; *what is measured*", "verdict", "published", "ours"],
        [
            (f"{row.number}. {tables.claim_link(row)}<br>*{row.measure}*", row.verdict, row.published, row.ours)
            for row in judged.itertuples()
        ],
    )


def curves(axis: Axes, sources: dict[str, Curves]) -> None:
    """Draw one curve per source, the paper's pale and wide, ours thin."""
    for label, source in sources.items():
        curve = source.mean()
        style = figures.SOURCES["published" if label == "the paper" else "recorded"]
        axis.plot(curve.index, curve, color=BLUE, label=label, **style)
    axis.set(xscale="log", xlim=figures.PAPER_AXES["samples"])
    axis.set(xlabel="training samples", ylabel="bound, nats per test digit")
    axis.legend(loc="lower right")
