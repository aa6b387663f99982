"""The one loop that trains every algorithm: Adagrad, MAP weight decay, a log-spaced grid, checkpoints (section 5).

A run is a value: a frozen `Run` says all that decides its numbers, except how far to go. Going further
continues the same run, so a short curve is the beginning of the long one.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aevb import mcem
from aevb.bounds import estimator_b
from aevb.checks import at_least
from aevb.data import Dataset, load
from aevb.ensemble import ONE_BY_ONE, Ensemble
from aevb.files import write_whole
from aevb.full_vb import FullVB, evidence_bound, full_vb, held_out_bound
from aevb.marginal_likelihood import appendix_d
from aevb.model import Decoder, LatentVariableModel, bernoulli_vae, gaussian_vae
from aevb.networks import INITIAL_STD
from aevb.objectives import OBJECTIVES, Update
from aevb.optimizer import MapAdagrad

SELECTION_STEPS = 200  # "the first few iterations": each candidate step size trains this far after the warm-up
EVALUATION_BATCH = 1000
CHECKPOINT_SECONDS = 30  # what an interruption loses at most
REPORT_STEPS = 500
OF_A_MINIBATCH = OBJECTIVES | {"full-vb": full_vb}
ALGORITHMS = (*OBJECTIVES, "mcem", "full-vb")
LIKELIHOOD_POINTS = 1000  # the first so many of train and of test, as in figure 3
# where a curve has points: from so many samples on, so many a decade
GRIDS = {"bound": (10_000, 10), "marginal-likelihood": (100_000, 5)}
# fields that came later, at the value that older runs had without saying so: left out of a run's key
IMPLIED = {"measure": "bound", "initial_sigma": INITIAL_STD, "slow_log_var": False, "prior_on_encoder": True}


class DivergedError(RuntimeError):
    """A run whose bound is no longer a number."""


@dataclass(frozen=True)
class Run:
    """All that decides the numbers of a run, except its length.

    `step_sizes` are the candidates for Adagrad's global step size; `n_train` takes the first training
    points only. `hidden` is the width of the one hidden layer of encoder and decoder. For the first
    `warm_up` steps Adagrad accumulates squared gradients and nothing moves: the author's library does
    so, the paper does not say it. `measure` is what the curve shows: the "bound" of figure 2, or the
    "marginal-likelihood" of figure 3, the only one that MCEM has and one that full VB, with no one theta, has not.
    `initial_sigma` are the standard deviations that full VB's q(theta) starts with; others have none. With
    `slow_log_var` the encoder's log-variances start at zero and move a tenth as far (`networks.SlowAffine`). Without
    `prior_on_encoder` the weight prior covers the decoder alone, theta, and not phi. Raises ValueError for an
    algorithm or a measure that does not exist or does not fit, and for sizes of nothing.
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
    initial_sigma: float = INITIAL_STD
    slow_log_var: bool = False
    prior_on_encoder: bool = True

    def __post_init__(self):
        n_train = 1 if self.n_train is None else self.n_train
        at_least(1, latent_dim=self.latent_dim, hidden=self.hidden, batch_size=self.batch_size, n_train=n_train)
        at_least(0, warm_up=self.warm_up)
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"unknown algorithm {self.algorithm!r}: choose one of {', '.join(ALGORITHMS)}")
        if self.measure not in GRIDS:
            raise ValueError(f"unknown measure {self.measure!r}: choose one of {', '.join(GRIDS)}")
        if self.algorithm == "mcem" and self.measure == "bound":
            raise ValueError("mcem has no recognition model and so no bound: measure='marginal-likelihood'")
        if self.algorithm == "full-vb" and self.measure != "bound":
            raise ValueError("full-vb has no one theta and so no log p(x) at it: measure='bound'")

    @property
    def key(self) -> str:
        """A stable hash of the configuration, the name its results are kept under."""
        fields = [item for item in dataclasses.asdict(self).items() if item not in IMPLIED.items()]
        text = json.dumps(dict(fields), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def configuration(self) -> "Run":
        """The run without its seed and step sizes: runs of one configuration can train as an ensemble."""
        return dataclasses.replace(self, seed=0, step_sizes=())


@dataclass(frozen=True)
class Point:
    """The run's measure at one place of its curve, in nats per datapoint.

    `train` and `test` are evaluated at the parameters, `train` on as many of the first training points as test
    points: the bound with one sample a datapoint, or log p(x) by Appendix D. `running` is the average of the
    bounds seen in training since the last point (for MCEM of log p(x, z)): it lags behind, and is what the
    train curves of the paper's figure 2 seem to show.

    For full VB every bound is at one draw of theta ~ q(theta), and two more values say what the training set says of
    the evidence: `evidence`, the bound on log p(X) / N of eq. 24, and `data`, its data term over all N training
    points. KL(q(theta)||p(theta)) / N is `data - evidence`.
    """

    samples: int
    train: float
    test: float
    running: float
    data: float | None = None
    evidence: float | None = None


def evaluation_grid(samples: int, batch_size: int = 100, measure: str = "bound") -> list[int]:
    """Where a curve has points (`GRIDS`): evenly in log samples, at whole minibatches, none past `samples`.

    It does not depend on where the run ends. Raises ValueError where no point lies within `samples`.
    """
    at_least(1, batch_size=batch_size)
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

    MCEM gets the decoder alone and full VB a posterior around it, the same at the start as the others' with the
    same seed.
    """
    build = gaussian_vae if dataset.name == "frey" else bernoulli_vae
    shape = dataset.train.shape[1], run.hidden, run.latent_dim
    vae = build(*shape, generator=generator, slow_log_var=run.slow_log_var).float()  # whatever torch's default is
    if run.algorithm == "mcem":
        return Decoder(vae.decoder)
    if run.algorithm == "full-vb":
        return FullVB(vae, len(dataset.train) if run.n_train is None else run.n_train, run.initial_sigma)
    return vae


@torch.no_grad()
def mean_bound(
    model: LatentVariableModel | FullVB, dataset: Dataset, pixels: Tensor, *, generator: torch.Generator
) -> float:
    """The lower bound in nats per datapoint, averaged over `pixels` `(N, D)`, by estimator B with one sample each.

    For full VB the held-out bound, all of it at one draw of theta.
    """
    if isinstance(model, FullVB):
        return held_out_bound(model, dataset.unit(pixels), 1, generator=generator).mean().item()
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
    """One run under way at one step size; `state` and `restore` carry it across interruptions, bit for bit.

    It computes in float32 whatever torch's default type and device. Raises ValueError where the dataset has fewer than
    `n_train` training points.
    """

    def __init__(self, run: Run, step_size: float, device: str = "cpu"):
        self.run, self.step_size, self.device = run, step_size, torch.device(device)
        self.dataset = load(run.dataset).to(self.device)
        self.train_pixels = self.dataset.train[: run.n_train]
        if run.n_train is not None and len(self.train_pixels) < run.n_train:
            raise ValueError(f"n_train={run.n_train}, but {run.dataset} has {len(self.train_pixels)} training points")
        self.generator = torch.Generator().manual_seed(run.seed)
        self.model = build_model(run, self.dataset, generator=self.generator).to(self.device)
        if self.device.type != "cpu":  # the same start on every device, and then the device's own noise
            self.generator = torch.Generator(self.device).manual_seed(run.seed)
        in_the_loss = run.algorithm == "full-vb"  # where the prior is
        share = 0.0 if in_the_loss else run.batch_size / len(self.train_pixels)
        self.optimizer = MapAdagrad(self.model, share, "" if run.prior_on_encoder else "decoder")
        self.objective = self.chains = None  # one of the two
        if run.algorithm in OF_A_MINIBATCH:
            self.objective = OF_A_MINIBATCH[run.algorithm]
        else:
            self.chains = mcem.Chains(len(self.train_pixels), run.latent_dim, generator=self.generator)
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
        """Where the curve stands: the samples of its last point, or 0."""
        return self.curve[-1].samples if self.curve else 0

    def draw_rows(self) -> Tensor:
        """The rows of the next minibatch, drawn with replacement: `(M,)`."""
        size = (self.run.batch_size,)
        return torch.randint(len(self.train_pixels), size, generator=self.generator, device=self.generator.device)

    def update(self) -> Update:
        """The next minibatch, and what the algorithm makes of it.

        MCEM keeps a minibatch for several updates, and moves its chains at the first.
        """
        fresh = self.chains is None or self.steps % mcem.UPDATES_PER_SAMPLE == 0
        if fresh:
            self.rows = self.draw_rows()
            self.x = self.dataset.unit(self.train_pixels[self.rows])
        if self.chains is None:
            return self.objective(self.model, self.x, generator=self.generator)
        if fresh:
            self.chains.move(self.model, self.x, self.rows, generator=self.generator)
        return mcem.m_step(self.model, self.x, self.chains.z[self.rows][None])

    def learn(self, gradients: list[Tensor], bound: Tensor) -> None:
        """What a step does with `gradients`, in the optimiser's order, and with the `bound` `(M,)`."""
        self.optimizer.step(gradients, self.step_size if self.steps >= self.run.warm_up else 0.0)
        self.bound_sum += bound.mean()

    def step(self) -> None:
        """One minibatch and one Adagrad update (Algorithm 1)."""
        update = self.update()
        self.learn(torch.autograd.grad(update.loss, self.optimizer.parameters), update.bound)
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
        measure = MEASURES[self.run.measure]
        test = measure(self.model, self.dataset, self.dataset.test, generator=generator)
        some = self.train_pixels[: len(self.dataset.test)]
        train = measure(self.model, self.dataset, some, generator=generator)
        if not (math.isfinite(train) and math.isfinite(test)):
            raise self.diverged()
        self.curve.append(Point(self.samples, train, test, running, *self.evidence(generator)))
        self.reset_average()

    def evidence(self, generator: torch.Generator) -> tuple[float, float] | tuple[()]:
        """For full VB `data` and `evidence` of a point, over the whole training set at one draw of theta."""
        if self.run.algorithm != "full-vb":
            return ()
        bound = evidence_bound(self.model, self.dataset.unit(self.train_pixels), 1, generator=generator)
        return bound.data / bound.n, bound.per_datapoint

    def diverged(self) -> DivergedError:
        """What to raise where the run is no longer a number."""
        return DivergedError(f"{self.run} diverged at step size {self.step_size} after {self.samples} samples")

    def running_average(self) -> float:
        """Mean of the bounds seen in training since the last point, nats per datapoint."""
        return self.bound_sum.item() / (self.steps - self.average_from)

    def reset_average(self) -> None:
        """Begin a new running average."""
        self.bound_sum.zero_()  # in place, where a CUDA graph finds it
        self.average_from = self.steps

    def state(self) -> dict:
        """Everything that `restore` needs to go on as if nothing had happened; to be saved before the next step."""
        own = {name: parameter.detach().cpu().clone() for name, parameter in self.model.named_parameters()}
        return {
            "run": dataclasses.asdict(self.run),
            "step_size": self.step_size,
            "model": own,  # copies: an ensemble's members are views of one memory
            "sum_squares": [squares.cpu().clone() for squares in self.optimizer.sum_squares],
            "generator": self.generator.get_state(),
            "progress": (self.steps, self.seconds, self.bound_sum.item(), self.average_from),
            "chains": (self.rows, self.chains.z, self.chains.step_size) if self.chains else None,
            "curve": [dataclasses.astuple(point) for point in self.curve],
        }

    def restore(self, state: dict) -> None:
        """Take over a `state`."""
        self.model.load_state_dict(state["model"])
        for mine, saved in zip(self.optimizer.sum_squares, state["sum_squares"], strict=True):
            mine.copy_(saved)
        self.generator.set_state(state["generator"])
        self.steps, self.seconds, bound_sum, self.average_from = state["progress"]
        self.bound_sum.fill_(bound_sum)
        if self.chains:
            rows, z, self.chains.step_size = state["chains"]
            self.rows, self.chains.z = rows.to(self.device), z.to(self.device)
            self.x = self.dataset.unit(self.train_pixels[self.rows])
        self.curve = [Point(*values) for values in state["curve"]]


def together(trainers: list[Trainer]) -> list[Trainer | Ensemble]:
    """What advances `trainers`: one ensemble, or each by itself for ONE_BY_ONE and for a single run on a CPU."""
    single = len(trainers) == 1 and trainers[0].device.type == "cpu"
    alone = single or trainers[0].run.algorithm in ONE_BY_ONE
    return trainers if alone else [Ensemble(trainers)]


def choose_step_size(run: Run, device: str = "cpu") -> float:
    """The candidate step size with the best training bound over the first `SELECTION_STEPS` steps after the warm-up.

    Section 5: "based on performance on the training set in the first few iterations". A candidate that
    diverges loses. Raises DivergedError where every candidate diverges and ValueError where there is none.
    """
    at_least(1, step_sizes=len(run.step_sizes))
    if len(run.step_sizes) == 1:
        return run.step_sizes[0]
    candidates = [Trainer(run, step_size, device) for step_size in run.step_sizes]
    on_cpu = torch.device(device).type == "cpu"  # where each trains alone, the same to the last bit
    engines = candidates if on_cpu else together(candidates)
    for engine in engines:
        engine.advance(run.warm_up * run.batch_size)
    for candidate in candidates:
        candidate.reset_average()
    for engine in engines:
        engine.advance((run.warm_up + SELECTION_STEPS) * run.batch_size)
    best = max(candidates, key=lambda c: c.running_average() if math.isfinite(c.running_average()) else -math.inf)
    if not math.isfinite(best.running_average()):
        raise DivergedError(f"{run}: every step size of {run.step_sizes} diverged; add smaller ones to step_sizes")
    return best.step_size


def fit(
    run: Run,
    samples: int,
    checkpoint: Path | None = None,
    *,
    device: str = "cpu",
    report: Callable[[int], None] | None = None,
) -> Trainer:
    """Train `run` to the last point of the evaluation grid within `samples`, with a point at each place of it.

    With `checkpoint`, the run is kept in that file as it goes and taken up from it, bit for bit: at most
    CHECKPOINT_SECONDS are lost. A checkpoint that is already further is returned as it stands. `report` is
    called now and then with the samples seen. Returns the trainer with its `model` and `curve`. Raises ValueError
    where `samples` is too few for a point.
    """
    return fit_ensemble([run], samples, [checkpoint], device=device, report=report)[0]


def fit_ensemble(
    runs: list[Run],
    samples: int,
    checkpoints: list[Path | None] | None = None,
    *,
    device: str = "cpu",
    report: Callable[[int], None] | None = None,
) -> list[Trainer]:
    """`fit` for runs that differ in seed or step sizes alone, trained together wherever they stand at one sample.

    Each has a checkpoint of its own, so that it may go on alone or in other company; the one furthest behind
    goes first. `report` gets the samples seen by all of them. Raises ValueError where there are no runs, or
    `samples` is too few for a point.
    """
    at_least(1, runs=len(runs))
    grid = evaluation_grid(samples, runs[0].batch_size, runs[0].measure)
    checkpoints = checkpoints or [None] * len(runs)
    trainers = [begin(run, checkpoint, device) for run, checkpoint in zip(runs, checkpoints, strict=True)]
    files = dict(zip(trainers, checkpoints, strict=True))
    saved, group, engines = time.monotonic(), [], []
    while behind := [trainer for trainer in trainers if trainer.last_point < grid[-1]]:
        least = min(trainer.samples for trainer in behind)
        if [trainer for trainer in behind if trainer.samples == least] != group:
            group = [trainer for trainer in behind if trainer.samples == least]
            engines = together(group)
        target = next(place for place in grid if place > group[0].last_point)
        start = time.perf_counter()
        for engine in engines:
            engine.advance(min(target, least + REPORT_STEPS * runs[0].batch_size))
        seconds = time.perf_counter() - start
        for trainer in group:
            trainer.seconds += seconds / len(group)
            if trainer.samples == target:
                trainer.add_point()
        if group[0].samples == target or time.monotonic() > saved + CHECKPOINT_SECONDS:
            saved = time.monotonic()
            for trainer in group:
                save_checkpoint(trainer, files[trainer])
        if report:
            report(sum(trainer.samples for trainer in trainers))
    return trainers


def begin(run: Run, checkpoint: Path | None, device: str) -> Trainer:
    """A trainer for `run`: where its `checkpoint` stands, or at the start with the step size chosen."""
    if checkpoint is not None and checkpoint.exists():
        return load_checkpoint(run, checkpoint, device)
    return Trainer(run, choose_step_size(run, device), device)


def save_checkpoint(trainer: Trainer, path: Path | None) -> None:
    """Write the trainer's state to `path`, if there is one, whole or not at all."""
    if path is not None:
        write_whole(path, lambda temporary: torch.save(trainer.state(), temporary))


def load_checkpoint(run: Run, path: Path, device: str = "cpu") -> Trainer:
    """The trainer saved at `path`. Raises ValueError where the file is damaged or belongs to another run."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        saved = Run(**{**state["run"], "step_sizes": tuple(state["run"]["step_sizes"])})
    except Exception as error:  # torch raises many kinds for a damaged file, all of them meaning this
        raise ValueError(f"{path} is not a readable checkpoint: delete it to start that run again") from error
    if saved != run:
        raise ValueError(f"{path} belongs to another run: delete it to start {run} again")
    trainer = Trainer(run, state["step_size"], device)
    trainer.restore(state)
    return trainer
