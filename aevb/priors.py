"""Models whose prior is learned: a mixture of Gaussians, or of the encoder's own posteriors (the VampPrior).

The bound of eq. 2 holds for any p(z). What changes is log p(z) alone, and with it the answer to which prior is best: of
all priors, the aggregated posterior (see `aggregated`) makes the mean bound largest. Both models here are a VAE with

    p(z) = sum over k of w_k N(z; mu_k, diag(sigma_k^2)),

whose divergence from q(z|x) has no closed form. So estimator A (eq. 6) serves them, as `importance.weighted(1)`, and
estimator B (eq. 7), which has the divergence from N(0, I) in it, refuses them, `measures.mean_bound` with it: measure
by `measures.mean_sampled_bound`.

The parameters of the prior belong to theta, but to no weight matrix: they are kept as vectors, which `MapAdagrad`
leaves without the weight prior of section 5, as it does biases.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aevb.checks import at_least, refuse_latents
from aevb.model import VAE
from aevb.networks import draw, log_normal


class Components(NamedTuple):
    """K diagonal Gaussians with their shares: `log_weight` `(K,)`, nats, `mu` and `log_var` `(K, J)`."""

    log_weight: Tensor
    mu: Tensor
    log_var: Tensor


def log_mixture(z: Tensor, components: Components) -> Tensor:
    """log of the mixture's density at `z` `(..., J)`: `(...)`, nats, normalized where the weights are."""
    log_weight, mu, log_var = components
    return torch.logsumexp(log_weight + log_normal(z[..., None, :], mu, log_var), -1)


def sample_mixture(components: Components, n: int, *, generator: torch.Generator) -> Tensor:
    """`n` draws of the mixture, `(n, J)`, without a gradient."""
    log_weight, mu, log_var = (part.detach() for part in components)
    u = draw(torch.rand, (n, 1), like=mu, generator=generator)
    k = (u > log_weight.exp().cumsum(0)).sum(-1).clamp(max=len(mu) - 1)  # the sum of the weights may round to below u
    return mu[k] + torch.exp(0.5 * log_var[k]) * draw(torch.randn, (n, mu.shape[-1]), like=mu, generator=generator)


class LearnedPrior(VAE):
    """A VAE whose p(z) is the mixture of `components`, which a subclass supplies. It cannot be stacked.

    `vae` gives its decoder and encoder, which are shared, not copied.
    """

    standard_prior = False

    def __init__(self, vae: VAE):
        super().__init__(vae.decoder, vae.encoder)

    def components(self) -> Components:
        """The Gaussians of p(z), differentiable in the prior's parameters."""
        raise NotImplementedError

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z), `(L, M)`, nats."""
        refuse_latents(z, self.latent_dim)
        return log_mixture(z, self.components())

    def sample_prior(self, shape: Sequence[int], *, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws z ~ p(z), `(*shape, J)`, of the type and on the device of `like`, without a gradient."""
        z = sample_mixture(self.components(), math.prod(shape), generator=generator)
        return z.to(like).view(*shape, self.latent_dim)


class MixturePrior(LearnedPrior):
    """p(z) is a mixture of `n_components` = K diagonal Gaussians, all of whose parameters are learned.

    It starts about as wide as N(0, I): equal weights, means drawn from N(0, I / 2) by `generator`, variances of 1/2.
    `logits` are `(K,)`, `mu` and `log_var` the means and log-variances of all components in a row, `(K J,)`. Raises
    ValueError where there are no components.
    """

    def __init__(self, vae: VAE, n_components: int, *, generator: torch.Generator):
        super().__init__(vae)
        at_least(1, n_components=n_components)
        weight = vae.decoder.hidden.weight
        means = 0.5**0.5 * draw(torch.randn, (n_components * self.latent_dim,), like=weight, generator=generator)
        self.logits = nn.Parameter(weight.new_zeros(n_components))
        self.mu = nn.Parameter(means)
        self.log_var = nn.Parameter(torch.full_like(means, 0.5).log())

    def components(self) -> Components:
        shape = -1, self.latent_dim
        return Components(torch.log_softmax(self.logits, 0), self.mu.view(shape), self.log_var.view(shape))


class VampPrior(LearnedPrior):
    """p(z) = (1/K) sum over k of q(z|u_k) at learned pseudo-inputs u_k (Tomczak and Welling 2018, eq. 9).

    The gradient of the bound reaches the encoder through the prior too. `n_components` = K. The u_k are `pixels`, all
    in a row, through a sigmoid, which keeps them in (0, 1); the paper's own code clips them. They start as noise, of
    a logit drawn from N(-2, 1) by `generator` for each pixel, and so at about the brightness of a digit. Raises
    ValueError where there are no components.
    """

    def __init__(self, vae: VAE, n_components: int, *, generator: torch.Generator):
        super().__init__(vae)
        at_least(1, n_components=n_components)
        weight = vae.encoder.hidden.weight
        self.n_pixels = weight.shape[-1]
        noise = draw(torch.randn, (n_components * self.n_pixels,), like=weight, generator=generator)
        self.pixels = nn.Parameter(noise - 2)

    def pseudo_inputs(self) -> Tensor:
        """The u_k, `(K, D)`, in (0, 1)."""
        return torch.sigmoid(self.pixels).view(-1, self.n_pixels)

    def components(self) -> Components:
        mu, log_var = self.posterior(self.pseudo_inputs())
        return Components(torch.full_like(mu[:, 0], 1 / len(mu)).log(), mu, log_var)
