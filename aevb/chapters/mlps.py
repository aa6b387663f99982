"""Figures and tables of the chapter on the MLPs."""

import matplotlib.pyplot as plt
import torch

from aevb.networks import log_normal


def gaussian_score(distances: tuple[float, ...]) -> None:
    """Draw the Gaussian log-density of an observation against sigma, a line per distance from the mean, in nats."""
    sigma = torch.logspace(-3.2, 0.5, 300)
    _, axis = plt.subplots(figsize=(6.5, 3.0))
    for d in distances:
        score = log_normal(torch.tensor([d]), torch.zeros(1), 2 * torch.log(sigma)[:, None])
        axis.plot(sigma, score, label=f"$d = {d}$")
    axis.set(xscale="log", ylim=(-6, 6), xlabel="predicted $\\sigma$", ylabel="log-density (nats)")
    axis.legend()
