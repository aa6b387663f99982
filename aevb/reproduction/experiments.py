"""The experiments: each is a value that knows its runs, the layout of its table, its length, what is kept.

To add one, add an entry to EXPERIMENTS.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from aevb.reproduction import after, settings
from aevb.reproduction.curves import FIGURE_2, FIGURE_3, Kind
from aevb.reproduction.readings import BY_LATENTS, OVERFITTING, PLATEAU, READINGS, Reading
from aevb.run import Run
from aevb.trainer import Trainer

# the number of seeds at each profile; each experiment has its own length there, and all else is the same
PROFILES = {"smoke": 1, "quick": 1, "standard": 1, "paper": 3}
OTHERWISE_SAMPLES = 1_000_000  # the length of an experiment's curves at a profile that it does not name
BOTH_DATASETS, ON_MNIST, ON_FREY = tuple(settings.FIGURE2), ("mnist",), ("frey",)  # names of datasets


class Member(NamedTuple):
    """One run of an experiment, with its key in the record.

    For a reading, `change` changes its trainer, and `question` and `answer` are the reading's.
    """

    key: str
    run: Run
    change: Callable[[Trainer], None] | None = None
    question: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    `runs(n_seeds, datasets)` gives its runs or readings; it is about `datasets` alone. `kind` is the layout of its
    table, and `samples` the length of its curves at each profile. With `measured`, the table holds no curves but the
    rows that this makes of each trainer at its end, and at those of `places`, in samples, that it passes. With
    `keeps_weights` the trained weights are kept beside the table, with `keeps_posterior` the q(theta) of full VB.
    """

    name: str
    kind: Kind
    runs: Callable[[int, tuple[str, ...]], Sequence[Run | Reading]]
    datasets: tuple[str, ...] = BOTH_DATASETS
    samples: dict[str, int] = field(default_factory=dict)
    measured: Callable[[Trainer], list[dict]] | None = None
    places: tuple[int, ...] = ()
    keeps_weights: bool = False
    keeps_posterior: bool = False

    def members(self, profile: str, datasets: tuple[str, ...] = BOTH_DATASETS, *, seed: int = 0) -> list[Member]:
        """The members at `profile` of those `datasets` that the experiment is about.

        `seed` is added to the seed of each run; a reading keeps its own.

        Raises ValueError for an unknown profile or dataset, and where the experiment is about none of `datasets`.
        """
        if unknown := set(datasets) - set(BOTH_DATASETS):
            raise ValueError(
                f"unknown dataset {', '.join(map(repr, unknown))}: choose among {', '.join(BOTH_DATASETS)}"
            )
        chosen = tuple(name for name in datasets if name in self.datasets)
        if not chosen:
            raise ValueError(f"{self.name} has nothing of {', '.join(datasets)}: choose {' or '.join(self.datasets)}")
        return [_member(item, seed) for item in self.runs(n_seeds(profile), chosen)]

    def horizon(self, profile: str) -> int:
        """The samples that a curve gets at `profile`. Raises ValueError for an unknown one."""
        n_seeds(profile)
        return self.samples.get(profile, OTHERWISE_SAMPLES)


def _member(item: Run | Reading, seed: int) -> Member:
    if isinstance(item, Reading):  # it has its own seed
        return Member(item.key, item.run, item.change, item.question, item.answer)
    run = dataclasses.replace(item, seed=item.seed + seed)
    return Member(run.key, run)


def n_seeds(profile: str) -> int:
    """The number of seeds at `profile`. Raises ValueError for an unknown one."""
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[profile]


def on_each_ten_thousand(trainer: Trainer) -> list[dict]:
    """The bound of a run on MNIST where it stands, on each ten thousand digits: rows like those of its curve.

    Splits: "training 1" to "training 5", in the order of the file, "validation", which no run sees, and "test". All
    have the noise of the curve's test points, so that "test" is the curve's.
    """
    digits, run = trainer.images, trainer.run
    parts = {f"training {k}": part for k, part in enumerate(digits.train.split(10_000), 1)}
    about = {"run": run.key} | {name: getattr(run, name) for name in ("dataset", "latent_dim", "algorithm", "seed")}

    def bound(pixels: Tensor) -> float:
        noise = torch.Generator(trainer.device).manual_seed(run.seed)
        return trainer.algorithm.measures["bound"](trainer.model, digits, pixels, generator=noise)

    return [
        {**about, "split": split, "samples": trainer.samples, "bound": bound(pixels)}
        for split, pixels in (parts | {"validation": digits.valid, "test": digits.test}).items()
    ]


def _with(kind: Kind, *names: str, compared_at: tuple[float, ...] = (1e6,)) -> Kind:
    """`kind` with more columns in the names of its curves, before the split."""
    return Kind((*kind.names[:-1], *names, kind.names[-1]), kind.value, compared_at)


def _of(readings: Sequence[Reading]) -> Callable[[int, tuple[str, ...]], Sequence[Reading]]:
    """The readings on given datasets, at any number of seeds: each reading has its own seed."""
    return lambda n_seeds, datasets: [reading for reading in readings if reading.run.dataset in datasets]


READING = Kind(("question", "answer", *FIGURE_2.names), FIGURE_2.value, (1e6,))  # the kind of the curves of readings
AFTER = Kind(("n_train", "algorithm", "split", "quantity"), "nats", (1e5, 1e6))  # the kind of Part V's measurements
FULL_VB = Kind(FIGURE_3.names, FIGURE_2.value, (1e6, 1e7))  # the kind of full VB's bounds
TEN_MILLION = dict.fromkeys(("standard", "paper"), 10_000_000)  # samples at each longer profile
DRAWN = {"smoke": 20_000, "quick": 100_000} | TEN_MILLION  # samples at each profile for models that are drawn or kept


def _after(
    name: str,
    runs: Callable[[int, tuple[str, ...]], Sequence[Run]],
    measured: Callable[[Trainer], list[dict]],
    quick: int = 20_000,
) -> Experiment:
    """An experiment of Part V: `measured` at 10^5 samples and where its runs end; `quick` is that profile's length."""
    samples = {"smoke": 20_000, "quick": quick} | dict.fromkeys(("standard", "paper"), 1_000_000)
    return Experiment(name, AFTER, runs, ON_MNIST, samples, measured, places=(100_000,))


# the experiments, by name
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "figure2",
            FIGURE_2,
            settings.figure2,
            samples={"smoke": 20_000, "quick": 50_100, "standard": 10_000_000, "paper": 100_000_000},
        ),
        Experiment(  # the runs of figure 2, none of which has the baseline's settings, at those
            "figure2-alike", FIGURE_2, settings.baseline, samples={"paper": 10_000_000}
        ),
        # a fifth of figure 2's hidden units, and dear points: longer curves, fewer points
        Experiment(
            "figure3",
            FIGURE_3,
            settings.figure3,
            ON_MNIST,
            {"smoke": 100_000, "quick": 100_000, "standard": 10_000_000, "paper": 63_095_700},
        ),
        Experiment("figure4", FIGURE_2, settings.figure4, samples=DRAWN, keeps_weights=True),
        Experiment("figure5", FIGURE_2, settings.figure5, ON_MNIST, DRAWN, keeps_weights=True),
        Experiment("figure2-step-sizes", _with(FIGURE_2, "step_size"), settings.figure2_step_sizes),
        Experiment(  # figure 2's runs where they end
            "figure2-digits",
            FIGURE_2,
            settings.figure2,
            ON_MNIST,
            {"standard": 10_000_000, "paper": 100_000_000},
            measured=on_each_ten_thousand,
        ),
        Experiment(
            "figure2-minibatches",
            _with(FIGURE_2, "batch_size", compared_at=(1e6, 1e7)),
            settings.figure2_minibatches,
            ON_FREY,
        ),
        Experiment(  # what a run in the reader's browser is judged by
            "ten-thousand-digits",
            _with(FIGURE_2, "hidden"),
            settings.ten_thousand_digits,
            ON_MNIST,
            dict.fromkeys(PROFILES, 316_230),
        ),
        # the beginnings of figures 2 and 3 with more seeds, by which a live run is judged: at least as far as it goes
        Experiment("figure2-seeds", FIGURE_2, settings.figure2_seeds, samples=dict.fromkeys(PROFILES, 100_000)),
        Experiment("figure3-seeds", FIGURE_3, settings.figure3_seeds, ON_MNIST, dict.fromkeys(PROFILES, 158_500)),
        Experiment("figure3-step-sizes", _with(FIGURE_3, "step_size"), settings.figure3_step_sizes, ON_MNIST),
        Experiment("full-vb", FULL_VB, settings.full_vb, ON_MNIST, DRAWN, keeps_posterior=True),
        Experiment(
            "full-vb-settings",
            Kind(("n_train", "step_size", "initial_sigma", "split"), FIGURE_2.value, (1e6,)),
            settings.full_vb_settings,
            ON_MNIST,
        ),
        # Part V: where the gap is, on digits trained on and on others; what changes it (k = 50 costs fifty decoders)
        _after("after-gaps", settings.after_gaps, partial(after.gaps_of, splits=("train", "test")), quick=100_000),
        _after("after-importance", settings.after_importance, after.gaps_of),
        _after("after-flows", settings.after_flows, after.gaps_of),
        _after("after-priors", settings.after_priors, after.rates_of),
        # runs of the baseline with one thing changed; the published curves begin about where the first ends
        Experiment("readings", READING, _of(READINGS), samples=dict.fromkeys(PROFILES, 316_230)),
        Experiment("readings-by-latents", READING, _of(BY_LATENTS), ON_MNIST, dict.fromkeys(PROFILES, 1_000_000)),
        Experiment("readings-overfitting", READING, _of(OVERFITTING), ON_MNIST, dict.fromkeys(PROFILES, 31_622_800)),
        Experiment("readings-plateau", READING, _of(PLATEAU), ON_FREY, dict.fromkeys(PROFILES, 10_000_000)),
    )
}


def get(name: str) -> Experiment:
    """The experiment called `name`. Raises ValueError for another name."""
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def runs(name: str, profile: str, datasets: tuple[str, ...] = BOTH_DATASETS, *, seed: int = 0) -> list[Run]:
    """The runs of the experiment called `name`. Raises ValueError as `get` and `Experiment.members` do."""
    return [member.run for member in get(name).members(profile, datasets, seed=seed)]


def horizon(name: str, profile: str) -> int:
    """The samples that a curve of the experiment called `name` gets at `profile`. Raises ValueError as `get` does."""
    return get(name).horizon(profile)
