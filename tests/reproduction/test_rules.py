"""Rules that judge numbers which are no curves of figures 2 and 3."""

import pandas as pd
import pytest

from aevb.reproduction import results, rules, verdicts
from aevb.reproduction.rules import Evidence

PUBLISHED, LIKELIHOODS = results.published("figure2"), results.published("figure3")


@pytest.mark.parametrize(
    ("values", "verdict", "seeds"),
    [
        ({"here": [1.0, 1.1, 0.9]}, "holds", "here +0.8 to +1.2"),
        ({"here": [1.0, 1.1, 0.9], "there": [-0.1]}, "holds in part", "here +0.8 to +1.2"),
        ({"here": [3.0, 0.1, 0.1]}, "undecided", "here -3.1 to +5.2"),
        ({"here": [-1.0]}, "does not hold", "one value each"),
        ({}, "not measured", "-"),
    ],
)
def test_a_rule_by_accounts_asks_the_mean_and_its_interval_over_seeds(values, verdict, seeds):
    rule = rules.by_accounts("more", ("after-gaps",), lambda found: values)
    figures = (PUBLISHED, PUBLISHED), (LIKELIHOODS, LIKELIHOODS)
    found = rule(Evidence(*figures, {}, {}, {"after-gaps": pd.DataFrame()}))
    assert (found.published, found.verdict, found.seeds) == ("more", verdict, seeds)
    assert rule(Evidence(*figures, {}, {})).verdict == verdicts.NOT_MEASURED


def test_a_rule_by_accounts_sees_its_own_experiments_alone():
    """The same run in two records has two values, each of its own machine."""
    figures = (PUBLISHED, PUBLISHED), (LIKELIHOODS, LIKELIHOODS)
    records = {
        name: pd.DataFrame({"gain": [value]}) for name, value in (("gaps", 1.0), ("flows", 2.0), ("priors", 9.0))
    }
    rule = rules.by_accounts("more", ("gaps", "flows"), lambda found: {"here": found["gain"].tolist()})
    assert rule(Evidence(*figures, {}, {}, records)).ours == "here +1.5"


def test_a_rule_by_accounts_judges_all_values_and_shows_those_chosen():
    values = {"a 1,000": [-3.0, -2.0], "b 1,000": [0.5, 0.6], "a 50,000": [-0.2], "b 50,000": [-0.1]}
    rule = rules.by_accounts("smaller", ("flows",), lambda _: values, lambda gap: gap < 0, rules.largest)
    figures = (PUBLISHED, PUBLISHED), (LIKELIHOODS, LIKELIHOODS)
    found = rule(Evidence(*figures, {}, {}, {"flows": pd.DataFrame()}))
    assert (found.verdict, found.ours) == (verdicts.IN_PART, "b 1,000 +0.6; b 50,000 -0.1")
    assert found.seeds == "b 1,000 -0.1 to +1.2"


@pytest.mark.parametrize(
    ("falls", "rises", "verdict"),
    [(0.3, 4.0, "holds"), (0.99, 4.0, "holds in part"), (0.3, 1.0, "holds in part"), (1.0, 1.0, "does not hold")],
)
def test_a_signal_must_visibly_fall_or_rise(falls, rises, verdict):
    assert rules.falls_and_rises(falls, rises) == verdict
    assert (rules.visibly_above_one(rises) == verdicts.HOLDS) == (rises > 2)
