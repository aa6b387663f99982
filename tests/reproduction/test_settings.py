"""The runs of the figures at section 5's settings."""

import dataclasses

import pytest

from aevb.reproduction import results, settings
from aevb.reproduction.experiments import BOTH_DATASETS


def test_figure_2_is_eighteen_settings_for_each_seed():
    for n_seeds in (1, 3):
        runs = settings.figure2(n_seeds, BOTH_DATASETS)
        assert len({run.key for run in runs}) == len(runs) == 18 * n_seeds
        assert len({(run.dataset, run.latent_dim, run.algorithm) for run in runs}) == 18
        assert {run.seed for run in runs} == set(range(n_seeds))


def test_figure_2_has_the_papers_settings_but_for_the_minibatch_of_aevb_on_the_faces():
    published = results.published("figure2").table
    names = ["dataset", "latent_dim", "algorithm"]
    assert {(run.dataset, run.latent_dim, run.algorithm) for run in settings.figure2(1, BOTH_DATASETS)} == set(
        published[names].itertuples(index=False, name=None)
    )
    for run in settings.figure2(3, BOTH_DATASETS):
        assert run.hidden == {"mnist": 500, "frey": 200}[run.dataset]
        assert run.batch_size == (300 if (run.dataset, run.algorithm) == ("frey", "aevb") else 100)
        assert (run.step_sizes, run.n_train) == ((0.02,), None)


def test_each_algorithm_has_its_own_reading():
    """Runs that differ between the two lists are recorded under both readings."""
    ours, alike = settings.figure2(3, BOTH_DATASETS), settings.baseline(3, BOTH_DATASETS)
    read = {(r.dataset, r.algorithm, r.warm_up, r.slow_log_var, r.prior_on_encoder) for r in ours}
    assert read == {
        ("mnist", "aevb", 10, False, True), ("mnist", "wake-sleep", 100, True, True),
        ("frey", "aevb", 100, False, True), ("frey", "wake-sleep", 0, False, False),
    }  # fmt: skip
    for run, plain in zip(ours, alike, strict=True):
        warm_up = {"mnist": 100, "frey": 10}[run.dataset]
        changed = {"batch_size": 100, "warm_up": warm_up, "slow_log_var": False, "prior_on_encoder": True}
        assert dataclasses.replace(run, **changed) == plain
    assert not set(alike) & set(ours)  # so that the record of the baseline has all of it


@pytest.mark.parametrize("datasets", [("mnist",), ("frey",)])
def test_one_dataset_can_be_run_alone(datasets):
    assert settings.figure2(1, datasets) == [
        run for run in settings.figure2(1, BOTH_DATASETS) if run.dataset in datasets
    ]


def test_the_step_sizes_of_figure_2_are_the_two_smaller_ones():
    runs = settings.figure2_step_sizes(1, BOTH_DATASETS)
    assert len(set(runs)) == len(runs) == 2 * 18
    assert {run.step_sizes for run in runs} == {(0.01,), (0.02,)}
    assert {dataclasses.replace(run, step_sizes=(0.02,)) for run in runs} == set(settings.baseline(1, BOTH_DATASETS))


def test_figure_3_is_as_section_5_says():
    runs = settings.figure3(3, ("mnist",))
    assert len(runs) == len(set(runs)) == 3 * 2 * 3  # seeds, training sets, algorithms
    for run in runs:
        assert (run.dataset, run.hidden, run.latent_dim, run.batch_size) == ("mnist", 100, 3, 100)
        assert run.n_train in (1000, 50_000)
        assert run.measure == "marginal-likelihood"
        assert set(run.step_sizes) < {0.01, 0.02, 0.1}
    assert set(runs) <= set(settings.figure3_step_sizes(3, ("mnist",)))
    assert len(settings.figure3_step_sizes(1, ("mnist",))) == 3 * len(settings.figure3(1, ("mnist",)))


@pytest.mark.parametrize(
    ("figure", "more"), [(settings.figure2, settings.figure2_seeds), (settings.figure3, settings.figure3_seeds)]
)
def test_more_seeds_are_none_of_the_figures_own(figure, more):
    recorded, beside = set(figure(3, BOTH_DATASETS)), more(1, BOTH_DATASETS)
    assert len(beside) == len(set(beside)) == len(settings.MORE_SEEDS) * len(figure(1, BOTH_DATASETS))
    assert not recorded & set(beside)
    assert {dataclasses.replace(run, seed=0) for run in beside} == set(figure(1, BOTH_DATASETS))
    assert more(3, BOTH_DATASETS) == beside


def test_minibatches_are_varied_on_the_faces_with_the_warm_up_of_the_digits():
    runs = settings.figure2_minibatches(1, ("frey",))
    assert len(set(runs)) == len(runs) == 5 * 4 * 2  # sizes, numbers of latents, algorithms
    faces = set(settings.baseline(1, ("frey",)))
    assert {dataclasses.replace(run, warm_up=10, batch_size=100) for run in runs} == faces
    assert {run.warm_up for run in runs} == {100}


def test_figures_4_and_5_are_as_appendix_a_says_and_share_their_runs_with_figure_2():
    figure4, figure5 = settings.figure4(3, BOTH_DATASETS), settings.figure5(3, ("mnist",))
    assert [(run.dataset, run.latent_dim) for run in figure4] == [("mnist", 2), ("frey", 2)]
    assert [(run.dataset, run.latent_dim) for run in figure5] == [("mnist", dim) for dim in (2, 5, 10, 20)]
    assert (figure4, figure5) == (settings.figure4(1, BOTH_DATASETS), settings.figure5(1, ("mnist",)))
    there = {(run.dataset, run.algorithm, run.latent_dim): run.key for run in settings.figure2(1, BOTH_DATASETS)}
    mine = {(run.dataset, run.algorithm, run.latent_dim): run.key for run in figure4 + figure5}
    shared = {name: key for name, key in mine.items() if name in there}
    assert set(mine) - set(shared) == {("mnist", "aevb", 2)}  # which figure 2 leaves out
    assert shared.items() < there.items()
    assert settings.figure4(1, ("frey",)) == figure4[1:]


def test_full_vb_is_compared_with_map_at_the_size_of_figure_3():
    runs = settings.full_vb(1, ("mnist",))
    assert [(run.n_train, run.algorithm) for run in runs] == [
        (n, algorithm) for n in (1000, 50_000) for algorithm in ("aevb", "full-vb")
    ]
    assert {run.configuration for run in settings.figure3(1, ("mnist",))} >= {
        dataclasses.replace(run.configuration, measure="marginal-likelihood") for run in runs if run.algorithm == "aevb"
    }
    assert len({run.step_sizes for run in runs}) == 1
    assert {run for run in runs if run.algorithm == "full-vb"} < set(settings.full_vb_settings(1, ("mnist",)))
