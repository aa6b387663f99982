"""Training to the end of a grid: the step size chosen, points on the way, checkpoints, runs together where they can."""

import io
import math
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from aevb.checks import at_least
from aevb.ensemble import Ensemble
from aevb.files import write_bytes
from aevb.run import Run, evaluation_grid
from aevb.trainer import DivergedError, Trainer

SELECTION_STEPS = 200  # "the first few iterations": each candidate step size trains this far after the warm-up
CHECKPOINT_SECONDS = 30  # what an interruption loses at most
REPORT_STEPS = 500  # between two reports of the samples seen


def together(trainers: list[Trainer]) -> list[Trainer | Ensemble]:
    """The engines that advance `trainers`: one ensemble, or each by itself where runs do not stack or one is alone.

    A single run is an ensemble all the same on a GPU, where an ensemble's step is captured.
    """
    single = len(trainers) == 1 and trainers[0].device.type == "cpu"
    return list(trainers) if single or not trainers[0].algorithm.stacks else [Ensemble(trainers)]


def choose_step_size(run: Run, device: str = "cpu") -> float:
    """The candidate step size with the best training bound over the first `SELECTION_STEPS` steps after the warm-up.

    Section 5: "based on performance on the training set in the first few iterations". A candidate that
    diverges loses. Raises DivergedError where every candidate diverges.
    """
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


def fit(run: Run, samples: int, checkpoint: str | Path | None = None, *, device: str = "cpu") -> Trainer:
    """Train `run` to the last point of the evaluation grid within `samples`, with a point at each place of it.

    With `checkpoint`, the run is kept in that file as it goes and taken up from it, bit for bit: at most
    CHECKPOINT_SECONDS are lost. A checkpoint that is already further is returned as it stands. Returns the trainer
    with its `model` and `curve`. Raises ValueError where `samples` is too few for a point, and DivergedError where
    the run diverges.
    """
    return fit_ensemble([run], samples, [checkpoint], device=device)[0]


def fit_ensemble(
    runs: list[Run],
    samples: int,
    checkpoints: Sequence[str | Path | None] | None = None,
    *,
    device: str = "cpu",
    report: Callable[[int], None] | None = None,
) -> list[Trainer]:
    """`fit` for runs of one `Run.configuration`, trained together wherever they stand at one sample.

    Each has a checkpoint of its own, so that it may go on alone or in other company; the one furthest behind
    goes first. `report` is called now and then with the samples seen by all of them. Raises ValueError where there are
    no runs, they are of two configurations, or `samples` is too few for a point, and DivergedError where a run
    diverges.
    """
    shared_grid(runs, samples)  # before anything is trained
    paths = [None if checkpoint is None else Path(checkpoint) for checkpoint in checkpoints or [None] * len(runs)]
    trainers = [begin(run, path, device) for run, path in zip(runs, paths, strict=True)]
    follow(trainers, samples, paths, report)
    return trainers


def shared_grid(runs: Sequence[Run], samples: int) -> list[int]:
    """The samples at which `runs` of one `Run.configuration` have points. Raises ValueError as `fit_ensemble`.

    Runs that train one by one are held to it too: those of two batch sizes would not meet at a place.
    """
    at_least(1, runs=len(runs))
    if len({run.configuration for run in runs}) > 1:
        raise ValueError("runs that are fitted together differ in seed, step sizes and a few latents alone")
    return evaluation_grid(samples, runs[0].batch_size, runs[0].measure)


def follow(
    trainers: list[Trainer],
    samples: int,
    checkpoints: Sequence[Path | None] | None = None,
    report: Callable[[int], None] | None = None,
) -> None:
    """Train `trainers` of one configuration to the end of the grid, with points on the way: the loop of every run.

    Arguments and errors are those of `fit_ensemble`; without `checkpoints` nothing is kept.
    """
    grid = shared_grid([trainer.run for trainer in trainers], samples)
    files = dict(zip(trainers, checkpoints or [None] * len(trainers), strict=True))
    saved = time.monotonic()
    group: list[Trainer] = []
    engines: list[Trainer | Ensemble] = []
    while behind := [trainer for trainer in trainers if trainer.last_point < grid[-1]]:
        least = min(trainer.samples for trainer in behind)
        if [trainer for trainer in behind if trainer.samples == least] != group:
            group = [trainer for trainer in behind if trainer.samples == least]
            engines = together(group)
        target = next(place for place in grid if place > group[0].last_point)
        start = time.perf_counter()
        for engine in engines:
            engine.advance(min(target, least + REPORT_STEPS * group[0].run.batch_size))
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


def begin(run: Run, checkpoint: Path | None, device: str) -> Trainer:
    """A trainer for `run`, restored from its `checkpoint` or at the start with its step size chosen.

    Raises ValueError as `load_checkpoint` does, and DivergedError where every step size diverges.
    """
    if checkpoint is not None and checkpoint.exists():
        return load_checkpoint(run, checkpoint, device)
    return Trainer(run, choose_step_size(run, device), device)


def save_checkpoint(trainer: Trainer, path: Path | None) -> None:
    """Write the trainer's state to `path`, if there is one, whole or not at all. Raises OSError as `write_bytes`."""
    if path is not None:
        buffer = io.BytesIO()  # writing to a file itself, torch would raise a RuntimeError where the disk is full
        torch.save(trainer.state(), buffer)
        write_bytes(path, buffer.getvalue())


def load_checkpoint(run: Run, path: Path, device: str = "cpu") -> Trainer:
    """The trainer saved at `path`. Raises ValueError where the file is damaged, of another run or of other code."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch does not look at the checksums
                raise ValueError(damaged)
        state = torch.load(path, weights_only=True, map_location="cpu")
        saved = Run(**{**state["run"], "step_sizes": tuple(state["run"]["step_sizes"])})
    except Exception as error:  # torch raises many kinds for a damaged file, all of them meaning this
        raise ValueError(f"{path} is not a readable checkpoint: delete it to start that run again") from error
    if saved != run:
        raise ValueError(f"{path} belongs to another run: delete it to start {run} again")
    other_code = f"{path} was written by other code: delete it to start that run again"
    if "step_size" not in state:
        raise ValueError(other_code)
    trainer = Trainer(run, state["step_size"], device)
    try:
        trainer.restore(state)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # the file is none the worse
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(other_code) from error
    return trainer
