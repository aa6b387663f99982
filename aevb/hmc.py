"""Hybrid Monte Carlo over a batch of independent posteriors, all datapoints and chains at once (Appendices D and E).

Shapes: C chains of M datapoints in J latent dimensions are one tensor `z` of shape `(C, M, J)`; T draws stack
in front of it. A target is a function `log_density(z) -> (C, M)`, in nats, known up to a constant for each
datapoint. The algorithm is Neal's (2011, section 3.2) with unit masses: `init` makes a state of positions,
`step` moves it and says in an `Info` how that went. Sizes below one, no chains and no datapoints are a ValueError.
"""

import copy
import math
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aevb import batches
from aevb.checks import above_zero, at_least
from aevb.model import LatentVariableModel, Model

LogDensity = Callable[[Tensor], Tensor]  # a function of positions `(C, M, J)`: `(C, M)`, nats
TARGET = 0.9  # the acceptance rate of Appendix E
FIRST_SIZE = 0.1  # the step size with which tuning begins
DIVERGENCE = 1000.0  # nats of energy error past which a trajectory has left the target
JITTER = 0.5  # each chain's step size varies by so much: trajectories of one length may end where they began
PRIOR_DRAWS = 10_000  # a thousand lost the main mode of a few digits in a thousand
LOW_ACCEPTANCE = 0.5  # below it, at a step size tuned to 0.9, the sampler does not fit its target


class State(NamedTuple):
    """Positions `z` `(C, M, J)`, the log-density there `(C, M)` in nats, and its gradient `(C, M, J)`."""

    z: Tensor
    log_density: Tensor
    gradient: Tensor


class Info(NamedTuple):
    """The outcome of a step, each `(C, M)`: the acceptance probability, and whether it was accepted or diverged."""

    acceptance: Tensor
    accepted: Tensor
    divergent: Tensor


class Draws(NamedTuple):
    """Draws and their diagnostics per datapoint.

    `z` `(T, C, M, J)` and `log_density` `(T, C, M)`, nats. `acceptance` `(M,)` is the mean probability,
    `divergences` `(M,)` their number, `ess` `(M,)` the effective sample size of the slowest dimension out of
    T * C, `split_rhat` `(M,)` that of the worst dimension (1 where chains agree).
    """

    z: Tensor
    log_density: Tensor
    acceptance: Tensor
    divergences: Tensor
    ess: Tensor
    split_rhat: Tensor


def for_autograd(model: Model, x: Tensor) -> tuple[Model, Tensor]:
    """`model` and `x`, each copied if it was made under `torch.inference_mode`: autograd takes no such tensors."""
    with torch.inference_mode(False):
        if any(tensor.is_inference() for tensor in chain(model.parameters(), model.buffers())):
            model = copy.deepcopy(model)
        return model, x.clone() if x.is_inference() else x


def type_of_latents(model: LatentVariableModel, x: Tensor) -> dict[str, Any]:
    """The type and device of `z`: the more precise type of `x` and the model's parameters, the device of `x`."""
    return {"dtype": torch.promote_types(x.dtype, next(model.parameters(), x).dtype), "device": x.device}


def posterior(model: LatentVariableModel, x: Tensor) -> LogDensity:
    """log p(x, z) as a function of `z` `(C, M, J)`: log p(z|x) up to a constant. `x` is `(M, D)`."""
    model, x = for_autograd(model, x)
    return lambda z: model.log_joint(x, z)


def evaluate(log_density: LogDensity, z: Tensor) -> State:
    """The state at `z` `(C, M, J)`, whatever its density; under `torch.inference_mode` too."""
    with torch.inference_mode(False), torch.enable_grad():
        z = (z.clone() if z.is_inference() else z.detach()).requires_grad_()
        value = log_density(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return State(z.detach(), value.detach(), gradient)


def init(log_density: LogDensity, z: Tensor) -> State:
    """The state at starting positions `z` `(C, M, J)`. Raises ValueError, naming datapoints, where it is not finite."""
    at_least(1, chains=len(z), datapoints=z.shape[1])
    state = evaluate(log_density, z)
    bad = ~(torch.isfinite(state.log_density) & torch.isfinite(state.gradient).all(-1)).all(0)
    if bad.any():
        raise ValueError(
            f"the log-density or its gradient is not finite at the start of datapoints {batches.name(bad)}"
        )
    return state


def leapfrog(
    log_density: LogDensity, state: State, momentum: Tensor, step_size: Tensor | float, n_leapfrog: int
) -> tuple[State, Tensor]:
    """`n_leapfrog` leapfrog steps from `state` with `momentum` `(C, M, J)`: the state and the momentum at the end.

    `step_size` is a number, `(M,)` or `(C, M)`. Reversible and volume-preserving (Neal 2011, section 2.3).
    """
    at_least(1, n_leapfrog=n_leapfrog, chains=len(state.z), datapoints=state.z.shape[1])
    size = torch.as_tensor(step_size, dtype=state.z.dtype, device=state.z.device)[..., None]
    for _ in range(n_leapfrog):
        momentum = momentum + 0.5 * size * state.gradient
        state = evaluate(log_density, state.z + size * momentum)
        momentum = momentum + 0.5 * size * state.gradient
    return state, momentum


def step(
    log_density: LogDensity,
    state: State,
    step_size: Tensor | float,
    n_leapfrog: int,
    *,
    generator: torch.Generator,
    jitter: float = JITTER,
) -> tuple[State, Info]:
    """One transition, which leaves the target invariant: fresh momenta, a trajectory, accept or stay.

    Each chain's step size is `step_size` (a number or `(M,)`) times a uniform draw from 1 - `jitter` to
    1 + `jitter` (Neal 2011, section 3.2: a fixed one may trace a closed orbit). A proposal whose energy is not
    a number is rejected and counts as divergent. Does not look at `step_size`, as `sample` does: where it is
    not above zero and finite no chain moves. Raises ValueError where `jitter` is not from 0 to below 1.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be at least 0 and below 1, not {jitter}")
    momentum = torch.randn(state.z.shape, generator=generator, dtype=state.z.dtype, device=state.z.device)
    u = torch.rand((2, *state.log_density.shape), generator=generator, dtype=state.z.dtype, device=state.z.device)
    size = step_size * (1 + jitter * (2 * u[0] - 1))
    proposal, end = leapfrog(log_density, state, momentum, size, n_leapfrog)
    before = state.log_density - 0.5 * momentum.square().sum(-1)
    gain = proposal.log_density - 0.5 * end.square().sum(-1) - before  # minus the energy error
    gain = torch.where(torch.isfinite(gain), gain, -torch.inf)
    acceptance = torch.exp(gain.clamp(max=0.0))
    accepted = u[1] < acceptance
    moved = State(
        torch.where(accepted[..., None], proposal.z, state.z),
        torch.where(accepted, proposal.log_density, state.log_density),
        torch.where(accepted[..., None], proposal.gradient, state.gradient),
    )
    return moved, Info(acceptance, accepted, gain < -DIVERGENCE)


def start(model: LatentVariableModel, x: Tensor, n_chains: int, *, generator: torch.Generator) -> Tensor:
    """Starting positions `(C, M, J)` for the posteriors of `x` `(M, D)`: importance resampling from the prior.

    Of `PRIOR_DRAWS` z ~ p(z), shared by all datapoints, each chain takes one with probability proportional to
    p(x|z). This finds the neighbourhood of the mass, which a chain begun at a single prior draw may miss. Raises
    ValueError, naming datapoints, where a density is not a number.
    """
    at_least(1, n_chains=n_chains, datapoints=len(x))
    with torch.no_grad():
        like = torch.empty(0, **type_of_latents(model, x))
        z = model.sample_prior((PRIOR_DRAWS,), like=like, generator=generator)
        # in parts, for decoders whose table is no matrix product
        table = torch.cat([model.log_likelihood_table(x, part) for part in z.split(1000)])
        weights = torch.softmax(table, dim=0)  # (PRIOR_DRAWS, M)
        if not torch.isfinite(weights).all():
            bad = ~torch.isfinite(weights).all(0)
            raise ValueError(f"the log-density is not a number for datapoints {batches.name(bad)}")
        chosen = torch.multinomial(weights.T, n_chains, replacement=True, generator=generator)  # (M, C)
    return z[chosen.T]


def tune(
    log_density: LogDensity, state: State, n_leapfrog: int, n_steps: int, *, generator: torch.Generator
) -> tuple[State, Tensor]:
    """`n_steps` transitions that double as burn-in, and the step size of each datapoint that they lead to, `(M,)`.

    Stochastic approximation (Robbins and Monro 1951) on the logarithm of the step size, from FIRST_SIZE toward a mean
    acceptance probability of TARGET; the answer is the average over the second half. The draws made on the way do not
    count: the step size moves with them.
    """
    at_least(1, n_steps=n_steps)
    log_size = state.z.new_full(state.log_density.shape[1:], math.log(FIRST_SIZE))
    total = torch.zeros_like(log_size)
    for t in range(n_steps):
        state, info = step(log_density, state, torch.exp(log_size), n_leapfrog, generator=generator)
        log_size = log_size + 3.0 / math.sqrt(t + 1) * (info.acceptance.mean(0) - TARGET)
        if t >= n_steps // 2:
            total = total + log_size
    return state, torch.exp(total / (n_steps - n_steps // 2))


def sample(
    log_density: LogDensity,
    state: State,
    step_size: Tensor | float,
    n_leapfrog: int,
    n_draws: int,
    *,
    generator: torch.Generator,
) -> tuple[State, Draws]:
    """`n_draws` transitions at a fixed step size: the last state and all T = `n_draws` draws with diagnostics.

    Warns, naming datapoints, where the mean acceptance probability is below `LOW_ACCEPTANCE`; raises
    ValueError where no chain of a datapoint moved at all, and where a step size is not above zero and finite.
    """
    at_least(1, n_draws=n_draws)
    _refuse_step_size(step_size)
    states, infos = [], []
    for _ in range(n_draws):
        state, info = step(log_density, state, step_size, n_leapfrog, generator=generator)
        states.append(state)
        infos.append(info)
    z = torch.stack([s.z for s in states])
    acceptance = torch.stack([i.acceptance for i in infos]).mean((0, 1))
    stuck = ~torch.stack([i.accepted for i in infos]).any(0).any(0)
    if stuck.any():
        raise ValueError(
            f"HMC did not move in {n_draws} steps at datapoints {batches.name(stuck)}: tune a smaller step size"
        )
    if (acceptance < LOW_ACCEPTANCE).any():
        low = batches.name(acceptance < LOW_ACCEPTANCE)
        warnings.warn(f"HMC accepts less than {LOW_ACCEPTANCE:.0%} at datapoints {low}: distrust them", stacklevel=2)
    return state, Draws(
        z,
        torch.stack([s.log_density for s in states]),
        acceptance,
        torch.stack([i.divergent for i in infos]).sum((0, 1)),
        effective_sample_size(z).amin(-1),
        split_rhat(z).amax(-1),
    )


def _refuse_step_size(step_size: Tensor | float) -> None:
    for size in step_size.flatten().tolist() if isinstance(step_size, Tensor) else [step_size]:
        above_zero(step_size=size)


def split_rhat(draws: Tensor) -> Tensor:
    """Split R-hat of `draws` `(T, C, ...)`, shape `(...)`: 1 where both halves of all chains agree.

    Square root of total over within-chain variance (Gelman et al. 2013, eq. 11.4), each chain cut in two.
    NaN for T < 4. It cannot see a mode that no chain has visited.
    """
    half = len(draws) // 2
    if half < 2:
        return torch.full_like(draws[0, 0], torch.nan)
    chains = torch.cat([draws[:half], draws[-half:]], dim=1)  # (half, 2C, ...)
    within = chains.var(0).mean(0)
    return torch.sqrt((half - 1) / half + chains.mean(0).var(0) / within)


def effective_sample_size(draws: Tensor) -> Tensor:
    """Effective sample size of `draws` `(T, C, ...)`, shape `(...)`, out of T * C.

    Autocorrelations over all chains, summed over Geyer's initial positive and monotone pairs (Gelman et al.
    2013, section 11.5; Vehtari et al. 2021, section 3.2). Noisy for short chains, and too large where the
    chains have not found all the mass. NaN where one of the chains did not move, however the others did, where a draw
    is not finite, and for T = 1.
    """
    n_draws, n_chains = draws.shape[:2]
    if n_draws == 1:
        return torch.full_like(draws[0, 0], torch.nan)
    centred = draws - draws.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * n_draws, dim=0)
    autocovariance = torch.fft.irfft(spectrum.abs().square(), n=2 * n_draws, dim=0)[:n_draws].mean(1) / n_draws
    within = autocovariance[0] * n_draws / (n_draws - 1)
    total = autocovariance[0] + (draws.mean(0).var(0) if n_chains > 1 else 0.0)
    correlation = 1 - (within - autocovariance) / total  # (T, ...)
    n_pairs = n_draws // 2
    pairs = correlation[: 2 * n_pairs].unflatten(0, (n_pairs, 2)).sum(1)
    pairs = torch.where((pairs > 0).cumprod(0) > 0, pairs, 0.0).cummin(0).values
    time = (2 * pairs.sum(0) - 1).clamp(min=1 / math.log10(max(n_draws * n_chains, 10)))
    size = n_draws * n_chains / time
    # 0/0 would not do: the sum over pairs takes what is not a number for the end of the positive ones
    unknown = (draws == draws[0]).all(0).any(0) | ~torch.isfinite(draws).flatten(0, 1).all(0)
    return size.masked_fill(unknown, torch.nan)
