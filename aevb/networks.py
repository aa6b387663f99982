"""The multilayer perceptrons of Appendix C, each of them a conditional density.

Letters: `v` is modelled, conditioned on `u`. Any leading shape `...` is allowed and
broadcasts, so that latents `(L, M, J)` meet data `(M, D)`. Every log-density is in nats, summed over the
last axis. An ensemble of E networks is one network whose weights have a leading axis: data are then `(E, M, D)`
and latents `(L, E, M, J)`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aevb.checks import Domain, at_least, refuse_outside, refuse_width

INITIAL_STD = 0.01  # the paper's N(0, 0.01), section 5, read as a standard deviation


def log_normal(v: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """log N(v; mu, diag(exp(log_var))), summed over the last axis: shape `(...)`, nats.

    `v`, `mu` and `log_var` broadcast against each other. Not correct for a `v` drawn from a Gaussian so narrow that its
    rounding moves it by a part of sigma: `log_normal_of_noise` is.
    """
    standardized = (v - mu) * torch.exp(-0.5 * log_var)
    return -0.5 * (math.log(2 * math.pi) + log_var + standardized.square()).sum(-1)


def log_normal_of_noise(eps: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; mu, diag(exp(log_var))) at z = mu + sigma `eps`, summed over the last axis: `(...)`, nats.

    It depends on z by `eps` alone, which a z rounded to the precision of mu has lost where sigma is small.
    """
    return -0.5 * (math.log(2 * math.pi) + log_var + eps.square()).sum(-1)


def draw(
    sampler: Callable[..., Tensor],
    shape: Sequence[int],
    *,
    like: Tensor,
    generator: torch.Generator | Sequence[torch.Generator],
) -> Tensor:
    """Noise of `shape` from `sampler` (`torch.randn` or `torch.rand`), of the type and on the device of `like`.

    A sequence of generators is an ensemble's: `shape` is then `(..., E, M, J)`, and a member's noise is what its
    generator alone would have drawn. A generator of another device draws there, so that a model on a GPU can be
    given the very noise of the CPU.
    """
    if isinstance(generator, torch.Generator):
        return sampler(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)
    member = (*shape[:-3], *shape[-2:])
    return torch.stack([draw(sampler, member, like=like, generator=g) for g in generator], dim=-3)


class Affine(nn.Module):
    """W u + b: `(..., n_out)` for `u` of shape `(..., n_in)`, with W and b drawn from N(0, INITIAL_STD^2).

    `weight` is `(n_out, n_in)` and `bias` `(n_out,)`; in an ensemble `(E, n_out, n_in)` and `(E, n_out)`, for
    `u` of shape `(..., E, M, n_in)`. Both are of torch's default type, or of float32 where that is less precise, on the
    device of `generator`. They are drawn in float32, so that a seed names the same weights whatever the type. `u` of
    another type is converted to theirs. Raises ValueError where a size is less than one.
    """

    scale = 1.0  # of W

    def __init__(self, n_in: int, n_out: int, *, generator: torch.Generator):
        super().__init__()
        at_least(1, n_in=n_in, n_out=n_out)

        def drawn(*shape: int) -> nn.Parameter:
            values = torch.empty(shape, dtype=torch.float32, device=generator.device)
            values.normal_(0.0, INITIAL_STD, generator=generator)
            return nn.Parameter(values.to(torch.promote_types(torch.float32, torch.get_default_dtype())))

        self.weight, self.bias = drawn(n_out, n_in), drawn(n_out)

    def forward(self, u: Tensor) -> Tensor:
        return self.affine(u, self.weight)

    def affine(self, u: Tensor, weight: Tensor) -> Tensor:
        """`weight` u + b."""
        u = u.to(weight.dtype)
        if weight.ndim == 2:
            return F.linear(u, weight, self.bias)
        return u @ weight.mT + self.bias[:, None]


class SlowAffine(Affine):
    """0.1 W u + b, with W and b starting at zero.

    A step of Adagrad does not depend on the scale of the gradient, so W moves as fast as an `Affine`'s and the output
    a tenth as far. Shapes are those of `Affine`, and so are the draws it takes from `generator`, so that what is
    built after it starts the same. The paper has no such layer; the author's library has, in wake-sleep.
    """

    scale = 0.1

    def __init__(self, n_in: int, n_out: int, *, generator: torch.Generator):
        super().__init__(n_in, n_out, generator=generator)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, u: Tensor) -> Tensor:
        return self.affine(u, self.scale * self.weight)


class BernoulliMLP(nn.Module):
    """p(v|u), a product of Bernoullis with means y = sigmoid(W2 tanh(W1 u + b1) + b2) (eq. 11).

    For `v` strictly between 0 and 1 (grey pixels, as in the paper) `log_prob` is still eq. 11, but
    exp(log_prob) is no longer normalised over `v`: such numbers compare only with each other. Outside [0, 1] eq. 11
    means nothing, and can be above zero. Both log-densities raise ValueError where `v` is empty or not all in there
    (`checks.refuse_outside`), and where it has not `n_out` values per row.
    """

    domain = Domain(0.0, 1.0, "the Bernoulli likelihood (eq. 11) is of values in [0, 1]: divide by the largest grey")

    def __init__(self, n_in: int, n_hidden: int, n_out: int, *, generator: torch.Generator):
        super().__init__()
        self.hidden = Affine(n_in, n_hidden, generator=generator)
        self.logit = Affine(n_hidden, n_out, generator=generator)

    def forward(self, u: Tensor) -> Tensor:
        """Logits of the means, `(..., n_out)`, for `u` of shape `(..., n_in)`."""
        logits: Tensor = self.logit(torch.tanh(self.hidden(u)))
        return logits

    def log_prob(self, v: Tensor, u: Tensor) -> Tensor:
        """log p(v|u) of eq. 11, `(...)`, nats; `v` is `(..., n_out)` with values in [0, 1]."""
        refuse_outside(v, self.domain)
        logits = self(u)
        refuse_width(v, logits.shape[-1])
        logits, v = torch.broadcast_tensors(logits, v.to(logits.dtype))
        # the same sum as eq. 11, written on the logits so that no logarithm of zero can occur
        return -F.binary_cross_entropy_with_logits(logits, v, reduction="none").sum(-1)

    def log_prob_table(self, v: Tensor, u: Tensor) -> Tensor:
        """log p(v|u) of every `v` `(M, n_out)` given every `u` `(K, n_in)`: `(K, M)`, nats, as one matrix product."""
        refuse_outside(v, self.domain)
        logits: Tensor = self(u)
        refuse_width(v, logits.shape[-1])
        return logits @ v.to(logits.dtype).T - F.softplus(logits).sum(-1, keepdim=True)

    def mean(self, u: Tensor) -> Tensor:
        """The means y, `(..., n_out)`."""
        return torch.sigmoid(self(u))

    def sample(self, u: Tensor, *, generator: torch.Generator) -> Tensor:
        """One draw v ~ p(v|u), zeros and ones, `(..., n_out)`."""
        y = self.mean(u)
        # not torch.bernoulli, which refuses NaN: a diverging run must reach the check that reports it
        return (draw(torch.rand, y.shape, like=y, generator=generator) < y).to(y.dtype)


class GaussianMLP(nn.Module):
    """p(v|u) = N(v; mu(u), diag(sigma^2(u))), both linear in one tanh layer (eq. 12).

    With `unit_mean=True` the means pass through a sigmoid into (0, 1), as section 5 does for the Frey
    Face pixels. With `slow_log_var=True` the layer of log sigma^2 is a `SlowAffine`. The density has no upper
    bound: where data can be fitted exactly, log_var runs away.

    `v` is any finite vector, with `unit_mean=True` too: a draw around a mean in (0, 1) need not lie there. Both
    log-densities raise ValueError where `v` is empty or not finite, and where it has not `n_out` values per row.
    """

    domain = Domain(-math.inf, math.inf, "the Gaussian likelihood of eq. 12 is of finite values: take out what is not")

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        n_out: int,
        *,
        generator: torch.Generator,
        unit_mean: bool = False,
        slow_log_var: bool = False,
    ):
        super().__init__()
        self.unit_mean = unit_mean
        self.hidden = Affine(n_in, n_hidden, generator=generator)
        self.mu = Affine(n_hidden, n_out, generator=generator)
        self.log_var = (SlowAffine if slow_log_var else Affine)(n_hidden, n_out, generator=generator)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """`(mu, log_var)`, each `(..., n_out)`, for `u` of shape `(..., n_in)`."""
        h = torch.tanh(self.hidden(u))
        mu = self.mu(h)
        return (torch.sigmoid(mu) if self.unit_mean else mu), self.log_var(h)

    def log_prob(self, v: Tensor, u: Tensor) -> Tensor:
        """log p(v|u) of eq. 12, `(...)`, nats; `v` is `(..., n_out)`."""
        refuse_outside(v, self.domain)
        parts: tuple[Tensor, Tensor] = self(u)
        refuse_width(v, parts[0].shape[-1])
        return log_normal(v.to(torch.promote_types(v.dtype, parts[0].dtype)), *parts)

    def log_prob_table(self, v: Tensor, u: Tensor) -> Tensor:
        """log p(v|u) of every `v` `(M, n_out)` given every `u` `(K, n_in)`: `(K, M)`, nats."""
        return self.log_prob(v, u[:, None])

    def mean(self, u: Tensor) -> Tensor:
        """The means mu, `(..., n_out)`."""
        mu: Tensor = self(u)[0]
        return mu

    def sample(self, u: Tensor, *, generator: torch.Generator) -> Tensor:
        """One draw v ~ p(v|u), `(..., n_out)`; gradients do not flow through it."""
        parts: tuple[Tensor, Tensor] = self(u)
        mu, log_var = (part.detach() for part in parts)
        return mu + torch.exp(0.5 * log_var) * draw(torch.randn, mu.shape, like=mu, generator=generator)
