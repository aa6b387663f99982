"""Other readings of what the paper leaves open: each changes one thing and nothing else."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from aevb.objectives import wake_sleep
from aevb.reproduction import readings, settings
from aevb.reproduction.experiments import BOTH_DATASETS
from aevb.reproduction.readings import READINGS
from aevb.trainer import Trainer
from tests.runs import ON_DIGITS

DREAMING = dataclasses.replace(ON_DIGITS, algorithm="wake-sleep")


def trainer(change, run=ON_DIGITS):
    made = Trainer(run, 0.02)
    change(made)
    return made


def decayed(made):
    """The parameters that move where the gradient of the bound is zero: those under the prior."""
    before = [parameter.clone() for parameter in made.optimizer.parameters]
    made.optimizer.step([torch.zeros_like(parameter) for parameter in before], 0.02)
    pairs = zip(made.optimizer.names, before, made.optimizer.parameters, strict=True)
    return {name for name, old, new in pairs if not torch.equal(old, new)}


# the readings


WITH_A_THIRD = """
import dataclasses
from aevb.algorithms import ALGORITHMS

ALGORITHMS["score-function"] = dataclasses.replace(ALGORITHMS["score-function"], compared=True)
from aevb.reproduction import readings, settings

assert len(settings.figure2(1, ("mnist",))) == 15
for part in (readings.READINGS, readings.BY_LATENTS, readings.PLATEAU, readings.OVERFITTING):
    print(sorted(reading.key for reading in part))
"""


def test_a_third_algorithm_in_figure_2_leaves_the_readings_as_they_are():
    printed = subprocess.run([sys.executable, "-c", WITH_A_THIRD], capture_output=True, text=True, check=True).stdout
    ours = (READINGS, readings.BY_LATENTS, readings.PLATEAU, readings.OVERFITTING)
    assert printed.splitlines() == [str(sorted(reading.key for reading in part)) for part in ours]


# the fields of a run that the answers to a question may change, beside the change of its trainer
OF_A_RUN = {
    readings.BASELINE: {"seed"},
    "warm-up": {"warm_up"},
    "step size": {"step_sizes"},
    "weight prior": {"prior_on_encoder"},
    "hidden units": {"hidden", "step_sizes"},
    "samples and minibatch": {"batch_size", "step_sizes"},
}


def test_a_reading_changes_what_its_question_is_about():
    for reading in READINGS:
        ours = readings.BASELINES[reading.run.dataset, reading.run.algorithm]
        changed = {field for field, value in vars(reading.run).items() if value != getattr(ours, field)}
        assert changed <= OF_A_RUN.get(reading.question, set())
    assert set(readings.BASELINES.values()) < set(settings.baseline(1, BOTH_DATASETS))


def test_no_two_readings_are_one():
    for chosen in (READINGS, readings.BY_LATENTS, readings.PLATEAU, readings.OVERFITTING):
        assert len({reading.key for reading in chosen}) == len(chosen)
        assert len({(reading.run, reading.change) for reading in chosen}) == len(chosen)


def test_readings_by_latents_are_the_baseline_with_one_thing_changed_and_no_run_of_figure_2():
    for reading in readings.BY_LATENTS:
        warm_up = settings.FIGURE2[reading.run.dataset].warm_up
        plain = dataclasses.replace(reading.run, warm_up=warm_up, slow_log_var=False)
        assert plain in settings.baseline(1, BOTH_DATASETS)
        assert (reading.run == plain) == (reading.change is not readings.unchanged)
        assert reading.run not in settings.figure2(1, BOTH_DATASETS)  # else the record would be figure 2's


def test_readings_of_the_plateau_are_of_faces_at_settings_of_digits():
    for reading in readings.PLATEAU:
        of_faces = {"batch_size": 100, "warm_up": settings.FIGURE2["frey"].warm_up, "prior_on_encoder": True, "seed": 0}
        assert dataclasses.replace(reading.run, **of_faces) in settings.baseline(1, ("frey",))


def test_readings_of_overfitting_change_the_prior_in_a_run_of_figure_2():
    assert {reading.run for reading in readings.OVERFITTING} < set(settings.figure2(1, ("mnist",)))
    assert {reading.question for reading in readings.OVERFITTING} == {"weight prior"}


# the changes


def test_pixels_become_zeros_and_ones():
    grey = Trainer(ON_DIGITS, 0.02).images
    for change in (readings.thresholded, readings.sampled_once):
        made = trainer(change)
        for split in ("train", "test"):
            x = made.images.unit(getattr(made.images, split))
            assert ((x == 0) | (x == 1)).all() and 0 < x.mean() < 1
        assert torch.equal(made.train_pixels, made.images.train)
    at_half = trainer(readings.thresholded).images
    assert torch.equal(at_half.unit(at_half.test) == 1, grey.unit(grey.test) > 0.5)
    drawn = made.images
    share, grey_level = (dataset.unit(dataset.train).double().mean().item() for dataset in (drawn, grey))
    assert share == pytest.approx(grey_level, abs=4 * 0.5 / drawn.train.numel() ** 0.5)
    sure = (grey.train == 0) | (grey.train == 255)
    assert torch.equal(drawn.train[sure], grey.train[sure])
    assert torch.equal(trainer(readings.sampled_once).images.train, drawn.train)  # once for all


def test_wide_weights_are_ten_times_the_others():
    wide, narrow = trainer(readings.wide), trainer(readings.unchanged)
    for mine, theirs in zip(wide.model.parameters(), narrow.model.parameters(), strict=True):
        torch.testing.assert_close(mine, 10 * theirs)
    assert wide.model.encoder.hidden.weight.std().item() == pytest.approx(0.1, rel=0.05)


def test_log_variances_may_start_at_zero_alone():
    made, plain = trainer(readings.log_var_from_zero, DREAMING), Trainer(DREAMING, 0.02)
    for name, parameter in plain.model.named_parameters():
        expected = torch.zeros_like(parameter) if name.startswith("encoder.log_var") else parameter
        assert torch.equal(made.model.get_parameter(name), expected), name


def test_what_the_prior_covers():
    names = [name for name, _ in trainer(readings.unchanged).model.named_parameters()]
    matrices = {name for name in names if name.endswith("weight")}
    assert decayed(trainer(readings.unchanged)) == matrices
    assert decayed(trainer(readings.prior_on_biases_too)) == set(names)
    on_theta = trainer(readings.unchanged, dataclasses.replace(ON_DIGITS, prior_on_encoder=False))
    assert decayed(on_theta) == {name for name in matrices if name.startswith("decoder")}
    assert decayed(trainer(readings.no_prior)) == set()
    assert decayed(trainer(readings.whole_prior)) == matrices


def test_the_whole_prior_is_n_over_m_times_its_share():
    shared, whole = trainer(readings.unchanged), trainer(readings.whole_prior)
    assert whole.optimizer.prior_weight == shared.optimizer.prior_weight * 500 / 100


def test_without_replacement_every_datapoint_comes_once_a_pass():
    made = trainer(readings.without_replacement)
    passes = [torch.cat([made.draw_rows() for _ in range(5)]) for _ in range(2)]
    for order in passes:
        assert sorted(order.tolist()) == list(range(500))
    assert not torch.equal(*passes)
    assert made.draw_rows().shape == (100,)


def test_all_digits_are_trained_on():
    made = trainer(readings.all_digits, dataclasses.replace(ON_DIGITS, n_train=None))
    assert made.train_pixels.shape == (60_000, 784)
    assert made.optimizer.prior_weight == 100 / 60_000
    made.step()


def test_the_brightest_grey_level_is_one():
    made = trainer(readings.divided_by_255)
    assert made.images.unit(torch.tensor([255], dtype=torch.uint8)).item() == 1.0


def test_dreams_of_means_change_the_sleep_phase_alone():
    plain, made = trainer(readings.unchanged, DREAMING), trainer(readings.dreams_of_means, DREAMING)
    x = plain.images.unit(plain.train_pixels[:100])
    model, noise = plain.model, [torch.Generator().manual_seed(3) for _ in range(2)]
    theirs = wake_sleep(model, x, generator=noise[0])
    ours = made.updates.objective(model, x, generator=noise[1])
    torch.testing.assert_close(ours.bound, theirs.bound)
    for part, same in ((model.decoder, True), (model.encoder, False)):
        pairs = [torch.autograd.grad(u.loss, list(part.parameters()), retain_graph=True) for u in (ours, theirs)]
        assert all(torch.allclose(a, b) for a, b in zip(*pairs, strict=True)) == same
    again = torch.Generator().manual_seed(3)
    model.sample_posterior(x, 1, generator=again)
    z = torch.randn(100, 2, generator=again)
    sleep = model.log_posterior(z, model.decoder.mean(z).detach()).sum()
    by_hand = torch.autograd.grad(-sleep, list(model.encoder.parameters()))
    torch.testing.assert_close(torch.autograd.grad(ours.loss, list(model.encoder.parameters())), by_hand)


def test_ten_samples_are_ten():
    """The variance of the bound's estimate is a tenth of that with one."""
    made, plain = trainer(readings.ten_samples), trainer(readings.unchanged)
    x = made.images.unit(made.train_pixels[:100])
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        plain.model.decoder.logit.weight *= 100  # so that z matters
        variances = [
            torch.stack([objective(plain.model, x, generator=noise).bound for _ in range(200)]).var(0).mean()
            for objective in (made.updates.objective, plain.updates.objective)
        ]
    # the mean of 100 sample variances of 200 draws each has a relative error of about 1 %
    assert (variances[1] / variances[0]).item() == pytest.approx(10, rel=0.1)
