"""Estimators of log p(x) of a trained model: Appendix D's, beside others that check it.

Every function takes a model and data `x` `(M, D)` and returns an `Estimate`, two numbers per datapoint in nats. Only
`importance_weighted` needs the recognition model. All raise ValueError where `x` is empty or outside the domain
of p(x|z), where a size is less than one, and where a standard error would be of a single draw or chain. Datapoints go
through in batches that fit in a core's cache; errors and warnings name them by their row in `x`.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aevb import batches, bounds, hmc
from aevb.checks import above_zero, at_least
from aevb.densities import DENSITIES, enough_samples
from aevb.model import LatentVariableModel

BATCH = 250  # datapoints at a time
TABLE_ELEMENTS = 4_000_000  # of a table of latents against datapoints
BURN_IN = 25  # tuning steps, whose draws do not count
EDGE_MASS = 1e-3  # the share of a posterior beyond which `quadrature` warns of the lattice's edge


class Estimate(NamedTuple):
    """`log_px` and its `standard_error`, each `(M,)`, nats: log p(x), or a bound on it where the function says so."""

    log_px: Tensor
    standard_error: Tensor

    def mean(self) -> tuple[float, float]:
        """The mean over datapoints and its standard error, taking datapoints' errors as independent, nats."""
        m = len(self.log_px)
        return self.log_px.mean().item(), (self.standard_error.square().sum().sqrt() / m).item()


def _concatenate(parts: Sequence[Estimate]) -> Estimate:
    return Estimate(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


@torch.no_grad()
def _refuse_data(model: LatentVariableModel, x: Tensor) -> None:
    """Raise the ValueError of `x` outside the domain of p(x|z): in a batch it would name rows of the batch."""
    model.log_likelihood(x, torch.zeros((1, 1, model.latent_dim), **hmc.type_of_latents(model, x)))


def log_mean(log_w: Tensor) -> Estimate:
    """log of the mean of exp(`log_w`), `(S, M)` in nats, over independent rows, with the delta method's standard error.

    Not correct where a few rows have most of the sum: the standard error, too, is then too small.
    """
    n = len(log_w)
    value = torch.logsumexp(log_w, 0) - math.log(n)
    return Estimate(value, torch.exp(log_w - value).std(0) / math.sqrt(n))


# ---- Appendix D


def _burn_in(
    model: LatentVariableModel, x: Tensor, n_chains: int, n_leapfrog: int, n_steps: int, generator: torch.Generator
) -> tuple[hmc.LogDensity, hmc.State, Tensor]:
    """The posteriors of `x`, chains that have reached them, and a step size for each."""
    log_density = hmc.posterior(model, x)
    state = hmc.init(log_density, hmc.start(model, x, n_chains, generator=generator))
    return log_density, *hmc.tune(log_density, state, n_leapfrog, n_steps, generator=generator)


def _draws_per_chain(n_samples: int, n_chains: int) -> int:
    at_least(2, n_chains=n_chains)  # for the standard error
    if n_samples % n_chains:
        raise ValueError(f"n_samples={n_samples} does not divide over n_chains={n_chains}")
    return n_samples // n_chains


def appendix_d(
    model: LatentVariableModel,
    x: Tensor,
    *,
    generator: torch.Generator,
    n_samples: int = 50,
    n_leapfrog: int = 4,
    n_chains: int = 5,
    density: str = "kernel",
) -> Estimate:
    """The estimator of Appendix D: minus log of the mean of q(z) / p(x, z) over z ~ p(z|x).

    HMC (step size tuned for each datapoint to 90 % acceptance) gives `n_samples` z over `n_chains` chains; q is
    fitted to them; the chains go on for `n_samples` more, which enter the mean. The mean is unbiased for 1/p(x); the
    logarithm makes the estimate of log p(x) too large by about half its squared standard error. Not correct
    where the chains miss a mode (too small), nor where q fits badly, as in more than a few dimensions: then
    few terms dominate and the standard error, too, is too small. Section 5 uses 50 samples and 4
    leapfrog steps.

    `density` is "kernel" or "gaussian". Raises ValueError, naming datapoints, where a density is not a number,
    a chain does not move or q cannot be fitted; warns where acceptance is low.
    """
    if density not in DENSITIES:
        raise ValueError(f"unknown density {density!r}: choose one of {', '.join(DENSITIES)}")
    at_least(1, datapoints=len(x), n_samples=n_samples, n_leapfrog=n_leapfrog)
    n_draws = _draws_per_chain(n_samples, n_chains)
    enough_samples(n_samples, model.latent_dim)
    _refuse_data(model, x)

    def estimate(begin: int, end: int) -> Estimate:
        log_density, state, size = _burn_in(model, x[begin:end], n_chains, n_leapfrog, BURN_IN, generator)
        state, first = hmc.sample(log_density, state, size, n_leapfrog, n_draws, generator=generator)
        state, second = hmc.sample(log_density, state, size, n_leapfrog, n_draws, generator=generator)
        log_q = DENSITIES[density](first.z.flatten(0, 1), second.z.flatten(0, 1))
        log_r = log_q.unflatten(0, (n_draws, n_chains)) - second.log_density  # log q(z) / p(x, z), (T, C, M)
        # draws of one chain depend on each other, chains do not: the spread of their means is the error's
        inverse = log_mean(torch.logsumexp(log_r, 0) - math.log(n_draws))
        return Estimate(-inverse.log_px, inverse.standard_error)

    return _concatenate(batches.in_batches(estimate, len(x), BATCH))


# ---- checks of it


@torch.no_grad()
def quadrature(model: LatentVariableModel, x: Tensor, *, points: int, limit: float = 6.0) -> Estimate:
    """log p(x) by the trapezoid rule on a lattice of `points` per dimension over [-limit, limit]^J, J at most 3.

    Exact up to the spacing h = 2 limit / (points - 1): on a Gaussian of standard deviation s the relative error is
    2 exp(-2 (pi s / h)^2), 2e-2 at h = 1.5 s and 5e-9 at h = s. The "standard error" is the largest
    difference from the 2^J lattices of spacing 2h that make up this one: far above the error once it is below a nat.
    Warns, naming datapoints, where more than `EDGE_MASS` of the mass lies on the lattice's outer layer. Raises
    ValueError where `limit` is not above zero and finite.
    """
    at_least(1, datapoints=len(x))
    at_least(2, points=points)
    above_zero(limit=limit)
    latent_dim, of = model.latent_dim, hmc.type_of_latents(model, x)
    if latent_dim > 3:
        raise ValueError(f"quadrature takes at most 3 latent dimensions, not {latent_dim}")
    axis = torch.linspace(-limit, limit, points, **of)
    lattice = torch.cartesian_prod(*[torch.arange(points, device=x.device)] * latent_dim).reshape(-1, latent_dim)
    parity = (lattice % 2 * 2 ** torch.arange(latent_dim, device=x.device)).sum(-1)
    edge = ((lattice == 0) | (lattice == points - 1)).any(-1)
    log_cell = latent_dim * math.log(2 * limit / (points - 1))
    totals = torch.full((2**latent_dim, len(x)), -torch.inf, **of)
    on_edge = torch.full((len(x),), -torch.inf, **of)
    for rows in torch.arange(len(lattice), device=x.device).split(max(1, TABLE_ELEMENTS // len(x))):
        z = axis[lattice[rows]]
        table = model.log_likelihood_table(x, z) + model.log_prior(z)[:, None]  # (rows, M)
        for which in range(2**latent_dim):
            part = torch.logsumexp(table[parity[rows] == which], 0)
            totals[which] = torch.logaddexp(totals[which], part)
        on_edge = torch.logaddexp(on_edge, torch.logsumexp(table[edge[rows]], 0))
    total = torch.logsumexp(totals, 0)
    batches.refuse_nan(total)
    if (outside := on_edge - total > math.log(EDGE_MASS)).any():
        warnings.warn(
            f"the lattice cuts off the posterior of datapoints {batches.name(outside)}: raise limit",
            stacklevel=2,
        )
    sublattices = totals + latent_dim * math.log(2)
    return Estimate(total + log_cell, (sublattices - total).abs().amax(0))


@torch.no_grad()
def importance_weighted(
    model: LatentVariableModel, x: Tensor, *, generator: torch.Generator, n_samples: int = 5000
) -> Estimate:
    """`bounds.importance_weighted` with many samples: in expectation a lower bound that tends to log p(x).

    Untrustworthy where q(z|x) is narrower than the posterior, for the standard error does not show it.
    Raises TypeError where the model has no recognition model, ValueError where a density is not a number.
    """
    at_least(1, datapoints=len(x))
    at_least(2, n_samples=n_samples)  # for the standard error
    _refuse_data(model, x)

    def estimate(begin: int, end: int) -> Estimate:
        sizes = [min(100, n_samples - begin) for begin in range(0, n_samples, 100)]
        log_w = torch.cat([bounds.log_weights(model, x[begin:end], size, generator=generator) for size in sizes])
        batches.refuse_nan(log_w.sum(0))
        return log_mean(log_w)

    return _concatenate(batches.in_batches(estimate, len(x), BATCH // 10))


def annealed_importance(
    model: LatentVariableModel,
    x: Tensor,
    *,
    generator: torch.Generator,
    n_temperatures: int = 200,
    n_leapfrog: int = 4,
    n_chains: int = 8,
    z: Tensor | None = None,
) -> tuple[Estimate, Estimate]:
    """Annealed importance sampling and its reverse: a lower and an upper bound on log p(x), in expectation.

    Neal (2001) forward from the prior to the posterior, through p(z) p(x|z)^beta with an HMC transition at
    each of `n_temperatures` values of beta; Grosse, Ghahramani and Adams (2015) back again. The two meet as the
    path gets finer: their gap bounds the error of each. Step sizes are tuned on a run of their own.

    The way back must start from the posterior: exactly so with `z` `(C, M, J)` that was drawn along with `x`
    from the model; without it, HMC supplies the start, and the upper value is a bound only if HMC found all the
    mass. Raises ValueError where `z` has other datapoints or latents than `x` and the model.
    """
    at_least(1, datapoints=len(x), n_temperatures=n_temperatures, n_leapfrog=n_leapfrog)
    at_least(2, n_chains=n_chains, chains_of_z=n_chains if z is None else len(z))  # for the standard error
    betas = _sigmoid_path(n_temperatures)
    _refuse_latents(model, x, z)
    model, x = hmc.for_autograd(model, x)
    _refuse_data(model, x)

    def estimate(begin: int, end: int) -> tuple[Estimate, Estimate]:
        part, of = x[begin:end], hmc.type_of_latents(model, x)
        prior = model.sample_prior((2, n_chains, len(part)), like=torch.empty(0, **of), generator=generator)
        sizes = _tune_along(model, part, betas, prior[0], n_leapfrog, generator)
        forward = _anneal(model, part, betas, prior[1], sizes, n_leapfrog, generator, reverse=False)
        n_steps = 2 * BURN_IN
        start = _burn_in(model, part, n_chains, n_leapfrog, n_steps, generator)[1].z if z is None else z[:, begin:end]
        backward = _anneal(model, part, betas, start, sizes, n_leapfrog, generator, reverse=True)
        upper = log_mean(-backward)
        return log_mean(forward), Estimate(-upper.log_px, upper.standard_error)

    lower, upper = zip(*batches.in_batches(estimate, len(x), BATCH), strict=True)
    return _concatenate(lower), _concatenate(upper)


def _refuse_latents(model: LatentVariableModel, x: Tensor, z: Tensor | None) -> None:
    if z is not None and z.shape[1:] != (len(x), model.latent_dim):
        sizes = f"{len(x)} datapoints and the model {model.latent_dim} latents"
        raise ValueError(f"z is {tuple(z.shape)} in size, but x has {sizes}")


def _sigmoid_path(n: int) -> list[float]:
    """0 = beta_0 < ... < beta_n = 1, dense at both ends."""
    s = torch.sigmoid(torch.linspace(-4, 4, n + 1, dtype=torch.float64, device="cpu"))
    return ((s - s[0]) / (s[-1] - s[0])).tolist()


def _tempered(model: LatentVariableModel, x: Tensor, beta: float) -> hmc.LogDensity:
    return lambda z: model.log_prior(z) + beta * model.log_likelihood(x, z)


def _tune_along(
    model: LatentVariableModel,
    x: Tensor,
    betas: list[float],
    z: Tensor,
    n_leapfrog: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """A step size `(M,)` for each inner temperature, from one pass from the prior at `z` upward."""
    log_size, sizes = torch.zeros_like(z[0, :, 0]), []
    for beta in betas[1:-1]:
        log_density = _tempered(model, x, beta)
        state = hmc.evaluate(log_density, z)
        state, info = hmc.step(log_density, state, torch.exp(log_size), n_leapfrog, generator=generator)
        log_size = log_size + 0.5 * (info.acceptance.mean(0) - hmc.TARGET)
        z = state.z
        sizes.append(torch.exp(log_size))
    return sizes


def _anneal(
    model: LatentVariableModel,
    x: Tensor,
    betas: list[float],
    z: Tensor,
    sizes: list[Tensor],
    n_leapfrog: int,
    generator: torch.Generator,
    *,
    reverse: bool,
) -> Tensor:
    """The log-weights `(C, M)` of chains from `z` `(C, M, J)` along the path, or back along it with `reverse`."""
    log_w = torch.zeros_like(z[:, :, 0])
    stages = range(1, len(betas))
    for t in reversed(stages) if reverse else stages:
        log_density = _tempered(model, x, betas[t])
        state = hmc.evaluate(log_density, z)
        if reverse and t < len(betas) - 1:
            state, _ = hmc.step(log_density, state, sizes[t - 1], n_leapfrog, generator=generator)
        # (beta_t - beta_(t-1)) log p(x|z), from what is known already
        log_w += (1 - betas[t - 1] / betas[t]) * (state.log_density - model.log_prior(state.z))
        if not reverse and t < len(betas) - 1:
            state, _ = hmc.step(log_density, state, sizes[t - 1], n_leapfrog, generator=generator)
        z = state.z
    batches.refuse_nan(log_w.sum(0))
    return log_w
