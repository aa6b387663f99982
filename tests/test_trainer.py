"""One run under way: its settings, one step, minibatches, points, interruptions."""

import contextlib
import copy
import dataclasses
import math

import pytest
import torch
from conftest import assert_unbiased

from aevb.bounds import estimator_b
from aevb.datasets import BERNOULLI, GAUSSIAN
from aevb.measures import mean_bound
from aevb.trainer import Trainer, build_model
from tests.runs import RUN, assert_identical, each_algorithm, map_gradient, parameters, squares

pytestmark = pytest.mark.usefixtures("tiny")

# independence


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
@pytest.mark.parametrize(
    "setting",
    [{"dtype": torch.float64}, {"dtype": torch.float16}, {"dtype": torch.bfloat16}, {"device": "meta"}],
    ids=["double", "half", "bfloat16", "device"],
)
@pytest.mark.parametrize("dataset", ["tiny", "frey"])
def test_torchs_defaults_change_no_bit_of_a_run(run, setting, dataset):
    run = dataclasses.replace(run, dataset=dataset, warm_up=3)  # so that parameters move
    plain = Trainer(run, 0.05)
    plain.advance(20 * run.batch_size)
    with default(**setting):
        other = Trainer(run, 0.05)
        other.advance(20 * run.batch_size)
        if run.measure == "bound":
            other.add_point()
        resumed = Trainer(run, 0.05)
        resumed.restore(other.state())
        assert_identical(resumed, other)
    if run.measure == "bound":
        plain.add_point()
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
    trainer.images = dataclasses.replace(tiny, dataset=dataclasses.replace(tiny.dataset, scale=1.0))
    with pytest.raises(ValueError, match=r"^data from 0\.0 to 2\d\d\.0, but the Bernoulli"):
        trainer.step()


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
        rounding = 4 * torch.finfo(torch.float32).eps * (old.abs().max().item() / 0.05 + 1)  # of new - old
        # an entry is a sum over datapoints, of terms as large as the largest
        torch.testing.assert_close(effective, g, rtol=rounding, atol=rounding * g.abs().max().item())


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
    step, given = trainer.optimizer.step, {}

    def keep(gradients, step_size):
        given.update(
            (name, gradient.clone()) for name, gradient in zip(trainer.optimizer.names, gradients, strict=True)
        )
        step(gradients, step_size)

    trainer.optimizer.step = keep
    trainer.step()
    share = RUN.batch_size / len(trainer.train_pixels)
    names = [name for name, _ in trainer.model.named_parameters()]
    for name, by_autograd, total, old, new in zip(names, g, totals, start, parameters(trainer), strict=True):
        gradient = given[name] + (share * old if name.endswith("weight") else 0)
        torch.testing.assert_close(gradient, by_autograd, rtol=1e-5, atol=1e-6 * by_autograd.abs().max().item())
        expected = old - 0.05 * gradient / ((total + gradient**2).sqrt() + 1e-8)
        torch.testing.assert_close(new, expected, rtol=0, atol=1e-5 * 0.05)  # no update is longer than the step size
        assert not torch.equal(new, old)


# minibatches


def test_only_the_first_training_points_are_used(tiny):
    trainer = Trainer(dataclasses.replace(RUN, n_train=10), 0.05)
    assert torch.equal(trainer.train_pixels, tiny.train[:10])
    with pytest.raises(ValueError, match="n_train=65, but tiny has 64 training points"):
        Trainer(dataclasses.replace(RUN, n_train=65), 0.05)


def test_minibatches_are_drawn_with_replacement_from_all_of_the_training_points(tiny):
    """100 batches of 50 from 64 points miss one with probability 64 (63/64)^5000 < 1e-30."""
    trainer, rows = Trainer(RUN, 0.05), []
    objective = trainer.updates.objective
    trainer.updates.objective = lambda model, x, generator: (
        rows.append(x.clone()) or objective(model, x, generator=generator)
    )
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
        estimates = torch.stack([64 / 10 * trainer.gradients().bound.sum().double() for _ in range(2000)])
    assert_unbiased(estimates, exact, precision=5e-3 * exact.abs())


# points


def test_a_point_has_the_average_since_the_last_one_and_the_test_bound_now(tiny):
    trainer, seen = Trainer(RUN, 0.05), []
    objective = trainer.updates.objective
    trainer.updates.objective = lambda *args, **kwargs: seen.append(objective(*args, **kwargs)) or seen[-1]
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
    trainer.images = dataclasses.replace(tiny, test=tiny.train[:32])
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


# interruptions


@each_algorithm
@pytest.mark.parametrize("steps", [0, 7])  # before the first, and between two updates of one minibatch of MCEM's
def test_a_state_is_taken_up_bit_for_bit(run, steps):
    """By a new trainer, and by one that has gone elsewhere, of which nothing may be left."""
    run = dataclasses.replace(run, warm_up=3)  # so that parameters move
    stopped, fresh, elsewhere = (Trainer(run, 0.1) for _ in range(3))
    stopped.advance(steps * run.batch_size)
    elsewhere.advance(11 * run.batch_size)
    state = copy.deepcopy(stopped.state())
    for trainer in (fresh, elsewhere):
        trainer.restore(copy.deepcopy(state))
        assert_identical(trainer, stopped)
    start = parameters(stopped)
    for trainer in (stopped, fresh, elsewhere):
        trainer.advance((steps + 6) * run.batch_size)
    for trainer in (fresh, elsewhere):
        assert_identical(trainer, stopped)
    assert not any(torch.equal(old, new) for old, new in zip(start, parameters(stopped), strict=True))


# its model


def test_the_decoder_is_the_likelihoods(tiny, generator):
    for likelihood, unit_mean in ((GAUSSIAN, True), (BERNOULLI, None)):
        dataset = dataclasses.replace(tiny.dataset, likelihood=likelihood)
        model = build_model(RUN, dataset, 64, generator=generator)
        assert getattr(model.decoder, "unit_mean", None) is unit_mean
        assert (model.latent_dim, model.decoder(torch.zeros(1, 2))[0].shape[-1]) == (2, 20)
