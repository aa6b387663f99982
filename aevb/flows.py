"""A q(z|x) that need not be Gaussian: invertible steps, planar or autoregressive, between the noise and z.

The noise eps ~ N(0, I) goes through K invertible steps to y = y_K, and z = mu + sigma y as in eq. 4. By the change of
variables log q(z|x) = log N(eps; 0, I) - sum_k log |det dy_k/dy_(k-1)| - sum_j log sigma_j (Rezende and Mohamed 2015,
eq. 7). They and Kingma et al. (2016) take mu and sigma first and the steps after them. With planar steps that is the
same family of q; with ours first, a step's numbers are in units of sigma, however narrow a posterior is.

A flow is a value that knows its steps but not their numbers: those are `steps` `(M, K, P)`, P for each of K steps and
each of M datapoints. Log-determinants are `(L, M)`, in nats.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aevb.checks import at_least, refuse_width, rows
from aevb.model import VAE, Decoder
from aevb.networks import SlowAffine, draw, log_normal

HALVINGS = 60  # of the interval in which a planar step's inverse lies


class Flow(Protocol):
    """K invertible steps of J dimensions, whose numbers are given: at the `start` each is the identity."""

    @property
    def latent_dim(self) -> int:
        """J."""

    @property
    def n_steps(self) -> int:
        """K."""

    @property
    def n_own(self) -> int:
        """How many of a step's numbers, the first, an encoder gives for each x; the others are the same for all."""

    def start(self, *, generator: torch.Generator) -> Tensor:
        """The numbers of the identity, `(K, P)`. Steps differ in what does not yet matter: the generator draws it."""

    def step(self, k: int, y: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The step k from `y` `(L, M, J)` with `numbers` `(M, P)`: where it leads, and log |det| of its Jacobian."""

    def undo(self, k: int, y: Tensor, numbers: Tensor) -> Tensor:
        """Where the step k came from that led to `y` `(L, M, J)`; differentiable once."""


@dataclass(frozen=True)
class Planar:
    """y + u tanh(w'y + b): space moves along u, by what the distance to a plane says (Rezende and Mohamed, eq. 10).

    A step's numbers are u `(J,)`, w `(J,)` and b, all of them the encoder's. It is invertible where w'u > -1. So u is
    moved along w to where w'u is elu(w'u), which is above -1, as in their appendix A.1; their own function there,
    softplus - 1, would leave no u = 0. Not defined where w = 0. Not correct where elu rounds to -1, in float32 for w'u
    below about -17 and in float64 below about -37: the step is then flat on its plane w'y = -b, where it has no inverse
    and log |det| is minus infinity.
    """

    latent_dim: int
    n_steps: int

    @property
    def n_own(self) -> int:
        return 2 * self.latent_dim + 1

    def start(self, *, generator: torch.Generator) -> Tensor:
        of: dict[str, Any] = {"dtype": torch.float32, "device": generator.device}
        numbers = torch.zeros(self.n_steps, self.n_own, **of)
        w = torch.randn(self.n_steps, self.latent_dim, generator=generator, **of)
        numbers[:, self.latent_dim : -1] = w / w.norm(dim=-1, keepdim=True)
        return numbers

    def _parts(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u, made invertible, and w, both `(M, J)`, b and w'u, both `(M,)`."""
        u, w, b = numbers[:, : self.latent_dim], numbers[:, self.latent_dim : -1], numbers[:, -1]
        wu = (w * u).sum(-1)
        allowed = F.elu(wu)
        return u + ((allowed - wu) / w.square().sum(-1))[:, None] * w, w, b, allowed

    def step(self, k: int, y: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        u, w, b, wu = self._parts(numbers)
        h = torch.tanh((w * y).sum(-1) + b)  # (L, M)
        return y + u * h[..., None], torch.log1p((1 - h.square()) * wu)

    def undo(self, k: int, y: Tensor, numbers: Tensor) -> Tensor:
        """By halving where a = w'before lies, since a + w'u tanh(a + b) = w'y rises with a; then Newton's step."""
        u, w, b, wu = self._parts(numbers)
        wy = (w * y).sum(-1)
        with torch.no_grad():
            low, high = wy - wu.abs(), wy + wu.abs()
            for _ in range(HALVINGS):
                a = (low + high) / 2
                below = a + wu * torch.tanh(a + b) < wy
                low, high = torch.where(below, a, low), torch.where(below, high, a)
            a = (low + high) / 2
            slope = 1 + wu * (1 - torch.tanh(a + b).square())
        a = a - (a + wu * torch.tanh(a + b) - wy) / slope  # its derivatives in z and the numbers are those of the root
        return y - u * torch.tanh(a + b)[..., None]


@dataclass(frozen=True)
class Autoregressive:
    """m + exp(s) y, where m and s of each dimension are functions of those before it (Kingma et al. 2016, eq. 10).

    The functions are one masked network of `width` tanh units (Germain et al. 2015), tanh(c + W y) and then V . + a.
    Every other step takes the dimensions in reverse. A step's numbers are c, the encoder's, and W, V and a, the same
    for every x, as in their algorithm 1. Their gates, which only shrink, are left out: so the start is the identity.
    With a `width` below J no m and s depends on more than the first width - 1 dimensions of its step's order.
    """

    latent_dim: int
    n_steps: int
    width: ClassVar[int] = 8

    @property
    def n_own(self) -> int:
        return self.width

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """How many numbers c, W, V and a are."""
        return self.width, self.width * self.latent_dim, 2 * self.latent_dim * self.width, 2 * self.latent_dim

    def start(self, *, generator: torch.Generator) -> Tensor:
        of: dict[str, Any] = {"dtype": torch.float32, "device": generator.device}
        c, W, *rest = (torch.zeros(self.n_steps, size, **of) for size in self.sizes)
        return torch.cat([c, W.normal_(generator=generator), *rest], -1)

    def _masks(self, k: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Which dimensions a unit sees, `(width, J)`, and which units a dimension's m and s see, `(J, width)`."""
        place = torch.arange(self.latent_dim, device=like.device)
        place = place.flip(0) if k % 2 else place
        sees = torch.arange(self.width, device=like.device) % self.latent_dim  # so many dimensions
        return (place < sees[:, None]).to(like), (sees <= place[:, None]).to(like)

    def _network(self, k: int, y: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """m and s, each `(L, M, J)`."""
        inward, outward = self._masks(k, y)
        c, W, V, a = numbers.split(self.sizes, -1)
        W = W.unflatten(-1, inward.shape) * inward
        V = V.unflatten(-1, (2, *outward.shape)) * outward
        h = torch.tanh(c + torch.einsum("mwj,lmj->lmw", W, y))
        m, s = (torch.einsum("msjw,lmw->slmj", V, h) + a.unflatten(-1, (2, -1)).transpose(0, 1)[:, None]).unbind()
        return m, s

    def step(self, k: int, y: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        m, s = self._network(k, y, numbers)
        return m + torch.exp(s) * y, s.sum(-1)

    def undo(self, k: int, y: Tensor, numbers: Tensor) -> Tensor:
        """Sequentially: with each pass of the network one dimension more is right, and with it the next m and s."""
        before = y
        for _ in range(self.latent_dim):
            m, s = self._network(k, before, numbers)
            before = (y - m) * torch.exp(-s)
        return before


class Q(NamedTuple):
    """q of each datapoint: `mu` and `log_var`, `(M, J)`, and the flow's numbers, `steps` `(M, K, P)`."""

    mu: Tensor
    log_var: Tensor
    steps: Tensor


def push(flow: Flow, q: Q, eps: Tensor) -> tuple[Tensor, Tensor]:
    """z `(L, M, J)` from noise `eps` ~ N(0, I) `(L, M, J)`, and log q(z|x) there, `(L, M)`, nats; differentiable."""
    y, log_q = eps, log_normal(eps, torch.zeros_like(q.mu), torch.zeros_like(q.mu)) - 0.5 * q.log_var.sum(-1)
    for k in range(flow.n_steps):
        y, log_det = flow.step(k, y, q.steps[:, k])
        log_q = log_q - log_det
    return q.mu + torch.exp(0.5 * q.log_var) * y, log_q


def log_density(flow: Flow, q: Q, z: Tensor) -> Tensor:
    """log q(z|x) at any `z` `(L, M, J)`: `(L, M)`, nats, by undoing the flow. Differentiable once."""
    y, log_dets = (z - q.mu) * torch.exp(-0.5 * q.log_var), 0.5 * q.log_var.sum(-1)
    for k in reversed(range(flow.n_steps)):
        y = flow.undo(k, y, q.steps[:, k])
        log_dets = log_dets + flow.step(k, y, q.steps[:, k])[1]
    return log_normal(y, torch.zeros_like(q.mu), torch.zeros_like(q.mu)) - log_dets


class FlowVAE(Decoder):
    """A VAE whose noise goes through a `flow` on its way to z; it starts as the `vae`, and keeps its two networks.

    The encoder's hidden layer gives mu, log sigma^2 and, by a linear layer more, the numbers of the flow that each x
    has for itself (`Flow.n_own`). That layer is as slow as a `SlowAffine`; `shared` are its biases and the numbers that
    all x share. `generator` draws what `Flow.start` does. Trained by `importance.weighted(1)`, which is estimator A:
    whatever takes `posterior` for a Gaussian's, as estimator B does, raises TypeError. It is in no ensemble.
    """

    def __init__(self, vae: VAE, flow: Flow, *, generator: torch.Generator):
        super().__init__(vae.decoder)
        at_least(1, n_steps=flow.n_steps)
        self.encoder, self.flow = vae.encoder, flow
        start = flow.start(generator=generator).to(vae.encoder.mu.weight)
        self.shared = nn.Parameter(start.flatten())  # one axis, as biases have, which no prior covers
        self.own = nn.Parameter(start.new_zeros(flow.n_steps * flow.n_own, vae.encoder.mu.weight.shape[-1]))

    def q(self, x: Tensor) -> Q:
        """q(z|x) of each of `x` `(M, D)`, differentiable in phi."""
        refuse_width(rows(x), self.encoder.hidden.weight.shape[-1])
        h = torch.tanh(self.encoder.hidden(x))
        shared = self.shared.unflatten(0, (self.flow.n_steps, -1))
        own = F.linear(h, SlowAffine.scale * self.own).unflatten(-1, (self.flow.n_steps, -1))
        steps = shared + F.pad(own, (0, shared.shape[-1] - self.flow.n_own))
        return Q(self.encoder.mu(h), self.encoder.log_var(h), steps)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raises TypeError: what is right for a Gaussian with this mu and log_var would be wrong for this q."""
        raise TypeError("the q(z|x) of a flow is no Gaussian: sample it, or see its numbers in `FlowVAE.q`")

    def log_posterior(self, z: Tensor, x: Tensor) -> Tensor:
        return log_density(self.flow, self.q(x), z)

    def sample_posterior(self, x: Tensor, n_samples: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        q = self.q(x)
        at_least(1, n_samples=n_samples, datapoints=len(q.mu))
        return push(self.flow, q, draw(torch.randn, (n_samples, *q.mu.shape), like=q.mu, generator=generator))
