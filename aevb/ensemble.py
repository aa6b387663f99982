"""Runs that differ in seed, step size or number of latents alone, trained together in batched matrix products.

On a GPU stretches of steps are captured as CUDA graphs, random numbers included, and then replayed: the small kernels
of one run would otherwise wait for Python.
"""

import copy
import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from aevb.checks import at_least
from aevb.model import Decoder, part, stack
from aevb.optimizer import MapAdagrad
from aevb.trainer import Trainer

CAPTURING = threading.Lock()  # a capture begins by waiting for the device, which no other capture survives
EAGER_STEPS = 3  # before a capture, so that everything that initialises itself has done so
STRETCH = 20  # steps in one graph


class Ensemble:
    """Trainers at one sample of runs of one `Run.configuration`, advanced together.

    `advance` takes the trainers' state in, trains and hands it back. So the trainers stay what they were, each with its
    own generator, optimiser state and curve. Numbers are those of the single runs up to rounding. The weight prior is
    that of the first trainer. Raises ValueError where the trainers do not belong together or there are none, and for an
    algorithm whose runs do not stack.
    """

    def __init__(self, trainers: list[Trainer]):
        at_least(1, trainers=len(trainers))
        first = trainers[0]
        if not first.algorithm.stacks:
            raise ValueError(f"{first.run.algorithm} cannot be trained as an ensemble: train its runs one by one")
        if any(t.run.configuration != first.run.configuration or t.steps != first.steps for t in trainers):
            raise ValueError(
                "an ensemble's runs differ in seed, step size and a few latents alone, and stand at the same sample"
            )
        self.trainers, self.updates = trainers, copy.copy(first.updates)  # whose memory a graph writes to
        models = [trainer.model for trainer in trainers if isinstance(trainer.model, Decoder)]  # all that stack
        self.model = stack(models)
        self.parameters: list[Tensor] = [self.model.get_parameter(name) for name in first.optimizer.names]
        self.sum_squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.bound_sum = torch.stack([trainer.bound_sum for trainer in trainers])
        self.generators = [trainer.generator for trainer in trainers]
        self.optimizers = self._optimizers()
        self.steps = 0
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.stream = torch.cuda.Stream(first.device) if first.device.type == "cuda" else None

    def _optimizers(self) -> list[tuple[list[int], MapAdagrad]]:
        """The members of each step size, and the optimiser of their part of the stacked parameters."""
        members: dict[float, list[int]] = {}
        for e, trainer in enumerate(self.trainers):
            members.setdefault(trainer.step_size, []).append(e)
        first = self.trainers[0].optimizer
        if len(members) == 1:
            return [([], first.over(self.parameters, self.sum_squares))]
        return [
            (some, first.over(*(_each(stacked, some) for stacked in (self.parameters, self.sum_squares))))
            for some in members.values()
        ]

    def advance(self, samples: int) -> None:
        """Train until each has seen `samples` samples."""
        first = self.trainers[0]
        if self.stream:  # what was done to the trainers elsewhere comes first
            self.stream.wait_stream(torch.cuda.current_stream(first.device))
        with torch.cuda.stream(self.stream):  # makes its GPU the current one, too; does nothing for None
            self._exchange(into_ensemble=True)
            try:
                while first.samples < samples:
                    self._go(math.ceil((samples - first.samples) / first.run.batch_size))
            finally:
                self._exchange(into_ensemble=False)
                if self.stream:
                    self.stream.synchronize()

    def stretch(self, steps: int) -> None:
        """`steps` minibatches and updates for each."""
        for _ in range(steps):
            gradients, bound = self.updates.next(self.model, self.parameters, self.draw, generators=self.generators)
            for members, optimizer in self.optimizers:
                step_size = self.trainers[members[0] if members else 0].next_step_size
                optimizer.step(_each(gradients, members) if members else gradients, step_size)
            self.bound_sum += bound.mean(-1)

    def draw(self) -> tuple[Tensor, Tensor]:
        """The next minibatch of each: their rows `(E, M)` and their data `(E, M, D)`."""
        first = self.trainers[0]
        rows = torch.stack([trainer.draw_rows() for trainer in self.trainers])
        return rows, first.images.unit_of(rows, first.train_pixels)

    def _go(self, left: int) -> None:
        """One stretch of the steps that are `left`: on a GPU, after the warm-up, in one graph."""
        first = self.trainers[0]
        warm = self.steps >= EAGER_STEPS and first.steps >= first.run.warm_up  # a graph holds the step size
        captured = self.stream is not None and warm
        steps = STRETCH if captured and left >= STRETCH else 1
        (self.replay if captured else self.stretch)(steps)
        self.steps += steps
        for trainer in self.trainers:
            trainer.steps += steps

    def replay(self, steps: int) -> None:
        """`stretch` by its graph, captured the first time."""
        if steps not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            for generator in self.generators:
                graph.register_generator_state(generator)
            with CAPTURING, torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.stretch(steps)
            self.graphs[steps] = graph
        self.graphs[steps].replay()

    @torch.no_grad()
    def _exchange(self, *, into_ensemble: bool) -> None:
        """Copy what the trainers have learnt into the ensemble, or back."""
        for e, trainer in enumerate(self.trainers):
            mine = [*self.parameters, *self.sum_squares, self.bound_sum]
            theirs = [*trainer.optimizer.parameters, *trainer.optimizer.sum_squares, trainer.bound_sum]
            for together, own in zip(mine, theirs, strict=True):
                pair = part(together, e, own.shape), own
                to, source = pair if into_ensemble else pair[::-1]
                to.copy_(source)


def _each(stacked: Sequence[Tensor], members: list[int]) -> list[Tensor]:
    """The `members` of each stacked tensor, one after the other."""
    return [together[e] for together in stacked for e in members]
