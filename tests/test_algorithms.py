"""The special parts of each algorithm, and all that a new one needs."""

import copy
import dataclasses
import importlib
import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from aevb import full_vb, mcem, weighted_kl
from aevb.algorithms import ALGORITHMS, Algorithm, Annealed, OfMinibatches
from aevb.bounds import estimator_b, kl_to_prior
from aevb.colours import BLUE, ORANGE, YELLOW
from aevb.ensemble import Ensemble
from aevb.fit import fit, fit_ensemble, follow, together
from aevb.objectives import Update
from aevb.reproduction import claims, figures, results, verdicts
from aevb.reproduction.claims import Evidence
from aevb.reproduction.curves import FIGURE_2, Curves
from aevb.reproduction.grid import run_grid
from aevb.trainer import DivergedError, Trainer
from tests.runs import FULL_VB, MCEM, RUN, assert_identical, parameters, seeds, squares

ANNEALED = dataclasses.replace(RUN, algorithm="annealed", warm_up=3)

pytestmark = pytest.mark.usefixtures("tiny")

# the table of algorithms

FASTER, BETTER, *_ = claims.CLAIMS


@pytest.fixture
def added(monkeypatch) -> Iterator[Algorithm]:
    """An algorithm that the library has not: AEVB with two samples of z."""
    entry = dataclasses.replace(
        ALGORITHMS["aevb"],
        name="two-samples",
        title="two samples",
        colour=YELLOW,
        updates=lambda n, latent_dim, *, generator: OfMinibatches(two_samples),
    )
    with monkeypatch.context() as patch:
        patch.setitem(ALGORITHMS, entry.name, entry)
        importlib.reload(figures)  # it looks at them when it is imported
        yield entry
    importlib.reload(figures)


def two_samples(model, x, *, generator):
    bound = estimator_b(model, x, 2, generator=generator)
    return Update(-bound.sum(), bound.detach())


@pytest.fixture
def three(added, tmp_path, monkeypatch) -> Curves:
    """Curves of a panel of figure 2, with the algorithm that was added as the third."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    names = ("aevb", "wake-sleep", added.name)
    runs = [dataclasses.replace(RUN, dataset="mnist", latent_dim=3, algorithm=name) for name in names]
    table, _ = run_grid(runs, 20_000, jobs=1)
    return Curves(table, FIGURE_2)


def test_algorithms_are_told_apart_by_name_title_and_colour():
    assert all(algorithm.name == name for name, algorithm in ALGORITHMS.items())
    for values in zip(*((a.name, a.title, a.colour) for a in ALGORITHMS.values()), strict=True):
        assert len(set(values)) == len(ALGORITHMS) >= 5


def test_an_algorithm_that_is_added_trains_by_its_objective(added):
    run = dataclasses.replace(RUN, algorithm=added.name)
    trained, by_hand = fit(run, 16_000), Trainer(RUN, 0.05)
    by_hand.updates = OfMinibatches(two_samples)
    follow([by_hand], 16_000)
    assert_identical(trained, by_hand)
    assert trained.curve != fit(RUN, 16_000).curve


def test_runs_of_an_algorithm_that_is_added_train_together(added):
    runs = seeds(dataclasses.replace(RUN, algorithm=added.name))
    assert isinstance(*together([Trainer(run, 0.05) for run in runs]), Ensemble)
    for run, member in zip(runs, fit_ensemble(runs, 12_600), strict=True):
        single = fit(run, 12_600)
        for ours, theirs in zip(member.curve, single.curve, strict=True):
            assert dataclasses.astuple(ours) == pytest.approx(dataclasses.astuple(theirs), abs=2e-3)


def test_an_algorithm_that_is_added_is_drawn_beside_the_others(added, three):
    plt.switch_backend("agg")
    figure = figures.figure2({"recorded": three})
    (panel,) = [axis for axis in figure.axes if axis.get_title() == "MNIST, $N_z = 3$"]
    drawn = {(to_hex(line.get_color()).upper(), line.get_linestyle()): list(line.get_ydata()) for line in panel.lines}
    for name, colour in (("aevb", BLUE), ("wake-sleep", ORANGE), (added.name, YELLOW)):
        for split, dash in (("test", "-"), ("train", "--")):
            assert drawn.pop((colour, dash)) == list(three.select(algorithm=name, split=split).mean())
    assert not drawn
    (legend,) = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    assert [text.get_text() for text in legend.get_texts()][:3] == ["AEVB", "wake-sleep", "two samples"]
    plt.close(figure)


def test_an_algorithm_that_is_added_is_no_matter_to_the_claims_about_the_others(added, three):
    def judged(curves):
        likelihoods = results.live("figure3", "no such profile")[0]
        table = claims.table(Evidence((curves, curves), (likelihoods, likelihoods), {}, {}))
        return table[table["number"].isin([FASTER.number, BETTER.number])]

    both = judged(three.select(algorithm=["aevb", "wake-sleep"]))
    assert not both["verdict"].isin([verdicts.NOT_MEASURED]).any()
    pd.testing.assert_frame_equal(judged(three), both)


# Monte Carlo EM


def test_mcem_keeps_a_minibatch_for_five_updates_and_moves_its_chains_once(tiny, monkeypatch):
    moved, move = [], mcem.Chains.move
    monkeypatch.setattr(mcem.Chains, "move", lambda self, *args, **kw: moved.append(args[2]) or move(self, *args, **kw))
    trainer = Trainer(MCEM, 0.1)
    rows = []
    for _ in range(12):
        trainer.step()
        rows.append(trainer.updates.rows)
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
    run = dataclasses.replace(MCEM, warm_up=3)  # so that theta moves
    whole, part = Trainer(run, 0.1), Trainer(run, 0.1)
    for _ in range(13):
        whole.step()
    for _ in range(7):
        part.step()
    rest = Trainer(run, 0.1)
    rest.restore(copy.deepcopy(part.state()))
    assert rest.updates.left == 3
    for _ in range(6):
        rest.step()
    assert_identical(rest, whole)
    assert torch.equal(whole.updates.chains.z, rest.updates.chains.z)
    assert whole.updates.chains.step_size == rest.updates.chains.step_size


def test_mcem_that_diverges_says_so(tiny):
    trainer = Trainer(MCEM, 1e38)
    for _ in range(MCEM.warm_up + 10):
        trainer.step()
    with pytest.raises(DivergedError, match="diverged at step size"):
        trainer.add_point()


# full variational Bayes


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
        trainer.images.unit(trainer.train_pixels[rows]),
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


def test_two_trainers_restored_from_one_state_have_chains_of_their_own(tiny):
    first, second, third = (Trainer(MCEM, 0.1) for _ in range(3))
    first.step()
    state = first.state()
    for other in (second, third):
        other.restore(state)
    second.advance(20 * MCEM.batch_size)
    assert torch.equal(third.updates.chains.z, first.updates.chains.z)
    assert not torch.equal(second.updates.chains.z, first.updates.chains.z)


# annealing


def test_the_weight_rises_in_a_straight_line_and_stays():
    updates = Annealed(4)
    weights = []
    for updates.made in range(7):
        weights.append(updates.weight)
    assert weights == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="over must be 1 or more"):
        Annealed(0)


def test_each_update_is_beta_at_its_weight(linear_gaussian, x):
    updates, of_model = Annealed(2), list(linear_gaussian.parameters())
    generator, again = (torch.Generator().manual_seed(3) for _ in range(2))
    for weight in (0.0, 0.5, 1.0, 1.0):
        found = updates.next(linear_gaussian, of_model, lambda: (None, x), generators=[generator])
        expected = weighted_kl.beta(weight)(linear_gaussian, x, generator=again)
        for ours, theirs in zip(found.gradients, torch.autograd.grad(expected.loss, of_model), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(found.bound, expected.bound)


def test_annealing_goes_on_where_it_stopped_bit_for_bit():
    whole, part, rest = (Trainer(ANNEALED, 0.05) for _ in range(3))
    for trainer in (whole, part, rest):
        trainer.updates.over = 10
    for _ in range(13):
        whole.step()
    for _ in range(7):
        part.step()
    rest.restore(copy.deepcopy(part.state()))
    assert rest.updates.weight == 0.7
    for _ in range(6):
        rest.step()
    assert_identical(rest, whole)
