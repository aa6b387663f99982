"""What Part V measures of a run."""

import dataclasses

import pytest
import torch

from aevb import flow_gaps, gaps
from aevb.bounds import importance_weighted
from aevb.datasets import load
from aevb.fit import fit
from aevb.reproduction import after
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
