"""Objectives that bend the bound: they weigh the divergence from the prior in eq. 3, and change nothing else.

Each keeps E_q[log p(x|z)] and puts another penalty in the place of D_KL(q(z|x) || N(0, I)). With any penalty but that
divergence what is trained is no lower bound on log p(x), or not the tightest; the `bound` that comes along is that of
eq. 3 all the same, so that curves compare. All assume a diagonal Gaussian q and a standard normal prior, as estimator B
does. Calls, errors and shapes are those of `objectives`, and so is the noise: at the same generator each draws z as
`objectives.aevb` does.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aevb.backward import Gradients
from aevb.bounds import kl_to_prior
from aevb.checks import at_least
from aevb.model import LatentVariableModel, reparameterize
from aevb.objectives import Objective, Update

Penalty = Callable[[Tensor], Tensor]  # of the divergences of each datapoint and latent, `(M, J)`: `()`, nats


def kl_per_latent(mu: Tensor, log_var: Tensor) -> Tensor:
    """D_KL(N(mu_j, sigma_j^2) || N(0, 1)) of each latent, `(M, J)`, nats; their sum is `bounds.kl_to_prior`."""
    return kl_to_prior(mu[..., None], log_var[..., None])


def _penalized(penalty: Penalty) -> Objective:
    def objective(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Update:
        mu, log_var = model.posterior(x)
        z = reparameterize(mu, log_var, 1, generator=generator)
        log_px, kl = model.log_likelihood(x, z)[0], kl_per_latent(mu, log_var)
        return Update(penalty(kl) - log_px.sum(), (log_px - kl.sum(-1)).detach())

    return objective


def beta(weight: float) -> Objective:
    """The beta-VAE (Higgins et al. 2017, eq. 4): minus E_q[log p(x|z)] plus `weight` times the divergence, nats.

    At a weight of one it is `objectives.aevb`, up to rounding. Above one it is a looser lower bound on log p(x), below
    one none. For a Gaussian likelihood of variance s^2 a weight is the same as a variance of weight s^2, up to terms
    without q. Where the weight is so large that no latent pays for itself, q = p(z) is its optimum: posterior collapse.
    Raises ValueError where `weight` is negative or not finite.
    """
    if not 0 <= weight < math.inf:
        raise ValueError(f"the weight of a divergence is finite and not negative: got {weight}")
    return _penalized(lambda kl: weight * kl.sum())


def free_bits(floor: float) -> Objective:
    """Free bits (Kingma et al. 2016, eq. 15): a latent's divergence costs nothing up to `floor` nats.

    The floor is under the mean over the minibatch, of each latent by itself: sum over j of max(floor, mean over x of
    D_KL(q(z_j|x) || p(z_j))). A latent below it has no reason to collapse; one above it is trained as by AEVB, which
    this is at a floor of zero, up to rounding. It depends on the minibatch as a whole: its loss is no sum over
    datapoints. Raises ValueError where `floor` is negative or not finite.
    """
    if not 0 <= floor < math.inf:
        raise ValueError(f"the floor of a divergence is finite and not negative: got {floor}")
    return _penalized(lambda kl: kl.sum(-2).clamp(min=floor * kl.shape[-2]).sum())


class Annealed:
    """Updates by `beta` whose weight rises in a straight line from 0 to 1 over the first `over` updates, then stays.

    KL annealing (Bowman et al. 2016): the decoder learns to use z before z has to pay. Updates of Adagrad's warm-up
    count. Remembered is the number of updates made. Raises ValueError where `over` is less than one.
    """

    def __init__(self, over: int):
        at_least(1, over=over)
        self.over, self.made = over, 0

    @property
    def weight(self) -> float:
        """The weight of the next update."""
        return min(1.0, self.made / self.over)

    def next(
        self,
        model: nn.Module,
        parameters: Sequence[Tensor],
        draw: Callable[[], tuple[Tensor, Tensor]],
        *,
        generators: Sequence[torch.Generator],
    ) -> Gradients:
        """The next gradients, as `algorithms.Updates` has them, for one run."""
        assert isinstance(model, LatentVariableModel)
        (generator,) = generators
        _, x = draw()
        update = beta(self.weight)(model, x, generator=generator)
        self.made += 1
        return Gradients(torch.autograd.grad(update.loss, parameters), update.bound)

    def state(self) -> dict[str, Any]:
        """What is remembered."""
        return {"made": self.made}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `state`."""
        self.made = state["made"]
