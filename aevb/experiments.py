"""What each figure runs, as frozen configurations, and running a grid of them over the machine's cores."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import joblib
import pandas as pd
import torch
from tqdm import tqdm

from aevb import results
from aevb.training import Run, fit


@dataclass(frozen=True)
class Profile:
    """How far every experiment goes: it never changes what is computed."""

    samples: int
    seeds: int


PROFILES = {
    "smoke": Profile(samples=20_000, seeds=1),
    "quick": Profile(samples=316_200, seeds=1),
    "standard": Profile(samples=10_000_000, seeds=1),
    "paper": Profile(samples=100_000_000, seeds=3),
}
LATENT_DIMS = {"mnist": (3, 5, 10, 20, 200), "frey": (2, 5, 10, 20)}
HIDDEN = {"mnist": 500, "frey": 200}
# the author's library warmed up for 10 steps in 2013 and for 100 in 2014: the one that meets the published curves
WARM_UP = {"mnist": 100, "frey": 10}


def get_profile(name: str) -> Profile:
    """The profile called `name`. Raises ValueError for another name."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def figure2(profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> list[Run]:
    """The runs of figure 2: AEVB and wake-sleep in each of nine panels, for each seed of the profile.

    Raises ValueError for an unknown profile or dataset.
    """
    if unknown := set(datasets) - set(LATENT_DIMS):
        raise ValueError(f"unknown dataset {', '.join(map(repr, unknown))}: choose among {', '.join(LATENT_DIMS)}")
    return [
        Run(dataset, algorithm, latent_dim, HIDDEN[dataset], seed=seed, warm_up=WARM_UP[dataset])
        for dataset in datasets
        for seed in range(get_profile(profile).seeds)
        for latent_dim in LATENT_DIMS[dataset]
        for algorithm in ("aevb", "wake-sleep")
    ]


def checkpoint_path(run: Run) -> Path:
    """Where a run is kept on this machine: under its configuration and the code that computes it."""
    return results.ROOT / "live" / "runs" / f"{run.key}-{results.fingerprint()}.pt"


def train(run: Run, samples: int) -> tuple[list[dict], dict]:
    """Train one run on one thread, or take it up where it was: the rows of its curve, and its manifest entry."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two spinning threads on a busy machine can be many times slower than one
    try:
        trainer = fit(run, samples, checkpoint_path(run))
    finally:
        torch.set_num_threads(threads)
    name = {"run": run.key, "dataset": run.dataset, "latent_dim": run.latent_dim, "algorithm": run.algorithm}
    rows = [
        {**name, "split": split, "seed": run.seed, "samples": point.samples, "lower_bound": getattr(point, split)}
        for point in trainer.curve
        if point.samples <= samples
        for split in ("train", "test", "running")
    ]
    entry = {
        "config": dataclasses.asdict(run),
        "step_size": trainer.step_size,
        "samples": rows[-1]["samples"],
        "seconds": round(trainer.seconds, 1),
        "samples_per_second": round(trainer.samples / trainer.seconds),
        "device": "cpu, one thread",
        **results.provenance(),
    }
    return rows, entry


def run_grid(
    runs: list[Run], samples: int, *, jobs: int | None = None, progress: bool = False
) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Train all `runs` to `samples`, side by side on `jobs` processes (default: one a core).

    Runs that exist are not repeated and interrupted ones go on. Returns the table of their curves and
    their manifest entries by run key. With `progress`, a bar in the terminal.
    """
    parallel = joblib.Parallel(n_jobs=jobs or os.cpu_count(), return_as="generator")
    outcomes = parallel(joblib.delayed(train)(run, samples) for run in runs)
    outcomes = list(tqdm(outcomes, total=len(runs), unit="run", disable=not progress))
    table = pd.DataFrame([row for rows, _ in outcomes for row in rows])
    return table, {run.key: entry for run, (_, entry) in zip(runs, outcomes, strict=True)}


FIGURES = {"figure2": figure2}


def compute(figure: str, profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> pd.DataFrame:
    """The curves of `figure` at `profile`, computed here and now or taken from what this machine computed before."""
    table, entries = run_grid(FIGURES[figure](profile, datasets), get_profile(profile).samples)
    results.write_live(figure, profile, table, entries)
    return table


def record(
    figure: str, profile: str, datasets: tuple[str, ...] = ("mnist", "frey"), samples: int | None = None
) -> None:
    """Run `figure` at `profile` and add it to `results/recorded/`; `samples` goes less far than the profile.

    Raises ValueError for a figure or a profile that does not exist.
    """
    if figure not in FIGURES:
        raise ValueError(f"cannot record {figure!r}: choose one of {', '.join(FIGURES)}")
    runs = FIGURES[figure](profile, datasets)
    table, entries = run_grid(runs, samples or get_profile(profile).samples, progress=True)
    results.write_record(figure, table, entries)
