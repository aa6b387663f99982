"""Stochastic estimators of the variational lower bound (sections 2.2 and 2.3, Appendix B).

Every function returns `(M,)`: one estimate per datapoint, in nats, to be made as large as possible. The estimators
raise ValueError where there are no samples or no datapoints, and where data lie outside the domain of p(x|z).
"""

import math

import torch
from torch import Tensor

from aevb.model import LatentVariableModel, reparameterize

EVALUATION_BATCH = 1000  # datapoints at a time where a bound is averaged over many


def kl_to_prior(mu: Tensor, log_var: Tensor) -> Tensor:
    """D_KL(N(mu, diag sigma^2) || N(0, I)) of Appendix B, nats, never negative (the paper prints minus it).

    `mu` and `log_var` are `(M, J)`; the result is `(M,)`. Exact for a diagonal Gaussian q and a
    standard normal prior, and wrong for anything else.
    """
    return -0.5 * (1 + log_var - mu.square() - torch.exp(log_var)).sum(-1)


def refuse_other_priors(model: LatentVariableModel) -> None:
    """Raise TypeError where p(z) is not N(0, I), the one that `kl_to_prior` is of."""
    if not model.standard_prior:
        raise TypeError(f"the prior of a {type(model).__name__} is not N(0, I): take estimator A, which is for any")


def log_weights(model: LatentVariableModel, x: Tensor, n_samples: int, *, generator: torch.Generator) -> Tensor:
    """log p(x, z) - log q(z|x) at L = `n_samples` draws z ~ q(z|x), `(L, M)`, nats, differentiable. `x` is `(M, D)`.

    Their mean is the bound (eq. 2) in expectation, the mean of their exponentials p(x) exactly.
    """
    z, log_q = model.sample_posterior(x, n_samples, generator=generator)
    return model.log_joint(x, z) - log_q


def estimator_a(model: LatentVariableModel, x: Tensor, n_samples: int = 1, *, generator: torch.Generator) -> Tensor:
    """L^A of eq. 6: the mean over samples of log p(x, z) - log q(z|x), `(M,)`, nats.

    Unbiased for the bound of eq. 2 at any L = `n_samples`; so is its gradient, through `z`, for the bound's.
    `x` is `(M, D)`.
    """
    return log_weights(model, x, n_samples, generator=generator).mean(0)


def estimator_b(model: LatentVariableModel, x: Tensor, n_samples: int = 1, *, generator: torch.Generator) -> Tensor:
    """L^B of eq. 7, which for a VAE is eq. 10: minus the exact KL plus the mean of log p(x|z), `(M,)`, nats.

    Unbiased for the bound of eq. 3. Right only where `kl_to_prior` is: a diagonal Gaussian q and a
    standard normal prior. `x` is `(M, D)`. Raises TypeError for a model with another prior.
    """
    refuse_other_priors(model)
    mu, log_var = model.posterior(x)
    z = reparameterize(mu, log_var, n_samples, generator=generator)
    return model.log_likelihood(x, z).mean(0) - kl_to_prior(mu, log_var)


def importance_weighted(model: LatentVariableModel, x: Tensor, n_samples: int, *, generator: torch.Generator) -> Tensor:
    """log (1/L) sum_l p(x, z_l) / q(z_l|x) with z_l ~ q(z|x), `(M,)`, nats (Burda et al. 2016, eq. 8).

    Its expectation is a lower bound on log p(x) that rises with L = `n_samples`; at L = 1 it is
    estimator A. An estimate of log p(x) only where q covers the posterior: elsewhere its error is
    one-sided and its spread misleads.
    """
    return torch.logsumexp(log_weights(model, x, n_samples, generator=generator), dim=0) - math.log(n_samples)
