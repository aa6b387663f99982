"""How far the bound of a flow stands below log p(x), and why: `gaps` for a q that is a flow's.

Amortization is what the best numbers of the same flow gain for each x, the family gap what they leave (Cremer, Li and
Duvenaud 2018, section 3). For models with one to three latents.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aevb import batches, gaps, hmc
from aevb.flows import Flow, FlowVAE, Q, push
from aevb.marginal_likelihood import Estimate, log_mean
from aevb.model import LatentVariableModel
from aevb.networks import draw

STEPS, RATE, NOISE = 100, 0.1, 64  # of `best`: Adam's steps, the first one's rate, which falls to zero, and their draws
LIMIT, POINTS = 5.0, 41  # of the lattice on which the moments of a posterior are taken
DRAWS = 2000  # from the best q of each datapoint, for log p(x)


@torch.no_grad()
def bound_of(model: LatentVariableModel, flow: Flow, x: Tensor, q: Q) -> Tensor:
    """The bound (eq. 2) of `q` on log p(x) under `model`, `(M,)`, nats: Gauss-Hermite over the noise, not sampling.

    The `gaps.Sizes.nodes` of the number of latents are taken in each dimension of the noise. As accurate as
    `gaps.bound_of` only where the steps are smooth on the scale of the nodes. Raises ValueError where there are more
    than three latents.
    """
    points = gaps.sizes(flow.latent_dim).nodes
    total = torch.zeros_like(q.mu[:, 0])
    for eps, mass in zip(*(parts.split(100) for parts in gaps.noise_rule(q.mu, points)), strict=True):
        z, log_q = push(flow, q, eps.expand(-1, *q.mu.shape))
        total += (mass * (model.log_joint(x, z) - log_q)).sum(0)
    return total


def start_at(flow: Flow, gaussian: gaps.Gaussian, *, generator: torch.Generator) -> Q:
    """The q of `flow` that is the Gaussian (mu, log_var), each `(M, J)`: all of its steps the identity."""
    mu, log_var = gaussian
    return Q(mu, log_var, flow.start(generator=generator).to(mu).expand(len(mu), -1, -1))


def _noise(latent_dim: int) -> Iterator[Tensor]:
    """NOISE draws of eps ~ N(0, I), `(NOISE, J)`, spread evenly, without end, and each time shifted anew."""
    # on the CPU and in single precision whatever torch's defaults: the same noise everywhere
    with torch.device("cpu"):
        even = torch.quasirandom.SobolEngine(latent_dim).draw(NOISE, dtype=torch.float32)
    shifts = torch.Generator("cpu").manual_seed(0)
    while True:
        uniform = (even + torch.rand(latent_dim, generator=shifts, dtype=even.dtype, device=even.device)) % 1
        yield torch.special.ndtri(uniform.double().clamp(1e-6, 1 - 1e-6))


@torch.inference_mode(False)
@torch.enable_grad()
def best(
    model: LatentVariableModel, flow: Flow, x: Tensor, starts: Sequence[Q], n_steps: int = STEPS
) -> tuple[Q, Tensor]:
    """The q of each of `x` `(M, D)` with the largest bound that Adam finds from the `starts`, and that bound, `(M,)`.

    All of a q's numbers are free for each x. A step's bound is of NOISE draws, spread evenly and anew at every step:
    fixed nodes, and fixed radii too, leave a flexible q room between them. The result's is `bound_of`. It is the
    largest found, not the largest that there is, and never less than that of a start; after STEPS it may lack some
    hundredths of a nat.
    """
    model, x = hmc.for_autograd(model, x)
    n, many = len(starts), x.repeat(len(starts), 1)
    mu, log_var, steps = (torch.cat(parts).detach() for parts in zip(*starts, strict=True))
    sigma = torch.exp(0.5 * log_var)
    free = [
        torch.zeros_like(mu).requires_grad_(),
        torch.zeros_like(mu).requires_grad_(),
        steps.clone().requires_grad_(),
    ]
    optimizer = torch.optim.Adam(free, lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, n_steps)
    noise = _noise(mu.shape[-1])

    def q() -> Q:
        return Q(mu + sigma * free[0], log_var + free[1], free[2])

    for _ in range(n_steps):
        eps = next(noise).to(mu)
        z, log_q = push(flow, q(), eps[:, None].expand(-1, *mu.shape))
        loss = -(model.log_joint(many, z) - log_q).mean(0).sum()
        for number, slope in zip(free, torch.autograd.grad(loss, free), strict=True):
            number.grad = slope
        optimizer.step()
        schedule.step()
    found = [*(Q(*parts) for parts in zip(*(part.detach().chunk(n) for part in q()), strict=True)), *starts]
    bounds = torch.stack([bound_of(model, flow, x, each) for each in found])
    largest, which = bounds.max(0)
    rows = torch.arange(len(x), device=x.device)
    return Q(*(torch.stack(parts)[which, rows] for parts in zip(*found, strict=True))), largest


@torch.no_grad()
def moments(model: LatentVariableModel, x: Tensor) -> gaps.Gaussian:
    """The posterior's means and log variances, each `(M, J)`, roughly: on one lattice of POINTS in each dimension.

    Not correct where a posterior has mass beyond LIMIT. Raises ValueError where there are more than three latents.
    """
    gaps.sizes(model.latent_dim)  # refuses too many
    axis = torch.linspace(-LIMIT, LIMIT, POINTS, **hmc.type_of_latents(model, x))
    z = torch.cartesian_prod(*[axis] * model.latent_dim).reshape(-1, model.latent_dim)
    tables = [model.log_likelihood_table(x, part) + model.log_prior(part)[:, None] for part in z.split(10_000)]
    mass = torch.softmax(torch.cat(tables), 0)  # (K, M)
    mean = mass.T @ z
    return mean, (mass.T @ z.square() - mean.square()).clamp(min=(axis[1] - axis[0]).square() / 12).log()


@torch.no_grad()
def log_evidence(model: LatentVariableModel, flow: Flow, x: Tensor, q: Q, *, generator: torch.Generator) -> Estimate:
    """log p(x) by importance sampling from `q`, and its standard error, each `(M,)`, nats.

    DRAWS are taken for each datapoint. Where q is as near to the posterior as a flow's best is, this is surer than a
    lattice. Where it misses a part of the posterior it is too low, and the error does not show that.
    """
    return log_mean(torch.cat([_log_weights(model, flow, x, q, generator) for _ in range(DRAWS // 100)]))


def _log_weights(model: LatentVariableModel, flow: Flow, x: Tensor, q: Q, generator: torch.Generator) -> Tensor:
    z, log_q = push(flow, q, draw(torch.randn, (100, *q.mu.shape), like=q.mu, generator=generator))
    return model.log_joint(x, z) - log_q


class Gaps(NamedTuple):
    """log p(x), the bounds of the encoder's q and of the best of its flow per datapoint, each `(M,)`, nats."""

    log_px: Tensor
    bound: Tensor
    best: Tensor


def split(model: FlowVAE, x: Tensor) -> Gaps:
    """As `gaps.split`, for a model with a flow: amortization is what the best q of the same flow gains for each `x`.

    `best` starts at the encoder's q and at the best diagonal Gaussian near the posterior's moments, behind which no
    flow falls so. log p(x) is `log_evidence` of the best q, by the same draws whenever it is asked. Raises ValueError
    where the model has more than three latents, and, naming datapoints, where a density is not a number.
    """
    gaps.sizes(model.latent_dim)  # refuses too many
    noise = torch.Generator(x.device).manual_seed(0)
    with torch.no_grad():
        own = model.q(x)
    bound_of_own = bound_of(model, model.flow, x, own)
    batches.refuse_nan(bound_of_own)
    gaussian = gaps.best_diagonal(model, x, moments(model, x))
    q, bound = best(model, model.flow, x, [own, start_at(model.flow, gaussian, generator=noise)])
    log_px, _ = log_evidence(model, model.flow, x, q, generator=noise)
    batches.refuse_nan(log_px)
    return Gaps(log_px, bound_of_own, bound)
