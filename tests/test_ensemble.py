"""Runs trained together are the runs trained alone."""

import dataclasses

import pytest
import torch

from aevb.algorithms import ALGORITHMS
from aevb.ensemble import Ensemble
from aevb.fit import fit, fit_ensemble, load_checkpoint, save_checkpoint, together
from aevb.model import bernoulli_vae, stack
from aevb.run import PADDED
from aevb.trainer import Trainer
from tests.runs import FULL_VB, MCEM, RUN, seeds

pytestmark = pytest.mark.usefixtures("tiny")

STACKED = [name for name, algorithm in ALGORITHMS.items() if algorithm.stacks]


def assert_close(ours, other):
    """Up to rounding: Adagrad's first steps are of one size whatever the gradient's, so rounding is not amplified."""
    assert (ours.steps, ours.step_size, ours.average_from) == (other.steps, other.step_size, other.average_from)
    torch.testing.assert_close(ours.model.state_dict(), other.model.state_dict(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.optimizer.sum_squares, other.optimizer.sum_squares, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours.bound_sum, other.bound_sum, rtol=1e-5, atol=0)
    assert torch.equal(ours.generator.get_state(), other.generator.get_state())  # the very same noise


@pytest.mark.parametrize("dataset", ["tiny", "frey"])
@pytest.mark.parametrize("algorithm", STACKED)
def test_an_ensemble_is_its_single_runs(algorithm, dataset):
    run = dataclasses.replace(RUN, algorithm=algorithm, dataset=dataset, warm_up=20)
    candidates = [(one, step_size) for one in seeds(run) for step_size in (0.01, 0.05)]
    alone, together = ([Trainer(*candidate) for candidate in candidates] for _ in range(2))
    Ensemble(together).advance(5000)
    for single, member in zip(alone, together, strict=True):
        single.advance(5000)
        assert_close(member, single)


@pytest.mark.parametrize("dataset", ["tiny", "frey"])
@pytest.mark.parametrize("algorithm", STACKED)
def test_a_step_does_not_look_at_its_data(algorithm, dataset, monkeypatch):
    """As a captured step must not: a look waits for the device."""
    together = [Trainer(run, 0.05) for run in seeds(dataclasses.replace(RUN, algorithm=algorithm, dataset=dataset))]
    monkeypatch.setattr(torch, "aminmax", lambda *_: pytest.fail("the data were looked at"))
    Ensemble(together).advance(1000)


def test_an_ensemble_of_none_is_refused():
    with pytest.raises(ValueError, match=r"^trainers must be 1 or more, not 0$"):
        Ensemble([])


@pytest.mark.parametrize("reading", [{"slow_log_var": True}, {"prior_on_encoder": False}])
def test_an_ensemble_in_another_reading_is_its_single_runs(reading):
    runs = seeds(dataclasses.replace(RUN, algorithm="wake-sleep", warm_up=20, **reading))
    alone, together = ([Trainer(run, 0.05) for run in runs] for _ in range(2))
    Ensemble(together).advance(5000)
    for single, member in zip(alone, together, strict=True):
        single.advance(5000)
        assert_close(member, single)


MIXED = {  # whatever the gradient by hand depends on
    "plain": {},
    "slow log-variance": {"slow_log_var": True},
    "prior on theta": {"prior_on_encoder": False},
}


@pytest.mark.parametrize("reading", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("dataset", ["tiny", "frey"])
@pytest.mark.parametrize("algorithm", [name for name in STACKED if ALGORITHMS[name].pads])
def test_runs_of_other_latent_dimensions_train_as_one_batch(algorithm, dataset, reading, tmp_path):
    """Each is its single run, to rounding, across a checkpoint and in other company after it."""
    run = dataclasses.replace(RUN, algorithm=algorithm, dataset=dataset, warm_up=20, **reading)
    runs = [dataclasses.replace(run, latent_dim=dim, seed=seed) for seed, dim in enumerate((2, 5, 1))]
    alone, members = ([Trainer(one, 0.05) for one in runs] for _ in range(2))
    Ensemble(members).advance(3000)
    for member in members:
        save_checkpoint(member, tmp_path / f"{member.run.seed}.pt")
    taken_up = [load_checkpoint(one, tmp_path / f"{one.seed}.pt") for one in runs]
    Ensemble(taken_up[1:]).advance(5000)
    taken_up[0].advance(5000)
    for single, member in zip(alone, taken_up, strict=True):
        single.advance(5000)
        assert_close(member, single)


def test_members_differ_where_their_seeds_do():
    """A check of the check: the wrong member would be noticed."""
    members = [Trainer(run, 0.05) for run in seeds(RUN, 2)]
    Ensemble(members).advance(15_000)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(members[0].model.state_dict(), members[1].model.state_dict(), rtol=1e-4, atol=1e-5)


def test_a_member_may_go_on_alone_and_in_other_company():
    members, alone = ([Trainer(run, 0.05) for run in seeds(RUN)] for _ in range(2))
    Ensemble(members).advance(6000)
    members[0].advance(7500)
    for member in members[1:]:
        Ensemble([member]).advance(7500)
    Ensemble(members[::-1]).advance(9000)
    for single, member in zip(alone, members, strict=True):
        single.advance(9000)
        assert_close(member, single)


def test_what_was_learnt_before_an_interruption_is_handed_back():
    """So that the trainers can go on, alone or together, as if they had stopped there."""
    members, alone = ([Trainer(run, 0.05) for run in seeds(RUN)] for _ in range(2))
    ensemble = Ensemble(members)
    stretch, left = ensemble.stretch, iter(range(7))
    ensemble.stretch = lambda steps: stretch(steps) if next(left, None) is not None else pytest.fail("interrupted")
    with pytest.raises(pytest.fail.Exception):
        ensemble.advance(6000)
    members[0].step()
    ensemble.stretch = stretch
    Ensemble(members[1:]).advance(8 * RUN.batch_size)
    for single, member in zip(alone, members, strict=True):
        single.advance(8 * RUN.batch_size)
        assert_close(member, single)


def test_fit_ensemble_gives_the_curves_of_fit(tmp_path):
    """Also where one of the runs was further already, and with checkpoints that `fit` takes up."""
    runs = seeds(dataclasses.replace(RUN, step_sizes=(0.02, 0.05)))
    files = [tmp_path / f"{run.seed}.pt" for run in runs]
    fit(runs[1], 12_600, files[1])
    seen = []
    together = fit_ensemble(runs, 16_000, files, report=seen.append)
    for run, trainer, file in zip(runs, together, files, strict=True):
        single = fit(run, 16_000)
        assert [point.samples for point in trainer.curve] == [point.samples for point in single.curve]
        for ours, theirs in zip(trainer.curve, single.curve, strict=True):
            assert dataclasses.astuple(ours) == pytest.approx(dataclasses.astuple(theirs), abs=2e-3)
        assert fit(run, 16_000, file).curve == trainer.curve  # nothing left to do
        assert file.stat().st_size < 50_000  # its own parameters, not all members'
    assert seen == sorted(seen) and seen[-1] == 3 * single.samples


@pytest.mark.parametrize("run", [MCEM, FULL_VB], ids=lambda run: run.algorithm)
def test_mcem_and_full_vb_are_fitted_one_by_one(run):
    assert run.algorithm not in STACKED
    trainers, refusal = [Trainer(one, 0.05) for one in seeds(run)], f"^{run.algorithm} cannot be trained as an ensemble"
    with pytest.raises(ValueError, match=f"{refusal}: train its runs one by one"):
        Ensemble(trainers)
    assert together(trainers) == trainers


def test_what_does_not_belong_together_is_refused():
    other = Trainer(dataclasses.replace(RUN, hidden=7), 0.05)
    ahead = Trainer(RUN, 0.05)
    ahead.step()
    for stranger in (other, ahead):
        with pytest.raises(ValueError, match="seed, step size and a few latents alone"):
            Ensemble([Trainer(RUN, 0.05), stranger])
    with pytest.raises(ValueError, match="one shape"):
        stack([Trainer(RUN, 0.05).model, other.model])
    with pytest.raises(ValueError, match="models must be 1 or more"):
        stack([])


def test_runs_of_a_few_latents_belong_together_where_a_padded_gradient_is_known():
    def of(latent_dim, algorithm):
        return dataclasses.replace(RUN, algorithm=algorithm, latent_dim=latent_dim).configuration

    for name, algorithm in ALGORITHMS.items():
        if algorithm.stacks:
            assert (of(2, name) == of(PADDED, name)) == algorithm.pads
            assert of(PADDED, name) != of(PADDED + 1, name) != of(PADDED + 2, name)


def test_what_does_not_stack_does_not_pad():
    assert not [name for name, algorithm in ALGORITHMS.items() if algorithm.pads and not algorithm.stacks]


def test_a_stacked_model_is_its_members():
    """Densities, dreams and log-likelihoods of an ensemble are those of the members, from the same noise."""
    models = [bernoulli_vae(12, 5, 2, generator=torch.Generator().manual_seed(seed)).double() for seed in range(3)]
    x = torch.rand(3, 7, 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in range(3)]

    drawn = [m.sample_posterior(v, 4, generator=g) for m, v, g in zip(models, x, generators(), strict=True)]
    z, log_q = zip(*drawn, strict=True)
    dreams = [m.sample_joint(5, generator=g) for m, g in zip(models, generators(), strict=True)]
    joint = [m.log_joint(v, u) for m, v, u in zip(models, x, z, strict=True)]
    ensemble = stack(models)
    all_z, all_log_q = ensemble.sample_posterior(x, 4, generator=generators())
    torch.testing.assert_close(all_z, torch.stack(z, 1))  # (L, E, M, J)
    torch.testing.assert_close(all_log_q, torch.stack(log_q, 1))
    torch.testing.assert_close(ensemble.log_joint(x, all_z), torch.stack(joint, 1))
    for ours, theirs in zip(ensemble.sample_joint(5, generator=generators()), zip(*dreams, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(theirs))


def test_a_stacked_model_is_a_copy():
    models = [bernoulli_vae(12, 5, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    ensemble = stack(models)
    with torch.no_grad():
        ensemble.decoder.hidden.weight[1].fill_(3.0)
    assert not (models[1].decoder.hidden.weight == 3.0).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_a_gpu_follows_the_cpu_from_the_same_noise(algorithm):
    run = dataclasses.replace(RUN, algorithm=algorithm, warm_up=0)
    here, there = Trainer(run, 0.05), Trainer(run, 0.05, "cuda")
    there.generator = torch.Generator().manual_seed(0)
    there.generator.set_state(here.generator.get_state())
    for _ in range(50):
        here.step()
        there.step()
    assert there.bound_sum.item() == pytest.approx(here.bound_sum.item(), rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_a_captured_stretch_is_its_steps(algorithm):
    """The graphs, which begin after the warm-up, against the same updates made one kernel at a time."""
    runs = [dataclasses.replace(one, algorithm=algorithm, warm_up=10, latent_dim=1 + one.seed) for one in seeds(RUN)]
    eager, captured = ([Trainer(one, 0.05, "cuda") for one in runs] for _ in range(2))
    Ensemble(captured).advance(55 * RUN.batch_size)
    by_kernels = Ensemble(eager)
    by_kernels.replay = by_kernels.stretch
    by_kernels.advance(55 * RUN.batch_size)
    for single, member in zip(eager, captured, strict=True):
        assert_close(member, single)
