"""Figures and tables of the chapter on the KL divergence."""

import matplotlib.pyplot as plt
import torch

from aevb.bounds import kl_to_prior
from aevb.colours import ORANGE


def cost(places: list[tuple[float, float]]) -> None:
    """Draw contours of one latent's divergence from the prior over mu and sigma, with points at `places` (mu, sigma).

    The levels are in nats; a cross stands at the prior, where the divergence is zero.
    """
    mus, sigmas = torch.meshgrid(torch.linspace(-3, 3, 121), torch.linspace(0.03, 3, 121), indexing="ij")
    surface = kl_to_prior(mus[..., None], 2 * torch.log(sigmas)[..., None])
    _, axis = plt.subplots(figsize=(5.6, 3.8))
    contours = axis.contour(mus, sigmas, surface, levels=[0.05, 0.2, 0.5, 1, 2, 3, 4, 5, 6], cmap="viridis")
    axis.clabel(contours, fmt="%g")
    axis.plot(0, 1, "+", color="black", markersize=9)
    axis.plot(*zip(*places, strict=True), "o", color=ORANGE)
    axis.set(xlabel="$\\mu$", ylabel="$\\sigma$")
