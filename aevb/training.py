"""The one loop that trains every algorithm: Adagrad, MAP weight decay, a log-spaced grid, checkpoints (section 5).

A run is a value: a frozen `Run` says all that decides its numbers, except how far to go. Going further
continues the same run, so a short curve is the beginning of the long one.
"""

import dataclasses
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aevb import mcem
from aevb.bounds import estimator_b
from aevb.data import Dataset, load
from aevb.files import write_whole
from aevb.marginal_likelihood import appendix_d
from aevb.model import Decoder, LatentVariableModel, bernoulli_vae, gaussian_vae
from aevb.objectives import OBJECTIVES, Update

SELECTION_STEPS = 200  # "the first few iterations": each candidate step size trains this far after the warm-up
EVALUATION_BATCH = 1000
CHECKPOINT_STEPS = 5000  # what an interruption loses at most, half a minute or so
ALGORITHMS = (*OBJECTIVES, "mcem")
LIKELIHOOD_POINTS = 1000  # the first so many of train and of test, as in figure 3
# where a curve has points: from so many samples on, so many a decade
GRIDS = {"bound": (10_000, 10), "marginal-likelihood": (100_000, 5)}
# fields that came later, at the value that older runs had without saying so: left out of a run's key
IMPLIED = {"measure": "bound"}


class DivergedError(RuntimeError):
    """A run whose bound is no longer a number."""


@dataclass(frozen=True)
class Run:
    """All that decides the numbers of a run, except its length.

    `step_sizes` are the candidates for Adagrad's global step size; `n_train` takes the first training
    points only. `hidden` is the width of the one hidden layer of encoder and decoder. For the first
    `warm_up` steps Adagrad accumulates squared gradients and nothing moves: the author's library does
    so, the paper does not say it. `measure` is what the curve shows: the "bound" of figure 2, or the
    "marginal-likelihood" of figure 3, the only one that MCEM has.
    """

    dataset: str
    algorithm: str
    latent_dim: int
    hidden: int
    seed: int = 0
    n_train: int | None = None
    batch_size: int = 100
    warm_up: int = 100
    step_sizes: tuple[float, ...] = (0.01, 0.02, 0.1)
    measure: str = "bound"

    def __post_init__(self):
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"unknown algorithm {self.algorithm!r}: choose one of {', '.join(ALGORITHMS)}")
        if self.measure not in GRIDS:
            raise ValueError(f"unknown measure {self.measure!r}: choose one of {', '.join(GRIDS)}")
        if self.algorithm == "mcem" and self.measure == "bound":
            raise ValueError("mcem has no recognition model and so no bound: measure='marginal-likelihood'")

    @property
    def key(self) -> str:
        """A stable hash of the configuration, the name its results are kept under."""
        fields = [item for item in dataclasses.asdict(self).items() if item not in IMPLIED.items()]
        text = json.dumps(dict(fields), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Point:
    """The run's measure at one place of its curve, in nats per datapoint.

    `train` and `test` are evaluated at the parameters, `train` on as many of the first training points as test
    points: the bound with one sample a datapoint, or log p(x) by Appendix D. `running` is the average of the
    bounds seen in training since the last point (for MCEM of log p(x, z)): it lags behind, and is what the
    train curves of the paper's figure 2 seem to show.
    """

    samples: int
    train: float
    test: float
    running: float


def evaluation_grid(samples: int, batch_size: int = 100, measure: str = "bound") -> list[int]:
    """Where a curve has points (`GRIDS`): evenly in log samples, at whole minibatches, none past `samples`.

    It does not depend on where the run ends. Raises ValueError where no point lies within `samples`.
    """
    start, per_decade = GRIDS[measure]
    first = round(math.log10(start) * per_decade)
    last = math.floor(math.log10(max(samples, 1)) * per_decade) + 1
    points = (round(10 ** (k / per_decade) / batch_size) * batch_size for k in range(first, last + 1))
    grid = sorted({point for point in points if 0 < point <= samples})
    if not grid:
        raise ValueError(f"a run of {samples} samples ends before the first point of its curve: ask for more")
    return grid


def build_model(run: Run, dataset: Dataset, *, generator: torch.Generator) -> LatentVariableModel:
    """The model of section 5 for this dataset: Bernoulli decoder for MNIST, Gaussian for Frey Face.

    MCEM gets the decoder alone, the same at the start as the others' with the same seed.
    """
    build = gaussian_vae if dataset.name == "frey" else bernoulli_vae
    vae = build(dataset.train.shape[1], run.hidden, run.latent_dim, generator=generator)
    return Decoder(vae.decoder) if run.algorithm == "mcem" else vae


def map_adagrad(model: torch.nn.Module, step_size: float, prior_weight: float) -> torch.optim.Adagrad:
    """Adagrad with the gradient of `prior_weight` log N(theta; 0, I) in it: MAP, as section 5 asks.

    That gradient is minus theta, which is what weight decay adds. The prior covers weight matrices and
    not biases. `prior_weight` is M/N, the share of the prior that goes with one minibatch.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": prior_weight}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.Adagrad(groups, lr=step_size, eps=1e-8, fused=True)


@torch.no_grad()
def mean_bound(model: LatentVariableModel, dataset: Dataset, pixels: Tensor, *, generator: torch.Generator) -> float:
    """The lower bound in nats per datapoint, averaged over `pixels` `(N, D)`, by estimator B with one sample each."""
    total = sum(
        estimator_b(model, dataset.unit(batch), generator=generator).sum().item()
        for batch in pixels.split(EVALUATION_BATCH)
    )
    return total / len(pixels)


def mean_likelihood(
    model: LatentVariableModel, dataset: Dataset, pixels: Tensor, *, generator: torch.Generator
) -> float:
    """log p(x) in nats per datapoint by Appendix D, over the first `LIKELIHOOD_POINTS` of `pixels` `(N, D)`."""
    x = dataset.unit(pixels[:LIKELIHOOD_POINTS])
    return appendix_d(model, x, generator=generator).mean()[0]


MEASURES = {"bound": mean_bound, "marginal-likelihood": mean_likelihood}


class Trainer:
    """One run under way at one step size; `state` and `restore` carry it across interruptions, bit for bit."""

    def __init__(self, run: Run, step_size: float):
        self.run, self.step_size = run, step_size
        self.dataset = load(run.dataset)
        self.train_pixels = self.dataset.train[: run.n_train]
        if run.n_train is not None and len(self.train_pixels) < run.n_train:
            raise ValueError(f"n_train={run.n_train}, but {run.dataset} has {len(self.train_pixels)} training points")
        self.generator = torch.Generator().manual_seed(run.seed)
        self.model = build_model(run, self.dataset, generator=self.generator)
        self.optimizer = map_adagrad(self.model, step_size, run.batch_size / len(self.train_pixels))
        self.objective = self.chains = None  # one of the two
        if run.algorithm in OBJECTIVES:
            self.objective = OBJECTIVES[run.algorithm]
        else:
            self.chains = mcem.Chains(len(self.train_pixels), run.latent_dim, generator=self.generator)
        self.steps = 0
        self.seconds = 0.0
        self.curve: list[Point] = []
        self.reset_average()

    @property
    def samples(self) -> int:
        """Training samples seen."""
        return self.steps * self.run.batch_size

    def update(self) -> Update:
        """The next minibatch, drawn with replacement, and what the algorithm makes of it.

        MCEM keeps a minibatch for several updates, and moves its chains at the first.
        """
        fresh = self.chains is None or self.steps % mcem.UPDATES_PER_SAMPLE == 0
        if fresh:
            self.rows = torch.randint(len(self.train_pixels), (self.run.batch_size,), generator=self.generator)
        x = self.dataset.unit(self.train_pixels[self.rows])
        if self.chains is None:
            return self.objective(self.model, x, generator=self.generator)
        if fresh:
            self.chains.move(self.model, x, self.rows, generator=self.generator)
        return mcem.m_step(self.model, x, self.chains.z[self.rows][None])

    def step(self) -> None:
        """One minibatch and one Adagrad update (Algorithm 1)."""
        update = self.update()
        self.optimizer.zero_grad()
        update.loss.backward()
        warming_up = self.steps < self.run.warm_up
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0 if warming_up else self.step_size
        self.optimizer.step()
        self.steps += 1
        self.bound_sum += update.bound.mean()
        self.bound_count += 1

    def advance(self, samples: int) -> None:
        """Train until `samples` samples have been seen."""
        start = time.perf_counter()
        while self.samples < samples:
            self.step()
        self.seconds += time.perf_counter() - start

    def add_point(self) -> None:
        """Evaluate, and add a point to the curve. Raises DivergedError where the bound is not a number."""
        running = self.running_average()
        if not math.isfinite(running):
            raise self.diverged()
        generator = torch.Generator().manual_seed(self.run.seed)  # the same noise at each point, apart from training's
        measure = MEASURES[self.run.measure]
        test = measure(self.model, self.dataset, self.dataset.test, generator=generator)
        some = self.train_pixels[: len(self.dataset.test)]
        train = measure(self.model, self.dataset, some, generator=generator)
        if not (math.isfinite(train) and math.isfinite(test)):
            raise self.diverged()
        self.curve.append(Point(self.samples, train, test, running))
        self.reset_average()

    def diverged(self) -> DivergedError:
        """What to raise where the run is no longer a number."""
        return DivergedError(f"{self.run} diverged at step size {self.step_size} after {self.samples} samples")

    def running_average(self) -> float:
        """Mean of the bounds seen in training since the last point, nats per datapoint."""
        return (self.bound_sum / self.bound_count).item()

    def reset_average(self) -> None:
        """Begin a new running average."""
        self.bound_sum, self.bound_count = torch.zeros((), dtype=torch.float64), 0

    def state(self) -> dict:
        """Everything that `restore` needs to go on as if nothing had happened; to be saved before the next step."""
        return {
            "run": dataclasses.asdict(self.run),
            "step_size": self.step_size,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "progress": (self.steps, self.seconds, self.bound_sum, self.bound_count),
            "chains": (self.rows, self.chains.z, self.chains.step_size) if self.chains else None,
            "curve": [dataclasses.astuple(point) for point in self.curve],
        }

    def restore(self, state: dict) -> None:
        """Take over a `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.steps, self.seconds, self.bound_sum, self.bound_count = state["progress"]
        if self.chains:
            self.rows, self.chains.z, self.chains.step_size = state["chains"]
        self.curve = [Point(*values) for values in state["curve"]]


def choose_step_size(run: Run) -> float:
    """The candidate step size with the best training bound over the first `SELECTION_STEPS` steps after the warm-up.

    Section 5: "based on performance on the training set in the first few iterations". A candidate that
    diverges loses. Raises DivergedError where every candidate diverges.
    """
    if len(run.step_sizes) == 1:
        return run.step_sizes[0]
    best, best_bound = None, -math.inf
    for step_size in run.step_sizes:
        trainer = Trainer(run, step_size)
        trainer.advance(run.warm_up * run.batch_size)
        trainer.reset_average()
        trainer.advance((run.warm_up + SELECTION_STEPS) * run.batch_size)
        bound = trainer.running_average()
        if bound > best_bound:  # False for NaN
            best, best_bound = step_size, bound
    if best is None:
        raise DivergedError(f"{run}: every step size of {run.step_sizes} diverged; add smaller ones to step_sizes")
    return best


def fit(run: Run, samples: int, checkpoint: Path | None = None) -> Trainer:
    """Train `run` to the last point of the evaluation grid within `samples`, with a point at each place of it.

    With `checkpoint`, the run is kept in that file as it goes and taken up from it, bit for bit: at most
    CHECKPOINT_STEPS steps are lost. A checkpoint that is already further is returned as it stands.
    Returns the trainer with its `model` and `curve`. Raises ValueError where `samples` is too few for a point.
    """
    grid = evaluation_grid(samples, run.batch_size, run.measure)
    if checkpoint is not None and checkpoint.exists():
        trainer = load_checkpoint(run, checkpoint)
    else:
        trainer = Trainer(run, choose_step_size(run))
    done = trainer.curve[-1].samples if trainer.curve else 0
    for target in (point for point in grid if point > done):
        while trainer.samples < target:
            trainer.advance(min(target, trainer.samples + CHECKPOINT_STEPS * run.batch_size))
            if checkpoint is not None and trainer.samples < target:
                save_checkpoint(trainer, checkpoint)
        trainer.add_point()
        if checkpoint is not None:
            save_checkpoint(trainer, checkpoint)
    return trainer


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the trainer's state to `path`, whole or not at all."""
    write_whole(path, lambda temporary: torch.save(trainer.state(), temporary))


def load_checkpoint(run: Run, path: Path) -> Trainer:
    """The trainer saved at `path`. Raises ValueError where the file is damaged or belongs to another run."""
    try:
        state = torch.load(path, weights_only=True)
        saved = Run(**{**state["run"], "step_sizes": tuple(state["run"]["step_sizes"])})
    except Exception as error:  # torch raises many kinds for a damaged file, all of them meaning this
        raise ValueError(f"{path} is not a readable checkpoint: delete it to start that run again") from error
    if saved != run:
        raise ValueError(f"{path} belongs to another run: delete it to start {run} again")
    trainer = Trainer(run, state["step_size"])
    trainer.restore(state)
    return trainer
