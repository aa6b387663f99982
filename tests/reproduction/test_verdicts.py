"""Intervals over seeds: Student's, and how often they hold what they say."""

import numpy as np
import pytest

from aevb.reproduction import verdicts

STUDENT_3 = 4.302653  # the quantile 0.975 of Student's distribution with two degrees of freedom, from tables


def test_an_interval_is_students():
    assert verdicts.interval([1.0, 2.0, 3.0]) == pytest.approx((2 - STUDENT_3 / 3**0.5, 2 + STUDENT_3 / 3**0.5))
    assert verdicts.interval([2.0, 2.0]) == (2.0, 2.0)


def test_an_interval_of_normal_draws_holds_their_mean_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(3.0, 2.0, (4000, 3))
    inside = [low <= 3 <= high for low, high in map(verdicts.interval, draws)]
    assert abs(np.mean(inside) - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5


def test_a_prediction_interval_holds_one_more_normal_draw_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(verdicts, "PREDICTED", 0.9)
    draws = np.random.default_rng(1).normal(3.0, 2.0, size=(4000, 9))
    limits = [verdicts.prediction_interval(eight) for eight in draws[:, :8]]
    inside = [low <= one <= high for (low, high), one in zip(limits, draws[:, 8], strict=True)]
    assert np.mean(inside) == pytest.approx(0.9, abs=5 * (0.9 * 0.1 / len(draws)) ** 0.5)


def test_an_interval_of_ratios_does_not_mind_which_is_above_the_line():
    ratios = [0.5, 2.0, 3.0]
    low, high = verdicts.ratio_interval(ratios)
    assert verdicts.ratio_interval([1 / ratio for ratio in ratios]) == pytest.approx((1 / high, 1 / low))
    assert verdicts.ratio_interval([0.0, 2.0, 3.0]) == (0.0, 3.0)
