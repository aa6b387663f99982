"""Small runs, over the data of the fixture `tiny` and over digits, with comparisons of two of them."""

import dataclasses

import pandas as pd
import pytest
import torch
from torch import Tensor

from aevb.algorithms import ALGORITHMS
from aevb.fit import fit
from aevb.reproduction.curves import FIGURE_2, Curves
from aevb.reproduction.experiments import Member
from aevb.reproduction.readings import Reading
from aevb.run import Run
from aevb.trainer import Trainer

RUN = Run("tiny", "aevb", latent_dim=2, hidden=6, batch_size=50, step_sizes=(0.05,))  # 10^4 samples are 200 steps
OF_EACH_ALGORITHM = {
    name: dataclasses.replace(RUN, algorithm=name, measure=next(iter(algorithm.measures)))
    for name, algorithm in ALGORITHMS.items()
}
MCEM, FULL_VB = OF_EACH_ALGORITHM["mcem"], OF_EACH_ALGORITHM["full-vb"]
each_algorithm = pytest.mark.parametrize("run", OF_EACH_ALGORITHM.values(), ids=OF_EACH_ALGORITHM)


# over 500 digits, for what goes to other processes, which have no fixture
ON_DIGITS = Run("mnist", "aevb", latent_dim=2, hidden=5, n_train=500, step_sizes=(0.02,))
PAIR = [ON_DIGITS, dataclasses.replace(ON_DIGITS, algorithm="wake-sleep")]
EXPLOSIVE = dataclasses.replace(ON_DIGITS, warm_up=0, step_sizes=(1e30,))
SAMPLES = 12_600  # two points


NAME = ("mnist", 3, "aevb", "test")  # of a curve of figure 2


def curve(samples, bounds, seed=0, name=NAME, run="a"):
    """A curve of figure 2: its `bounds` at `samples`."""
    fixed = {"run": run, **dict(zip(FIGURE_2.names, name, strict=True)), "seed": seed}
    rows = [{**fixed, "samples": n, "bound": b} for n, b in zip(samples, bounds, strict=True)]
    return Curves(pd.DataFrame(rows), FIGURE_2)


def bounds(table: pd.DataFrame) -> dict[tuple[str, str, int], float]:
    """A table of curves by run, split and samples."""
    return table.set_index(["run", "split", "samples"])["bound"].to_dict()


def by_hand(run: Run, samples: int) -> dict[tuple[str, str, int], float]:
    """The curve of `fit` alone, in the terms of `bounds`."""
    return {
        (run.key, split, point.samples): getattr(point, split)
        for point in fit(run, samples).curve
        for split in ("train", "test", "running")
    }


def member(reading: Reading) -> Member:
    """A reading as an experiment has it."""
    return Member(reading.key, reading.run, reading.change, reading.question, reading.answer)


def seeds(run: Run, n: int = 3) -> list[Run]:
    return [dataclasses.replace(run, seed=seed) for seed in range(n)]


def parameters(trainer: Trainer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def squares(trainer: Trainer) -> list[Tensor]:
    """Adagrad's sums of squared gradients."""
    of = dict(zip(trainer.optimizer.names, trainer.optimizer.sum_squares, strict=True))
    return [of[name].clone() for name, _ in trainer.model.named_parameters()]


def assert_identical(ours: Trainer, other: Trainer) -> None:
    """Bit for bit the same: the parameters, the curve so far, and the noise to come."""
    assert ours.curve == other.curve
    assert (ours.steps, ours.step_size, ours.average_from) == (other.steps, other.step_size, other.average_from)
    for a, b in zip(parameters(ours) + squares(ours), parameters(other) + squares(other), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(ours.generator.get_state(), other.generator.get_state())
    assert torch.equal(ours.bound_sum, other.bound_sum)
    remembered, likewise = ours.updates.state(), other.updates.state()
    assert remembered.keys() == likewise.keys()
    for name, value in remembered.items():
        assert torch.equal(value, likewise[name]) if isinstance(value, Tensor) else value == likewise[name]


def map_gradient(trainer: Trainer) -> tuple[Tensor, ...]:
    """The gradient that the next step descends, by autograd: of loss - M/N log N(weights; 0, I)."""
    again = torch.Generator()
    again.set_state(trainer.generator.get_state())
    rows = torch.randint(len(trainer.train_pixels), (trainer.run.batch_size,), generator=again)
    x = trainer.images.unit(trainer.train_pixels[rows])
    loss = trainer.updates.objective(trainer.model, x, generator=again).loss
    share = trainer.run.batch_size / len(trainer.train_pixels)
    for name, parameter in trainer.model.named_parameters():
        if name.endswith("weight"):
            loss = loss - share * torch.distributions.Normal(0.0, 1.0).log_prob(parameter).sum()
    return torch.autograd.grad(loss, list(trainer.model.parameters()))
