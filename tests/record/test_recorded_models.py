"""The recorded models and posteriors: whole, with the values at which their curves end."""

import json
import re

import numpy as np
import pytest
import torch
from conftest import assert_anonymous

from aevb.bounds import kl_to_prior
from aevb.datasets import available, load
from aevb.measures import mean_bound
from aevb.reproduction import experiments, results
from aevb.run import Run


def test_every_recorded_model_has_its_manifest_and_is_compact():
    files = {path.stem: path for path in (results.ROOT / "recorded" / "models").glob("*")}
    entries = results.manifest("models")
    assert set(files) == set(entries)
    assert set(entries) == set(results.manifest("figure4")) | set(results.manifest("figure5"))
    for key, about in entries.items():
        run = Run(**about["config"])
        assert run.key == key
        assert re.fullmatch(r"[0-9a-f]{12}\+?", about["commit"])
        assert all(about[name] for name in ("samples", "seconds", "torch", "numpy", "machine", "device", "date"))
        with np.load(files[key], allow_pickle=False) as weights:
            for network in ("encoder", "decoder"):
                names = [name for name in weights.files if name.startswith(network)]
                assert {weights[name].dtype for name in names} == {np.dtype(np.float16)}
                assert sum(weights[name].nbytes for name in names) < 1e6
    assert_anonymous(json.dumps([{k: v for k, v in about.items() if k != "config"} for about in entries.values()]))


@pytest.mark.parametrize("figure", ["figure4", "figure5"])
def test_a_recorded_model_has_the_bound_its_curve_ends_with(figure):
    """At the noise of the curve's points: what remains is the rounding of the weights."""
    for key, about in results.manifest(figure).items():
        run, curve = Run(**about["config"]), results.recorded(figure)
        if about["samples"] < results.manifest("models")[key]["samples"] or not available(run.dataset):
            continue
        dataset, noise = load(run.dataset), torch.Generator().manual_seed(run.seed)
        last = curve.select(run=key, split="test").mean()[about["samples"]]
        bound = mean_bound(results.recorded_model(run), dataset, dataset.test, generator=noise)
        assert bound == pytest.approx(last, rel=1e-3)


def test_the_recorded_posterior_costs_what_the_end_of_its_curve_says():
    """Up to half precision."""
    table = results.recorded("full-vb").table.set_index(["run", "split", "samples"])["bound"]
    runs = [run for run in experiments.runs("full-vb", "standard") if run.algorithm == "full-vb"]
    assert runs
    for run in runs:
        end = results.manifest("full-vb")[run.key]["samples"]
        price = table[run.key, "data", end] - table[run.key, "evidence", end]
        ours = kl_to_prior(*results.recorded_posterior(run.key)).item() / run.n_train
        assert ours == pytest.approx(price, rel=0.005)
