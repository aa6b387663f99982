"""Objectives that bend the bound: they weigh the divergence from the prior in eq. 3, and change nothing else.

Each keeps E_q[log p(x|z)] and puts another penalty in the place of D_KL(q(z|x) || N(0, I)). With any penalty but that
divergence what is trained is no lower bound on log p(x), or not the tightest; the `bound` that comes along is that of
eq. 3 all the same, so that curves compare. All assume a diagonal Gaussian q and a standard normal prior, as estimator B
does. Calls, errors and shapes are those of `objectives`, and so is the noise: at the same generator each draws z as
`objectives.aevb` does.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from aevb.bounds import kl_to_prior, refuse_other_priors
from aevb.checks import not_negative
from aevb.model import LatentVariableModel, reparameterize
from aevb.objectives import Objective, Update

Penalty = Callable[[Tensor], Tensor]  # of the divergences of each datapoint and latent, `(M, J)`: `()`, nats


def kl_per_latent(mu: Tensor, log_var: Tensor) -> Tensor:
    """D_KL(N(mu_j, sigma_j^2) || N(0, 1)) of each latent, `(M, J)`, nats; their sum is `bounds.kl_to_prior`."""
    return kl_to_prior(mu[..., None], log_var[..., None])


def _penalized(penalty: Penalty) -> Objective:
    def objective(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Update:
        refuse_other_priors(model)
        mu, log_var = model.posterior(x)
        z = reparameterize(mu, log_var, 1, generator=generator)
        log_px_given_z, kl = model.log_likelihood(x, z)[0], kl_per_latent(mu, log_var)
        return Update(penalty(kl) - log_px_given_z.sum(), (log_px_given_z - kl.sum(-1)).detach())

    return objective


def beta(weight: float) -> Objective:
    """The beta-VAE (Higgins et al. 2017, eq. 4): minus E_q[log p(x|z)] plus `weight` times the divergence, nats.

    At a weight of one it is `objectives.aevb`, up to rounding. Above one it is a looser lower bound on log p(x), below
    one none. For a Gaussian likelihood of variance s^2 a weight is the same as a variance of weight s^2, up to terms
    without q. Where the weight is so large that no latent pays for itself, q = p(z) is its optimum: posterior collapse.
    Raises ValueError where `weight` is negative or not finite.
    """
    not_negative(weight=weight)
    return _penalized(lambda kl: weight * kl.sum())


def free_bits(floor: float) -> Objective:
    """Free bits (Kingma et al. 2016, eq. 15): a latent's divergence costs nothing up to `floor` nats.

    The floor is under the mean over the minibatch, of each latent by itself: sum over j of max(floor, mean over x of
    D_KL(q(z_j|x) || p(z_j))). A latent below it has no reason to collapse; one above it is trained as by AEVB, which
    this is at a floor of zero, up to rounding. It depends on the minibatch as a whole: its loss is no sum over
    datapoints. Raises ValueError where `floor` is negative or not finite.
    """
    not_negative(floor=floor)
    return _penalized(lambda kl: kl.sum(-2).clamp(min=floor * kl.shape[-2]).sum())
