"""Training to the end of a grid: its points, the same numbers again, checkpoints, the step size."""

import dataclasses
import functools
import itertools
import math
import pickle
import re
from pathlib import Path

import pytest
import torch

from aevb import data
from aevb.datasets import GAUSSIAN
from aevb.fit import choose_step_size, fit, fit_ensemble, follow, load_checkpoint, save_checkpoint
from aevb.run import evaluation_grid
from aevb.trainer import DivergedError, Trainer
from tests.runs import OF_EACH_ALGORITHM, RUN, assert_identical, each_algorithm

pytestmark = pytest.mark.usefixtures("tiny")

# the parts of a checkpoint
STATE = ("run", "step_size", "model", "sum_squares", "generator", "progress", "updates", "curve")

# the curve


def test_training_raises_the_bound():
    """From y = 1/2 at every pixel to what the best constant mean of each pixel can give."""
    trainer = fit(RUN, 40_000)
    mean = trainer.images.unit(trainer.train_pixels).mean(0).clamp_min(1e-6)
    best_constant = (torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum().item()
    assert trainer.curve[-1].train > best_constant - 0.1 > -20 * math.log(2) + 2


@pytest.mark.parametrize("step_sizes", [(0.05,), (0.02, 0.05)])
def test_fit_has_a_point_at_each_place_of_the_grid(step_sizes):
    """Also where choosing the step size has already gone past some of them."""
    trainer = fit(dataclasses.replace(RUN, step_sizes=step_sizes), 13_000)
    assert [point.samples for point in trainer.curve] == evaluation_grid(13_000, RUN.batch_size)


def test_a_run_too_short_for_a_point_is_refused_before_anything_is_trained():
    diverging = dataclasses.replace(RUN, step_sizes=(1e38, 1e37))  # had selection run, this would be a DivergedError
    with pytest.raises(ValueError, match="ask for more"):
        fit(diverging, 5)


def test_no_runs_no_step_sizes_and_no_data_are_one_clear_line(tiny, generator):
    with pytest.raises(ValueError, match=r"^runs must be 1 or more, not 0$"):
        fit_ensemble([], 10_000)
    with pytest.raises(ValueError, match=r"^step_sizes must be 1 or more, not 0$"):
        choose_step_size(dataclasses.replace(RUN, step_sizes=()))
    for run in OF_EACH_ALGORITHM.values():
        trainer = Trainer(run, 0.05)
        for measure in trainer.algorithm.measures.values():
            with pytest.raises(ValueError, match=r"^datapoints must be 1 or more, not 0$"):
                measure(trainer.model, tiny, tiny.valid, generator=generator)


UNLIKE = [
    *itertools.product(("aevb", "iwae-5"), ({"batch_size": 30}, {"hidden": 7}, {"warm_up": 10})),
    *itertools.product(("iwae-5", "annealed", "mcem"), ({"latent_dim": 3},)),
]


@pytest.mark.parametrize(("algorithm", "change"), UNLIKE)
def test_runs_of_two_configurations_are_refused_before_anything_is_trained(algorithm, change):
    """Whether they would have trained as one batch or one by one."""
    diverging = dataclasses.replace(OF_EACH_ALGORITHM[algorithm], step_sizes=(1e38, 1e37))
    runs = [diverging, dataclasses.replace(diverging, **change)]
    with pytest.raises(
        ValueError, match=r"^runs that are fitted together differ in seed, step sizes and a few latents"
    ):
        fit_ensemble(runs, 200_000)
    with pytest.raises(ValueError, match=r"^runs that are fitted together"):
        follow([Trainer(run, 0.05) for run in runs], 200_000)


# the same numbers again


@pytest.mark.parametrize("step_sizes", [(0.05,), (0.02, 0.05)])
@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep", "full-vb"])
def test_the_same_run_gives_the_same_numbers(algorithm, step_sizes):
    run = dataclasses.replace(RUN, algorithm=algorithm, step_sizes=step_sizes)
    before = torch.get_rng_state()
    assert_identical(fit(run, 16_000), fit(run, 16_000))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_numbers():
    assert fit(RUN, 10_000).curve != fit(dataclasses.replace(RUN, seed=1), 10_000).curve


@pytest.mark.parametrize("step_sizes", [(0.05,), (0.02, 0.05)])
def test_a_longer_run_begins_with_the_shorter_one(step_sizes):
    run = dataclasses.replace(RUN, step_sizes=step_sizes)
    short, long = fit(run, 20_000).curve, fit(run, 26_000).curve
    assert len(long) > len(short) > 0
    assert long[: len(short)] == short


@pytest.mark.parametrize("step_sizes", [(0.05,), (0.02, 0.05)])
def test_a_run_continued_is_the_run_not_stopped(tmp_path, step_sizes):
    run, checkpoint = dataclasses.replace(RUN, step_sizes=step_sizes), tmp_path / "run.pt"
    for samples in (16_000, 20_000, 26_000):
        stopped = fit(run, samples, checkpoint)
    assert_identical(stopped, fit(run, 26_000))


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep", "full-vb"])
@pytest.mark.parametrize("last", [60, 230, 310])  # in the warm-up, and between points of the grid
def test_a_run_killed_anywhere_is_the_run_not_stopped(tmp_path, monkeypatch, last, algorithm):
    run, checkpoint, step = dataclasses.replace(RUN, algorithm=algorithm), tmp_path / "run.pt", Trainer.step

    def killed(trainer):
        if trainer.steps == last:
            raise KeyboardInterrupt
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr("aevb.fit.CHECKPOINT_SECONDS", 0)
        patch.setattr("aevb.fit.REPORT_STEPS", 17)
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(run, 17_000, checkpoint)
    assert 0 < last - load_checkpoint(run, checkpoint).steps <= 17
    assert_identical(fit(run, 17_000, checkpoint), fit(run, 17_000))


# checkpoints


def test_a_checkpoint_between_points_is_taken_up_where_it_stands(tmp_path):
    trainer = Trainer(RUN, 0.05)
    trainer.advance(10_000)
    trainer.add_point()
    trainer.advance(11_350)
    save_checkpoint(trainer, tmp_path / "run.pt")
    assert_identical(load_checkpoint(RUN, tmp_path / "run.pt"), trainer)
    assert_identical(fit(RUN, 16_000, tmp_path / "run.pt"), fit(RUN, 16_000))


def test_the_path_of_a_checkpoint_may_be_a_string(tmp_path):
    once = fit(RUN, 10_000, str(tmp_path / "run.pt"))
    assert_identical(fit(RUN, 10_000, str(tmp_path / "run.pt")), once)
    assert_identical(load_checkpoint(RUN, tmp_path / "run.pt"), once)


@each_algorithm
@pytest.mark.parametrize("steps", [0, 7])  # before the first, and between two updates of one minibatch of MCEM's
def test_a_checkpoint_has_all_that_an_algorithm_remembers(tmp_path, run, steps):
    run = dataclasses.replace(run, warm_up=3)  # so that parameters move
    trainer = Trainer(run, 0.1)
    trainer.advance(steps * run.batch_size)
    save_checkpoint(trainer, tmp_path / "run.pt")
    loaded = load_checkpoint(run, tmp_path / "run.pt")
    assert_identical(loaded, trainer)
    for one in (loaded, trainer):
        one.advance((steps + 6) * run.batch_size)
    assert_identical(loaded, trainer)


def test_a_checkpoint_that_is_further_is_returned_as_it_stands(tmp_path):
    long = fit(RUN, 16_000, tmp_path / "run.pt")
    assert_identical(fit(RUN, 10_000, tmp_path / "run.pt"), long)


class Bomb:
    """An object that makes the file `path` when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", ["empty", "truncated", "a bit flipped", "text", "pickle", "another thing"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, damage):
    checkpoint = tmp_path / "run.pt"
    fit(RUN, 10_000, checkpoint)
    good = checkpoint.read_bytes()
    if damage == "another thing":
        torch.save({"model": torch.zeros(3)}, checkpoint)
    else:
        weights = load_checkpoint(RUN, checkpoint).model.decoder.logit.weight.detach().numpy().tobytes()
        flipped = good.replace(weights, bytes([weights[0] ^ 1]) + weights[1:])
        bad = {"empty": b"", "truncated": good[:-100], "a bit flipped": flipped, "text": b"hello\n"}
        checkpoint.write_bytes(bad[damage] if damage in bad else pickle.dumps(Bomb(tmp_path / "opened")))
    with pytest.raises(ValueError, match="not a readable checkpoint: delete it") as caught:
        fit(RUN, 12_600, checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "opened").exists()


def assert_of_other_code(run, checkpoint, state):
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match="was written by other code: delete it to start that run again") as caught:
        load_checkpoint(run, checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", STATE[1:])  # without the first it could be anything
def test_a_checkpoint_that_lacks_a_part_is_refused_in_one_line(tmp_path, part):
    state = Trainer(RUN, 0.05).state()
    assert tuple(state) == STATE
    assert_of_other_code(RUN, tmp_path / "run.pt", {name: value for name, value in state.items() if name != part})


@each_algorithm
def test_a_checkpoint_that_lacks_some_of_a_part_is_refused_in_one_line(tmp_path, run):
    """Of what the model and the algorithm remember, and the optimiser, and the curve."""
    state, checkpoint = Trainer(run, 0.05).state(), tmp_path / "run.pt"
    for part in ("model", "updates"):
        for one in state[part]:
            less = {name: value for name, value in state[part].items() if name != one}
            assert_of_other_code(run, checkpoint, state | {part: less})
    for part in ("sum_squares", "progress"):
        assert_of_other_code(run, checkpoint, state | {part: state[part][1:]})
    assert_of_other_code(run, checkpoint, state | {"curve": [(10_000, -1.0)]})
    torch.save(state, checkpoint)
    assert_identical(load_checkpoint(run, checkpoint), Trainer(run, 0.05))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"hidden": 7}, {"n_train": 10}, {"warm_up": 10}, {"step_sizes": (0.02,)}]
)
def test_another_runs_checkpoint_is_refused_in_one_line(tmp_path, change):
    fit(RUN, 10_000, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="belongs to another run") as caught:
        fit(dataclasses.replace(RUN, **change), 10_000, tmp_path / "run.pt")
    assert "\n" not in str(caught.value)


def test_missing_data_is_not_blamed_on_the_checkpoint(tmp_path, monkeypatch):
    fit(RUN, 10_000, tmp_path / "run.pt")

    def missing(name):
        raise data.DataError("no such data: set AEVB_DATA")

    monkeypatch.setattr("aevb.trainer.load", missing)
    with pytest.raises(data.DataError, match="set AEVB_DATA"):
        fit(RUN, 12_600, tmp_path / "run.pt")


@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(tmp_path, old):
    """A real one, as far as torch can see: the process may write no more than 1000 bytes to a file."""
    resource = pytest.importorskip("resource", reason="Windows sets no such limits")
    path = tmp_path / "run.pt"
    if old:
        fit(RUN, 10_000, path)
    before = [file.read_bytes() for file in tmp_path.iterdir()]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=rf"^cannot write {re.escape(str(path))}: .*; free some space .*$") as caught:
            fit(RUN, 12_600, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == before


# the step size


@functools.cache  # for each order of candidates
def early_bound(run, step_size):
    """The mean training bound from the end of the warm-up to step 300, by hand."""
    trainer, bounds = Trainer(run, step_size), []
    objective = trainer.updates.objective
    trainer.updates.objective = lambda *args, **kwargs: bounds.append(objective(*args, **kwargs)) or bounds[-1]
    trainer.advance(300 * run.batch_size)
    return torch.stack([update.bound.mean() for update in bounds[run.warm_up :]]).double().mean().item()


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
@pytest.mark.parametrize("step_sizes", [(0.0001, 0.05, 3.0), (0.05, 3.0, 0.0001), (3.0, 0.0001, 0.05)])
def test_the_best_training_bound_wins(algorithm, step_sizes):
    run = dataclasses.replace(RUN, algorithm=algorithm, step_sizes=step_sizes)
    plain = dataclasses.replace(run, step_sizes=(0.05,))
    best = max(step_sizes, key=lambda step_size: early_bound(plain, step_size))
    assert best == 0.05  # neither the first nor the last by accident
    assert choose_step_size(run) == best


def test_selection_leaves_no_trace_in_the_run():
    chosen, plain = (fit(dataclasses.replace(RUN, step_sizes=sizes), 20_000) for sizes in ((0.0001, 0.05), (0.05,)))
    assert_identical(chosen, plain)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
@pytest.mark.parametrize("bad", [1e6, 1e38])
def test_a_candidate_that_diverges_loses(tiny, monkeypatch, algorithm, bad, decoder):
    if decoder == "gaussian":
        gaussian = dataclasses.replace(tiny.dataset, likelihood=GAUSSIAN)
        monkeypatch.setattr("aevb.trainer.load", lambda name: dataclasses.replace(tiny, dataset=gaussian))
    for step_sizes in ((bad, 0.05), (0.05, bad)):
        run = dataclasses.replace(RUN, algorithm=algorithm, step_sizes=step_sizes)
        assert choose_step_size(run) == 0.05


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_where_every_candidate_diverges_one_line_says_so(algorithm):
    run = dataclasses.replace(RUN, algorithm=algorithm, step_sizes=(1e38, 1e37))
    with pytest.raises(DivergedError, match=r"every step size .* diverged; add smaller ones") as caught:
        fit(run, 20_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_a_run_with_one_step_size_that_diverges_says_so_in_one_line(tmp_path, algorithm):
    with pytest.raises(DivergedError, match=r"diverged at step size 1e\+38") as caught:
        fit(dataclasses.replace(RUN, algorithm=algorithm, step_sizes=(1e38,)), 10_000, tmp_path / "run.pt")
    assert "\n" not in str(caught.value)
