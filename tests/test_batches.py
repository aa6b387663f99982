"""Datapoints in batches: each goes through once, in turn, and is named by its number among all."""

import warnings

import pytest
import torch

from aevb import batches


def test_batches_are_taken_in_turn():
    assert batches.in_batches(lambda begin, end: (begin, end), 7, 3) == [(0, 3), (3, 6), (6, 7)]


@pytest.mark.parametrize("row", [0, 4, 6])
def test_an_error_and_a_warning_name_a_datapoint_by_its_number_among_all(row):
    values = torch.zeros(7)
    values[row] = torch.nan
    with pytest.raises(ValueError, match=rf"not a number for datapoints {row}$"):
        batches.in_batches(lambda begin, end: batches.refuse_nan(values[begin:end]), 7, 3)
    with pytest.raises(ValueError, match=r"not a number for datapoints 1$"):
        batches.refuse_nan(torch.tensor([0.0, torch.nan]))  # outside of batches, also after one that failed

    def warn(begin: int, end: int) -> None:
        if (bad := values[begin:end].isnan()).any():
            warnings.warn(f"datapoints {batches.name(bad)}", stacklevel=1)

    with pytest.warns(UserWarning, match=rf"datapoints {row}$"):
        batches.in_batches(warn, 7, 3)


def test_many_are_named_as_few():
    bad = torch.ones(24, dtype=torch.bool)
    said = batches.in_batches(lambda begin, end: batches.name(bad[begin:end]), 24, 12)
    assert said[1] == "12, 13, 14, 15, 16, 17, 18, 19, 20, 21 and 2 more"
