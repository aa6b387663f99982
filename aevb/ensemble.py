"""Runs that differ in seed or step size alone, trained together along a leading axis in batched matrix products.

On a GPU a step is captured once as a CUDA graph, random numbers included, and then replayed: the small kernels of one
run would otherwise wait for Python.
"""

import threading

import torch
from torch import Tensor

from aevb.checks import at_least
from aevb.model import stack
from aevb.trainer import Trainer

CAPTURING = threading.Lock()  # a capture begins by waiting for the device, which no other capture survives
EAGER_STEPS = 3  # before a capture, so that everything that initialises itself has done so


class Ensemble:
    """Trainers at one sample of runs alike but for seed and step size, advanced together.

    The trainers stay what they were, each with its own generator, optimiser state and curve: their parameters become
    views of the ensemble's. Numbers are those of the single runs up to rounding. Raises ValueError where the
    trainers do not belong together or there are none, and for an algorithm whose runs do not stack.
    """

    def __init__(self, trainers: list[Trainer]):
        at_least(1, trainers=len(trainers))
        first = trainers[0]
        if not first.algorithm.stacks:
            raise ValueError(f"{first.run.algorithm} cannot be trained as an ensemble: train its runs one by one")
        if any(t.run.configuration != first.run.configuration or t.steps != first.steps for t in trainers):
            raise ValueError("an ensemble's runs differ in seed and step size alone, and stand at the same sample")
        self.trainers = trainers
        self.model = stack([t.model for t in trainers])
        self.parameters = [self.model.get_parameter(name) for name in first.optimizer.names]
        self.generators = [t.generator for t in trainers]
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream(first.device) if first.device.type == "cuda" else None

    def advance(self, samples: int) -> None:
        """Train until each has seen `samples` samples."""
        first = self.trainers[0]
        with torch.cuda.stream(self.stream):  # makes its GPU the current one, too; does nothing for None
            while first.samples < samples:
                self.step()
            if self.stream:
                self.stream.synchronize()

    def step(self) -> None:
        """One minibatch and one update for each."""
        first = self.trainers[0]
        warm = self.steps >= EAGER_STEPS and first.steps >= first.run.warm_up  # the graph holds the step size
        if self.stream and warm and self.graph is None:
            self._capture()
        if self.graph:
            self.graph.replay()
        else:
            self._learn()
        self.steps += 1
        for trainer in self.trainers:
            trainer.steps += 1

    def draw(self) -> tuple[Tensor, Tensor]:
        """The next minibatch of each: their rows `(E, M)` and their data `(E, M, D)`."""
        first = self.trainers[0]
        rows = torch.stack([trainer.draw_rows() for trainer in self.trainers])
        return rows, first.images.unit_of(rows, first.train_pixels)

    def _learn(self) -> None:
        update = self.trainers[0].updates.next(self.model, self.draw, generator=self.generators)
        gradients = torch.autograd.grad(update.loss, self.parameters)
        for e, trainer in enumerate(self.trainers):
            trainer.learn([gradient[e] for gradient in gradients], update.bound[e])

    def _capture(self) -> None:
        graph = self.graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with CAPTURING, torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self._learn()
