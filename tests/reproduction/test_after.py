"""What Part V measures of a run."""

import dataclasses

import pandas as pd
import pytest
import torch

from aevb import aggregated, flow_gaps, gaps
from aevb.bounds import importance_weighted
from aevb.datasets import load
from aevb.fit import fit
from aevb.reproduction import after
from aevb.reproduction.curves import Curves
from aevb.reproduction.experiments import AFTER
from tests.runs import ON_DIGITS, SAMPLES


def test_a_run_is_measured_by_its_gaps_on_the_first_digits_of_each_split(monkeypatch):
    monkeypatch.setattr(after, "DIGITS", 4)
    end, digits = fit(ON_DIGITS, SAMPLES), load("mnist")
    rows = after.gaps_of(end, ("train", "test"))
    for row in rows:
        about = (row["run"], row["n_train"], row["algorithm"], row["seed"], row["samples"])
        assert about == (ON_DIGITS.key, 500, "aevb", 0, SAMPLES)
    found = {(row["split"], row["quantity"]): row["nats"] for row in rows}
    assert len(found) == len(rows) == 10
    for split, pixels in (("train", digits.train), ("test", digits.test)):
        x = digits.unit(pixels[:4])
        exact = gaps.split(end.model, x)
        assert found[split, "log p(x)"] == exact.log_px.mean().item()
        assert found[split, "bound"] == exact.bound.mean().item()
        assert found[split, "best bound"] == exact.best.mean().item()
        draws = importance_weighted(end.model, x.repeat(500, 1), 5, generator=torch.Generator().manual_seed(1))
        assert abs(found[split, "L_5"] - draws.mean().item()) < 5 * draws.std().item() / (4 * after.DRAWS) ** 0.5
        order = ("bound", "L_5", "L_50", "log p(x)")
        values = [found[split, name] for name in order]
        assert values == sorted(values)


@torch.no_grad()
def test_a_log_px_whose_lattice_missed_the_posteriors_is_left_out(monkeypatch):
    """The same model, its latents shifted out of the lattice: no bound changes, and quadrature finds nothing."""
    monkeypatch.setattr(after, "DIGITS", 4)
    end = fit(ON_DIGITS, SAMPLES)
    here = {row["quantity"]: row["nats"] for row in after.gaps_of(end)}
    model, shift, log_prior = end.model, 30.0, end.model.log_prior
    model.encoder.mu.bias += shift
    model.decoder.hidden.bias -= shift * model.decoder.hidden.weight.sum(1)
    monkeypatch.setattr(model, "log_prior", lambda z: log_prior(z - shift))
    there = {row["quantity"]: row["nats"] for row in after.gaps_of(end)}
    assert here.keys() - there.keys() == {"log p(x)", "best bound"}
    assert there["L_50"] == pytest.approx(here["L_50"], abs=0.5)


QUANTITIES = ("bound", "L_5", "L_50", "best bound", "log p(x)")


def accounts(*runs):
    """`after.accounts` of runs: training digits, algorithm, split, samples, seed, and the values of QUANTITIES."""
    names = ("n_train", "algorithm", "split", "samples", "seed")
    rows = [
        {**dict(zip(names, run[:-1], strict=True)), "run": str(run[:-1]), "quantity": name, "nats": nats}
        for run in runs
        for name, nats in zip(QUANTITIES, run[-1], strict=True)
    ]
    return after.accounts(Curves(pd.DataFrame(rows), AFTER))


EARLY, LATE = (-30.0, -28.0, -27.0, -20.0, -10.0), (-9.0, -8.5, -8.0, -7.0, -6.0)


def test_the_gaps_are_compared_where_each_training_set_ends_and_no_earlier():
    found = accounts(
        (1000, "aevb", "test", 100_000, 0, LATE),
        (1000, "aevb", "test", 1_000_000, 0, EARLY),
        (1000, "aevb", "test", 1_000_000, 1, LATE),
        (1000, "aevb", "test", 500_000, 2, LATE),
        (1000, "iwae-5", "test", 2_000_000, 0, LATE),
        (50_000, "aevb", "train", 100_000, 0, LATE),
    )
    # amortization 10 and family 10; 2 and 1
    assert after.amortization_over_family(found) == {"1,000 test": [0.0, 1.0], "50,000 train": [1.0]}


def test_the_least_rise_of_any_run_is_told_from_each_k_to_the_next():
    found = accounts((1000, "aevb", "test", 10, 0, EARLY), (1000, "dreg-5", "test", 20, 1, LATE))
    assert after.rises_with_k(found) == {"to k = 5": [0.5], "to k = 50": [0.5], "to log p(x)": [2.0]}


def test_a_gain_is_over_the_same_digits_samples_and_seed():
    found = accounts(
        (1000, "aevb", "test", 10, 0, EARLY),
        (1000, "aevb", "test", 10, 1, LATE),
        (1000, "aevb", "test", 20, 0, LATE),
        (1000, "iwae-5", "test", 10, 0, LATE),
        (1000, "iwae-5", "test", 10, 1, EARLY),
        (1000, "iwae-5", "test", 10, 2, EARLY),  # nothing to compare it with
        (1000, "iwae-50", "test", 10, 0, EARLY),
        (1000, "dreg-5", "test", 20, 0, LATE),
    )
    assert after.gains(found, ("iwae-5", "dreg-5")) == {"dreg-5 1,000": [0.0], "iwae-5 1,000": [4.0, -4.0]}
    assert after.gains(found, ("iwae-50",), "bound") == {"iwae-50 1,000": [0.0]}


def test_the_same_run_of_two_records_is_not_averaged():
    run = (1000, "aevb", "test", 10, 0)
    with pytest.raises(ValueError, match="same run"):
        accounts((*run, EARLY), (*run, LATE))


@pytest.mark.parametrize("measure", [after.amortization_over_family, after.rises_with_k])
def test_of_nothing_nothing_is_said(measure):
    assert measure(accounts((1000, "iwae-5", "train", 10, 0, LATE)).iloc[:0]) == {}


@pytest.mark.parametrize("algorithm", ["aevb", "mixture", "beta-4"])
def test_the_parts_of_the_rate_are_over_all_test_digits_and_the_rest_is_that_of_the_gaps(monkeypatch, algorithm):
    """The bound has a weight of one and the model's own prior, whatever was trained."""
    monkeypatch.setattr(after, "DIGITS", 4)
    run = dataclasses.replace(ON_DIGITS, algorithm=algorithm)
    end, digits = fit(run, SAMPLES), load("mnist")
    found = {row["quantity"]: row["nats"] for row in after.rates_of(end)}
    x = digits.unit(digits.test)
    parts = aggregated.surgery(end.model, x, generator=torch.Generator().manual_seed(0))
    assert (found["rate"], found["information"], found["information at most"]) == parts
    beside = {row["quantity"]: row["nats"] for row in after.gaps_of(end)}
    assert beside.keys() < found.keys()
    for name in ("log p(x)", "bound", "best bound"):
        assert found[name] == pytest.approx(beside[name], abs=gaps.SIZES[2].still)


@pytest.mark.parametrize("algorithm", ["planar-4", "iaf-1"])
def test_a_run_with_a_flow_is_measured_by_the_gaps_of_its_flow(algorithm, monkeypatch):
    monkeypatch.setattr(after, "DIGITS", 4)
    run = dataclasses.replace(ON_DIGITS, algorithm=algorithm)
    end, digits = fit(run, SAMPLES), load("mnist")
    found = {row["quantity"]: row["nats"] for row in after.gaps_of(end)}
    exact = flow_gaps.split(end.model, digits.unit(digits.test[:4]))
    assert found["log p(x)"] == exact.log_px.mean().item()
    assert found["bound"] == exact.bound.mean().item()
    assert found["best bound"] == exact.best.mean().item()
    order = ("bound", "L_5", "L_50", "log p(x)")
    values = [found[name] for name in order]
    assert values == sorted(values)
