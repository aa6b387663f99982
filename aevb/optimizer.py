"""Adagrad with the prior on the weights in its gradient: the MAP updates of section 5."""

import contextlib
import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.optim.adagrad import adagrad

EPS = 1e-8  # the author has it inside the root; either way it only keeps the first step finite


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers too small for full precision count as zero meanwhile, on this thread and where the processor can.

    Other threads that share a computation keep them, and their cost.
    """
    before = not torch.full((), 1e-40, dtype=torch.float32, device="cpu").mul(1).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class MapAdagrad:
    """Adagrad (Duchi, Hazan and Singer 2011) on a loss minus `prior_weight` log N(theta; 0, I).

    The gradient of that prior is minus theta, which is what weight decay adds. It covers weight matrices and
    not biases, and of those the ones whose name begins with `network`: all, or the decoder's alone for "decoder".
    `prior_weight` is M/N, the share of the prior that goes with one minibatch. `parameters` are the model's,
    those under the prior first, and `sum_squares` what Adagrad remembers of each: the sum of its squared gradients.
    """

    def __init__(self, model: torch.nn.Module, prior_weight: float, network: str = ""):
        def is_free(item: tuple[str, Tensor]) -> bool:
            return item[1].ndim <= 1 or not item[0].startswith(network)

        named = sorted(model.named_parameters(), key=is_free)
        self.names = [name for name, _ in named]
        self.parameters: list[Tensor] = [parameter for _, parameter in named]
        self.sum_squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.n_covered = sum(not is_free(item) for item in named)
        self.prior_weight = prior_weight

    def over(self, parameters: list[Tensor], sum_squares: list[Tensor]) -> "MapAdagrad":
        """The same rule for others: as many `parameters` for each of these, and what is remembered of them."""
        other = copy.copy(self)
        other.parameters, other.sum_squares = parameters, sum_squares
        other.n_covered = self.n_covered * (len(parameters) // len(self.parameters))
        return other

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], step_size: float) -> None:
        """One update from `gradients`, in the order of `parameters`; a step size of zero only accumulates squares."""
        device = self.parameters[0].device
        fused = torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_adagrad_", device.type.upper())
        # torch asks for them, a fused kernel on its device; nothing here decays
        counts = [torch.zeros((), dtype=torch.float32, device=device if fused else "cpu") for _ in gradients]
        gradients = [gradient.contiguous() for gradient in gradients]  # the fused kernel reads any other order wrongly
        n = self.n_covered
        # the prior alone moves the weights of a pixel that is always dark, until the squares of their gradients are
        # denormal numbers, which cost a processor a hundred times the time of others
        with flushed_denormals():
            for some, decay in ((slice(None, n), self.prior_weight), (slice(n, None), 0.0)):
                adagrad(
                    self.parameters[some],
                    gradients[some],
                    self.sum_squares[some],
                    counts[some],
                    fused=fused,
                    foreach=not fused,
                    lr=step_size,
                    weight_decay=decay,
                    lr_decay=0.0,
                    eps=EPS,
                    maximize=False,
                )
