"""The computations of the benchmarks. `make bench` times them; Pyro is not tested, for it is not installed here."""

import dataclasses
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aevb import backward
from aevb.datasets import DATASETS, Images
from aevb.model import bernoulli_vae, gaussian_vae
from aevb.objectives import aevb, wake_sleep
from aevb.run import Run
from aevb.trainer import Trainer, build_model
from benchmarks import denormals, floor, peers, timing, training, variants

WARM_UP, STEPS = 3, 8
RUN = Run("mnist", "aevb", 4, 30, batch_size=50, warm_up=WARM_UP, step_sizes=(0.05,))


@pytest.fixture(autouse=True)
def digits(monkeypatch) -> Images:
    """Random pixels in place of MNIST, a third of them black as in digits, and few enough for the prior to count."""
    pixels = torch.randint(0, 256, (300, 784), generator=torch.Generator().manual_seed(0))
    pixels = pixels * (torch.rand(300, 784, generator=torch.Generator().manual_seed(1)) > 1 / 3)
    images = Images(DATASETS["mnist"], *[pixels.to(torch.uint8)] * 3, {})
    monkeypatch.setattr("aevb.trainer.load", lambda name: images)
    return images


@pytest.fixture
def double(monkeypatch) -> None:
    """Double precision throughout, so that equal means equal: Adagrad amplifies the rounding of single precision."""
    monkeypatch.setattr("aevb.trainer.build_model", lambda *args, **kwargs: build_model(*args, **kwargs).double())
    monkeypatch.setattr(
        Images, "unit_of", lambda self, rows, pixels, out=None: pixels[rows].double() / self.dataset.scale
    )


def parameters(owner) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in owner.model.parameters()])


def assert_same_run(one, other) -> None:
    """The same draws, bounds and parameters over some steps."""
    assert torch.equal(parameters(one), parameters(other))
    start = parameters(one)
    for _ in range(STEPS):
        one.step()
        other.step()
    assert (parameters(one) - start).abs().median() > 1e-3
    torch.testing.assert_close(parameters(one), parameters(other), rtol=1e-6, atol=1e-9)
    assert one.bound_sum.item() == pytest.approx(other.bound_sum.item(), rel=1e-9)
    assert torch.equal(one.generator.get_state(), other.generator.get_state())


# the floor


@pytest.mark.parametrize(("hidden", "latent_dim", "batch_size"), [(30, 4, 50), (7, 3, 11)])
@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
@pytest.mark.parametrize(("algorithm", "objective"), [("aevb", aevb), ("wake-sleep", wake_sleep)])
def test_the_floor_has_the_products_of_a_step(generator, algorithm, objective, build, hidden, latent_dim, batch_size):
    model = build(784, hidden, latent_dim, generator=generator)
    by_hand = backward.by_hand(objective, model, batch_size)
    noise = by_hand.draw([generator])
    with FlopCounterMode(display=False) as counter:
        by_hand(torch.rand(batch_size, 784), noise, list(model.parameters()))
    products = floor.products(algorithm, model, batch_size)
    assert floor.flops(products) == counter.get_total_flops()
    floor.multiply(products)
    for left, right, out in products:
        torch.testing.assert_close(out, left @ right)


def test_the_floor_multiplies_no_weights_of_the_model(generator):
    """They may be denormal numbers, which are slow."""
    model = bernoulli_vae(784, 30, 4, generator=generator)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert not any(factor.data_ptr() in own for product in floor.products("aevb", model, 50) for factor in product)


# the same step by autograd


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_the_step_by_autograd_is_the_trainers(algorithm, double):
    run = dataclasses.replace(RUN, algorithm=algorithm)
    ours, other = Trainer(run, 0.05), training.by_autograd(run)
    by_hand = [backward.by_hand(trainer.updates.objective, trainer.model, run.batch_size) for trainer in (ours, other)]
    assert by_hand[0] and not by_hand[1]
    assert_same_run(other, ours)


# denormal numbers


def test_a_step_without_flushing_keeps_the_numbers_that_the_library_flushes():
    """A pixel that is always dark: only the prior moves its weights."""
    usual, other = Trainer(RUN, 0.05), Trainer(RUN, 0.05)
    for trainer in (usual, other):
        trainer.steps = WARM_UP
        trainer.train_pixels[:, 0] = 0
        torch._foreach_add_(trainer.optimizer.sum_squares, 1.0)  # so that a small gradient is a small step
        with torch.no_grad():
            trainer.model.encoder.hidden.weight[:, 0] = 1e-39
    usual.step()
    denormals.step_without_flushing(other)
    assert denormals.denormal(other.model.encoder.hidden.weight)[:, 0].all()
    assert (usual.model.encoder.hidden.weight[:, 0] == 0).all()


# what was tried, and the peer written here


@pytest.mark.parametrize("name", sorted(variants.TRIED))
def test_whatever_was_tried_computes_the_same(name, double):
    """As `Trainer` without warm-up."""
    pieces = variants.TRIED[name]
    run = Run("mnist", "aevb", 4, 30, batch_size=50, warm_up=0, step_sizes=(0.05,))
    assert_same_run(variants.Variant(run, 0.05, **pieces), Trainer(run, 0.05))


def test_the_tutorial_loop_learns():
    """It starts at guessing one half for every pixel, log 2 nats each, and leaves that behind."""
    torch.manual_seed(0)
    step = peers.tutorial(RUN)
    losses = [step() for _ in range(60)]
    assert losses[0] > 0.99 * RUN.batch_size * 784 * math.log(2) > max(losses[-10:])


# the table


def test_ratios_are_taken_within_a_round_and_summarised_by_the_median():
    assert timing.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == [2.0, 3.0, 1.0]
    line = timing.row("a step", "time", "here", [2.0, 3.0, 1.0, 9.0, 2.5], "ms")
    assert line == {
        "what": "a step", "quantity": "time", "setting": "here", "median": 2.5, "low": 1.0, "high": 9.0, "unit": "ms",
    }  # fmt: skip
