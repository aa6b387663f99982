"""The experiments as values: their members, seeds and horizons, refusals, and measurements at an end."""

import dataclasses

import pytest
import torch

from aevb.datasets import load
from aevb.fit import fit
from aevb.measures import mean_bound
from aevb.reproduction import experiments, settings
from aevb.reproduction.experiments import BOTH_DATASETS
from aevb.reproduction.readings import BY_LATENTS, OVERFITTING, PLATEAU, READINGS
from tests.runs import ON_DIGITS, SAMPLES, member

# members


def test_a_profile_changes_only_how_far_it_goes_and_how_often():
    smallest, largest = (set(experiments.runs("figure2", profile)) for profile in ("smoke", "paper"))
    assert smallest < largest
    assert experiments.PROFILES == {"smoke": 1, "quick": 1, "standard": 1, "paper": 3}
    for figure, end in (("figure2", 10**8), ("figure3", 6 * 10**7), ("figure4", 10**7), ("figure5", 10**7)):
        reach = [experiments.horizon(figure, profile) for profile in experiments.PROFILES]
        assert reach == sorted(reach)
        assert reach[-1] >= end


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_an_experiment_goes_by_its_name_and_its_members_by_their_keys(name):
    experiment = experiments.get(name)
    assert experiment.name == name
    for profile in experiments.PROFILES:
        members = experiment.members(profile)
        assert len({one.key for one in members}) == len(members) > 0
        assert [one.run for one in members] == experiments.runs(name, profile)
        assert {one.run.dataset for one in members} == set(experiment.datasets)
        assert experiment.horizon(profile) == experiments.horizon(name, profile) >= 20_000
        for one in members:
            assert one.change or (one.key, one.question, one.answer) == (one.run.key, "", "")


@pytest.mark.parametrize("profile", experiments.PROFILES)
def test_an_experiment_has_the_runs_of_its_settings_with_the_profiles_seeds(profile):
    n_seeds = experiments.n_seeds(profile)
    assert experiments.runs("figure2", profile) == settings.figure2(n_seeds, BOTH_DATASETS)
    assert experiments.runs("figure2-digits", profile) == settings.figure2(n_seeds, ("mnist",))
    assert experiments.runs("figure2-minibatches", profile) == settings.figure2_minibatches(n_seeds, ("frey",))
    assert experiments.runs("full-vb", profile) == settings.full_vb(n_seeds, ("mnist",))
    for dataset in BOTH_DATASETS:
        alone = experiments.runs("figure2", profile, (dataset,))
        assert alone == [run for run in experiments.runs("figure2", profile) if run.dataset == dataset]


def test_seeds_are_counted_from_where_it_is_asked():
    runs = experiments.runs("figure2", "paper", seed=7)
    assert {run.seed for run in runs} == {7, 8, 9}
    assert [dataclasses.replace(run, seed=run.seed - 7) for run in runs] == experiments.runs("figure2", "paper")


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("readings", READINGS),
        ("readings-by-latents", BY_LATENTS),
        ("readings-plateau", PLATEAU),
        ("readings-overfitting", OVERFITTING),
    ],
)
def test_readings_are_members_as_they_are_whatever_the_profile_and_the_seed(name, readings):
    experiment = experiments.get(name)
    for profile in experiments.PROFILES:
        assert experiment.members(profile, seed=7) == [member(reading) for reading in readings]
    for dataset in experiment.datasets:
        expected = [member(reading) for reading in readings if reading.run.dataset == dataset]
        assert experiment.members("standard", (dataset,)) == expected
    assert {"question", "answer"} < set(experiment.kind.names)


# horizons


def test_what_judges_a_live_run_goes_as_far():
    for profile in experiments.PROFILES:
        for figure in ("figure2", "figure3"):
            assert experiments.horizon(f"{figure}-seeds", profile) >= experiments.horizon(figure, "quick")


def test_where_an_experiment_does_not_say_how_far_it_goes_to_a_million_samples():
    assert experiments.horizon("figure3-step-sizes", "quick") == experiments.OTHERWISE_SAMPLES == 10**6
    assert experiments.horizon("figure2-alike", "standard") == 10**6
    assert experiments.horizon("figure2-alike", "paper") == 10**7


# refusals


@pytest.mark.parametrize("name", ["figure2", "figure4", "full-vb", "readings"])
def test_unknown_profiles_are_refused_with_the_choices(name):
    for ask in (experiments.runs, experiments.horizon, lambda _, profile: experiments.n_seeds(profile)):
        with pytest.raises(ValueError, match=r"^unknown profile 'fast': choose one of smoke, quick, standard, paper$"):
            ask(name, "fast")


def test_unknown_experiments_are_refused_with_the_choices():
    for ask in (experiments.get, lambda name: experiments.runs(name, "quick"), lambda n: experiments.horizon(n, "x")):
        with pytest.raises(ValueError, match=r"^unknown experiment 'figure9': choose one of figure2, .*plateau$"):
            ask("figure9")


def test_datasets_that_an_experiment_is_not_about_are_refused_with_the_choices():
    for name, dataset, choice in (
        ("figure3", "frey", "mnist"), ("figure5", "frey", "mnist"), ("figure2-digits", "frey", "mnist"),
        ("full-vb", "frey", "mnist"), ("figure2-minibatches", "mnist", "frey"), ("readings-plateau", "mnist", "frey"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"^{name} has nothing of {dataset}: choose {choice}$"):
            experiments.runs(name, "quick", (dataset,))
        assert {run.dataset for run in experiments.runs(name, "quick", BOTH_DATASETS)} == {choice}
    for datasets in (("cifar",), ("mnist", "cifar")):
        with pytest.raises(ValueError, match=r"^unknown dataset 'cifar': choose among mnist, frey$"):
            experiments.runs("figure4", "quick", datasets)


# measurements at the end of a run


def test_a_run_is_measured_on_each_ten_thousand_digits_where_it_ends():
    end, digits = fit(ON_DIGITS, SAMPLES), load("mnist")
    rows = experiments.on_each_ten_thousand(end)
    for row in rows:
        about = (row["run"], row["dataset"], row["latent_dim"], row["algorithm"], row["seed"], row["samples"])
        assert about == (ON_DIGITS.key, "mnist", 2, "aevb", 0, SAMPLES)
    found = {row["split"]: row["bound"] for row in rows}
    assert list(found) == [*(f"training {k}" for k in range(1, 6)), "validation", "test"]
    assert found["test"] == end.curve[-1].test
    for split, pixels in (("training 5", digits.train[40_000:]), ("validation", digits.valid)):
        noise = torch.Generator().manual_seed(ON_DIGITS.seed)
        assert found[split] == mean_bound(end.model, digits, pixels, generator=noise)
