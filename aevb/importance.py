"""The importance-weighted objective of k samples, and its doubly reparameterized gradient: what followed AEVB.

With z_1, ..., z_k ~ q(z|x) and log w_i = log p(x, z_i) - log q(z_i|x), the bound L_k = E[log (1/k) sum_i w_i] rises
from the bound of eq. 2 at k = 1 to log p(x) (Burda, Grosse and Salakhutdinov 2016, theorem 1). Each function here makes
an objective of a k, with the call, the errors and the shapes of those in `objectives`.
"""

import math

import torch
from torch import Tensor

from aevb.bounds import log_weights
from aevb.checks import at_least
from aevb.model import LatentVariableModel, draw_noise
from aevb.networks import log_normal_of_noise
from aevb.objectives import Objective, Update


def _update(log_w: Tensor) -> Update:
    """Minus log (1/k) sum of exp(log_w) `(k, M)` over samples, summed; the bound beside it is that of eq. 2."""
    tighter = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return Update(-tighter.sum(), log_w.detach().mean(0))


def weighted(k: int) -> Objective:
    """The objective of Burda et al. (2016, eq. 8): minus log (1/k) sum_i w_i, nats, summed over `x` `(M, D)`.

    Its gradient is that of L_k without bias, in theta and in phi: the sum over samples of the normalized weights times
    grad log w_i (their eq. 14). At k = 1 it is estimator A (eq. 6), not B as in `objectives.aevb`. Where k is
    large its gradient in phi is mostly noise, the signal falling faster than the noise (Rainforth et al. 2018). Not an
    objective for phi where the bound of eq. 2 is wanted: q is then no longer the nearest to the posterior.

    The `bound` that comes along is estimator A's with k samples, not L_k. Raises ValueError where `k` is less than one.
    """
    at_least(1, k=k)

    def importance_weighted(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Update:
        return _update(log_weights(model, x, k, generator=generator))

    return importance_weighted


def doubly(k: int) -> Objective:
    """`weighted` by another estimator of the same gradient in phi (Tucker, Lawson, Gu and Maddison 2019, eq. 8).

    The score of q inside the weights is reparameterized once more. In phi the gradient is the sum over samples of the
    squared normalized weights times d log w_i / dz_i dz_i / dphi; in theta it is that of `weighted`, to the last bit of
    the same draws. Its mean is the same, and its signal to noise in phi rises with k where q is wide enough for the
    weights to have a variance. At k = 1 it is the gradient of estimator A without its score term (Roeder, Wu and
    Duvenaud 2017).

    The value of the loss is that of `weighted`, but its gradient is not the derivative of it: a numerical derivative
    does not agree, nor may it be differentiated again. Right only where theta and phi share no parameter and z is the
    reparameterized Gaussian of `model.posterior`. Raises ValueError where `k` is less than one.
    """
    at_least(1, k=k)

    def doubly_reparameterized(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Update:
        mu, log_var = model.posterior(x)
        sigma, eps = torch.exp(0.5 * log_var), draw_noise(mu, k, generator=generator)
        z = mu + sigma * eps
        of_z = eps + (z - z.detach()) / sigma.detach()  # eps, as a function of z at fixed mu and sigma
        log_w = model.log_joint(x, z) - log_normal_of_noise(of_z, log_var.detach())  # phi through z alone
        share = torch.softmax(log_w.detach(), 0)[..., None]
        if z.requires_grad:
            z.register_hook(lambda gradient: share * gradient)  # it carries the weight once already
        return _update(log_w)

    return doubly_reparameterized
