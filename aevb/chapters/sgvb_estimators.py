"""Figures and tables of the chapter on the SGVB estimators."""

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from aevb import bounds
from aevb.colours import GREY
from aevb.model import LinearGaussian


def worked_by_hand(mean: float = 0.5, log_var: float = -math.log(2)) -> LinearGaussian:
    """The model of the box in the chapter on the bound, W = 1, b = 0, s = 1, whose q at x = 2 has this mean."""
    model = LinearGaussian(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), s=1.0)
    with torch.no_grad():
        model.V.fill_(mean / 2)
        model.log_var.fill_(log_var)
    return model


def spread_of_estimates(repeats: dict[str, Tensor]) -> Figure:
    """Histograms of each estimator's values `(draws, M)` minus their mean over draws, in nats."""
    figure, axis = plt.subplots(figsize=(6.5, 3.0))
    edges = torch.linspace(-20, 20, 81).tolist()
    for name, draws in repeats.items():
        deviations = (draws - draws.mean(0)).flatten().tolist()
        axis.hist(deviations, edges, histtype="step", linewidth=1.6, density=True, label=f"estimator {name}")
    axis.set(xlabel="estimate minus its mean (nats)", ylabel="density")
    axis.legend()
    return figure


def training(trace: list[tuple[int, Tensor, Tensor]], best: float) -> Figure:
    """The exact bound and evidence, nats per datapoint, by steps, and the `best` that the evidence can be."""
    figure, axis = plt.subplots(figsize=(6.5, 3.0))
    steps, lower, evidence = zip(*trace, strict=True)
    axis.axhline(best, color=GREY, linestyle="--", label="maximum likelihood, closed form")
    axis.plot(steps, [value.item() for value in evidence], label="evidence at the parameters")
    axis.plot(steps, [value.item() for value in lower], label="bound at the parameters")
    axis.set(xlabel="steps of Algorithm 1", ylabel="nats per datapoint", ylim=(best - 2, best + 0.15))
    axis.legend(loc="lower right")
    return figure


def gradient_variances(
    model: LinearGaussian, X: Tensor, n_samples: int, batch_size: int, *, generator: torch.Generator
) -> tuple[float, float]:
    """Variances of the gradient in W of a minibatch's mean bound by estimator B, summed over W, of 1000 draws each.

    First with one minibatch of the data `X` `(N, D)` kept, so of the noise alone; then with a new one for each draw.
    """
    found = []
    for redrawn in (False, True):
        draws = []
        for k in range(1000):
            if redrawn or k == 0:
                rows = torch.randint(len(X), (batch_size,), generator=generator)
            bound = bounds.estimator_b(model, X[rows], n_samples, generator=generator)
            draws.append(torch.autograd.grad(bound.mean(), model.W)[0])
        found.append(torch.stack(draws).var(0).sum().item())
    return found[0], found[1]
