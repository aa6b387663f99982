"""How far readings move the curves, and whether they bring them nearer to the published ones."""

import numpy as np
import pandas as pd
import pytest

from aevb.book import choices
from aevb.chapters import readings as chapter
from aevb.reproduction import effects, results
from aevb.reproduction.curves import FIGURE_2, Curves, concat
from aevb.reproduction.effects import MOMENTS
from aevb.reproduction.experiments import READING

EARLY, LATE = MOMENTS[:2]


def curve(bounds, answer="another", question="a question", seed=0, dataset="mnist", algorithm="aevb", split="test"):
    """`bounds` maps samples to the bound."""
    name = {"question": question, "answer": answer, "dataset": dataset, "latent_dim": 3, "algorithm": algorithm}
    rows = [
        {**name, "split": split, "seed": seed, "run": f"{answer}{seed}", "samples": samples, "bound": bound}
        for samples, bound in bounds.items()
    ]
    return Curves(pd.DataFrame(rows), READING)


def unchanged(*ends):
    """A run per seed, flat at the bounds given."""
    return concat([curve({1e5: end, 2e6: end}, "as it is", seed=seed) for seed, end in enumerate(ends)])


def published(bound, *places):
    table = curve(dict.fromkeys(places or (2e5, 5e5, 1e6), bound)).table
    return Curves(table.drop(columns=["question", "answer", "seed", "run"]), FIGURE_2)


def test_an_effect_is_the_mean_over_seeds_minus_that_of_the_unchanged():
    moved = concat([curve({1e5: -90.0, 2e6: -90.0}), curve({1e5: -94.0, 2e6: -94.0}, seed=1)])
    found = effects.effects(moved, unchanged(-100.0, -101.0, -102.0)).set_index("samples")
    assert list(found.index) == [EARLY, LATE]  # neither goes to the last moment
    assert found["change"].tolist() == pytest.approx([9.0, 9.0])
    assert found["times"].tolist() == pytest.approx([4.5, 4.5])  # a point on MNIST is met within two nats
    assert found["visible"].all()


@pytest.mark.parametrize(("change", "ends"), [(3.0, (-100.0, -102.0)), (1.5, (-100.0,))])
def test_an_effect_within_the_seeds_or_what_counts_as_met_is_not_visible(change, ends):
    moved = curve({1e5: np.mean(ends) + change, 2e6: np.mean(ends) + change})
    assert not effects.effects(moved, unchanged(*ends))["visible"].any()


def test_only_the_test_bound_counts():
    train = curve({1e5: -50.0, 2e6: -50.0}, split="train")
    both = concat([curve({1e5: -90.0, 2e6: -90.0}), train])
    base = concat([unchanged(-100.0), curve({1e5: -10.0, 2e6: -10.0}, "as it is", split="train")])
    assert effects.effects(both, base)["change"].tolist() == pytest.approx([10.0, 10.0])


def test_questions_are_ranked_by_their_last_moment():
    rows = [("a", EARLY, 9.0), ("a", LATE, 1.0), ("b", EARLY, 2.0), ("c", LATE, 5.0), ("c", LATE, 4.0)]
    ranked = effects.ranked(pd.DataFrame(rows, columns=["question", "samples", "times"]))
    assert ranked.to_numpy().tolist() == [["c", LATE, 5.0], ["b", EARLY, 2.0], ["a", EARLY, 9.0], ["a", LATE, 1.0]]


@pytest.mark.parametrize(
    ("bounds", "ends", "outcome"),
    [
        ((-100.5, -99.5), (-103.0, -104.0), "nearer"),  # all seeds of one on a side of all of the other
        ((-103.0, -104.0), (-100.5, -99.5), "farther"),
        ((-100.5, -103.5), (-103.0, -104.0), "open"),
        ((-100.0,), (-103.0, -104.0), "nearer"),  # a single seed: by more than twice the range of the others
        ((-101.0,), (-102.0, -103.5), "open"),
        ((-100.0,), (-101.9,), "open"),  # two single ones: by more than the two nats that are allowed
        ((-100.0,), (-102.1,), "nearer"),
    ],
)
def test_a_reading_is_nearer_by_more_than_seeds_decide(bounds, ends, outcome):
    moved = concat([curve({1e5: bound, 2e6: bound}, seed=seed) for seed, bound in enumerate(bounds)])
    found = effects.nearness(moved, unchanged(*ends), published(-100.0)).iloc[0]
    assert found["outcome"] == outcome
    assert found["distance"] == pytest.approx(np.mean([abs(bound + 100) for bound in bounds]))
    assert found["unchanged"] == pytest.approx(np.mean([abs(end + 100) for end in ends]))


def test_nearness_is_judged_where_all_seeds_go_and_not_before_the_first_published_point():
    short = curve({1e5: -100.0, 3e5: -100.0})
    longer = curve({1e5: -100.0, 3e5: -100.0, 2e6: 0.0}, seed=1)
    found = effects.nearness(concat([short, longer]), unchanged(-110.0), published(-100.0)).iloc[0]
    assert found["distance"] == 0.0  # by the one point at 2e5 samples
    assert effects.nearness(short, unchanged(-110.0), published(-100.0, 5e5)).empty


def test_the_record_has_an_effect_for_each_open_question():
    moved = pd.concat([effects.effects(*pair) for pair in chapter.comparisons()])
    assert set(moved["question"]) == {question for question, choice in choices.CHOICES.items() if choice.ours}
    assert moved["change"].notna().all()


def test_a_minibatch_of_three_hundred_is_the_nearest_on_the_faces():
    theirs = results.published("figure2")
    near = pd.concat([effects.nearness(*pair, theirs) for pair in chapter.comparisons()])
    of_size = near[near["question"] == "size of a minibatch"]
    assert set(of_size["outcome"]) == {"nearer"}
    assert of_size.loc[of_size["distance"] == of_size["distance"].min(), "answer"].tolist() == ["300"]
