import contextlib
import copy
import dataclasses
import itertools
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import assert_unbiased

from aevb import data, full_vb, mcem, training
from aevb.bounds import estimator_b, kl_to_prior
from aevb.marginal_likelihood import appendix_d
from aevb.training import DivergedError, Run, Trainer, choose_step_size, evaluation_grid, fit, mean_bound

RUN = Run("tiny", "aevb", latent_dim=2, hidden=6, batch_size=50, step_sizes=(0.05,))  # 10^4 samples are 200 steps


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> data.Dataset:
    """64 training and 32 test images of 20 random pixels, from dark to bright, in place of every dataset."""
    random = torch.randint(0, 256, (96, 20), generator=torch.Generator().manual_seed(0))
    pixels = (random * torch.linspace(0, 1, 20)).to(torch.uint8)
    dataset = data.Dataset("tiny", pixels[:64], pixels[:0], pixels[64:], {}, 255.0, (4, 5))
    monkeypatch.setattr(training, "load", lambda name: dataset)
    return dataset


def parameters(trainer):
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def squares(trainer):
    """Adagrad's sums of squared gradients."""
    of = dict(zip(trainer.optimizer.names, trainer.optimizer.sum_squares, strict=True))
    return [of[name].clone() for name, _ in trainer.model.named_parameters()]


def assert_identical(ours, other):
    """Bit for bit: what was learnt, what was seen on the way, and what would come next."""
    assert ours.curve == other.curve
    assert (ours.steps, ours.step_size) == (other.steps, other.step_size)
    for a, b in zip(parameters(ours) + squares(ours), parameters(other) + squares(other), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(ours.generator.get_state(), other.generator.get_state())
    assert torch.equal(ours.bound_sum, other.bound_sum)


def map_gradient(trainer):
    """The gradient that the next step descends, by autograd: of loss - M/N log N(weights; 0, I)."""
    again = torch.Generator()
    again.set_state(trainer.generator.get_state())
    rows = torch.randint(len(trainer.train_pixels), (trainer.run.batch_size,), generator=again)
    loss = trainer.objective(trainer.model, trainer.dataset.unit(trainer.train_pixels[rows]), generator=again).loss
    share = trainer.run.batch_size / len(trainer.train_pixels)
    for name, parameter in trainer.model.named_parameters():
        if name.endswith("weight"):
            loss = loss - share * torch.distributions.Normal(0.0, 1.0).log_prob(parameter).sum()
    return torch.autograd.grad(loss, list(trainer.model.parameters()))


# what it does not depend on


OF_EACH_ALGORITHM = [
    dataclasses.replace(RUN, algorithm=algorithm, measure=measure)
    for algorithm in training.ALGORITHMS
    for measure in ["marginal-likelihood" if algorithm == "mcem" else "bound"]
]
each_algorithm = pytest.mark.parametrize("run", OF_EACH_ALGORITHM, ids=training.ALGORITHMS)


@contextlib.contextmanager
def default(**setting):
    """Torch's default type or device, for a while."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(setting.get("dtype", before))
        torch.set_default_device(setting.get("device"))
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


@each_algorithm
@pytest.mark.parametrize("setting", [{"dtype": torch.float64}, {"device": "meta"}], ids=["type", "device"])
@pytest.mark.parametrize("dataset", ["tiny", "frey"])
def test_torchs_defaults_change_no_bit_of_a_run(run, setting, dataset):
    run = dataclasses.replace(run, dataset=dataset)
    plain, other = Trainer(run, 0.05), None
    plain.advance(10_000)
    with default(**setting):
        other = Trainer(run, 0.05)
        other.advance(10_000)
        if run.measure == "bound":
            other.add_point()
            resumed = Trainer(run, 0.05)
            resumed.restore(other.state())
            assert_identical(resumed, other)
    if run.measure == "bound":
        plain.add_point()
    else:
        assert torch.equal(plain.chains.z, other.chains.z)
    assert_identical(plain, other)


@each_algorithm
@pytest.mark.parametrize("dataset", ["tiny", "frey"])
def test_a_step_does_not_look_at_its_data(run, dataset, monkeypatch):
    """Pixels are in the domain by construction; a look costs time, and on a GPU it would end a capture."""
    trainer = Trainer(dataclasses.replace(run, dataset=dataset), 0.05)
    monkeypatch.setattr(torch, "aminmax", lambda *_: pytest.fail("the data were looked at"))
    trainer.advance(1000)
    assert math.isfinite(trainer.running_average())


def test_pixels_that_a_scale_takes_out_of_the_domain_are_looked_at(tiny):
    trainer = Trainer(RUN, 0.05)
    trainer.dataset = dataclasses.replace(tiny, scale=1.0)
    with pytest.raises(ValueError, match=r"^data from 0\.0 to 2\d\d\.0, but the Bernoulli"):
        trainer.step()


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


def test_no_runs_no_step_sizes_and_no_data_are_one_clear_line(tiny, generator):
    with pytest.raises(ValueError, match=r"^runs must be 1 or more, not 0$"):
        training.fit_ensemble([], 10_000)
    with pytest.raises(ValueError, match=r"^step_sizes must be 1 or more, not 0$"):
        choose_step_size(dataclasses.replace(RUN, step_sizes=()))
    for algorithm in ("aevb", "full-vb"):
        trainer = Trainer(dataclasses.replace(RUN, algorithm=algorithm), 0.05)
        with pytest.raises(ValueError, match=r"^datapoints must be 1 or more, not 0$"):
            mean_bound(trainer.model, tiny, tiny.valid, generator=generator)


# one step


@pytest.mark.parametrize("n_train", [None, 32])
@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_decay_is_the_gradient_of_the_log_prior_scaled(algorithm, n_train):
    """The effective gradient of one Adagrad step, with weights so large that the prior's share shows."""
    trainer = Trainer(dataclasses.replace(RUN, algorithm=algorithm, n_train=n_train), 0.05)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(100)
    trainer.steps = RUN.warm_up
    expected, before = map_gradient(trainer), parameters(trainer)
    trainer.step()
    for g, old, new, total in zip(expected, before, parameters(trainer), squares(trainer), strict=True):
        effective = -(new - old) / 0.05 * (total.sqrt() + 1e-8)
        rounding = 4 * torch.finfo(torch.float32).eps * (old.abs().max() / 0.05 + 1)  # of new - old
        torch.testing.assert_close(effective, g, rtol=rounding.item(), atol=1e-6)


@pytest.mark.parametrize("warm_up", [100, 10])
def test_nothing_moves_in_the_warm_up_while_squared_gradients_accumulate(warm_up):
    trainer = Trainer(dataclasses.replace(RUN, warm_up=warm_up), 0.05)
    start, totals = parameters(trainer), [torch.zeros_like(p) for p in trainer.model.parameters()]
    for _ in range(warm_up):
        totals = [total + g**2 for total, g in zip(totals, map_gradient(trainer), strict=True)]
        trainer.step()
    for old, new in zip(start, parameters(trainer), strict=True):
        assert torch.equal(old, new)
    for total, ours in zip(totals, squares(trainer), strict=True):
        torch.testing.assert_close(ours, total, rtol=1e-4, atol=0)
        assert (ours > 0).all()


@pytest.mark.parametrize("warm_up", [100, 10, 0])
def test_the_first_update_is_adagrads(warm_up):
    """-lr g / (sqrt(sum of the warm-up's squares and this one's) + 1e-8)."""
    trainer = Trainer(dataclasses.replace(RUN, warm_up=warm_up), 0.05)
    trainer.advance(warm_up * RUN.batch_size)
    g, totals, start = map_gradient(trainer), squares(trainer), parameters(trainer)
    trainer.step()
    for gradient, total, old, new in zip(g, totals, start, parameters(trainer), strict=True):
        expected = old - 0.05 * gradient / ((total + gradient**2).sqrt() + 1e-8)
        torch.testing.assert_close(new, expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(new, old)


def test_only_the_first_training_points_are_used(tiny):
    trainer = Trainer(dataclasses.replace(RUN, n_train=10), 0.05)
    assert torch.equal(trainer.train_pixels, tiny.train[:10])
    with pytest.raises(ValueError, match="n_train=65, but tiny has 64 training points"):
        Trainer(dataclasses.replace(RUN, n_train=65), 0.05)


def test_minibatches_are_drawn_with_replacement_from_all_of_the_training_points(tiny):
    """100 batches of 50 from 64 points miss one with probability 64 (63/64)^5000 < 1e-30."""
    trainer, rows = Trainer(RUN, 0.05), []
    objective = trainer.objective
    trainer.objective = lambda model, x, generator: rows.append(x) or objective(model, x, generator=generator)
    trainer.advance(100 * RUN.batch_size)
    assert len(torch.cat(rows).unique(dim=0)) == 64
    assert any(len(x.unique(dim=0)) < len(x) for x in rows)


def test_a_minibatch_estimates_the_bound_of_the_dataset(tiny):
    """Equation 8: N/M times the minibatch's sum is unbiased for the sum over all. q has no width, so no noise."""
    trainer = Trainer(dataclasses.replace(RUN, batch_size=10), 0.05)
    with torch.no_grad():
        trainer.model.encoder.log_var.weight.zero_()
        trainer.model.encoder.log_var.bias.fill_(-40.0)
        for layer in (trainer.model.encoder.hidden, trainer.model.encoder.mu):
            layer.weight.mul_(100)  # datapoints' bounds differ by nats
        exact = estimator_b(trainer.model, tiny.unit(tiny.train), generator=trainer.generator).sum().double()
        estimates = torch.stack([-64 / 10 * trainer.update().loss.double() for _ in range(2000)])
    assert_unbiased(estimates, exact, precision=5e-3 * exact.abs())


# the curve


def test_the_bound_is_a_mean_over_datapoints_whatever_the_batches(tiny, generator, monkeypatch):
    """With q's variance put to nothing the noise has no effect; 7 does not divide 32."""
    model = Trainer(RUN, 0.05).model
    with torch.no_grad():
        model.encoder.log_var.bias.fill_(-40.0)
        z, _ = model.posterior(tiny.unit(tiny.test))
        kl = 0.5 * (z.square() + math.exp(-40) - 1 + 40).sum(-1)  # log_var's weights add less than 1 %
        expected = (model.decoder.log_prob(tiny.unit(tiny.test), z) - kl).mean().item()
    values = []
    for size in (7, 32, 1000):
        monkeypatch.setattr(training, "EVALUATION_BATCH", size)
        values.append(mean_bound(model, tiny, tiny.test, generator=generator))
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    assert values[0] == pytest.approx(expected, rel=0.01)


def test_a_point_has_the_average_since_the_last_one_and_the_test_bound_now(tiny):
    trainer, seen = Trainer(RUN, 0.05), []
    objective = trainer.objective
    trainer.objective = lambda *args, **kwargs: seen.append(objective(*args, **kwargs)) or seen[-1]
    for target in (10_000, 12_000):
        seen.clear()
        trainer.advance(target)
        trainer.add_point()
        test = mean_bound(trainer.model, tiny, tiny.test, generator=torch.Generator().manual_seed(RUN.seed))
        point = trainer.curve[-1]
        assert (point.samples, point.test) == (target, test)
        assert point.running == pytest.approx(torch.stack([u.bound.mean() for u in seen]).mean().item())


def test_the_train_bound_is_evaluated_on_the_first_training_points(tiny):
    """As many as there are test points: where those are the same images, the two differ by their noise alone."""
    trainer = Trainer(RUN, 0.05)
    trainer.advance(10_000)
    with torch.no_grad():
        trainer.model.encoder.log_var.bias.fill_(-40.0)
    trainer.dataset = dataclasses.replace(tiny, test=tiny.train[:32])
    trainer.add_point()
    assert trainer.curve[0].train == pytest.approx(trainer.curve[0].test, rel=1e-5)


def test_evaluating_does_not_disturb_training():
    watched, unwatched = Trainer(RUN, 0.05), Trainer(RUN, 0.05)
    for trainer in (watched, unwatched):
        trainer.advance(11_000)
        if trainer is watched:
            trainer.add_point()
        trainer.advance(12_000)
    for a, b in zip(parameters(watched), parameters(unwatched), strict=True):
        assert torch.equal(a, b)


def test_training_raises_the_bound():
    """From y = 1/2 at every pixel to what the best constant mean of each pixel can give."""
    trainer = fit(RUN, 40_000)
    mean = trainer.dataset.unit(trainer.train_pixels).mean(0).clamp_min(1e-6)
    best_constant = (torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum().item()
    assert trainer.curve[-1].train > best_constant - 0.1 > -20 * math.log(2) + 2


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


def test_a_longer_grid_begins_with_the_shorter_one():
    longest = evaluation_grid(10_000_000)
    for samples in (10_000, 12_599, 12_600, 99_999, 100_000, 316_200, 3_162_300):
        grid = evaluation_grid(samples)
        assert grid == longest[: len(grid)]
        assert longest[len(grid)] > samples
    with pytest.raises(ValueError, match="9999 samples ends before the first point"):
        evaluation_grid(9_999)


@pytest.mark.parametrize("step_sizes", [(0.05,), (0.02, 0.05)])
def test_fit_has_a_point_at_each_place_of_the_grid(step_sizes):
    """Also where choosing the step size has already gone past some of them."""
    trainer = fit(dataclasses.replace(RUN, step_sizes=step_sizes), 13_000)
    assert [point.samples for point in trainer.curve] == evaluation_grid(13_000, RUN.batch_size)


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
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        patch.setattr(training, "REPORT_STEPS", 17)
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(run, 17_000, checkpoint)
    assert 0 < last - training.load_checkpoint(run, checkpoint).steps <= 17
    assert_identical(fit(run, 17_000, checkpoint), fit(run, 17_000))


def test_a_checkpoint_between_points_is_taken_up_where_it_stands(tmp_path):
    trainer = Trainer(RUN, 0.05)
    trainer.advance(10_000)
    trainer.add_point()
    trainer.advance(11_350)
    training.save_checkpoint(trainer, tmp_path / "run.pt")
    assert_identical(training.load_checkpoint(RUN, tmp_path / "run.pt"), trainer)
    assert_identical(fit(RUN, 16_000, tmp_path / "run.pt"), fit(RUN, 16_000))


def test_a_checkpoint_that_is_further_is_returned_as_it_stands(tmp_path):
    long = fit(RUN, 16_000, tmp_path / "run.pt")
    assert_identical(fit(RUN, 10_000, tmp_path / "run.pt"), long)


class Bomb:
    """Whoever unpickles it makes the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "pickle", "another thing"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, damage):
    checkpoint = tmp_path / "run.pt"
    fit(RUN, 10_000, checkpoint)
    good = checkpoint.read_bytes()
    if damage == "another thing":
        torch.save({"model": torch.zeros(3)}, checkpoint)
    else:
        bad = {"empty": b"", "truncated": good[:-100], "text": b"hello\n"}
        checkpoint.write_bytes(bad[damage] if damage in bad else pickle.dumps(Bomb(tmp_path / "opened")))
    with pytest.raises(ValueError, match="not a readable checkpoint: delete it") as caught:
        fit(RUN, 12_600, checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "opened").exists()


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

    monkeypatch.setattr(training, "load", missing)
    with pytest.raises(data.DataError, match="set AEVB_DATA"):
        fit(RUN, 12_600, tmp_path / "run.pt")


# the step size


def early_bound(run, step_size):
    """The mean training bound from the end of the warm-up to step 300, by hand."""
    trainer, bounds = Trainer(run, step_size), []
    objective = trainer.objective
    trainer.objective = lambda *args, **kwargs: bounds.append(objective(*args, **kwargs)) or bounds[-1]
    trainer.advance(300 * run.batch_size)
    return torch.stack([update.bound.mean() for update in bounds[run.warm_up :]]).double().mean().item()


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
@pytest.mark.parametrize("step_sizes", [(0.0001, 0.05, 3.0), (0.05, 3.0, 0.0001), (3.0, 0.0001, 0.05)])
def test_the_best_training_bound_wins(algorithm, step_sizes):
    run = dataclasses.replace(RUN, algorithm=algorithm, step_sizes=step_sizes)
    best = max(step_sizes, key=lambda step_size: early_bound(run, step_size))
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
        monkeypatch.setattr(training, "load", lambda name: dataclasses.replace(tiny, name="frey"))
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


# the value that a run is


def test_unknown_algorithms_are_refused():
    with pytest.raises(ValueError, match="unknown algorithm 'adam': choose one of aevb, wake-sleep"):
        dataclasses.replace(RUN, algorithm="adam")


def test_the_key_is_this_one_here_and_in_every_process():
    """Recorded results are found by it: a change of this number orphans them."""
    run = Run("mnist", "aevb", 3, 500)
    assert run.key == "6949dc0a2c13"
    code = "from aevb.training import Run; print(Run('mnist', 'aevb', 3, 500).key)"
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


def test_frey_face_has_the_gaussian_decoder_and_mnist_the_bernoulli_one(tiny, generator):
    for name, unit_mean in (("frey", True), ("mnist", None)):
        model = training.build_model(RUN, dataclasses.replace(tiny, name=name), generator=generator)
        assert getattr(model.decoder, "unit_mean", None) is unit_mean
        assert (model.latent_dim, model.decoder(torch.zeros(1, 2))[0].shape[-1]) == (2, 20)


def test_a_run_too_short_for_a_point_is_refused_before_anything_is_trained():
    diverging = dataclasses.replace(RUN, step_sizes=(1e38, 1e37))  # had selection run, this would be a DivergedError
    with pytest.raises(ValueError, match="ask for more"):
        fit(diverging, 5)


# Monte Carlo EM, and curves of log p(x)


MCEM = dataclasses.replace(RUN, algorithm="mcem", measure="marginal-likelihood")


def test_mcem_keeps_a_minibatch_for_five_updates_and_moves_its_chains_once(tiny, monkeypatch):
    moved, move = [], mcem.Chains.move
    monkeypatch.setattr(mcem.Chains, "move", lambda self, *args, **kw: moved.append(args[2]) or move(self, *args, **kw))
    trainer = Trainer(MCEM, 0.1)
    rows = []
    for _ in range(12):
        trainer.step()
        rows.append(trainer.rows)
    assert len(moved) == 3
    for i, used in enumerate(rows):
        assert torch.equal(used, moved[i // 5])
    assert not torch.equal(moved[0], moved[1])
    assert trainer.samples == 12 * MCEM.batch_size  # each update counts


def test_mcem_has_no_encoder_and_starts_where_the_others_do(tiny):
    ours, theirs = Trainer(MCEM, 0.1).model, Trainer(RUN, 0.1).model
    assert {name for name, _ in ours.named_parameters()} == {
        name for name, _ in theirs.named_parameters() if name.startswith("decoder")
    }
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, theirs.get_parameter(name))


def test_mcem_goes_on_where_it_stopped_bit_for_bit(tiny):
    """Stopped between two updates on one minibatch, where rows, chains and step size are all needed."""
    whole, part = Trainer(MCEM, 0.1), Trainer(MCEM, 0.1)
    for _ in range(13):
        whole.step()
    for _ in range(7):
        part.step()
    rest = Trainer(MCEM, 0.1)
    rest.restore(copy.deepcopy(part.state()))
    for _ in range(6):
        rest.step()
    for ours, theirs in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(whole.chains.z, rest.chains.z)
    assert whole.chains.step_size == rest.chains.step_size


def test_a_likelihood_curve_shows_appendix_d(tiny, monkeypatch):
    """Train is the first training points, test the first test points, as many as figure 3 takes."""
    monkeypatch.setattr(training, "LIKELIHOOD_POINTS", 6)
    run = dataclasses.replace(RUN, measure="marginal-likelihood")
    trainer = Trainer(run, 0.1)
    trainer.step()
    trainer.add_point()
    point, noise = trainer.curve[-1], torch.Generator().manual_seed(run.seed)
    for pixels, value in ((tiny.test, point.test), (trainer.train_pixels, point.train)):
        assert value == appendix_d(trainer.model, tiny.unit(pixels[:6]), generator=noise).log_px.mean().item()


def test_a_likelihood_curve_has_fewer_points():
    grid = evaluation_grid(1_000_000, measure="marginal-likelihood")
    assert grid == [100_000, 158_500, 251_200, 398_100, 631_000, 1_000_000]


def test_mcem_that_diverges_says_so(tiny):
    trainer = Trainer(MCEM, 1e38)
    for _ in range(MCEM.warm_up + 10):
        trainer.step()
    with pytest.raises(DivergedError, match="diverged at step size"):
        trainer.add_point()


# full variational Bayes


FULL_VB = dataclasses.replace(RUN, algorithm="full-vb")


@pytest.mark.parametrize("n_train", [None, 32])
def test_full_vb_descends_its_loss_without_weight_decay(n_train):
    """M/N KL(q(theta)||p(theta)) minus the minibatch's bounds, and nothing else, so wide that the prior shows."""
    trainer = Trainer(dataclasses.replace(FULL_VB, n_train=n_train), 0.05)
    model, n = trainer.model, len(trainer.train_pixels)
    assert model.n_train == n
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.mul_(100)
    trainer.steps = FULL_VB.warm_up
    again = torch.Generator()
    again.set_state(trainer.generator.get_state())
    rows = torch.randint(n, (FULL_VB.batch_size,), generator=again)
    bound = model.at(
        model.sample_theta(generator=again),
        estimator_b,
        trainer.dataset.unit(trainer.train_pixels[rows]),
        generator=again,
    )
    loss = FULL_VB.batch_size / n * kl_to_prior(model.mu, model.log_var) - bound.sum()
    expected, before = torch.autograd.grad(loss, list(model.parameters())), parameters(trainer)
    trainer.step()
    for g, old, new, total in zip(expected, before, parameters(trainer), squares(trainer), strict=True):
        effective = -(new - old) / 0.05 * (total.sqrt() + 1e-8)
        rounding = 4 * torch.finfo(torch.float32).eps * (old.abs().max() / 0.05 + 1)  # of new - old
        torch.testing.assert_close(effective, g, rtol=rounding.item(), atol=1e-6)
    assert trainer.bound_sum == pytest.approx(bound.mean().item())


def test_full_vb_starts_at_the_weights_of_the_others():
    ours, theirs = Trainer(FULL_VB, 0.1).model, Trainer(RUN, 0.1).model
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, ours.model.get_parameter(name))


def test_q_of_theta_starts_as_wide_as_the_run_says():
    for sigma in (0.01, 0.3):
        log_var = Trainer(dataclasses.replace(FULL_VB, initial_sigma=sigma), 0.1).model.log_var
        torch.testing.assert_close(torch.exp(0.5 * log_var), torch.full_like(log_var, sigma))


def test_a_point_of_full_vb_is_at_a_draw_of_theta_and_has_the_evidence(tiny):
    """With q(theta) as wide as the prior, draws differ by nats: these are the three that the point's noise gives."""
    trainer = Trainer(FULL_VB, 0.1)
    with torch.no_grad():
        trainer.model.log_var.zero_()
    trainer.step()
    trainer.add_point()
    point, noise = trainer.curve[-1], torch.Generator().manual_seed(FULL_VB.seed)
    test, train = (
        full_vb.held_out_bound(trainer.model, tiny.unit(pixels), 1, generator=noise).mean().item()
        for pixels in (tiny.test, tiny.train[:32])
    )
    evidence = full_vb.evidence_bound(trainer.model, tiny.unit(tiny.train), 1, generator=noise)
    assert (point.test, point.train) == (test, train)
    assert point.evidence == pytest.approx(evidence.total / 64, rel=1e-6)
    assert point.data - point.evidence == pytest.approx(full_vb.kl_theta(trainer.model).item() / 64, abs=1e-3)


def test_full_vb_raises_the_bound_on_the_evidence():
    """By both of its parts: the data term from y = 1/2 at every pixel, and the price of the weights."""
    trainer = fit(dataclasses.replace(FULL_VB, step_sizes=(0.1,)), 40_000)
    price, before = (full_vb.kl_theta(t.model).item() for t in (trainer, Trainer(FULL_VB, 0.1)))
    assert trainer.curve[-1].data > -20 * math.log(2) + 2
    assert price < before
    assert trainer.curve[-1].evidence > trainer.curve[0].evidence


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
