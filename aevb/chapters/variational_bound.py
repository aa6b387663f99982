"""Figures and tables of the chapter on the variational bound."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from aevb.colours import BLUE, GREY, ORANGE
from aevb.model import LinearGaussian
from aevb.networks import log_normal


def _to_posterior(mu: Tensor, sigma: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The divergence of N(mu, sigma^2) from the posterior N(mean, deviation^2), nats."""
    normal = torch.distributions.Normal
    return torch.distributions.kl_divergence(normal(mu, sigma), normal(mean, deviation))


@torch.no_grad()
def split(model: LinearGaussian, x: Tensor) -> Figure:
    """Both terms of equation 1 for one datapoint `x` `(1, D)` of a model with one latent, in nats.

    Left the mean of q moves away from the posterior's, right its standard deviation.
    """
    means, covariance = model.exact_posterior(x)
    mean, deviation, evidence = means[0, 0], covariance[0, 0].sqrt(), model.log_evidence(x)[0]
    shifts, widths = torch.linspace(-1.5, 1.5, 101).double(), torch.linspace(0.25, 2.5, 101).double()
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), sharey=True)
    for axis, where, gap, label in (
        (axes[0], shifts, _to_posterior(mean + shifts, deviation, mean, deviation), "mean of $q$ minus posterior mean"),
        (axes[1], widths, _to_posterior(mean, deviation * widths, mean, deviation), "s.d. of $q$ over posterior s.d."),
    ):
        axis.axhline(evidence.item(), color=GREY, linestyle="--", label="$\\log p(x)$")
        axis.plot(where, evidence - gap, color=BLUE, label="bound $\\mathcal{L}$")
        axis.plot(where, gap, color=ORANGE, label="divergence from the posterior")
        axis.set(xlabel=label)
    axes[0].set_ylabel("nats")
    axes[1].legend()
    return figure


@torch.no_grad()
def em(model: LinearGaussian, x: Tensor) -> Figure:
    """Three rounds of EM in the offset b from -1, for one datapoint `x` `(1, 1)`: the evidence and the bounds, in nats.

    The model has one latent and one observed dimension.
    """
    offsets = torch.linspace(-1.5, x.item() + 1.5, 201).double()
    width = model.s**2 + model.W.square().sum()
    evidence = log_normal(x, offsets[:, None], torch.log(width).expand(201, 1))
    figure, axis = plt.subplots(figsize=(6.5, 3.2))
    axis.plot(offsets, evidence, color=GREY, linewidth=2, label="evidence $\\log p(x)$")
    b = torch.tensor(-1.0, dtype=torch.float64)
    for step in range(3):
        here = log_normal(x, b.reshape(1, 1), torch.log(width).reshape(1, 1)).item()
        mean = (x[0, 0] - b) * model.W[0, 0] / width  # E-step
        top = x[0, 0] - model.W[0, 0] * mean  # M-step
        # at a fixed q the bound is a parabola in b whose curvature is 1 / s^2
        bound = here + ((b - top).square() - (offsets - top).square()) / (2 * model.s**2)
        axis.plot(offsets, bound, color=BLUE, linewidth=1, label="bound" if step == 0 else None)
        axis.plot(b, here, "o", color=BLUE)
        height = here + ((b - top).square() / (2 * model.s**2)).item()
        axis.plot(top, height, "o", color=BLUE, markerfacecolor="none")
        for name, place, offset in (("E", (b.item(), here), (8, -14)), ("M", (top.item(), height), (-4, -16))):
            axis.annotate(f"{name}{step + 1}", place, offset, textcoords="offset points")
        b = top
    axis.set(xlabel="offset $b$", ylabel="nats", ylim=(-4.6, -1))
    axis.legend()
    return figure
