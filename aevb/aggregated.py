"""The aggregated posterior q(z), the mean of q(z|x) over a dataset, against the prior (Hoffman and Johnson 2016).

The mean divergence of the bound (eq. 3), here the *rate*, is a sum of two parts that are never negative:

    mean over n of D_KL(q(z|x_n) || p(z)) = I(n; z) + D_KL(q(z) || p(z)).

I is what z tells about which datapoint it came from, at most log N nats; the second part alone depends on the prior.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aevb.batches import refuse_nan
from aevb.checks import above_zero, at_least, refuse_latents
from aevb.model import LatentVariableModel, draw_noise
from aevb.networks import log_normal, log_normal_of_noise

ROWS = 500  # draws at a time, each compared with every datapoint


class Surgery(NamedTuple):
    """The parts of the rate in nats per datapoint, as means over draws, one for each of N datapoints.

    `rate` is unbiased for the mean of D_KL(q(z|x) || p(z)), `information` for I(n; z) of these N. For the
    population that they come from `information` is too low, and cannot exceed log N; `at_most`, which leaves each
    draw's own datapoint out of q(z), is too high (Poole et al. 2019, section 2): in expectation, both.
    """

    rate: float
    information: float
    at_most: float

    @property
    def marginal(self) -> float:
        """D_KL(q(z) || p(z)) for the q(z) of these N datapoints; for the population's too high."""
        return self.rate - self.information


def _posteriors(model: LatentVariableModel, x: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """(mu, log_var) of q(z|x), each `(N, J)`, numbers, of `least` datapoints or more: else ValueError."""
    at_least(least, datapoints=len(x))
    mu, log_var = model.posterior(x)
    refuse_nan((mu + log_var).sum(-1))
    return mu, log_var


@torch.no_grad()
def log_aggregated(model: LatentVariableModel, x: Tensor, z: Tensor) -> Tensor:
    """log q(z) at `z` `(K, J)`, `(K,)`, nats, for q(z) = (1/N) sum over `x` `(N, D)` of q(z|x_n).

    Raises ValueError where `x` is empty, and, naming datapoints, where q(z|x_n) is not a number.
    """
    refuse_latents(z, model.latent_dim)
    mu, log_var = _posteriors(model, x)
    parts = [torch.logsumexp(log_normal(some[:, None], mu, log_var), -1) for some in z.split(ROWS)]
    return torch.cat(parts) - math.log(len(x))


@torch.no_grad()
def surgery(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Surgery:
    """The parts of the rate over `x` `(N, D)`, under the model's own prior, from one draw z ~ q(z|x_n) for each n.

    Takes N^2 densities. Raises ValueError where there are fewer than two datapoints, and, naming datapoints, where a
    density is not a number.
    """
    mu, log_var = _posteriors(model, x, least=2)
    eps = draw_noise(mu, 1, generator=generator)[0]
    z, log_q = mu + torch.exp(0.5 * log_var) * eps, log_normal_of_noise(eps, log_var)
    among_all, among_others = torch.empty_like(log_q), torch.empty_like(log_q)
    for rows in torch.arange(len(x), device=x.device).split(ROWS):
        table = log_normal(z[rows, None], mu, log_var)  # (rows, N)
        own = torch.arange(len(rows), device=x.device), rows
        table[own] = log_q[rows]
        among_all[rows] = torch.logsumexp(table, -1) - math.log(len(x))
        table[own] = -torch.inf
        among_others[rows] = torch.logsumexp(table, -1) - math.log(len(x) - 1)
    parts = log_q - model.log_prior(z[None])[0], log_q - among_all, log_q - among_others
    refuse_nan(parts[0])
    return Surgery(*(part.mean().item() for part in parts))


class Rescaled(LatentVariableModel):
    """`model` with latents z' in other units: z = `centre` + `scale` z', both `(J,)`.

    Its p(x), its bounds and their gaps are those of `model`. For what looks for z near the origin, as `gaps.lattice`
    does: under a learned prior the latents may lie anywhere.
    """

    centre: Tensor
    scale: Tensor
    standard_prior = False

    def __init__(self, model: LatentVariableModel, centre: Tensor, scale: Tensor):
        super().__init__()
        self.model, self.latent_dim = model, model.latent_dim
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def _z(self, z: Tensor) -> Tensor:
        return self.centre + self.scale * z

    def log_prior(self, z: Tensor) -> Tensor:
        return self.model.log_prior(self._z(z)) + self.scale.log().sum()

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.model.log_likelihood(x, self._z(z))

    def log_likelihood_table(self, x: Tensor, z: Tensor) -> Tensor:
        return self.model.log_likelihood_table(x, self._z(z))

    def sample_prior(self, shape: Sequence[int], *, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws z' ~ p(z'), `(*shape, J)`: those of `model` in these units."""
        z = self.model.sample_prior(shape, like=self.centre, generator=generator)
        return ((z - self.centre) / self.scale).to(like)

    def sample_likelihood(self, z: Tensor, *, generator: torch.Generator) -> Tensor:
        return self.model.sample_likelihood(self._z(z), generator=generator)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = self.model.posterior(x)
        return (mu - self.centre) / self.scale, log_var - 2 * self.scale.log()


@torch.no_grad()
def rescaled(model: LatentVariableModel, x: Tensor, reach: float) -> Rescaled:
    """`model` with its latents so that within `reach` of the origin lies six deviations of q(z|x) for all `x` `(N, D)`.

    For many x, more than are then looked at. Raises ValueError where `x` is empty or `reach` not above zero and finite,
    and, naming datapoints, where q(z|x) is not a number.
    """
    above_zero(reach=reach)
    mu, log_var = _posteriors(model, x)
    six = 6 * torch.exp(0.5 * log_var)
    low, high = (mu - six).amin(0), (mu + six).amax(0)
    return Rescaled(model, (low + high) / 2, (high - low) / (2 * reach))
