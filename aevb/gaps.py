"""How far the bound stands below log p(x), and why: what one encoder for all x costs, and what the family of q costs.

log p(x) - L is the sum of two gaps, neither negative (Cremer, Li and Duvenaud 2018, section 3, who call the second one
the approximation gap). *Amortization* is the bound of the best diagonal Gaussian q for
this one x minus that of the encoder's q; the *family* gap is log p(x) minus the bound of that best q. Both are taken by
quadrature, for models with one to three latents.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aevb import batches, hmc
from aevb.checks import at_least
from aevb.marginal_likelihood import EDGE_MASS, Estimate
from aevb.model import LatentVariableModel
from aevb.networks import log_normal_of_noise

Gaussian = tuple[Tensor, Tensor]  # of each datapoint: mu and log_var, each (M, J)


class Sizes(NamedTuple):
    """The points in each dimension that a number of latents allows.

    `first` are those of the first lattice, `rough` the most of the lattices between, which only find where the last one
    looks, `close` of the last one and `most` of the last after all refinements; `nodes` are those of Gauss-Hermite.
    `still`, in nats, is what a lattice and every other node of it may differ by.
    """

    first: int
    rough: int
    close: int
    most: int
    nodes: int
    still: float


SIZES = {  # by the number of latents
    1: Sizes(first=97, rough=320, close=41, most=320, nodes=15, still=0.01),
    2: Sizes(first=97, rough=320, close=41, most=320, nodes=15, still=0.01),
    3: Sizes(first=61, rough=13, close=13, most=25, nodes=9, still=0.1),
}
LIMIT = 6.0  # how far the first lattice goes
BELOW = (30.0, 20.0, 15.0)  # nats below each lattice's highest node within which the next one looks
STEPS, RATE = 40, 0.5  # of `best_diagonal`: how many, and what share of each it takes


class Gaps(NamedTuple):
    """log p(x), the bounds of the encoder's q and of the best diagonal q, each `(M,)`, nats; `q` is the best's."""

    log_px: Tensor
    bound: Tensor
    best: Tensor
    q: Gaussian

    @property
    def amortization(self) -> Tensor:
        """What the encoder costs, `(M,)`, nats."""
        return self.best - self.bound

    @property
    def family(self) -> Tensor:
        """What the diagonal Gaussian costs, `(M,)`, nats."""
        return self.log_px - self.best


def sizes(latent_dim: int) -> Sizes:
    """The sizes for so many latents. Raises ValueError where there are more than lattices are for."""
    if latent_dim not in SIZES:
        raise ValueError(f"gaps are split on lattices: at most three latents, not {latent_dim}")
    return SIZES[latent_dim]


def gauss_hermite(points: int) -> tuple[Tensor, Tensor]:
    """Nodes and masses `(points,)` for expectations under N(0, 1): exact for polynomials of degree 2 points - 1.

    Raises ValueError where there are no points.
    """
    at_least(1, points=points)
    nodes, masses = np.polynomial.hermite_e.hermegauss(points)
    return torch.from_numpy(nodes), torch.from_numpy(masses / masses.sum())


def noise_rule(like: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """The product rule for eps ~ N(0, I): nodes `(K, 1, J)` and masses `(K, 1)` in the type of `like` `(M, J)`."""
    axes = [gauss_hermite(points)] * like.shape[-1]
    nodes, masses = (torch.cartesian_prod(*parts).reshape(-1, len(axes)) for parts in zip(*axes, strict=True))
    return nodes.to(like)[:, None], masses.prod(-1, keepdim=True).to(like)


@torch.no_grad()
def bound_of(model: LatentVariableModel, x: Tensor, q: Gaussian, points: int | None = None) -> Tensor:
    """The bound of q = N(mu, diag(exp(log_var))), `(M,)`, nats, without sampling: Gauss-Hermite over the noise.

    `x` is `(M, D)`; `points` (default: `Sizes.nodes`) are taken in each of the latent dimensions of mu and log_var,
    `(M, J)`. Exact where log p(x, z) is a polynomial of degree 2 points - 1 in z, and not accurate where it bends on a
    smaller scale than the nodes' distance. Raises ValueError where there are no points, and, by default, where there
    are more than three latents.
    """
    mu, log_var = q
    eps, mass = noise_rule(mu, sizes(model.latent_dim).nodes if points is None else points)
    z = mu + torch.exp(0.5 * log_var) * eps
    return (mass * (model.log_joint(x, z) - log_normal_of_noise(eps, log_var))).sum(0)


class Lattice(NamedTuple):
    """K nodes about each posterior: `z` `(K, M, J)`, `log_joint` `(K, M)` in nats, and `unit`, the indices of z."""

    z: Tensor
    log_joint: Tensor
    unit: Tensor

    @property
    def step(self) -> Tensor:
        """The distance of neighbours, `(M, J)`."""
        return (self.z[-1] - self.z[0]) / self.unit[-1]

    def log_px(self, every: int = 1) -> Tensor:
        """log p(x) by the trapezoid rule over every such node in each dimension, `(M,)`, nats."""
        nodes = (self.unit % every == 0).all(-1).squeeze(1)
        return torch.logsumexp(self.log_joint[nodes], 0) + (every * self.step).log().sum(-1)

    @property
    def edge_mass(self) -> Tensor:
        """The share of the mass that lies on the outer layer, `(M,)`."""
        outer = ((self.unit == 0) | (self.unit == self.unit[-1])).any(-1).squeeze(1)
        return torch.exp(torch.logsumexp(self.log_joint[outer], 0) - torch.logsumexp(self.log_joint, 0))


@torch.no_grad()
def lattice(model: LatentVariableModel, x: Tensor, points: int) -> Lattice:
    """Log p(x, z) where it is high: a lattice for all, then `points` in each dimension where the last was high.

    The first lattice goes as far as LIMIT. Not correct where a posterior has mass beyond, which `Lattice.edge_mass`
    tells if some of it lies across the edge. Raises ValueError where there are fewer than three points, and where the
    model has more than three latents.
    """
    of, latent_dim = hmc.type_of_latents(model, x), model.latent_dim
    across, rough = sizes(latent_dim)[:2]
    at_least(3, points=points)  # two would all lie on the edge
    rough = min(points, rough)

    def units(n: int) -> Tensor:
        return torch.cartesian_prod(*[torch.arange(n, **of)] * latent_dim).reshape(-1, 1, latent_dim)

    first = LIMIT * (units(across) / (across - 1) * 2 - 1)
    parts = [model.log_likelihood_table(x, part[:, 0]) + model.log_prior(part) for part in first.split(10_000)]
    found = Lattice(first.expand(-1, len(x), -1), torch.cat(parts), units(across))
    for below, n in zip(BELOW, (rough, rough, points), strict=True):
        near = (found.log_joint > found.log_joint.amax(0) - below)[..., None]
        low = found.z.where(near, torch.inf).amin(0) - found.step
        high = found.z.where(near, -torch.inf).amax(0) + found.step
        z = low + (high - low) / (n - 1) * units(n)
        found = Lattice(z, torch.cat([model.log_joint(x, part) for part in z.split(200)]), units(n))
    return found


def close_quadrature(
    model: LatentVariableModel, x: Tensor, points: int | None = None
) -> tuple[Estimate, list[Gaussian]]:
    """log p(x) on the `lattice` of each posterior, and where `best_diagonal` may start.

    The "standard error" is the difference from every other node in each dimension; where it is above `Sizes.still`
    there are twice the `points` (default: `Sizes.close`), as far as `Sizes.most`. It is infinite where more than
    EDGE_MASS of the mass lies on the lattice's outer layer: LIMIT cuts the posterior off, and log p(x) is too low. What
    lies apart from the rest beyond LIMIT goes unseen. Starts are (mu, log_var): the posterior's moments, and its mode
    at half the width. Raises ValueError as `lattice` does.
    """
    allowed = sizes(model.latent_dim)
    points = allowed.close if points is None else points
    found = lattice(model, x, points)
    log_px, error = found.log_px(), (found.log_px() - found.log_px(2)).abs()
    mass = torch.softmax(found.log_joint, 0)[..., None]
    mean = (mass * found.z).sum(0)
    log_var = (mass * (found.z - mean).square()).sum(0).log()
    mode = found.z[found.log_joint.argmax(0), torch.arange(len(x), device=x.device)]
    starts = [(mean, log_var), (mode, log_var - math.log(4))]
    if (again := error > allowed.still).any() and points < allowed.most:
        closer, _ = close_quadrature(model, x[again], 2 * points - 1)
        log_px[again], error[again] = closer
    return Estimate(log_px, error.masked_fill(found.edge_mass > EDGE_MASS, torch.inf)), starts


@torch.no_grad()
def best_diagonal(model: LatentVariableModel, x: Tensor, start: Gaussian) -> Gaussian:
    """The (mu, log_var), each `(M, J)`, that make the bound of each datapoint largest near `start`.

    Each step is a natural gradient's: E[grad log p(x, z)] moves mu, and E[minus the second derivative], which is
    -E[gradient eps] / sigma, the precision (Opper and Archambeau 2009 derive both). It finds a maximum near `start`,
    which need not be the largest. STEPS may end before it; the best of them is kept.
    """
    mu, precision = start[0].clone(), torch.exp(-start[1])
    eps, mass = noise_rule(mu, 5)
    log_density = hmc.posterior(model, x)
    best = mu.new_full((len(x),), -torch.inf)
    kept = mu.clone(), -precision.log()
    for _ in range(STEPS):
        sigma = precision.rsqrt()
        state = hmc.evaluate(log_density, mu + sigma * eps)
        value = (mass * state.log_density).sum(0) + sigma.log().sum(-1)
        better = (value > best)[:, None]
        best = torch.maximum(value, best)
        kept = torch.where(better, mu, kept[0]), torch.where(better, -precision.log(), kept[1])
        slope = (mass[..., None] * state.gradient).sum(0)
        curvature = -(mass[..., None] * state.gradient * eps).sum(0) / sigma
        precision = (1 - RATE) * precision + RATE * curvature.clamp(min=0.1 * precision)
        mu = mu + (RATE * slope / precision).clamp(-2 * sigma, 2 * sigma)
    return kept


def split(model: LatentVariableModel, x: Tensor) -> Gaps:
    """The gaps of the datapoints `x` `(M, D)` under a model with a recognition model and at most three latents.

    Raises ValueError where it has more, and, naming datapoints, where a density is not a number. Warns, naming
    datapoints, where no lattice agrees with a coarser one to `Sizes.still`, and where a posterior lies across LIMIT, so
    that log p(x) is too low. With three latents the first lattice has a quarter of a million nodes: take some tens of
    datapoints at a time.
    """
    still = sizes(model.latent_dim).still
    with torch.no_grad():
        bound = bound_of(model, x, model.posterior(x))
    batches.refuse_nan(bound)
    log_px, starts = close_quadrature(model, x)
    batches.refuse_nan(log_px.log_px)
    if (unsure := log_px.standard_error > still).any():
        warnings.warn(f"log p(x) is not sure to {still} nats for datapoints {batches.name(unsure)}", stacklevel=2)
    found = [best_diagonal(model, x, start) for start in starts]
    bounds = torch.stack([bound_of(model, x, q) for q in found])
    best, which = bounds.max(0)
    mu, log_var = (
        torch.stack(parts)[which, torch.arange(len(x), device=x.device)] for parts in zip(*found, strict=True)
    )
    return Gaps(log_px.log_px, bound, best, (mu, log_var))
