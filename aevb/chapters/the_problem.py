"""Figures and tables of the chapter on the problem."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from torch import Tensor

from aevb.colours import GREY

NODES = {r"$\phi$": (0.5, 2.2), "$z$": (2.0, 2.2), "$x$": (2.0, 0.8), r"$\theta$": (3.5, 2.2)}  # centres
# from, to, style, bend
EDGES = (
    (r"$\theta$", "$z$", "-", 0.0),
    (r"$\theta$", "$x$", "-", 0.0),
    ("$z$", "$x$", "-", 0.0),
    (r"$\phi$", "$z$", "--", 0.0),
    ("$x$", "$z$", "--", -0.5),
)


def graphical_model() -> Figure:
    """The model after the paper's figure 1: nodes, arrows and the plate of N datapoints."""
    figure, axis = plt.subplots(figsize=(4.2, 3.0))
    for label, centre in NODES.items():
        colour = "#cccccc" if label == "$x$" else "white"  # what is observed is shaded
        axis.add_patch(Circle(centre, 0.3, facecolor=colour, edgecolor="black"))
        axis.text(*centre, label, ha="center", va="center", fontsize=13)
    for start, end, style, bend in EDGES:
        axis.add_patch(
            FancyArrowPatch(
                NODES[start], NODES[end], arrowstyle="-|>", mutation_scale=12, shrinkA=17, shrinkB=17,
                linestyle=style, color="black", connectionstyle=f"arc3,rad={bend}",
            )
        )  # fmt: skip
    axis.add_patch(Rectangle((1.2, 0.2), 1.6, 2.6, fill=False))
    axis.text(2.7, 0.3, "$N$", ha="right")
    axis.set(xlim=(0, 4), ylim=(0, 3), aspect="equal")
    axis.axis("off")
    return figure


def posteriors(grid: Tensor, density: Tensor) -> Figure:
    """Densities `(K, M)` of several posteriors over a `grid` `(K,)` of one latent, and the prior's."""
    figure, axis = plt.subplots(figsize=(6.5, 3.0))
    axis.plot(grid, density, label=[f"$p(z\\mid x^{{({i})}})$" for i in range(1, density.shape[1] + 1)])
    prior = torch.exp(torch.distributions.Normal(0.0, 1.0).log_prob(grid))
    axis.plot(grid, prior, "--", color=GREY, label="prior $p(z)$")
    axis.set(xlim=(-4, 4), xlabel="$z$", ylabel="density")
    axis.legend()
    return figure


def naive_evidence(counts: list[int], dims: list[int], shortfall: Tensor) -> Figure:
    """The error of the naive estimate, nats `(dims, counts)`, by samples, a line per number of latent dimensions."""
    figure, axis = plt.subplots()
    for row, latent_dim in enumerate(dims):
        axis.plot(counts, shortfall[row], marker="o", label=f"$J = {latent_dim}$")
    axis.set(xscale="log", xlabel="samples from the prior, $L$", ylabel="error of $\\log p(x)$ (nats)")
    axis.legend(loc="lower right")
    return figure
