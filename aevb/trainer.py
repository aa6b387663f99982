"""One run under way: minibatches, updates, Adagrad with the prior, and points of its curve (section 5)."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from aevb.algorithms import ALGORITHMS, Trained
from aevb.backward import Gradients
from aevb.datasets import Dataset, load
from aevb.optimizer import MapAdagrad
from aevb.run import Point, Run


class DivergedError(RuntimeError):
    """A run whose bound is no longer a number."""


def build_model(run: Run, dataset: Dataset, n_train: int, *, generator: torch.Generator) -> Trained:
    """The model of section 5 with the dataset's likelihood, for `n_train` training points.

    The algorithm trains a model made of it. With the same seed all algorithms start from the same weights.
    """
    shape = math.prod(dataset.image_shape), run.hidden, run.latent_dim
    vae = dataset.likelihood.vae(*shape, generator=generator, slow_log_var=run.slow_log_var)
    vae = vae.float()  # whatever torch's default is
    return ALGORITHMS[run.algorithm].model(vae, n_train, run.initial_sigma)


class Trainer:
    """One run under way at one step size; `state` and `restore` carry it across interruptions, bit for bit.

    It computes in float32 whatever torch's default type and device. Raises ValueError where the dataset has fewer than
    `n_train` training points.
    """

    def __init__(self, run: Run, step_size: float, device: str = "cpu"):
        self.run, self.step_size, self.device = run, step_size, torch.device(device)
        self.algorithm = ALGORITHMS[run.algorithm]
        self.images = load(run.dataset).to(self.device)
        self.train_pixels = self.images.train[: run.n_train]
        if run.n_train is not None and len(self.train_pixels) < run.n_train:
            raise ValueError(f"n_train={run.n_train}, but {run.dataset} has {len(self.train_pixels)} training points")
        self.generator = torch.Generator().manual_seed(run.seed)
        n_train = len(self.train_pixels)
        self.model = build_model(run, self.images.dataset, n_train, generator=self.generator).to(self.device)
        if self.device.type != "cpu":  # the same start on every device, and then the device's own noise
            self.generator = torch.Generator(self.device).manual_seed(run.seed)
        share = 0.0 if self.algorithm.prior_in_loss else run.batch_size / n_train
        self.optimizer = MapAdagrad(self.model, share, "" if run.prior_on_encoder else "decoder")
        self.updates = self.algorithm.updates(n_train, run.latent_dim, generator=self.generator)
        size = run.batch_size, self.train_pixels.shape[1]
        self.minibatch = torch.empty(size, dtype=torch.float32, device=self.device)
        self.steps = 0
        self.seconds = 0.0
        self.curve: list[Point] = []
        self.bound_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.reset_average()

    @property
    def samples(self) -> int:
        """Training samples seen."""
        return self.steps * self.run.batch_size

    @property
    def last_point(self) -> int:
        """The samples of the curve's last point, or 0."""
        return self.curve[-1].samples if self.curve else 0

    def draw_rows(self) -> Tensor:
        """The rows of the next minibatch, drawn with replacement: `(M,)`."""
        size = (self.run.batch_size,)
        return torch.randint(len(self.train_pixels), size, generator=self.generator, device=self.generator.device)

    def draw(self) -> tuple[Tensor, Tensor]:
        """The next minibatch: its rows `(M,)` and its data `(M, D)`, in the memory of the last one."""
        rows = self.draw_rows()
        return rows, self.images.unit_of(rows, self.train_pixels, out=self.minibatch[: len(rows)])

    def gradients(self) -> Gradients:
        """The algorithm's gradients at the next minibatch, in the optimiser's order."""
        return self.updates.next(self.model, self.optimizer.parameters, self.draw, generators=[self.generator])

    @property
    def next_step_size(self) -> float:
        """The step size of the next update: zero in the warm-up."""
        return self.step_size if self.steps >= self.run.warm_up else 0.0

    def step(self) -> None:
        """One minibatch and one Adagrad update (Algorithm 1)."""
        gradients, bound = self.gradients()
        self.optimizer.step(gradients, self.next_step_size)
        self.bound_sum += bound.mean()
        self.steps += 1

    def advance(self, samples: int) -> None:
        """Train until `samples` samples have been seen."""
        while self.samples < samples:
            self.step()

    def add_point(self) -> None:
        """Evaluate, and add a point to the curve. Raises DivergedError where the bound is not a number."""
        running = self.running_average()
        if not math.isfinite(running):
            raise self.diverged()
        # the same noise at each point, apart from training's
        generator = torch.Generator(self.device).manual_seed(self.run.seed)
        measure = self.algorithm.measures[self.run.measure]
        test = measure(self.model, self.images, self.images.test, generator=generator)
        some = self.train_pixels[: len(self.images.test)]
        train = measure(self.model, self.images, some, generator=generator)
        if not (math.isfinite(train) and math.isfinite(test)):
            raise self.diverged()
        evidence: tuple[float, ...] = ()
        if self.algorithm.evidence:  # over the whole training set
            evidence = self.algorithm.evidence(self.model, self.images.unit(self.train_pixels), generator=generator)
        self.curve.append(Point(self.samples, train, test, running, *evidence))
        self.reset_average()

    def diverged(self) -> DivergedError:
        """The error to raise where the run is no longer a number."""
        return DivergedError(f"{self.run} diverged at step size {self.step_size} after {self.samples} samples")

    def running_average(self) -> float:
        """The mean of the bounds seen since the last point, nats per datapoint, of at least one step."""
        return self.bound_sum.item() / (self.steps - self.average_from)

    def reset_average(self) -> None:
        """Begin a new running average."""
        self.bound_sum.zero_()
        self.average_from = self.steps

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs to go on as if nothing had happened; to be saved before the next step."""
        own = {name: parameter.detach().cpu().clone() for name, parameter in self.model.named_parameters()}
        return {
            "run": dataclasses.asdict(self.run),
            "step_size": self.step_size,
            "model": own,
            "sum_squares": [squares.cpu().clone() for squares in self.optimizer.sum_squares],
            "generator": self.generator.get_state(),
            "progress": (self.steps, self.seconds, self.bound_sum.item(), self.average_from),
            "updates": self.updates.state(),
            "curve": [dataclasses.astuple(point) for point in self.curve],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `state`. Raises KeyError, TypeError, ValueError or RuntimeError where it does not fit."""
        self.model.load_state_dict(state["model"])
        for mine, saved in zip(self.optimizer.sum_squares, state["sum_squares"], strict=True):
            mine.copy_(saved)
        self.generator.set_state(state["generator"])
        self.steps, self.seconds, bound_sum, self.average_from = state["progress"]
        self.bound_sum.fill_(bound_sum)
        self.updates.restore(state["updates"])
        self.curve = [Point(*values) for values in state["curve"]]
