"""Figures and tables of the chapter on one digit, carried through."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from torch import Tensor

from aevb.colours import BLUE, GREEN, GREY, ORANGE
from aevb.gaps import Gaps
from aevb.model import VAE
from aevb.reproduction import figures


def strip(pictures: Tensor) -> Figure:
    """Digits `(N, D)` side by side."""
    figure, axis = plt.subplots(figsize=(min(8.5, 0.85 * len(pictures)), 0.9))
    figures.show_images(axis, pictures, len(pictures), "mnist")
    return figure


@torch.no_grad()
def plane(model: VAE, x: Tensor, split: Gaps) -> Figure:
    """The posterior of one digit `x` `(1, D)` on the plane of its two latents, whole and close up, with both q.

    Contours hold half and 95 % of the posterior; an ellipse is two standard deviations of a q.
    """
    (mu, log_var), best = model.posterior(x), split.q
    figure, (whole, close) = plt.subplots(1, 2, figsize=(8.5, 3.8))
    for radius in (1, 2, 3):
        whole.add_patch(Ellipse((0, 0), 2 * radius, 2 * radius, fill=False, color=GREY, linewidth=0.7))
    whole.plot(*best[0][0], "o", color=BLUE, markersize=5)
    whole.annotate("this digit", best[0][0].tolist(), (0.05, 2.2))
    whole.set(xlim=(-3.3, 3.3), ylim=(-3.3, 3.3), aspect="equal", title="the prior, and where the digit is")
    for axis in (whole, close):
        axis.set(xlabel="$z_1$", ylabel="$z_2$")

    points = torch.cat([mu, best[0]])
    width = torch.exp(0.5 * torch.cat([log_var, best[1]])).amax(0) * 4
    (left, bottom), (right, top) = points.amin(0) - width, points.amax(0) + width
    u, v = torch.linspace(left, right, 120), torch.linspace(bottom, top, 120)
    z = torch.cartesian_prod(u, v).to(x)
    density = torch.softmax(model.log_joint(x, z[:, None])[:, 0], 0)
    levels = figures.levels(density, (0.5, 0.95))
    close.contour(u, v, density.reshape(120, 120).T, levels, colors=[GREY], linewidths=[0.8, 1.6])
    for name, colour, (at, spread) in (("the encoder's q", ORANGE, (mu, log_var)), ("the best q", GREEN, best)):
        w, h = (4 * torch.exp(0.5 * spread[0])).tolist()
        close.add_patch(
            Ellipse((at[0, 0].item(), at[0, 1].item()), w, h, fill=False, color=colour, linewidth=2, label=name)
        )
    close.plot([], [], color=GREY, label="the posterior")
    close.set(title="close up")
    close.legend()
    return figure


def gaps_of_many(split: Gaps) -> Figure:
    """Both gaps of several digits, in nats, one pair of bars per digit, the largest first."""
    order = split.amortization.argsort(descending=True)
    figure, axis = plt.subplots(figsize=(8.5, 2.6))
    places = torch.arange(len(order))
    axis.bar(places - 0.2, split.amortization[order], 0.4, color=ORANGE, label="amortization")
    axis.bar(places + 0.2, split.family[order], 0.4, color=GREEN, label="family")
    axis.set(yscale="log", ylim=(0.01, None), ylabel="nats", xlabel="test digits", xticks=[])
    axis.legend()
    return figure


def account(split: Gaps) -> None:
    """Print from what parts log p(x) of the first datapoint is made, in nats."""
    for name, value in (
        ("log p(x)", split.log_px),
        ("bound of the best diagonal q", split.best),
        ("bound of the encoder's q", split.bound),
        ("family gap", split.family),
        ("amortization gap", split.amortization),
    ):
        print(f"{name:>29} {value[0]:8.2f} nats")
