"""What each figure runs, as frozen configurations, and running a grid of them over the machine's cores."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from aevb import results
from aevb.checks import at_least
from aevb.curves import Curves
from aevb.files import write_text
from aevb.fit import fit_ensemble, load_checkpoint
from aevb.measures import MEASURES, mean_bound
from aevb.model import VAE
from aevb.run import Run, evaluation_grid
from aevb.trainer import Trainer

GPU_JOBS = 6  # configurations in flight on one GPU: one alone leaves most of it idle


@dataclass(frozen=True)
class Profile:
    """How far each figure's curves go, and with how many seeds: it never changes what is computed."""

    samples: dict[str, int]
    seeds: int


# figure 2's step size: of section 5's candidates, the one nearest to MNIST's published curves after 10^6 samples
# (see its chapter)
FIGURE2_STEP_SIZE = 0.02
# figure 3's step sizes by training points: of section 5's candidates, those that meet the published curves (see its
# chapter); section 5's rule chooses AEVB's on 50,000 points too, and on 1,000 wavers between 0.02 and 0.1
FIGURE3_STEP_SIZES = {
    1000: {"aevb": 0.1, "wake-sleep": 0.1, "mcem": 0.02},
    50_000: {"aevb": 0.02, "wake-sleep": 0.1, "mcem": 0.02},
}
# full VB's step size, also MAP's best on this network, and the standard deviations that q(theta) starts with by
# training points: of those tried, the best bound on log p(X) (see its chapter)
FULL_VB_STEP_SIZE = 0.1
FULL_VB_SIGMAS = {1000: 0.03, 50_000: 0.01}
# how far the records of more seeds go, by which a live run is judged: at least as far as "quick"
MORE_BEGINNINGS = {"figure2-seeds": 100_000, "figure3-seeds": 158_500}
# figure 3 has a fifth of figure 2's hidden units, and its points are dear: longer curves, fewer points
PROFILES = {
    "smoke": Profile(
        {"figure2": 20_000, "figure3": 100_000, "figure4": 20_000, "figure5": 20_000, "full-vb": 20_000}, seeds=1
    ),
    "quick": Profile(
        {"figure2": 50_100, "figure3": 100_000, "figure4": 100_000, "figure5": 100_000, "full-vb": 100_000}, seeds=1
    ),
    "standard": Profile(
        dict.fromkeys(("figure2", "figure2-digits", "figure3", "figure4", "figure5", "full-vb"), 10_000_000)
        | MORE_BEGINNINGS,
        seeds=1,
    ),
    "paper": Profile(
        dict.fromkeys(("figure2-alike", "figure4", "figure5", "full-vb"), 10_000_000)
        | {"figure2": 100_000_000, "figure2-digits": 100_000_000, "figure3": 63_095_700}
        | MORE_BEGINNINGS,
        seeds=3,
    ),
}
MORE_SEEDS = range(3, 8)  # beside the three of "paper": how far seeds lie apart, where a live run ends
OTHERWISE_SAMPLES = 1_000_000  # how far runs at other settings are followed
MINIBATCHES = (100, 200, 300, 400, 500)
LATENT_DIMS = {"mnist": (3, 5, 10, 20, 200), "frey": (2, 5, 10, 20)}
FIGURE5_LATENT_DIMS = (2, 5, 10, 20)
HIDDEN = {"mnist": 500, "frey": 200}
# the author's library warmed up for 10 steps in 2013 and for 100 in 2014: where both algorithms are trained alike, the
# one that meets the published curves
WARM_UP = {"mnist": 100, "frey": 10}
# what figure 2 changes in that: of the readings tried the nearest to the algorithm's published curves (see "What the
# paper does not say")
APART = {
    ("mnist", "aevb"): {"warm_up": 10},
    ("mnist", "wake-sleep"): {"slow_log_var": True},
    ("frey", "wake-sleep"): {"prior_on_encoder": False},
}


def get_profile(name: str) -> Profile:
    """The profile called `name`. Raises ValueError for another name."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def figure2(profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> list[Run]:
    """The runs of figure 2: AEVB and wake-sleep in each of nine panels, for each seed of the profile.

    Each algorithm has its own reading of what the paper leaves open (`APART`). Raises ValueError for an unknown
    profile or dataset.
    """
    return [_apart(run) for run in baseline(profile, datasets)]


def figure2_alike(profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> list[Run]:
    """The runs of `baseline` that `figure2` has in another reading.

    Raises ValueError for an unknown profile or dataset.
    """
    nearer = figure2(profile, datasets)
    return [run for run in baseline(profile, datasets) if run not in nearer]


def baseline(profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> list[Run]:
    """The runs of `figure2` with both algorithms trained alike: the baseline that other readings are compared with.

    Raises ValueError for an unknown profile or dataset.
    """
    _check(datasets)
    return [
        _section_5(dataset, algorithm, latent_dim, seed)
        for dataset in datasets
        for seed in range(get_profile(profile).seeds)
        for latent_dim in LATENT_DIMS[dataset]
        for algorithm in ("aevb", "wake-sleep")
    ]


def _check(datasets: tuple[str, ...]) -> None:
    if unknown := set(datasets) - set(LATENT_DIMS):
        raise ValueError(f"unknown dataset {', '.join(map(repr, unknown))}: choose among {', '.join(LATENT_DIMS)}")


def _section_5(dataset: str, algorithm: str, latent_dim: int, seed: int = 0) -> Run:
    """A run at the settings of `baseline`."""
    hidden, warm_up = HIDDEN[dataset], WARM_UP[dataset]
    return Run(dataset, algorithm, latent_dim, hidden, seed, warm_up=warm_up, step_sizes=(FIGURE2_STEP_SIZE,))


def _apart(run: Run) -> Run:
    """The run at the settings of `figure2`, for one at those of `baseline`."""
    return dataclasses.replace(run, **APART.get((run.dataset, run.algorithm), {}))


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


def figure4(profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> list[Run]:
    """The runs of figure 4: AEVB with two latents on each dataset, otherwise as in figure 2; a picture has one seed.

    Raises ValueError for an unknown profile or dataset.
    """
    get_profile(profile)
    _check(datasets)
    return [_apart(_section_5(dataset, "aevb", 2)) for dataset in datasets]


def figure5(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """The runs of figure 5: AEVB on MNIST with 2, 5, 10 and 20 latents, otherwise as in figure 2; one seed.

    Raises ValueError for an unknown profile, and where `datasets` leaves out MNIST, the only one it is about.
    """
    get_profile(profile)
    if "mnist" not in datasets:
        raise ValueError("figure 5 is about mnist")
    return [_apart(_section_5("mnist", "aevb", latent_dim)) for latent_dim in FIGURE5_LATENT_DIMS]


def figure2_step_sizes(profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> list[Run]:
    """The runs of `baseline` at the two smaller candidates, for the largest diverges on MNIST."""
    return _at_step_sizes(baseline(profile, datasets), Run.step_sizes[:2])


def figure2_digits(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """The runs of `figure2` on MNIST, whose record is the bound on each ten thousand of its digits, at their ends.

    Raises ValueError for an unknown profile, and where `datasets` leaves out MNIST, the only one it is about.
    """
    if "mnist" not in datasets:
        raise ValueError("figure2-digits is about mnist")
    return figure2(profile, ("mnist",))


def figure2_minibatches(profile: str, datasets: tuple[str, ...] = ("frey",)) -> list[Run]:
    """The runs of `baseline` on Frey Face with MNIST's warm-up and larger minibatches than the paper's 100.

    Raises ValueError for an unknown profile, and where `datasets` leaves out Frey Face, the only one it is about.
    """
    if "frey" not in datasets:
        raise ValueError("minibatches are compared on frey")
    return [
        dataclasses.replace(run, warm_up=WARM_UP["mnist"], batch_size=batch_size)
        for batch_size in MINIBATCHES
        for run in baseline(profile, ("frey",))
    ]


def figure2_seeds(profile: str, datasets: tuple[str, ...] = ("mnist", "frey")) -> list[Run]:
    """The runs of `figure2` with MORE_SEEDS: what a live run is judged by. Raises ValueError as `figure2` does."""
    return _with_more_seeds(figure2(profile, datasets))


def figure3_seeds(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """The runs of `figure3` with MORE_SEEDS: what a live run is judged by. Raises ValueError as `figure3` does."""
    return _with_more_seeds(figure3(profile, datasets))


def _with_more_seeds(runs: list[Run]) -> list[Run]:
    return [dataclasses.replace(run, seed=seed) for seed in MORE_SEEDS for run in runs if run.seed == 0]


def figure3_step_sizes(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """The runs of `figure3` at every candidate step size."""
    return _at_step_sizes(figure3(profile, datasets), Run.step_sizes)


def full_vb(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """Full VB against MAP on 1,000 and on 50,000 digits, the decoder of figure 3, for each seed of the profile.

    The experiment that Appendix F leaves out. Raises ValueError for an unknown profile, and where `datasets` leaves
    out MNIST, the only one it is about.
    """
    if "mnist" not in datasets:
        raise ValueError("full VB is compared on mnist")
    return [
        Run("mnist", algorithm, 3, 100, seed, n_train, step_sizes=(FULL_VB_STEP_SIZE,), **start)
        for seed in range(get_profile(profile).seeds)
        for n_train, sigma in FULL_VB_SIGMAS.items()
        for algorithm, start in (("aevb", {}), ("full-vb", {"initial_sigma": sigma}))
    ]


def full_vb_settings(profile: str, datasets: tuple[str, ...] = ("mnist",)) -> list[Run]:
    """The full VB runs of `full_vb` at the two larger step sizes of section 5, from three widths of q(theta)."""
    runs = [run for run in full_vb(profile, datasets) if run.algorithm == "full-vb"]
    wide = [dataclasses.replace(run, initial_sigma=sigma) for run in runs for sigma in (0.01, 0.03, 0.1)]
    return _at_step_sizes(wide, Run.step_sizes[1:])


def _at_step_sizes(runs: list[Run], step_sizes: tuple[float, ...]) -> list[Run]:
    return [dataclasses.replace(run, step_sizes=(step_size,)) for run in runs for step_size in step_sizes]


FIGURES = {
    "figure2": figure2,
    "figure2-alike": figure2_alike,
    "figure3": figure3,
    "figure4": figure4,
    "figure5": figure5,
    "figure2-step-sizes": figure2_step_sizes,
    "figure2-digits": figure2_digits,
    "figure2-minibatches": figure2_minibatches,
    "figure2-seeds": figure2_seeds,
    "figure3-seeds": figure3_seeds,
    "figure3-step-sizes": figure3_step_sizes,
    "full-vb": full_vb,
    "full-vb-settings": full_vb_settings,
}


def runs_from(seed: int, runs: list[Run]) -> list[Run]:
    """The same runs with their seeds counted from `seed` instead of 0."""
    return [dataclasses.replace(run, seed=run.seed + seed) for run in runs]


DRAWN = ("figure4", "figure5")  # whose record keeps the trained weights too


def horizon(figure: str, profile: str) -> int:
    """How many samples a curve of `figure` gets at `profile`."""
    return get_profile(profile).samples.get(figure, OTHERWISE_SAMPLES)


def checkpoint_path(run: Run, device: str = "cpu") -> Path:
    """Where a run is kept on this machine: under its configuration and the code that computes it."""
    kind = torch.device(device).type  # each kind has random numbers of its own
    suffix = "" if kind == "cpu" else f"-{kind}"
    return results.live_folder() / "runs" / f"{run.key}-{results.fingerprint()}{suffix}.pt"


def progress_path(run: Run, device: str = "cpu") -> Path:
    """Where a worker says how many samples a run has seen."""
    return results.live_folder() / "progress" / checkpoint_path(run, device).stem


def train(runs: list[Run], samples: int, threads: int = 1, device: str = "cpu") -> list[tuple[list[dict], dict]]:
    """Train one run, or several of one configuration together, or take them up where they were.

    For each the rows of its curve and its manifest entry. Raises ValueError where there are no threads.
    """
    at_least(1, threads=threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)

    def report(seen: int) -> None:
        for run in runs:
            write_text(progress_path(run, device), str(seen // len(runs)))

    try:
        checkpoints = [checkpoint_path(run, device) for run in runs]
        trainers = fit_ensemble(runs, samples, checkpoints, device=device, report=report)
    finally:
        torch.set_num_threads(before)
    machine = f"cpu, {threads} thread{'s' * (threads > 1)}" if device == "cpu" else torch.cuda.get_device_name(device)
    return [(_rows(trainer, samples), _entry(trainer, samples, machine)) for trainer in trainers]


def _rows(trainer: Trainer, samples: int) -> list[dict]:
    run = trainer.run
    measure = MEASURES[run.measure]
    splits = (*measure.splits, *(("data", "evidence") if trainer.algorithm.evidence else ()))
    name = {"run": run.key, "step_size": trainer.step_size} | {
        field: getattr(run, field)
        for field in ("dataset", "latent_dim", "n_train", "algorithm", "batch_size", "initial_sigma", "seed")
    }
    return [
        {**name, "split": split, "samples": point.samples, measure.column: getattr(point, split)}
        for point in trainer.curve
        if point.samples <= samples
        for split in splits
    ]


def _entry(trainer: Trainer, samples: int, machine: str) -> dict:
    return {
        "config": dataclasses.asdict(trainer.run),
        "step_size": trainer.step_size,
        "samples": max(point.samples for point in trainer.curve if point.samples <= samples),
        "seconds": round(trainer.seconds, 1),
        "samples_per_second": round(trainer.samples / trainer.seconds),
        "device": machine,
        **results.provenance(),
    }


def run_grid(
    runs: list[Run],
    samples: int,
    *,
    jobs: int | None = None,
    threads: int = 1,
    backend: str = "loky",
    device: str = "cpu",
    progress: bool = False,
) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Train all `runs` to `samples`, side by side on `jobs` processes (default: one a core) of `threads` threads each.

    Two threads that spin on a busy machine can be many times slower than one, and two runs need not wait for each
    other. Runs that exist are not repeated and interrupted ones go on. `backend="dask"` spreads them over the
    cluster of the current `distributed.Client` instead; a run whose worker dies is started on another. On
    `device="cuda"` seeds of one configuration train as an ensemble, and `jobs` ensembles (default: GPU_JOBS) share the
    GPU, a thread and a stream each.

    Returns the table of their curves, with every column that a figure may want, and their manifest entries by run key.
    With `progress`, a bar in the terminal, and first a line where the manifest can name no commit. Raises ValueError
    where there are no runs, jobs or threads, and for `samples` too few for a point.
    """
    at_least(1, runs=len(runs), threads=threads, jobs=1 if jobs is None else jobs)
    goal = evaluation_grid(samples, runs[0].batch_size, runs[0].measure)[-1]
    if progress:
        results.announce_commit()
    together = [[run] for run in runs] if device == "cpu" else _by_configuration(runs)
    if device != "cpu":
        backend, jobs = "threading", jobs or GPU_JOBS
    with joblib.parallel_config(backend=backend), _bar(runs, goal, device, show=progress):
        parallel = joblib.Parallel(n_jobs=jobs or (os.cpu_count() if backend == "loky" else -1))
        outcomes = parallel(joblib.delayed(train)(group, samples, threads, device) for group in together)
    trained = {
        run: outcome
        for group, part in zip(together, outcomes, strict=True)
        for run, outcome in zip(group, part, strict=True)
    }
    table = pd.DataFrame([row for run in runs for row in trained[run][0]])
    return table, {run.key: trained[run][1] for run in runs}


def _by_configuration(runs: list[Run]) -> list[list[Run]]:
    groups: dict[Run, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.configuration, []).append(run)
    return list(groups.values())


@contextlib.contextmanager
def _bar(runs: list[Run], goal: int, device: str, *, show: bool) -> Iterator[None]:
    """A bar for the whole grid: runs done, samples a second, time left, from what the workers write down."""
    paths = [progress_path(run, device) for run in runs]

    def seen() -> list[int]:
        return [min(goal, int(path.read_text(encoding="utf-8"))) if path.exists() else 0 for path in paths]

    with tqdm(total=goal * len(runs), initial=sum(seen()), unit=" samples", unit_scale=True, disable=not show) as bar:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(1.0):
                now = seen()
                bar.set_postfix_str(f"{sum(s >= goal for s in now)} of {len(runs)} runs done", refresh=False)
                bar.update(sum(now) - bar.n)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def compute(figure: str, profile: str, datasets: tuple[str, ...] = ("mnist", "frey"), *, seed: int = 0) -> Curves:
    """The curves of `figure` at `profile`, computed here and now or taken from what this machine computed before.

    The seeds of its runs are those from `seed` on.
    """
    runs, samples = runs_from(seed, FIGURES[figure](profile, datasets)), horizon(figure, profile)
    table, entries = run_grid(runs, samples)
    curves = results.lay_out(figure, table)
    results.write_live(figure, profile, curves, entries)
    return curves


def record(
    figure: str,
    profile: str,
    datasets: tuple[str, ...] = ("mnist", "frey"),
    samples: int | None = None,
    **options: object,
) -> None:
    """Run `figure` at `profile` and add it to `results/recorded/`; `samples` goes less far than the profile.

    Where the figure draws what its models make (`DRAWN`), their weights are recorded too; of full VB q(theta), where
    the recorded curve ends; of "figure2-digits" no curves, but what `on_each_ten_thousand` finds where they end.
    `options` are those of `run_grid`.
    Raises ValueError for a figure or a profile that does not exist, and for sizes of nothing.
    """
    if figure not in FIGURES:
        raise ValueError(f"cannot record {figure!r}: choose one of {', '.join(FIGURES)}")
    runs = FIGURES[figure](profile, datasets)
    samples = horizon(figure, profile) if samples is None else samples
    table, entries = run_grid(runs, samples, progress=True, **options)
    if figure == "figure2-digits":
        trainers = [_trained(run, options.get("device", "cpu")) for run in runs]
        table = pd.DataFrame([row for trainer in trainers for row in on_each_ten_thousand(trainer)])
        entries = {t.run.key: entries[t.run.key] | {"samples": t.samples} for t in trainers}
    results.write_record(figure, results.lay_out(figure, table), entries)
    if figure in DRAWN:
        for run in runs:
            trainer = _trained(run, options.get("device", "cpu"))
            results.write_model(run, trainer.model, entries[run.key] | {"samples": trainer.samples})
    for run in runs:
        if figure == "full-vb" and run.algorithm == "full-vb":
            trainer = load_checkpoint(run, checkpoint_path(run, options.get("device", "cpu")))
            if trainer.samples == results.manifest(figure)[run.key]["samples"]:
                results.write_posterior(run.key, trainer.model.mu, trainer.model.log_var)


def on_each_ten_thousand(trainer: Trainer) -> list[dict]:
    """The bound of a run on MNIST where it stands, on each ten thousand digits: rows like those of its curve.

    Splits: "training 1" to "training 5", in the order of the file, "validation", which no run sees, and "test". All
    with the noise of the curve's test points, so that "test" is the curve's.
    """
    digits, run = trainer.dataset, trainer.run
    parts = {f"training {k}": part for k, part in enumerate(digits.train.split(10_000), 1)}
    about = {"run": run.key} | {name: getattr(run, name) for name in ("dataset", "latent_dim", "algorithm", "seed")}

    def bound(pixels: Tensor) -> float:
        noise = torch.Generator(trainer.device).manual_seed(run.seed)
        return mean_bound(trainer.model, digits, pixels, generator=noise)

    return [
        {**about, "split": split, "samples": trainer.samples, "lower_bound": bound(pixels)}
        for split, pixels in (parts | {"validation": digits.valid, "test": digits.test}).items()
    ]


def drawn_model(run: Run) -> tuple[VAE, str]:
    """The model of `run` to draw, and what to call it: the recorded one, else what this machine trained.

    Raises ValueError where there is neither.
    """
    if run.key in results.manifest("models"):
        return results.recorded_model(run), f"recorded, {results.manifest('models')[run.key]['samples']:,} samples"
    return live_model(run)


def live_model(run: Run) -> tuple[VAE, str]:
    """The model of `run` as this machine trained it last, as far as it went, and what to call it.

    Raises ValueError where it has not.
    """
    if not checkpoint_path(run).exists():
        raise ValueError(f"{run} was not trained here: train it first, with compute or run_grid")
    trainer = _trained(run)
    return trainer.model, f"live, {trainer.samples:,} samples"


def _trained(run: Run, device: str = "cpu") -> Trainer:
    return load_checkpoint(run, checkpoint_path(run, device), device)
