"""Full variational Bayes (Appendix F): a posterior over the generative parameters too, q(theta) q(z|x).

Prior p(theta) = N(0, I) and q(theta) = N(mu, diag(sigma^2)) over all K generative parameters, weights and
biases; those of the recognition model stay points. Each estimator draws one theta for its whole minibatch,
where eq. 22 has one for each datapoint. It is unbiased as well, with still one matrix product per layer, but its
variance does not vanish as the minibatch grows.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from aevb.bounds import EVALUATION_BATCH, estimator_a, estimator_b, kl_to_prior
from aevb.checks import above_zero, at_least
from aevb.model import LatentVariableModel, reparameterize
from aevb.networks import INITIAL_STD, BernoulliMLP, GaussianMLP, log_normal
from aevb.objectives import Update

Value = TypeVar("Value")  # the type of the value of a function of the model


class FullVB(nn.Module):
    """q(theta) around a model whose theta are the parameters of `model.decoder`, for `n_train` = N datapoints.

    The decoder's own parameters become the means, so that `model` is the model at the posterior mean; theta
    is all of them as one vector `(K,)`. The standard deviations start at `initial_sigma`, by default that of the
    initial weights. The prior is in the bound: train without weight decay. Raises ValueError where there is no
    `model.decoder`, no training point, or an `initial_sigma` not finite and above zero.
    """

    def __init__(self, model: LatentVariableModel, n_train: int, initial_sigma: float = INITIAL_STD):
        super().__init__()
        if not hasattr(model, "decoder"):
            raise ValueError(f"a {type(model).__name__} has no decoder: put its generative parameters in one")
        at_least(1, n_train=n_train)
        above_zero(initial_sigma=initial_sigma)
        self.model, self.n_train = model, n_train
        self.log_var = nn.Parameter(torch.full_like(self.mu.detach(), 2 * math.log(initial_sigma)))

    @property
    def decoder(self) -> BernoulliMLP | GaussianMLP:
        """The decoder at the posterior mean."""
        return cast(BernoulliMLP | GaussianMLP, self.model.decoder)

    @property
    def latent_dim(self) -> int:
        """The number of latents."""
        return self.model.latent_dim

    @property
    def mu(self) -> Tensor:
        """The means of q(theta), `(K,)`, differentiable in the decoder's parameters."""
        return nn.utils.parameters_to_vector(self.model.get_submodule("decoder").parameters())

    def sample_theta(self, *, generator: torch.Generator) -> Tensor:
        """theta = mu + sigma * zeta with zeta ~ N(0, I), `(K,)`: h_phi(zeta) of eq. 19, differentiable."""
        return reparameterize(self.mu, self.log_var, 1, generator=generator)[0]

    def forward(self, function: Callable[..., Value], *args: Any, **kwargs: Any) -> Value:
        return function(self.model, *args, **kwargs)

    def at(self, theta: Tensor, function: Callable[..., Value], *args: Any, **kwargs: Any) -> Value:
        """`function(model, *args, **kwargs)` with the generative parameters at `theta` `(K,)`, differentiable in it."""
        names, means = zip(*self.model.get_submodule("decoder").named_parameters(), strict=True)
        parts = theta.split([mean.numel() for mean in means])
        values = {f"model.decoder.{n}": part.view_as(m) for n, part, m in zip(names, parts, means, strict=True)}
        value: Value = torch.func.functional_call(self, values, (function, *args), kwargs)
        return value


def kl_theta(model: FullVB) -> Tensor:
    """D_KL(q(theta) || p(theta)), `()`, nats: the last sum of eq. 24 with its sign turned."""
    return kl_to_prior(model.mu, model.log_var)


def general_estimator(model: FullVB, x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Eqs 21 and 22 on a minibatch `x` `(M, D)`, one theta and M draws of z: `()`, nats for the whole dataset.

    N times the mean over the minibatch of log p(x, z) - log q(z|x), plus log p(theta) - log q(theta). Unbiased
    for the lower bound on log p(X), over minibatches drawn uniformly; so is its gradient.
    """
    theta = model.sample_theta(generator=generator)
    data = model.n_train * model.at(theta, estimator_a, x, generator=generator).mean()
    log_prior = log_normal(theta, torch.zeros_like(theta), torch.zeros_like(theta))
    return data + log_prior - log_normal(theta, model.mu, model.log_var)


def analytic_estimator(model: FullVB, x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Eq. 24 on a minibatch `x` `(M, D)`, one theta and M draws of z: `()`, nats for the whole dataset.

    As `general_estimator`, and with the same expectation, but both KL divergences are exact.
    """
    theta = model.sample_theta(generator=generator)
    return model.n_train * model.at(theta, estimator_b, x, generator=generator).mean() - kl_theta(model)


def full_vb(model: FullVB, x: Tensor, *, generator: torch.Generator) -> Update:
    """Full variational Bayes as an objective: minus M/N times eq. 24, the scale of `aevb.objectives.aevb`.

    `x` is `(M, D)`. The update's bound, `(M,)`, is the data term: estimator B of each datapoint at the theta
    drawn, whose expectation over q(theta) compares with AEVB's bound at its theta. Its mean over the data bounds
    log p(X) / N only after KL(q(theta) || p(theta)) / N is taken off.
    """
    theta = model.sample_theta(generator=generator)
    bound = model.at(theta, estimator_b, x, generator=generator)
    loss = len(x) / model.n_train * kl_theta(model) - bound.sum()
    return Update(loss, bound.detach())


@torch.no_grad()
def held_out_bound(model: FullVB, x: Tensor, n_draws: int, *, generator: torch.Generator) -> Tensor:
    """The bound at each datapoint of `x` `(M, D)`, averaged over `n_draws` of theta ~ q(theta): `(M,)`, nats.

    Unbiased for E_q(theta)[L(theta, phi; x)], which is at most the log of the predictive density, the integral of
    q(theta) p_theta(x). It bounds log p(x|X) only as far as q(theta) is the posterior. Raises ValueError where there
    are no draws or no datapoints.
    """
    at_least(1, n_draws=n_draws)

    def one_draw() -> Tensor:
        theta = model.sample_theta(generator=generator)
        batches = x.split(EVALUATION_BATCH)
        return torch.cat([model.at(theta, estimator_b, batch, generator=generator) for batch in batches])

    return torch.stack([one_draw() for _ in range(n_draws)]).mean(0)


class EvidenceBound(NamedTuple):
    """The lower bound on log p(X), in nats for the whole dataset of `n` points, in its two parts."""

    data: float
    kl: float
    n: int

    @property
    def total(self) -> float:
        """The bound on log p(X), nats per dataset."""
        return self.data - self.kl

    @property
    def per_datapoint(self) -> float:
        """The bound on log p(X) / N, nats per datapoint."""
        return self.total / self.n


def evidence_bound(model: FullVB, x: Tensor, n_draws: int, *, generator: torch.Generator) -> EvidenceBound:
    """Eq. 24 over the whole training set `x` `(N, D)`, averaged over `n_draws` of theta.

    Raises ValueError where `x` is not as long as the model's `n_train`.
    """
    if len(x) != model.n_train:
        raise ValueError(f"log p(X) is of all {model.n_train} training points: got {len(x)}")
    data = held_out_bound(model, x, n_draws, generator=generator).sum().item()
    return EvidenceBound(data, kl_theta(model).item(), model.n_train)
