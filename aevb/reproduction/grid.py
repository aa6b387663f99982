"""Running the members of an experiment over the cores of this machine, a Dask cluster or a GPU, with a bar."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import joblib
import pandas as pd
import torch
from tqdm import tqdm

from aevb import datasets
from aevb.checks import at_least
from aevb.datasets import Dataset
from aevb.files import write_text
from aevb.fit import fit_ensemble, follow, load_checkpoint
from aevb.measures import MEASURES
from aevb.reproduction import provenance, results
from aevb.reproduction.experiments import Member
from aevb.run import Run, evaluation_grid
from aevb.trainer import DivergedError, Trainer

GPU_JOBS = 6  # configurations in flight on one GPU: one alone leaves most of it idle
# the columns that tell of a run in a table
RUN_COLUMNS = ("dataset", "latent_dim", "n_train", "algorithm", "hidden", "batch_size", "initial_sigma", "seed")


class Outcome(NamedTuple):
    """The outcome of one member: its key, the rows of its curve, and its entry in the manifest."""

    key: str
    rows: list[dict]
    entry: dict


class Options(TypedDict, total=False):
    """The arguments of `outcomes` that say on what it trains, each with the default that it has there."""

    jobs: int | None
    threads: int
    backend: str
    device: str


def checkpoint_path(run: Run, device: str = "cpu") -> Path:
    """The path of a run's checkpoint on this machine, named by its configuration and the code that computes it."""
    return results.live_folder() / "runs" / f"{_name(run.key, device)}.pt"


def progress_path(key: str, device: str = "cpu") -> Path:
    """The path at which a worker notes the samples that the run of this key has seen."""
    return results.live_folder() / "progress" / _name(key, device)


def _name(key: str, device: str) -> str:
    kind = torch.device(device).type  # each kind has random numbers of its own
    return f"{key}-{provenance.LOADED.fingerprint}{'' if kind == 'cpu' else f'-{kind}'}"


def trained(run: Run, device: str = "cpu") -> Trainer:
    """The trainer of `run` as this machine left it. Raises ValueError where it has not trained it."""
    path = checkpoint_path(run, device)
    if not path.exists():
        raise ValueError(f"{run} was not trained here: train it first, with compute or run_grid")
    return load_checkpoint(run, path, device)


def columns(member: Member) -> set[str]:
    """The columns of a member's rows."""
    about = _about(member).keys()
    return {"run", "step_size", *about, *RUN_COLUMNS, "split", "samples", MEASURES[member.run.measure].column}


def _about(member: Member) -> dict[str, str]:
    return {"question": member.question, "answer": member.answer} if member.change else {}


def train(
    members: list[Member],
    samples: int,
    threads: int = 1,
    device: str = "cpu",
    described: tuple[Dataset, ...] = (),
) -> list[Outcome]:
    """Train one member, or several of one configuration together, from where they stopped.

    `described` are their datasets: another process knows none of yours. A reading trains alone and from the start. It
    may diverge, which ends its curve early. Returns one outcome per member, in their order. Raises ValueError where
    there are no threads, and DivergedError where a plain run diverges.
    """
    at_least(1, threads=threads)
    for dataset in described:
        if dataset.name not in datasets.DATASETS:
            datasets.add(dataset)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)

    paths = [progress_path(member.key, device) for member in members]

    def report(seen: int) -> None:
        for path in paths:
            write_text(path, str(seen // len(members)))

    try:
        if members[0].change:
            trainers = [_changed(member, member.change, samples, report) for member in members if member.change]
        else:
            runs = [member.run for member in members]
            checkpoints = [checkpoint_path(run, device) for run in runs]
            trainers = fit_ensemble(runs, samples, checkpoints, device=device, report=report)
    finally:
        torch.set_num_threads(before)
    machine = f"cpu, {threads} thread{'s' * (threads > 1)}" if device == "cpu" else torch.cuda.get_device_name(device)
    return [_outcome(*pair, samples, machine) for pair in zip(members, trainers, strict=True)]


def _one_step_size(reading: Member) -> float:
    if len(reading.run.step_sizes) != 1:
        raise ValueError(f"a reading has one step size, not {reading.run.step_sizes}: make one reading for each")
    return reading.run.step_sizes[0]


def _changed(
    reading: Member, change: Callable[[Trainer], None], samples: int, report: Callable[[int], None]
) -> Trainer:
    trainer = Trainer(reading.run, _one_step_size(reading))
    change(trainer)
    with contextlib.suppress(DivergedError):
        follow([trainer], samples, report=report)
    return trainer


def check(members: list[Member], samples: int, jobs: int | None, threads: int, device: str) -> list[int]:
    """The samples at which each member ends.

    Raises ValueError where there are no members, jobs or threads, for an unknown dataset, for `samples` too few for a
    point, and for a reading with several step sizes or on another device than the CPU.
    """
    at_least(1, runs=len(members), threads=threads, jobs=1 if jobs is None else jobs)
    for member in members:
        datasets.get(member.run.dataset)
    for reading in (member for member in members if member.change):
        _one_step_size(reading)
        if device != "cpu":
            raise ValueError("a reading changes its trainer on the CPU: leave out --device")
    return [evaluation_grid(samples, run.batch_size, run.measure)[-1] for _, run, *_ in members]


def _outcome(member: Member, trainer: Trainer, samples: int, machine: str) -> Outcome:
    run, measure = trainer.run, MEASURES[trainer.run.measure]
    splits = (*measure.splits, *(("data", "evidence") if trainer.algorithm.evidence else ()))
    name = {
        "run": member.key,
        "step_size": trainer.step_size,
        **_about(member),
        **{c: getattr(run, c) for c in RUN_COLUMNS},
    }
    points = [point for point in trainer.curve if point.samples <= samples]
    rows = [
        {**name, "split": split, "samples": point.samples, measure.column: getattr(point, split)}
        for point in points
        for split in splits
    ]
    entry = {
        **_about(member),
        "config": dataclasses.asdict(run),
        "step_size": trainer.step_size,
        "samples": max((point.samples for point in points), default=0),
        "seconds": round(trainer.seconds, 1),
        "samples_per_second": round(trainer.samples / trainer.seconds),
        "device": machine,
        **provenance.here(),
    }
    if member.change:
        entry["diverged"] = trainer.last_point < evaluation_grid(samples, run.batch_size, run.measure)[-1]
    return Outcome(member.key, rows, entry)


def outcomes(
    members: list[Member],
    samples: int,
    *,
    jobs: int | None = None,
    threads: int = 1,
    backend: str = "loky",
    device: str = "cpu",
    progress: bool = False,
) -> Generator[Outcome, None, None]:
    """Train all `members` to `samples`, side by side on `jobs` processes (default: one per core) of `threads` threads.

    Each outcome comes as soon as it is there, in any order. Two threads that spin on a busy machine can be many times
    slower than one; two runs need not wait for each other. Finished runs are not repeated, and interrupted ones go
    on. `backend="dask"` spreads them over the cluster of the current `distributed.Client` instead; a run whose
    worker dies is started on another. On `device="cuda"` runs of one `Run.configuration` train as an ensemble, and
    `jobs` ensembles (default: GPU_JOBS) share the GPU, a thread and a stream each.

    `progress` shows a bar in the terminal, after a line where the manifest can name no commit. Raises ValueError as
    `check` does, and DivergedError where a plain run diverges.
    """
    goals = check(members, samples, jobs, threads, device)
    described = tuple(datasets.get(name) for name in sorted({member.run.dataset for member in members}))
    for reading in (member for member in members if member.change):
        progress_path(reading.key).unlink(missing_ok=True)  # it begins anew
    if progress:
        provenance.announce_commit()
    together = [[member] for member in members] if device == "cpu" else _by_configuration(members)
    if device != "cpu":
        backend, jobs = "threading", jobs or GPU_JOBS
    with joblib.parallel_config(backend=backend):
        n_jobs = jobs or (os.cpu_count() if backend == "loky" else -1)
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    with _bar(members, goals, device, show=progress):
        for group in parallel(joblib.delayed(train)(group, samples, threads, device, described) for group in together):
            yield from group


def run_grid(runs: list[Run], samples: int, **options: Unpack[Options]) -> tuple[pd.DataFrame, dict[str, dict]]:
    """`outcomes` of plain `runs`, whole: the table of their curves, and their manifest entries by run key.

    Both are in the order of `runs`. Arguments and errors are those of `outcomes`.
    """
    found = {outcome.key: outcome for outcome in outcomes([Member(run.key, run) for run in runs], samples, **options)}
    table = pd.DataFrame([row for run in runs for row in found[run.key].rows])
    return table, {run.key: found[run.key].entry for run in runs}


def _by_configuration(members: list[Member]) -> list[list[Member]]:
    groups: dict[Run, list[Member]] = {}
    for member in members:
        groups.setdefault(member.run.configuration, []).append(member)
    return list(groups.values())


def _noted(path: Path) -> int:
    """The samples noted at `path`; 0 without a note or with a damaged one, which is for the bar alone."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


@contextlib.contextmanager
def _bar(members: list[Member], goals: list[int], device: str, *, show: bool) -> Iterator[None]:
    """A bar for the whole grid: runs done, samples per second, time left, from the notes of the workers."""
    paths = [progress_path(member.key, device) for member in members]

    def seen() -> list[int]:
        return [min(goal, _noted(path)) for goal, path in zip(goals, paths, strict=True)]

    with tqdm(total=sum(goals), initial=sum(seen()), unit=" samples", unit_scale=True, disable=not show) as bar:
        done = threading.Event()

        def tell(now: list[int]) -> None:
            ended = sum(s >= goal for s, goal in zip(now, goals, strict=True))
            bar.set_postfix_str(f"{ended} of {len(members)} runs done", refresh=False)
            bar.update(sum(now) - bar.n)

        def watch() -> None:
            while not done.wait(1.0):
                tell(seen())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        tell(goals)  # all have ended, whatever the last note was: one that diverged too, or one on another machine
