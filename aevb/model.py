"""Models with latent variables: p(z) p(x|z) with its recognition model q(z|x).

Shapes: data `x` are `(M, D)`, latents `z` are `(L, M, J)` for L samples of the J latent variables of M
datapoints. Log-densities are `(L, M)`, in nats, summed over dimensions. Parameters of the generative
model are the paper's theta, those of the recognition model its phi.
"""

import copy
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from aevb.checks import Domain, above_zero, at_least, refuse_latents, refuse_outside, refuse_width, rows
from aevb.networks import BernoulliMLP, GaussianMLP, draw, log_normal, log_normal_of_noise

Model = TypeVar("Model", bound="LatentVariableModel")  # the type of models that are stacked


def reparameterize(mu: Tensor, log_var: Tensor, n_samples: int, *, generator: torch.Generator) -> Tensor:
    """z = mu + sigma * eps with eps ~ N(0, I): the g_phi(eps, x) of eq. 4 for a Gaussian (section 2.4).

    `mu` and `log_var` are `(M, J)`; the result is `(n_samples, M, J)`, differentiable in both. Raises ValueError where
    there are no samples or no datapoints.
    """
    return mu + torch.exp(0.5 * log_var) * draw_noise(mu, n_samples, generator=generator)


def draw_noise(mu: Tensor, n_samples: int, *, generator: torch.Generator) -> Tensor:
    """The eps ~ N(0, I) of `reparameterize`, `(n_samples, M, J)` for `mu` of shape `(M, J)`. Raises as that does."""
    at_least(1, n_samples=n_samples, datapoints=mu.shape[:-1].numel())
    return draw(torch.randn, (n_samples, *mu.shape), like=mu, generator=generator)


class LatentVariableModel(nn.Module):
    """p(z) = N(0, I), any p(x|z), and a diagonal Gaussian q(z|x) (section 3).

    A subclass supplies `latent_dim`, `log_likelihood`, `sample_likelihood` and, where it has a recognition
    model, `posterior`; for another p(z) `log_prior`, `sample_prior` and `standard_prior`, which is then False. Methods
    raise ValueError where data are empty, outside the domain of p(x|z), or no rows of the model's width, and where
    latents are no rows of `latent_dim`.
    """

    latent_dim: int
    standard_prior = True  # p(z) is N(0, I), as estimator B takes for granted
    members: tuple[int, ...] | None = None  # of an ensemble: the latent dimension of each

    @property
    def latent_dims(self) -> tuple[int, ...]:
        """The latent dimension of each member, in an ensemble; else of the model alone."""
        return self.members or (self.latent_dim,)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), `(L, M)`, nats."""
        raise NotImplementedError

    def log_likelihood_table(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) of every datapoint `x` `(M, D)` at every `z` `(K, J)`: `(K, M)`, nats."""
        return self.log_likelihood(x, z[:, None])

    def sample_likelihood(self, z: Tensor, *, generator: torch.Generator) -> Tensor:
        """x ~ p(x|z), `(M, D)` for `z` of shape `(M, J)`."""
        raise NotImplementedError

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(mu, log_var)` of q(z|x), each `(M, J)` (eq. 9). Raises TypeError where the model has no q(z|x)."""
        raise TypeError(f"a {type(self).__name__} has no recognition model q(z|x)")

    def sample_prior(self, shape: Sequence[int], *, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws z ~ p(z) = N(0, I), `(*shape, J)`, of the type and on the device of `like`, without a gradient.

        A subclass with another `log_prior` draws from that.
        """
        return draw(torch.randn, (*shape, self.latent_dim), like=like, generator=generator)

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) = log N(z; 0, I), `(L, M)`, nats."""
        refuse_latents(z, self.latent_dim)
        return -0.5 * (self.latent_dim * math.log(2 * math.pi) + z.square().sum(-1))

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) = log p(z) + log p(x|z), `(L, M)`, nats."""
        return self.log_prior(z) + self.log_likelihood(x, z)

    def log_posterior(self, z: Tensor, x: Tensor) -> Tensor:
        """log q(z|x) of eq. 9, `(L, M)`, nats (of the recognition model, not of the true posterior)."""
        refuse_latents(z, self.latent_dim)
        return log_normal(z, *self.posterior(x))

    def sample_posterior(self, x: Tensor, n_samples: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """z ~ q(z|x), `(L, M, J)`, by reparameterization, and log q(z|x), `(L, M)`, nats."""
        mu, log_var = self.posterior(x)
        eps = draw_noise(mu, n_samples, generator=generator)
        return mu + torch.exp(0.5 * log_var) * eps, log_normal_of_noise(eps, log_var)

    def sample_joint(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`n` draws (x, z) ~ p(x|z) p(z): `x` is `(n, D)`, `z` is `(n, J)`. The model's dreams.

        Raises ValueError where `n` is less than one.
        """
        at_least(1, n=n)
        shape = (len(self.members), n) if self.members else (n,)  # an ensemble dreams n for each member
        z = self.sample_prior(shape, like=next(self.parameters(), torch.empty(0)), generator=generator)
        return self.sample_likelihood(z, generator=generator), z


class Decoder(LatentVariableModel):
    """The generative half of the VAE alone, p(z) p(x|z): what Monte Carlo EM trains. It has no q(z|x).

    `decoder` is p(x|z), an MLP of Appendix C. Its parameters are theta.
    """

    def __init__(self, decoder: BernoulliMLP | GaussianMLP):
        super().__init__()
        self.decoder = decoder
        self.latent_dim = decoder.hidden.weight.shape[-1]

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        refuse_latents(z, self.latent_dim)
        return self.decoder.log_prob(rows(x), z)

    def log_likelihood_table(self, x: Tensor, z: Tensor) -> Tensor:
        refuse_latents(z, self.latent_dim)
        return self.decoder.log_prob_table(rows(x), z)

    def sample_likelihood(self, z: Tensor, *, generator: torch.Generator) -> Tensor:
        return self.decoder.sample(z, generator=generator)


class VAE(Decoder):
    """The variational auto-encoder of section 3: both densities are MLPs of Appendix C.

    `decoder` is p(x|z) with parameters theta, `encoder` is q(z|x) with parameters phi.
    """

    def __init__(self, decoder: BernoulliMLP | GaussianMLP, encoder: GaussianMLP):
        super().__init__(decoder)
        self.encoder = encoder

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        refuse_width(rows(x), self.encoder.hidden.weight.shape[-1])
        mu, log_var = self.encoder(x)
        return mu, log_var


def bernoulli_vae(
    n_pixels: int, n_hidden: int, latent_dim: int, *, generator: torch.Generator, slow_log_var: bool = False
) -> VAE:
    """The MNIST model of section 5: Bernoulli decoder (eq. 11), Gaussian encoder (eq. 12), with its `slow_log_var`."""
    decoder = BernoulliMLP(latent_dim, n_hidden, n_pixels, generator=generator)
    return VAE(decoder, GaussianMLP(n_pixels, n_hidden, latent_dim, generator=generator, slow_log_var=slow_log_var))


def gaussian_vae(
    n_pixels: int, n_hidden: int, latent_dim: int, *, generator: torch.Generator, slow_log_var: bool = False
) -> VAE:
    """The Frey Face model of section 5: Gaussian decoder with means in (0, 1), Gaussian encoder (eq. 12).

    `slow_log_var` is that of the encoder's `GaussianMLP`.
    """
    decoder = GaussianMLP(latent_dim, n_hidden, n_pixels, generator=generator, unit_mean=True)
    return VAE(decoder, GaussianMLP(n_pixels, n_hidden, latent_dim, generator=generator, slow_log_var=slow_log_var))


def stack(models: Sequence[Model]) -> Model:
    """An ensemble: one model whose parameters have a leading axis of the E `models`, copies of theirs.

    It takes data `(E, M, D)`, latents `(L, E, M, J)` and a list of E generators; log-densities are `(L, E, M)`. A sum
    over datapoints sums over members too, so that the gradient of a loss is each member's own. Models may differ in
    their latent dimension: fewer latents than the widest has are padded with zeros. The densities of the ensemble are
    then not those of its members; the gradients in `backward` are. Raises ValueError where there are no models, for a
    model that is not a `Decoder` or a `VAE` itself, and where they differ in another way.
    """
    at_least(1, models=len(models))
    for model in models:
        if type(model) not in (Decoder, VAE):  # a subclass may hold what has no axis of members
            raise ValueError(f"a {type(model).__name__} cannot be stacked: only a Decoder and a VAE can")
        if model.members:
            raise ValueError("an ensemble cannot be stacked: stack its members")
    if any(_build(model) != _build(models[0]) for model in models):
        raise ValueError("only models of one kind and one shape can be stacked, but for their latent dimensions")
    latent_dims = tuple(model.latent_dim for model in models)
    ensemble = copy.deepcopy(max(models, key=lambda model: model.latent_dim))
    ensemble.members = latent_dims
    for name, parameter in ensemble.named_parameters():
        own = [model.get_parameter(name).detach() for model in models]
        together = parameter.new_zeros(len(models), *parameter.shape)
        for e, values in enumerate(own):
            part(together, e, values.shape).copy_(values)
        parameter.data = together
    return ensemble


# the parameters that have an axis of latents, and that axis
LATENT_AXES = {
    "decoder.hidden.weight": 1,
    "encoder.mu.weight": 0,
    "encoder.mu.bias": 0,
    "encoder.log_var.weight": 0,
    "encoder.log_var.bias": 0,
}


def _build(model: LatentVariableModel) -> list[object]:
    """What models that can be stacked have in common: layers, and parameters but for the number of latents."""
    layers = [(type(module), getattr(module, "unit_mean", None)) for module in model.modules()]
    parameters = []
    for name, parameter in model.named_parameters():
        shape = list(parameter.shape)
        if name in LATENT_AXES:
            shape[LATENT_AXES[name]] -= model.latent_dim
        parameters.append((name, shape, parameter.dtype, parameter.device))
    return [layers, parameters]


def part(together: Tensor, e: int, shape: Sequence[int]) -> Tensor:
    """The member `e` of a stacked tensor, without what pads it to more than `shape`: a view."""
    return together[e][tuple(slice(size) for size in shape)]


class LinearGaussian(LatentVariableModel):
    """p(x|z) = N(x; Wz + b, s^2 I) with q(z|x) = N(z; V(x - b), diag(exp(log_var))): everything is known.

    The model the book checks its machinery on: evidence, posterior and bound have closed forms
    (Bishop 2006, section 12.2). `W` is `(D, J)`, `b` is `(D,)`, `s` a number; theta = (W, b).
    The b in q follows theta's without a gradient, so that phi = (V, log_var) alone is trained through q.
    q starts at the mean of the exact posterior and at the variances that make the bound tightest; it
    is the exact posterior when the columns of W are orthogonal, and only then. Data and latents are
    converted to the type of the weights.

    Raises ValueError where `b` is not of the length of W, or `s` not finite and above zero.
    """

    domain = Domain(-math.inf, math.inf, "the linear-Gaussian model is of finite values: take out what is not")

    def __init__(self, W: Tensor, b: Tensor, s: float):
        super().__init__()
        if b.shape != W.shape[:1]:
            raise ValueError(
                f"b of shape {tuple(b.shape)} does not fit W of {tuple(W.shape)}: it has one value per row"
            )
        above_zero(s=s)
        self.W, self.b, self.s = nn.Parameter(W), nn.Parameter(b), s
        self.latent_dim = W.shape[1]
        precision = self._precision().detach()
        self.V = nn.Parameter(torch.linalg.solve(precision, W.detach().T) / s**2)  # (J, D)
        self.log_var = nn.Parameter(-torch.log(precision.diagonal()))  # (J,)

    def _precision(self) -> Tensor:
        """Precision of the exact posterior, I + W'W / s^2, `(J, J)`: the same for every x."""
        return torch.eye(self.latent_dim, dtype=self.W.dtype, device=self.W.device) + self.W.T @ self.W / self.s**2

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return log_normal(self._data(x), self._mean(z), torch.full_like(self.b, 2 * math.log(self.s)))

    def _data(self, x: Tensor) -> Tensor:
        refuse_outside(rows(x), self.domain)
        refuse_width(x, len(self.b))
        return x.to(self.W.dtype)

    def _mean(self, z: Tensor) -> Tensor:
        return z.to(self.W.dtype) @ self.W.T + self.b

    def sample_likelihood(self, z: Tensor, *, generator: torch.Generator) -> Tensor:
        return torch.normal(self._mean(z).detach(), self.s, generator=generator)

    def log_prior(self, z: Tensor) -> Tensor:
        return super().log_prior(z.to(self.W.dtype))

    def log_posterior(self, z: Tensor, x: Tensor) -> Tensor:
        return super().log_posterior(z.to(self.W.dtype), x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = (self._data(x) - self.b.detach()) @ self.V.T
        return mu, self.log_var.expand_as(mu)

    def exact_posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(M, J)` and covariance `(J, J)` of p(z|x)."""
        covariance = torch.linalg.inv(self._precision())
        return (self._data(x) - self.b) @ self.W @ covariance / self.s**2, covariance

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) = log N(x; b, WW' + s^2 I), `(M,)`, nats: exact."""
        noise = self.s**2 * torch.eye(len(self.b), dtype=self.b.dtype, device=self.b.device)
        density = torch.distributions.MultivariateNormal(self.b, self.W @ self.W.T + noise)
        log_px: Tensor = density.log_prob(self._data(x))
        return log_px

    def exact_bound(self, x: Tensor) -> Tensor:
        """The lower bound L(theta, phi; x) of eq. 2 at the present q, `(M,)`, nats: exact.

        log p(x) minus the KL divergence from q(z|x) to p(z|x), by eq. 1.
        """
        mean, covariance = self.exact_posterior(x)
        mu, log_var = self.posterior(x)
        q = torch.distributions.MultivariateNormal(mu, torch.diag_embed(torch.exp(log_var)))
        p = torch.distributions.MultivariateNormal(mean, covariance)
        return self.log_evidence(x) - torch.distributions.kl_divergence(q, p)
