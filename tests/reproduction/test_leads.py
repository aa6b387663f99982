"""The measurements behind the claims, on curves whose answer can be read off."""

import pandas as pd
import pytest

from aevb.reproduction import leads
from aevb.reproduction.curves import FIGURE_3, Curves, concat
from tests.curves import both, changed, curve, likelihoods


def test_speed_up_counts_the_samples_to_wake_sleeps_last_bound():
    slow = {1e4: -200.0, 1e5: -150.0, 1e6: -140.0}
    assert leads.speed_up(both({1e4: -190, 1e5: -140, 1e6: -100}, slow), "mnist", 3) == 10
    assert leads.speed_up(both({1e4: -190, 1e5: -140.1, 1e6: -139}, slow), "mnist", 3) == 1
    assert leads.speed_up(both({1e4: -139}, slow), "mnist", 3) == 100


def test_speed_up_is_nothing_where_the_bound_is_never_reached():
    assert leads.speed_up(both({1e4: -200, 1e6: -141}, {1e4: -200, 1e6: -140}), "mnist", 3) == 0


def test_speed_up_looks_at_test_curves_of_its_panel_within_the_papers_axes():
    table = concat(
        [
            both({1e6: -150, 1e7: -140, 1e8: -130}, {1e6: -160, 1e8: -140, 2e8: -129}),
            both({1e4: 0.0}, {1e8: 0.0}, split="train"),
            both({1e4: 0.0}, {1e8: 0.0}, latent_dim=5),
            both({1e4: 0.0}, {1e8: 0.0}, dataset="frey"),
        ]
    )
    assert leads.speed_up(table, "mnist", 3) == 10


def test_seeds_are_averaged_before_curves_are_compared():
    table = concat([both({1e5: -10, 1e6: -2}, {1e6: -4}, seed=0), both({1e5: -4, 1e6: -1}, {1e6: -6}, seed=1)])
    assert leads.speed_up(table, "mnist", 3) == 1  # seed 1 alone would get there at 1e5
    assert leads.advantage(table, "mnist", 3) == 3.5


def test_seeds_that_stop_early_leave_no_step_in_a_curve():
    table = concat([both({1e5: -10, 1e6: -8}, {1e5: -9}, seed=0), both({1e5: -2}, {1e5: -9}, seed=1)])
    assert leads.advantage(table, "mnist", 3) == -1.0
    assert leads.speed_up(table, "mnist", 3) == 0.1


def test_advantage_is_taken_where_the_shorter_curve_ends():
    long, short = {1e4: -200, 1e6: -100, 1e8: -80}, {1e4: -220, 1e5: -160}
    assert leads.advantage(both(long, short), "mnist", 3) == pytest.approx(-150 + 160)  # interpolated in log samples
    assert leads.advantage(both(short, long), "mnist", 3) == pytest.approx(-160 + 150)


def test_advantage_can_be_taken_earlier():
    here, there = {1e4: -200.0, 1e6: -100.0}, {1e4: -210.0, 1e6: -104.0}
    assert leads.advantage(both(here, there), "mnist", 3, until=1e4) == pytest.approx(10)


def test_gap_growth_is_the_last_gap_at_most_latents_minus_that_at_fewest():
    gaps = {2: 5.0, 10: 100.0, 20: 30.0}
    panels = [
        concat(
            [
                curve("aevb", {1e4: 0, 1e7: 50.0}, "train", dim),
                curve("aevb", {1e4: 0, 1e7: 50.0 - gap, 2e8: 1e6}, "test", dim),
                curve("wake-sleep", {1e7: 1e9}, "train", dim),
                curve("wake-sleep", {1e7: 0.0}, "test", dim),
            ]
        )
        for dim, gap in gaps.items()
    ]
    assert leads.gap_growth(concat(panels), "mnist") == pytest.approx(25)
    assert leads.gap_growth(concat(panels[::-1]), "mnist") == pytest.approx(25)


def test_gap_growth_compares_the_gaps_at_the_same_number_of_samples():
    """Every panel has the same gap at the same time; one of them is followed for longer."""
    panels = [
        curve("aevb", {s: bound for s, bound in points.items() if s <= end}, split, latent_dim)
        for latent_dim, end in ((3, 1e8), (20, 1e6))
        for split, points in (("train", {1e4: 0.0, 1e6: 10.0, 1e8: 30.0}), ("test", {1e4: 0.0, 1e6: 8.0, 1e8: 9.0}))
    ]
    assert leads.gap_growth(concat(panels), "mnist") == pytest.approx(0)


def test_the_gain_of_superfluous_latents_is_taken_where_the_paper_ends():
    panels = [
        curve("aevb", {1e4: 0.0, 1e8: bound, 1e10: 1e6 * latent_dim}, "test", latent_dim)
        for latent_dim, bound in ((3, 40.0), (20, 70.0), (200, 65.0))
    ]
    for table in (concat(panels), concat(panels[::-1])):
        assert leads.superfluous_gain(table, "mnist") == pytest.approx(-5)
    short = [curve("aevb", {1e4: 0.0, 1e6: 20.0}, "test", 20), panels[2]]
    assert leads.superfluous_gain(concat(short), "mnist") == pytest.approx(65 / 2 - 20)  # halfway in log samples


def test_cost_is_the_median_of_seconds_a_sample_over_mnist_runs():
    speeds = [("mnist", "aevb", 1000), ("mnist", "aevb", 250), ("mnist", "aevb", 400), ("mnist", "wake-sleep", 500)]
    speeds += [("frey", "aevb", 1)]
    entries = {
        str(number): {"config": {"dataset": dataset, "algorithm": algorithm}, "samples_per_second": speed}
        for number, (dataset, algorithm, speed) in enumerate(speeds)
    }
    assert leads.cost_per_sample(entries, "mnist") == pytest.approx({"aevb": 0.0025, "wake-sleep": 0.002})
    assert leads.cost_per_sample({}, "mnist") == {}


def test_lead_is_taken_where_the_shorter_curve_ends():
    curves = likelihoods(aevb_1000=-140.0, mcem_1000=-143.0)
    assert leads.lead(curves, 1000, "aevb", "mcem") == pytest.approx(3)
    end = Curves(pd.DataFrame([(1000, "aevb", "test", 1e8, 0.0)], columns=curves.table.columns), FIGURE_3)
    longer = concat([curves, end])
    assert leads.lead(longer, 1000, "aevb", "mcem") == pytest.approx(3)
    assert pd.isna(leads.lead(curves, 50_000, "aevb", "mcem"))
    train = changed(likelihoods(aevb_1000=-110.0, mcem_1000=-109.0), split="train")
    assert leads.lead(concat([curves, train]), 1000, "aevb", "mcem", "train") == pytest.approx(-1)
    assert leads.lead(concat([curves, train]), 1000, "aevb", "mcem") == pytest.approx(3)
