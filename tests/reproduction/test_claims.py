import itertools
import re

import pandas as pd
import pytest

from aevb.reproduction import claims, leads, results, verdicts
from aevb.reproduction.curves import Curves, concat
from aevb.reproduction.rules import Evidence
from tests.curves import both, changed, likelihoods

(
    FASTER,
    BETTER,
    OVERFITTING,
    SUPERFLUOUS,
    VARIANCE,
    COST,
    WIDTHS,
    ONE_SAMPLE,
    B_BELOW_A,
    NAIVE,
    NOT_ONLINE,
    LIKELIHOOD,
    RELIABLE,
    SAME_COST,
    MANIFOLD,
    ANALYTIC,
    FULL_VB,
) = claims.CLAIMS
PUBLISHED = results.published("figure2")
LIKELIHOODS = results.published("figure3")
SWAPPED = Curves(PUBLISHED.table.replace({"algorithm": {"aevb": "wake-sleep", "wake-sleep": "aevb"}}), PUBLISHED.kind)


FULL_VB_MINUS_MAP = [f"full-vb-minus-map-{what}" for what in ("1000", "50000", "counts-from")]
B_OVER_A = [f"variance-ratio-b-a{what}" for what in ("-early", "", "-gradient-early", "-gradient")]


def judged(curves=PUBLISHED, cost=(), measured=(), likelihoods=LIKELIHOODS):
    """The table of claims, with the published curves in the place of ours where none are given."""
    return claims.table(Evidence((curves, PUBLISHED), (likelihoods, LIKELIHOODS), dict(cost), dict(measured)))


def judge(claim, curves=PUBLISHED, cost=(), measured=(), likelihoods=LIKELIHOODS):
    """One claim, from the same evidence."""
    return claim.rule(Evidence((curves, PUBLISHED), (likelihoods, LIKELIHOODS), dict(cost), dict(measured)))


def row(table, claim):
    (found,) = table[table["number"] == claim.number].itertuples()
    return found


# the table


def test_the_verdicts_are_not_a_matter_of_taste():
    """With the labels of the algorithms swapped, and with a swap in some panels only."""
    assert judge(FASTER, SWAPPED).verdict == judge(BETTER, SWAPPED).verdict == "does not hold"
    assert "0 of 9 panels" in judge(FASTER, SWAPPED).ours
    assert "9 of 9 panels" in judge(FASTER, SWAPPED).published
    mixed = concat([PUBLISHED.select(dataset="frey"), SWAPPED.select(dataset="mnist")])
    assert judge(FASTER, mixed).verdict == judge(BETTER, mixed).verdict == "holds in part"


def test_short_runs_do_not_judge_overfitting():
    short = PUBLISHED.select(9e6)
    found = judge(OVERFITTING, short)
    assert (found.ours, found.verdict) == ("-", "not measured")
    assert "Frey Face" in found.published
    assert judge(SUPERFLUOUS, short).verdict == "not measured"


def test_one_dataset_is_enough():
    for claim in (FASTER, BETTER, OVERFITTING, SUPERFLUOUS):
        found = judge(claim, PUBLISHED.select(dataset="mnist"))
        assert found.verdict == "holds"
        assert "Frey Face" not in found.ours


def test_one_short_curve_of_a_dataset_leaves_overfitting_undecided():
    """Gaps at different numbers of samples are not to be compared."""
    long = [PUBLISHED.select(dataset="mnist"), PUBLISHED.select(dataset="frey", latent_dim=[2, 5, 10])]
    table = concat([*long, PUBLISHED.select(9e6, dataset="frey", latent_dim=20)])
    for claim in (OVERFITTING, SUPERFLUOUS):
        found = judge(claim, table)
        assert "MNIST" in found.ours
        assert "Frey Face" not in found.ours


def test_a_third_algorithm_changes_no_verdict():
    table = PUBLISHED.select(algorithm="aevb").table
    third = Curves(table.assign(algorithm="score-function", bound=table["bound"] + 1e4), PUBLISHED.kind)
    pd.testing.assert_frame_equal(judged(concat([PUBLISHED, third])), judged())


@pytest.mark.parametrize("latent_dim", [1, 500])  # fewer than AEVB has, and more
def test_nor_does_a_third_algorithm_where_aevb_has_no_curve(latent_dim):
    table = PUBLISHED.select(algorithm="aevb", latent_dim=20).table
    third = table.assign(algorithm="score-function", latent_dim=latent_dim)
    pd.testing.assert_frame_equal(judged(concat([PUBLISHED, Curves(third, PUBLISHED.kind)])), judged())


def test_panels_with_one_algorithm_are_left_out():
    lone = concat([PUBLISHED.select(latent_dim=[2, 3, 5, 10, 200]), PUBLISHED.select(latent_dim=20, algorithm="aevb")])
    assert "7 of 7 panels" in judge(FASTER, lone).ours


@pytest.mark.parametrize(
    ("claim", "name", "value", "verdict"),
    [
        (VARIANCE, "estimator-variance", 0.99, "holds"),
        (VARIANCE, "estimator-variance", 1.01, "does not hold"),
        (NAIVE, "variance-ratio-score-pathwise", 11.0, "holds"),
        (NAIVE, "variance-ratio-score-pathwise", 9.0, "does not hold"),
    ],
)
def test_single_measurements_are_judged(claim, name, value, verdict):
    found = judge(claim, measured={name: value})
    assert (float(found.ours), found.verdict) == (pytest.approx(value, rel=0.05), verdict)


@pytest.mark.parametrize(
    ("aevb", "wake_sleep", "minutes", "complexity"),
    [(0.0006, 0.0006, "10.0", "holds"), (0.0018, 0.0035, "30.0", "holds"), (0.0030, 0.0063, "50.0", "does not hold")],
)
def test_costs_are_judged_where_they_can_be(aevb, wake_sleep, minutes, complexity):
    """Minutes on another machine than the paper's decide nothing; a ratio on one machine does."""
    time, ratio = (judge(claim, cost={"aevb": aevb, "wake-sleep": wake_sleep}) for claim in (COST, SAME_COST))
    assert (time.ours, time.verdict) == (minutes, "not testable")
    assert ratio.verdict == complexity
    assert float(ratio.ours) == pytest.approx(wake_sleep / aevb, abs=0.005)


def test_what_is_missing_is_said():
    """All seventeen claims are there, with what the paper's curves give."""
    curves, figure3 = results.live("figure2", "no such profile")[0], results.live("figure3", "no such profile")[0]
    table = judged(curves, likelihoods=figure3)
    assert list(table["number"]) == list(range(1, 18))
    assert set(table["verdict"]) == {"not measured"}
    assert set(table["ours"]) == set(table["seeds"]) == {"-"}
    assert list(table["published"]) == list(judged()["published"])
    assert (table["published"].str.len() > 1).all()
    assert judge(SAME_COST, curves, {"aevb": 1.0}).verdict == "not measured"


ALGORITHMS = ("aevb", "wake-sleep", "mcem")


@pytest.mark.parametrize("missing", ALGORITHMS)
def test_a_figure_3_without_one_algorithm_says_so(missing):
    curves = LIKELIHOODS.select(algorithm=[name for name in ALGORITHMS if name != missing])
    assert judge(LIKELIHOOD, likelihoods=curves).verdict == "not measured"
    measured = missing == "wake-sleep"
    assert judge(NOT_ONLINE, likelihoods=curves).verdict == ("holds" if measured else "not measured")


@pytest.mark.parametrize(
    ("mcem_small", "mcem_large", "likelihood", "not_online"),
    [(-150.0, -150.0, "holds", "holds"), (-130.0, -150.0, "holds in part", "holds"),
     (-130.0, -130.0, "holds in part", "does not hold")],
)  # fmt: skip
def test_likelihoods_are_judged(mcem_small, mcem_large, likelihood, not_online):
    rest = {"aevb_1000": -140.0, "wake_sleep_1000": -145.0, "aevb_50000": -140.0, "wake_sleep_50000": -145.0}
    curves = likelihoods(mcem_1000=mcem_small, mcem_50000=mcem_large, **rest)
    assert judge(LIKELIHOOD, likelihoods=curves).verdict == likelihood
    assert judge(NOT_ONLINE, likelihoods=curves).verdict == not_online


@pytest.mark.parametrize(
    ("below", "above", "verdict"),
    [
        (0.2, 1.5, "holds"),
        (0.2, 0.3, "holds in part"),
        (1.0, 0.9, "does not hold"),
    ],
)
def test_the_reliability_of_appendix_d_is_judged(below, above, verdict):
    measured = {"appendix-d-rmse-below-5": below, "appendix-d-rmse-above-5": above}
    found = judge(RELIABLE, measured=measured)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("claim", "names", "values", "verdict"),
    [
        (WIDTHS, ("lead-by-width-smallest", "lead-by-width-largest"), (5.0, 9.0), "holds"),
        (WIDTHS, ("lead-by-width-smallest", "lead-by-width-largest"), (5.0, 11.0), "holds in part"),
        (WIDTHS, ("lead-by-width-smallest", "lead-by-width-largest"), (-0.1, 9.0), "does not hold"),
        (ONE_SAMPLE, ("gain-of-ten-samples", "gain-at-equal-passes"), (0.9, 5.0), "holds"),
        (ONE_SAMPLE, ("gain-of-ten-samples", "gain-at-equal-passes"), (1.1, -5.0), "holds in part"),
        (ONE_SAMPLE, ("gain-of-ten-samples", "gain-at-equal-passes"), (1.1, 5.0), "does not hold"),
        (B_BELOW_A, B_OVER_A, (0.3, 0.5, 0.1, 0.9), "holds"),
        (B_BELOW_A, B_OVER_A, (0.3, 1.5, 0.1, 1.0), "holds in part"),
        (B_BELOW_A, B_OVER_A, (1.1, 1.5, 1.2, 1.0), "does not hold"),
        (MANIFOLD, ("manifold-step-ratio",), (0.9,), "holds"),
        (MANIFOLD, ("manifold-step-ratio",), (1.1,), "does not hold"),
        (ANALYTIC, ("variance-ratio-24-22-start", "variance-ratio-24-22-later"), (0.1, 0.9), "holds"),
        (ANALYTIC, ("variance-ratio-24-22-start", "variance-ratio-24-22-later"), (0.1, 0.98), "holds in part"),
        (FULL_VB, FULL_VB_MINUS_MAP, (5.1, 6.0, 5.0), "holds"),
        (FULL_VB, FULL_VB_MINUS_MAP, (5.1, -0.2, 5.0), "holds in part"),
        (FULL_VB, FULL_VB_MINUS_MAP, (-6.0, 0.2, 5.0), "undecided"),
        (FULL_VB, FULL_VB_MINUS_MAP, (-6.0, -5.1, 5.0), "does not hold"),
    ],
)
def test_what_chapters_measured_is_judged(claim, names, values, verdict):
    measured = dict(zip(names, values, strict=True))
    found = judge(claim, measured=measured)
    assert (found.verdict, found.seeds) == (verdict, "one seed")
    assert [float(word) for word in re.split("[,;] ", found.ours)] == pytest.approx(values, abs=0.05)
    for name in names:
        assert judge(claim, measured=measured | {name: None}).verdict == "not measured"


# the seeds


def test_intervals_over_seeds_are_shown_as_far_as_a_seed_has_every_curve():
    panels = [(1.0, 0), (3.0, 1), (2.0, 2)]
    table = concat([both({1e7: -100 + lead}, {1e7: -100}, seed=seed) for lead, seed in panels])
    found = judge(BETTER, table)
    assert found.seeds == "3 seeds, to 10 million samples: MNIST, 3 latents, -0.5 to 4.5"
    assert found.ours == "MNIST +2.0 to +2.0"
    more = concat([table, both({1e7: -105}, {1e7: -100}, seed=0, dataset="frey")])
    assert judge(BETTER, more).seeds == "one seed"
    assert judge(FASTER, more).seeds == "one seed"
    for claim in (FASTER, LIKELIHOOD):
        assert judge(claim, table.select(seed=1)).seeds == "one seed"


def test_of_several_panels_the_interval_that_begins_lowest_is_shown():
    leads = {3: (5.0, 6.0), 20: (2.0, 2.5), 200: (4.0, 1.5)}
    table = [
        both({1e6: -100 + lead}, {1e6: -100}, latent_dim=latent_dim, seed=seed)
        for latent_dim, by_seed in leads.items()
        for seed, lead in enumerate(by_seed)
    ]
    found = judge(BETTER, concat(table)).seeds
    assert found.startswith("2 seeds, to 1 million samples: MNIST, 200 latents, -")


@pytest.mark.parametrize(
    ("leads", "verdict"),
    [
        ((2.0, 2.5, 2.2), "holds"),
        ((0.2, 2.5, 9.0), "undecided"),
        ((-2.0, -2.5, -2.2), "does not hold"),
        ((-0.2, -2.5, -9.0), "undecided"),
    ],
)
def test_a_claim_is_decided_where_the_interval_over_seeds_excludes_the_contrary(leads, verdict):
    table = concat([both({1e6: -110.0 + lead}, {1e6: -110.0}, seed=seed) for seed, lead in enumerate(leads)])
    assert judge(BETTER, table).verdict == verdict
    sure = [both({1e6: -90.0 + lead / 100}, {1e6: -110.0}, seed=s, latent_dim=5) for s, lead in enumerate(leads)]
    assert judge(BETTER, concat([table, *sure])).verdict == ("holds" if verdict == "holds" else "holds in part")


def test_the_longest_seed_decides_too():
    short = [both({1e6: -110.0 + lead}, {1e6: -110.0}, seed=seed) for lead, seed in ((4.0, 1), (5.0, 2))]
    for bound, verdict in ((-99.5, "holds"), (-100.5, "undecided")):
        longest = both({1e6: -106.0, 1e7: bound}, {1e6: -110.0, 1e7: -100.0}, seed=0)
        found = judge(BETTER, concat([longest, *short]))
        assert found.ours == f"MNIST {bound + 100:+.1f} to {bound + 100:+.1f}"
        assert found.seeds == "3 seeds, to 1 million samples: MNIST, 3 latents, 2.9 to 5.8"
        assert found.verdict == verdict


def test_a_seed_that_goes_further_in_one_panel_shortens_no_other():
    short = [both({1e6: -110.0 + lead}, {1e6: -110.0}, seed=seed, latent_dim=3) for seed, lead in enumerate((4, 5, 4))]
    ahead = {1e6: -120.0, 1e7: -100.0}  # what the longer curves have at 1e6 must not count
    long = [both(ahead, {1e6: -110.0, 1e7: -105.0 + s / 10}, seed=s, latent_dim=5) for s in range(3)]
    found = judge(BETTER, concat([*short, *long]))
    assert found.verdict == "holds"
    assert found.seeds == "3 seeds, to 1 million samples or further: MNIST, 3 latents, 2.9 to 5.8"
    uneven = [concat([part.select(seed=0), part.select(1e6, seed=[1, 2])]) for part in long]
    found = judge(BETTER, concat([*short, *uneven]))
    assert found.seeds.startswith("3 seeds, to 1 million samples: MNIST, 5 latents, -10.0 to -10.0")


def test_the_intervals_of_likelihoods_name_each_lead():
    ends = {"aevb_50000": -140.0, "wake_sleep_1000": -145.0, "wake_sleep_50000": -145.0}
    ends |= {"mcem_1000": -150.0, "mcem_50000": -150.0}
    seeds = [changed(likelihoods(aevb_1000=-140.0 - seed / 10, **ends), seed=seed) for seed in (0, 1)]
    found = judge(LIKELIHOOD, likelihoods=concat(seeds))
    assert found.seeds.startswith(
        "2 seeds, to 10 million samples: wake-sleep, 1,000 4.3 to 5.6; MCEM, 1,000 9.3 to 10.6;"
    )
    assert found.ours.startswith("wake-sleep, 1,000 +4.9; ")


# the whole


def test_the_headline_counts_every_claim_once():
    table = judged(measured={"estimator-variance": 2.0})
    counts = dict(re.findall(r"(\D+) (\d+)(?:, |$)", claims.headline(table).removeprefix("17 claims: ")))
    assert sum(map(int, counts.values())) == 17
    assert list(counts) == [verdict for verdict in verdicts.VERDICTS if verdict in set(table["verdict"])]
    for verdict, count in counts.items():
        assert (table["verdict"] == verdict).sum() == int(count)


def test_every_claim_has_its_own_number_and_words_and_a_row():
    made = claims.CLAIMS
    for field in ("number", "quote"):
        assert len({getattr(claim, field) for claim in made}) == len(made)
    table = judged()
    assert sorted(claim.number for claim in made) == list(table["number"]) == list(range(1, 18))
    assert set(table["claim"]) == {f'"{claim.quote}"' for claim in made}


def test_claims_of_later_papers_are_a_group_of_their_own():
    assert [claim.number for claim in claims.AFTER] == [f"V{k + 1}" for k in range(len(claims.AFTER))]
    evidence = Evidence(
        (PUBLISHED, PUBLISHED), (LIKELIHOODS, LIKELIHOODS), {}, {"signal-naive": 0.3, "signal-theta": 4}
    )
    table = claims.table(evidence, claims.AFTER).set_index("number")
    assert table.loc["V4", "verdict"] == verdicts.HOLDS
    assert set(table["verdict"].drop("V4")) == {verdicts.NOT_MEASURED}  # no record
    assert table["claim"].str.startswith('"').tolist() == [claim.quoted for claim in claims.AFTER]
    assert "17 claims" in claims.headline(judged())


def test_of_record_and_of_profile_take_everything_from_their_own_folder(tmp_path, monkeypatch):
    root = tmp_path / "results"
    (root / "published").mkdir(parents=True)
    PUBLISHED.table.to_csv(root / "published" / "figure2.csv", index=False)
    LIKELIHOODS.table.to_csv(root / "published" / "figure3.csv", index=False)
    monkeypatch.setattr(results, "ROOT", root)
    tables = {"recorded": PUBLISHED, "live": SWAPPED}
    for (where, table), speed in zip(tables.items(), (1000, 100), strict=True):
        config = {"dataset": "mnist", "algorithm": "aevb"}
        entries = {"a": {"config": config, "samples_per_second": speed, "samples": 1}}
        curves = changed(table, run="a", seed=0)
        if where == "live":
            results.write_live("figure2", "smoke", curves, entries)
            results.save_measurement("smoke", "estimator-variance", 2.0)
        else:
            results.save_measurement("quick", "estimator-variance", 0.5)
            results.write_record("figure2", curves, entries)
            of_step = "time a step", leads.PAPER_SIZE, 100.0, 99.0, 101.0, "us"
            steps = [(what, *of_step) for what in ("AEVB", "wake-sleep")]
            results.write_table("speed", pd.DataFrame(steps, columns=results.TABLES["speed"]), {})
            results.record_measurements("quick")
    expected = {FASTER: ("holds", "does not hold")}
    expected[VARIANCE] = ("holds", "does not hold")
    for (claim, both_verdicts), (place, table) in itertools.product(
        expected.items(), enumerate((claims.of_record(), claims.of_profile("smoke")))
    ):
        assert row(table, claim).verdict == both_verdicts[place]
        assert row(table, COST).ours == ("16.7", "166.7")[place]


def test_on_the_papers_own_curves_two_claims_fail():
    found = claims.of_published().set_index("number")
    tested = found[found["verdict"] != verdicts.NOT_MEASURED]
    assert set(tested.index) == {1, 2, 3, 4, 11, 12}  # the others need more than curves
    assert set(tested.index[tested["verdict"] != verdicts.HOLDS]) == {3, 12}
    assert (tested["ours"] == tested["published"]).all()


def test_what_a_failed_chapter_would_have_measured_is_told_from_the_rest(tmp_path, monkeypatch):
    """Its measurements from before the failure are used. The times at a profile are those of figure 2's runs."""
    monkeypatch.setattr(results, "live_folder", lambda: tmp_path)
    results.save_measurement("smoke", "estimator-variance", 0.5)
    table = claims.of_profile("smoke", ["05_sgvb_estimators", "14_figure_2", "20_appendix_d_estimator"])
    found = table.set_index("number")["verdict"]
    assert found[VARIANCE.number] == verdicts.HOLDS
    failed = {1, 2, 3, 4, COST.number, SAME_COST.number, RELIABLE.number}
    assert set(found.index[found == verdicts.CHAPTER_FAILED]) == failed
    assert set(found) == {verdicts.HOLDS, verdicts.CHAPTER_FAILED, verdicts.NOT_MEASURED}
    assert claims.headline(table).endswith(f"{verdicts.CHAPTER_FAILED} {len(failed)}")
