"""A run as a value."""

import dataclasses
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from aevb.run import Run, evaluation_grid
from tests.runs import RUN

# refusals


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be 1 or more, not 0"),
        ({"hidden": -3}, "hidden must be 1 or more, not -3"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"n_train": 0}, "n_train must be 1 or more, not 0"),
        ({"warm_up": -1}, "warm_up must be 0 or more, not -1"),
    ],
)
def test_a_run_of_nothing_is_refused(size, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(RUN, **size)


@pytest.mark.parametrize("bad", [0, -0.1, math.nan, math.inf])
def test_a_step_size_or_a_deviation_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match=rf"^step_sizes must be finite and above 0, not {float(bad)}$"):
        dataclasses.replace(RUN, step_sizes=(0.1, bad))
    with pytest.raises(ValueError, match=rf"^initial_sigma must be finite and above 0, not {float(bad)}$"):
        dataclasses.replace(RUN, algorithm="full-vb", initial_sigma=bad)


def test_step_sizes_are_several():
    with pytest.raises(ValueError, match=r"^step_sizes are several, such as \(0.02,\), not 0.02$"):
        dataclasses.replace(RUN, step_sizes=0.02)


def test_a_run_has_a_step_size():
    with pytest.raises(ValueError, match=r"^step_sizes must be 1 or more, not 0$"):
        dataclasses.replace(RUN, step_sizes=())


@pytest.mark.parametrize("name", ["latent_dim", "hidden", "seed", "n_train", "batch_size", "warm_up"])
@pytest.mark.parametrize("bad", [2.5, math.nan, math.inf, "2"])
def test_a_size_that_is_no_whole_number_is_refused(name, bad):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number, not {bad}$"):
        dataclasses.replace(RUN, **{name: bad})


def test_unknown_algorithms_are_refused():
    with pytest.raises(ValueError, match="unknown algorithm 'adam': choose one of aevb, wake-sleep"):
        dataclasses.replace(RUN, algorithm="adam")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure": "likelihood"}, "unknown measure 'likelihood': choose one of bound, marginal-likelihood"),
        ({"algorithm": "mcem"}, "mcem has no recognition model and so no bound"),
        ({"algorithm": "em"}, "unknown algorithm 'em': choose one of aevb, wake-sleep, score-function, mcem, full-vb"),
        ({"algorithm": "full-vb", "measure": "marginal-likelihood"}, "full-vb has no one theta"),
    ],
)
def test_an_impossible_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RUN, **changes)


# its name


def test_the_key_is_this_one_here_and_in_every_process():
    """Recorded results are found by it: a change of this number orphans them."""
    run = Run("mnist", "aevb", 3, 500)
    assert run.key == "6949dc0a2c13"
    code = "from aevb.run import Run; print(Run('mnist', 'aevb', 3, 500).key)"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == run.key


def test_whatever_changes_the_numbers_changes_the_key():
    changes = {
        "dataset": "frey", "algorithm": "wake-sleep", "latent_dim": 3, "hidden": 7, "seed": 1,
        "n_train": 10, "batch_size": 51, "warm_up": 10, "step_sizes": (0.05, 0.1),
        "measure": "marginal-likelihood", "initial_sigma": 0.1, "slow_log_var": True,
        "prior_on_encoder": False,
    }  # fmt: skip
    assert set(changes) == {field.name for field in dataclasses.fields(Run)}
    keys = {dataclasses.replace(RUN, **{name: value}).key for name, value in changes.items()} | {RUN.key}
    assert len(keys) == len(changes) + 1


SIZES = {"latent_dim": 2, "hidden": 6, "seed": 1, "n_train": 10, "batch_size": 50, "warm_up": 10}


@pytest.mark.parametrize("kind", [np.int64, np.uint8, float])
def test_equal_runs_have_one_key_whatever_holds_their_numbers(kind):
    """A run is a value: numbers of numpy, whole step sizes and a list are the numbers that they equal."""
    plain = Run("tiny", "aevb", step_sizes=(1.0, 2.0), initial_sigma=1.0, slow_log_var=True, **SIZES)
    sizes = {name: kind(size) for name, size in SIZES.items()}
    other = Run("tiny", "aevb", step_sizes=[kind(1), 2], initial_sigma=kind(1), slow_log_var=np.True_, **sizes)
    assert other == plain and hash(other) == hash(plain)
    assert other.key == plain.key
    assert dataclasses.asdict(other) == dataclasses.asdict(plain)
    assert {type(value) for value in dataclasses.astuple(other)} == {str, int, float, tuple, bool}


# the points of its curve


@pytest.mark.parametrize("batch_size", [1, 32, 50, 100, 1000, 5000, 20_000])
def test_the_grid_rises_in_whole_minibatches_and_ends_within_the_run(batch_size):
    grid = evaluation_grid(1_000_000, batch_size)
    assert all(a < b for a, b in itertools.pairwise(grid))
    assert all(point > 0 and point % batch_size == 0 for point in grid)
    assert 1_000_000 - batch_size <= grid[-1] <= 1_000_000


def test_the_grid_has_ten_points_a_decade_from_ten_thousand():
    grid = evaluation_grid(1_000_000)
    assert (len(grid), grid[0], grid[10], grid[20]) == (21, 10_000, 100_000, 1_000_000)
    for k, point in enumerate(grid):
        assert abs(point - 10 ** (4 + k / 10)) <= 50


def test_a_likelihood_curve_has_fewer_points():
    grid = evaluation_grid(1_000_000, measure="marginal-likelihood")
    assert grid == [100_000, 158_500, 251_200, 398_100, 631_000, 1_000_000]


def test_a_longer_grid_begins_with_the_shorter_one():
    longest = evaluation_grid(10_000_000)
    for samples in (10_000, 12_599, 12_600, 99_999, 100_000, 316_200, 3_162_300):
        grid = evaluation_grid(samples)
        assert grid == longest[: len(grid)]
        assert longest[len(grid)] > samples
    with pytest.raises(ValueError, match="9999 samples ends before the first point"):
        evaluation_grid(9_999)


def test_the_grid_of_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match=r"^unknown measure 'elbo': choose one of bound, marginal-likelihood$"):
        evaluation_grid(10_000, measure="elbo")
