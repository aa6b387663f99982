"""Figures and tables of the chapter on the explorer."""

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from torch import Tensor

from aevb import datasets, gaps
from aevb.book import widgets
from aevb.colours import BLUE, ORANGE
from aevb.model import VAE
from aevb.reproduction import experiments, figures, recording

SHARES = (0.5, 0.9, 0.99)  # of a posterior's mass within its contours


def models() -> dict[str, VAE]:
    """The recorded models of figure 4, by dataset."""
    return {run.dataset: recording.drawn_model(run)[0] for run in experiments.runs("figure4", "standard")}


def explorer() -> widgets.Explorer:
    """The explorer of those models, with the data that this machine has."""
    recorded = models()
    data = {name: datasets.load(name) for name in recorded if datasets.available(name)}
    return widgets.explorer(recorded, data)


@torch.no_grad()
def at_rest(recorded: dict[str, VAE]) -> None:
    """Draw the explorer at rest: encoded test digits, a walk on the plane, and what the decoders make of it."""
    figures.use_style()
    digits = datasets.load("mnist")
    labels = digits.labels["test"][: widgets.CODES]
    angles = torch.arange(16) * (2 * math.pi / 16)
    walk = 1.5 * torch.stack([torch.cos(angles), torch.sin(angles)], -1)
    mu, _ = recorded["mnist"].posterior(digits.unit(digits.test[: widgets.CODES]))
    names = _apart(torch.stack([mu[labels == digit].median(0).values for digit in range(10)]), 0.6)
    _, axes = plt.subplot_mosaic([["plane", name] for name in recorded], figsize=(9.0, 4.2), width_ratios=[1, 1.3])
    for digit in range(10):
        own, (colour, ring) = mu[labels == digit], figures.DIGITS[digit]
        axes["plane"].scatter(
            own[:, 0], own[:, 1], s=5, linewidth=0.6, edgecolor=colour, color="none" if ring else colour
        )
        axes["plane"].annotate(
            str(digit),
            tuple(names[digit].tolist()),
            weight="bold",
            ha="center",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
        )
    axes["plane"].plot(*walk.T, "o-", color="black", markersize=3, linewidth=0.8)
    axes["plane"].plot(*walk[0], "o", color="black", markersize=7)
    axes["plane"].set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    for name, model in recorded.items():
        figures.show_images(axes[name], model.decoder.mean(walk), 8, name)
    plt.show()


def _apart(places: Tensor, least: float) -> Tensor:
    """`places` `(n, 2)` moved until no two are nearer than about `least`: each near pair is pushed along its line."""
    for _ in range(200):
        between = places[:, None] - places  # (n, n, 2)
        distance = between.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        places = places + 0.2 * ((least - distance).clamp(min=0) * between / distance).sum(1)
    return places


@torch.no_grad()
def two_gaps(model: VAE, x: Tensor, found: gaps.Gaps, chosen: list[int]) -> None:
    """Draw the posteriors of the `chosen` of the digits `x` `(M, 784)`, with both q of `found` over them.

    The contours hold SHARES of a posterior, the ellipses are two standard deviations long.
    """
    ours = model.posterior(x)
    _, axes = plt.subplots(1, len(chosen), figsize=(3.1 * len(chosen), 3.6))
    for m, axis in zip(chosen, axes, strict=True):
        pairs = [(mu[m], torch.exp(0.5 * log_var[m])) for mu, log_var in (ours, found.q)]
        _contours(axis, model, x[m][None], pairs)
        for (mu, sd), (colour, line) in zip(pairs, (("black", "-"), (ORANGE, "--")), strict=True):
            place, (width, height) = (mu[0].item(), mu[1].item()), (4 * sd).tolist()
            axis.add_patch(Ellipse(place, width, height, fill=False, color=colour, linestyle=line, linewidth=1.8))
            axis.plot(*mu, ".", color=colour)
        figures.show_images(axis.inset_axes((0.03, 0.8, 0.2, 0.2)), x[m][None], 1, "mnist")
        axis.set_title(f"amortization {found.amortization[m]:.2f}, family {found.family[m]:.2f}", fontsize=9)
        axis.set(xlabel="$z_1$", aspect="equal")
    axes[0].set_ylabel("$z_2$")
    plt.show()


def _contours(axis: Axes, model: VAE, x: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """The contours of p(z|x) that hold SHARES of it, in a square about it and about two standard deviations of q."""
    nodes = gaps.lattice(model, x, 41)
    high = nodes.z[nodes.log_joint > nodes.log_joint.max() - 6.0]
    corners = torch.cat([high, *(torch.stack([mu - 2.4 * sd, mu + 2.4 * sd]) for mu, sd in pairs)])
    middle = (corners.amin(0) + corners.amax(0)) / 2
    half = 0.53 * (corners.amax(0) - corners.amin(0)).max()
    across, up = (half * torch.linspace(-1, 1, 161) + centre for centre in middle)
    z = torch.cartesian_prod(up, across).flip(-1)
    log_joint = model.log_likelihood_table(x, z)[:, 0] + model.log_prior(z)
    surface = torch.softmax(log_joint, 0).reshape(161, 161)
    levels = figures.levels(surface, SHARES)
    axis.contour(across, up, surface, levels=levels, colors=BLUE, linewidths=1.2, linestyles="solid")


def held(off: Tensor, found: gaps.Gaps) -> list[tuple[str, str, str]]:
    """The rows of the closing box: `off` is in standard errors, `found` the gaps of test digits."""
    medians = (
        f"median {found.amortization.median():.1f} nats of amortization, {found.family.median():.2f} of the family"
    )
    return [
        ("two latents give a plane of images (fig. 4)", "400 points, from the page's bytes", "1/255 per pixel"),
        ("the bound, by quadrature (eq. 3)", f"sampling differs by {off.abs():.1f}", "5 standard errors"),
        ("it is too low by a divergence (eq. 1)", medians, "five times the family's"),
    ]
