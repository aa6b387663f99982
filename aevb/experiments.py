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
    """How far each figure's curves go, and with how many seeds: it never changes what is computed."""

    samples: dict[str, int]
    seeds: int


# figure 3's step sizes by training points: of section 5's candidates, those that meet the published curves (see its
# chapter); AEVB's are also those that section 5's rule chooses
FIGURE3_STEP_SIZES = {
    1000: {"aevb": 0.1, "wake-sleep": 0.1, "mcem": 0.02},
    50_000: {"aevb": 0.02, "wake-sleep": 0.1, "mcem": 0.02},
}
# figure 3 has a fifth of figure 2's hidden units, and its points are dear: longer curves, fewer points
PROFILES = {
    "smoke": Profile({"figure2": 20_000, "figure3": 100_000, "step-sizes": 100_000}, seeds=1),
    "quick": Profile({"figure2": 316_200, "figure3": 631_000, "step-sizes": 1_000_000}, seeds=1),
    "standard": Profile({"figure2": 10_000_000, "figure3": 10_000_000, "step-sizes": 1_000_000}, seeds=1),
    "paper": Profile({"figure2": 100_000_000, "figure3": 63_095_700, "step-sizes": 1_000_000}, seeds=3),
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


def figure3(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """The runs of figure 3: AEVB, wake-sleep and MCEM on 1,000 and on 50,000 digits, for each seed of the profile.

    100 hidden units, 3 latents, measured by the marginal likelihood (section 5). Raises ValueError for an unknown
    profile, and where `datasets` leaves out MNIST, the only one it is about.
    """
    if "mnist" not in datasets:
        raise ValueError("figure 3 is about mnist")
    return [
        Run("mnist", algorithm, 3, 100, seed, n_train, step_sizes=(step_size,), measure="marginal-likelihood")
        for seed in range(get_profile(profile).seeds)
        for n_train, step_sizes in FIGURE3_STEP_SIZES.items()
        for algorithm, step_size in step_sizes.items()
    ]


def step_sizes(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """The runs of `figure3` at every candidate step size, to see which one the published curves had."""
    runs = figure3(profile, datasets)
    return [dataclasses.replace(run, step_sizes=(step_size,)) for run in runs for step_size in Run.step_sizes]


FIGURES = {"figure2": figure2, "figure3": figure3, "step-sizes": step_sizes}


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
    splits = ("train", "test", "running") if run.measure == "bound" else ("train", "test")
    value = "lower_bound" if run.measure == "bound" else "log_likelihood"
    name = {"run": run.key, "step_size": trainer.step_size} | {
        field: getattr(run, field) for field in ("dataset", "latent_dim", "n_train", "algorithm", "seed")
    }
    rows = [
        {**name, "split": split, "samples": point.samples, value: getattr(point, split)}
        for point in trainer.curve
        if point.samples <= samples
        for split in splits
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
    runs: list[Run], samples: int, *, jobs: int | None = None, backend: str = "loky", progress: bool = False
) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Train all `runs` to `samples`, side by side on `jobs` processes (default: one a core).

    Runs that exist are not repeated and interrupted ones go on. `backend="dask"` spreads them over the cluster of
    the current `distributed.Client` instead; a run whose worker dies is started on another. Returns the table
    of their curves, with every column that a figure may want, and their manifest entries by run key. With
    `progress`, a bar in the terminal.
    """
    with joblib.parallel_config(backend=backend):
        parallel = joblib.Parallel(n_jobs=jobs or (os.cpu_count() if backend == "loky" else -1), return_as="generator")
        outcomes = parallel(joblib.delayed(train)(run, samples) for run in runs)
        outcomes = list(tqdm(outcomes, total=len(runs), unit="run", disable=not progress))
    table = pd.DataFrame([row for rows, _ in outcomes for row in rows])
    return table, {run.key: entry for run, (_, entry) in zip(runs, outcomes, strict=True)}


def compute(figure: str, profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> pd.DataFrame:
    """The curves of `figure` at `profile`, computed here and now or taken from what this machine computed before."""
    runs, samples = FIGURES[figure](profile, datasets), get_profile(profile).samples[figure]
    table, entries = run_grid(runs, samples)
    table = results.lay_out(figure, table)
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
    table, entries = run_grid(runs, samples or get_profile(profile).samples[figure], progress=True)
    results.write_record(figure, results.lay_out(figure, table), entries)
