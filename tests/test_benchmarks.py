"""The computations of the benchmarks. `make bench` times them; Pyro is not tested, for it is not installed here."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aevb import objectives
from aevb.datasets import DATASETS, Images
from aevb.model import bernoulli_vae
from aevb.run import Run
from aevb.trainer import Trainer, build_model
from benchmarks import by_hand, peers, timing, variants
from benchmarks import training as benchmark

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
    monkeypatch.setattr(Images, "unit", lambda self, pixels: pixels.double() / self.dataset.scale)


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


# the step by hand


def test_the_gradient_by_hand_is_the_objectives(double):
    """At parameters that have left their start."""
    hand = by_hand.HandWritten(RUN, 0.05)
    with torch.no_grad():
        for parameter in hand.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=hand.generator)
    x = torch.rand(RUN.batch_size, 784, generator=hand.generator, dtype=torch.float64)
    state = hand.generator.get_state()
    bound = hand.differentiate(x, torch.randn(RUN.batch_size, 4, generator=hand.generator, dtype=torch.float64))
    update = objectives.aevb(hand.model, x, generator=hand.generator.set_state(state))
    assert bound.item() == pytest.approx(-update.loss.item(), rel=1e-12)
    decoder, encoder = hand.model.decoder, hand.model.encoder
    layers = (decoder.hidden, decoder.logit, encoder.hidden, encoder.mu, encoder.log_var)
    wanted = [layer.weight for layer in layers] + [layer.bias for layer in layers]
    ours = [*hand.weight_gradients, *hand.bias_gradients]
    for gradient, true in zip(ours, torch.autograd.grad(update.loss, wanted), strict=True):
        torch.testing.assert_close(gradient, true, rtol=1e-10, atol=1e-12 * true.abs().max().item())


def test_steps_by_hand_are_the_trainers(double):
    """Through the warm-up, in which nothing moves, and beyond it: the same draws, update and weight decay."""
    hand = by_hand.HandWritten(RUN, 0.05)
    start = parameters(hand)
    for _ in range(WARM_UP):
        hand.step()
    assert torch.equal(parameters(hand), start)
    assert_same_run(by_hand.HandWritten(RUN, 0.05), Trainer(RUN, 0.05))


# the floor


@pytest.mark.parametrize(("hidden", "latent_dim", "batch_size"), [(30, 4, 50), (7, 3, 11)])
def test_the_floor_has_the_products_of_a_step(generator, hidden, latent_dim, batch_size):
    model = bernoulli_vae(784, hidden, latent_dim, generator=generator)
    with FlopCounterMode(display=False) as counter:
        objectives.aevb(model, torch.rand(batch_size, 784), generator=generator).loss.backward()
    products = by_hand.products(model, batch_size)
    assert by_hand.flops(products) == counter.get_total_flops()
    by_hand.multiply(products)
    for left, right, out in products:
        torch.testing.assert_close(out, left @ right)


def test_the_benchmark_counts_the_products_of_any_step():
    trainer = Trainer(RUN, 0.05)
    assert benchmark.flops_a_step(trainer) == by_hand.flops(by_hand.products(trainer.model, RUN.batch_size))


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
