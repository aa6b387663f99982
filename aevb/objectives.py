"""An algorithm is an objective: a scalar whose gradient is the update that the algorithm prescribes.

All share one call, `objective(model, x, generator=...)`, so that one loop trains them all. Losses are
summed over the minibatch and descended; the bound that comes along is for watching, in nats per
datapoint, and carries no gradient. Given an ensemble (`model.stack`), data `(E, M, D)` and E generators, each
is the objective of E runs at once. All raise ValueError where data are empty or outside the domain of p(x|z).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from aevb.bounds import estimator_b
from aevb.model import LatentVariableModel


class Update(NamedTuple):
    """The value of an objective.

    `loss`: `()`, nats, summed over the minibatch; its gradient is the update.
    `bound`: `(M,)`, in an ensemble `(E, M)`: an unbiased estimate of the lower bound (eq. 2) at each datapoint, in
    nats, detached.
    """

    loss: Tensor
    bound: Tensor


def aevb(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Update:
    """Auto-encoding variational Bayes: minus estimator B with one sample (Algorithm 1, eqs 7 and 10).

    `x` is `(M, D)`. The pathwise gradient reaches theta and phi together.
    """
    bound = estimator_b(model, x, generator=generator)
    return Update(-bound.sum(), bound.detach())


def wake_sleep(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Update:
    """Wake-sleep (Hinton, Dayan, Frey and Neal 1995): the comparison of section 5.

    Wake: z ~ q(z|x), ascend log p(x, z), which reaches theta only. Sleep: a dream (x', z') ~ p(x, z),
    ascend log q(z'|x'), which reaches phi only. Samples carry no gradient, so the sum of the two is one
    loss. `x` is `(M, D)` and as many dreams are drawn. It has no single objective: the wake gradient is
    that of the bound in theta, the sleep gradient minimises the KL divergence the other way round.
    """
    with torch.no_grad():
        z, log_q = model.sample_posterior(x, 1, generator=generator)
        x_dream, z_dream = model.sample_joint(x.shape[-2], generator=generator)
    log_joint = model.log_joint(x, z)
    wake = log_joint.sum()
    sleep = model.log_posterior(z_dream, x_dream).sum()
    return Update(-(wake + sleep), (log_joint - log_q)[0].detach())


def score_function(model: LatentVariableModel, x: Tensor, *, generator: torch.Generator) -> Update:
    """The naive Monte Carlo gradient of section 2.2, with one sample: unbiased and of very high variance.

    The gradient in phi is f(z) grad log q(z|x) with f = log p(x, z) - log q(z|x); in theta it is that of
    log p(x, z). No gradient flows through the sample. `x` is `(M, D)`.
    """
    with torch.no_grad():
        z, log_q = model.sample_posterior(x, 1, generator=generator)
    log_joint = model.log_joint(x, z)
    f = (log_joint - log_q).detach()
    return Update(-(log_joint + f * model.log_posterior(z, x)).sum(), f[0])


Objective = Callable[..., Update]  # of a model, data and, by keyword, a generator
