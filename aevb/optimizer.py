"""Adagrad with the prior on the weights in its gradient: the MAP updates of section 5."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adagrad import adagrad

EPS = 1e-8  # the author has it inside the root; either way it only keeps the first step finite


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
        # torch asks for them; nothing here decays
        self._counts = [torch.zeros((), dtype=torch.float32, device="cpu") for _ in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], step_size: float) -> None:
        """One update from `gradients`, in the order of `parameters`; a step size of zero only accumulates squares."""
        on_cpu = self.parameters[0].device.type == "cpu"  # where torch has it as one pass over the memory
        gradients = [gradient.contiguous() for gradient in gradients]  # the fused kernel reads any other order wrongly
        n = self.n_covered
        for part, decay in ((slice(None, n), self.prior_weight), (slice(n, None), 0.0)):
            adagrad(
                self.parameters[part],
                gradients[part],
                self.sum_squares[part],
                self._counts[part],
                fused=on_cpu,
                foreach=not on_cpu,
                lr=step_size,
                weight_decay=decay,
                lr_decay=0.0,
                eps=EPS,
                maximize=False,
            )
