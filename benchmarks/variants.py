"""The ideas that were tried to make the step by autograd faster, each as one change to the same plain step.

All compute what `Trainer.step` computes, without its warm-up.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aevb.bounds import kl_to_prior
from aevb.optimizer import MapAdagrad, flushed_denormals
from aevb.run import Run
from aevb.trainer import Trainer
from benchmarks.floor import networks

Learner = Callable[[Tensor], None]  # makes one update from a loss


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """log p(x|z) of eq. 11, `(M,)`, nats, as `aevb.networks` has it."""
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


class FusedBernoulli(torch.autograd.Function):
    """`log_bernoulli` with its own backward pass: one kernel less forward, and x - y at once backward."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return (logits * x).sum(-1) - F.softplus(logits).sum(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors
        return (x - torch.sigmoid(logits)).mul_(gradient[..., None]), None


class TanhBySigmoid(torch.autograd.Function):
    """tanh(a) = 2 sigmoid(2a) - 1: torch's sigmoid can be the faster kernel."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        h = (2 * a).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(h)
        return h

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, h)


def by_function(model: nn.Module, step_size: float, decay: float) -> Learner:
    """The update by autograd.grad and torch's Adagrad as a function, as the library has it."""
    optimizer = MapAdagrad(model, decay)
    return lambda loss: optimizer.step(torch.autograd.grad(loss, optimizer.parameters), step_size)


def by_class(model: nn.Module, step_size: float, decay: float) -> Learner:
    """The update by backward() and the torch.optim.Adagrad class."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim == 1]},
    ]
    optimizer = torch.optim.Adagrad(groups, lr=step_size, eps=1e-8, fused=True)

    def update(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        with flushed_denormals():  # as the library's has it
            optimizer.step()

    return update


class Variant:
    """One step of AEVB from these pieces; by default the plain ones."""

    def __init__(
        self,
        run: Run,
        step_size: float,
        *,
        tanh: Callable[..., Tensor] = torch.tanh,
        log_likelihood: Callable[..., Tensor] = log_bernoulli,
        update: Callable[[nn.Module, float, float], Learner] = by_function,
        wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]] = lambda bound: bound,
    ):
        trainer = Trainer(run, step_size)
        self.run, self.model, self.generator = run, trainer.model, trainer.generator
        self.networks = networks(self.model)
        self.images, self.pixels = trainer.images, trainer.train_pixels
        self.tanh, self.log_likelihood = tanh, log_likelihood
        self.update = update(self.model, step_size, run.batch_size / len(self.pixels))
        self.bound = wrap(self.plain_bound)
        self.bound_sum = torch.zeros((), dtype=torch.float64)

    def plain_bound(self, x: Tensor, eps: Tensor) -> Tensor:
        """Estimator B with one sample, `(M,)`, nats."""
        encoder, decoder = self.networks
        h = self.tanh(encoder.hidden(x))
        mu, log_var = encoder.mu(h), encoder.log_var(h)
        z = mu + torch.exp(0.5 * log_var) * eps
        logits = decoder.logit(self.tanh(decoder.hidden(z)))
        return self.log_likelihood(logits, x) - kl_to_prior(mu, log_var)

    def step(self) -> None:
        """One minibatch and one update."""
        rows = torch.randint(len(self.pixels), (self.run.batch_size,), generator=self.generator)
        x = self.images.unit_of(rows, self.pixels)
        shape = self.run.batch_size, self.run.latent_dim
        bound = self.bound(x, torch.randn(shape, generator=self.generator, dtype=x.dtype))
        self.update(-bound.sum())
        self.bound_sum += bound.detach().mean()


PLAIN = "plain"
TRIED: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "the optimiser as a class": {"update": by_class},
    "tanh by a sigmoid": {"tanh": TanhBySigmoid.apply},
    "Bernoulli fused": {"log_likelihood": FusedBernoulli.apply},
}
COMPILED: dict[str, dict[str, Any]] = {"torch.compile": {"wrap": torch.compile}}  # apart, for it takes long to compile
