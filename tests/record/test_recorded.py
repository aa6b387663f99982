"""The recorded curves and timings: whole, with their provenance, of the runs that the experiments have."""

import dataclasses
import json
import math
import re

import pandas as pd
import pytest
from conftest import assert_anonymous

from aevb.reproduction import after, burda, claims, experiments, leads, provenance, results, verdicts
from aevb.run import IMPLIED, Run

# provenance


@pytest.fixture
def record():
    return results.recorded("figure2").table, results.manifest("figure2")


def test_every_recorded_run_has_its_provenance(record):
    table, entries = record
    assert set(table["run"]) == set(entries)
    for key, about in entries.items():
        run = Run(**about["config"])
        rows = table[table["run"] == key]
        assert run.key == key
        assert (rows[["dataset", "latent_dim", "algorithm", "seed"]].drop_duplicates().values.tolist()) == [
            [run.dataset, run.latent_dim, run.algorithm, run.seed]
        ]
        assert rows["samples"].max() == about["samples"]
        assert set(rows["split"]) == {"train", "test", "running"}
        assert about["step_size"] in run.step_sizes
        assert re.fullmatch(r"[0-9a-f]{12}\+?", about["commit"])
        assert about["seconds"] > 0
        assert about["samples_per_second"] > 0
        assert all(about[name] for name in ("python", "torch", "numpy", "machine", "system", "device", "date"))


def test_the_record_is_whole_and_anonymous(record):
    table, entries = record
    assert table["bound"].map(math.isfinite).all()
    assert not table.duplicated(["run", "split", "samples"]).any()
    assert_anonymous(json.dumps([{k: v for k, v in about.items() if k != "config"} for about in entries.values()]))
    for about in entries.values():  # every field, but those that the record is older than
        assert set(about["config"]) | set(IMPLIED) == {field.name for field in dataclasses.fields(Run)}


@pytest.mark.parametrize(
    ("figure", "measure"),
    [
        ("figure3", "marginal-likelihood"),
        ("figure2-alike", "bound"),
        ("figure2-digits", "bound"),
        ("figure2-minibatches", "bound"),
        ("figure3-step-sizes", "marginal-likelihood"),
        ("full-vb", "bound"),
        ("full-vb-settings", "bound"),
    ],
)
def test_every_other_recorded_curve_has_its_provenance(figure, measure):
    table, entries = results.recorded(figure).table, results.manifest(figure)
    assert set(table["run"]) == set(entries)
    assert table[experiments.get(figure).kind.value].map(math.isfinite).all()
    assert not table.duplicated(["run", "split", "samples"]).any()
    for key, about in entries.items():
        run = Run(**about["config"])
        assert run.key == key
        assert run.measure == measure
        assert table.loc[table["run"] == key, "samples"].max() == about["samples"]
        assert about["step_size"] in run.step_sizes
        assert about["seconds"] > 0
    assert_anonymous(json.dumps([{k: v for k, v in about.items() if k != "config"} for about in entries.values()]))


@pytest.mark.parametrize("figure", ["figure4", "figure5"])
def test_every_recorded_curve_of_figures_4_and_5_has_its_provenance(figure):
    table, entries = results.recorded(figure).table, results.manifest(figure)
    assert set(table["run"]) == set(entries) <= {run.key for run in experiments.runs(figure, "standard")}
    for key, about in entries.items():
        assert Run(**about["config"]).key == key
        assert table.loc[table["run"] == key, "samples"].max() == about["samples"]
        assert about["samples"] <= results.manifest("models")[key]["samples"]


@pytest.mark.parametrize("name", ["after-gaps", "after-importance", "after-flows", "after-priors"])
def test_what_part_v_measured_has_its_provenance_and_its_order(name):
    """The bounds rise from q's own, with k, to log p(x), and the best q's lies between too."""
    table, entries = results.recorded(name).table, results.manifest(name)
    runs = {run.key for run in experiments.runs(name, "paper")}
    assert set(table["run"]) == set(entries) <= runs
    assert not table.duplicated(["run", "split", "quantity", "samples"]).any()
    for key, about in entries.items():
        assert Run(**about["config"]).key == key
        assert table.loc[table["run"] == key, "samples"].max() == about["samples"]
        assert re.fullmatch(r"[0-9a-f]{12}", about["commit"])
    assert_anonymous(json.dumps([{k: v for k, v in about.items() if k != "config"} for about in entries.values()]))
    found = after.accounts(results.recorded(name))
    lost = found["log p(x)"].isna()  # where the lattice missed a posterior
    assert lost.sum() == (name == "after-priors")
    found = found[~lost]
    order = found[["bound", "L_5", "L_50", "log p(x)"]]
    assert (order.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
    assert (found[["amortization", "family"]] > 0).all(axis=None)


def test_the_record_decides_every_claim_of_later_papers():
    assert verdicts.NOT_MEASURED not in set(claims.of_record(claims.AFTER)["verdict"])


def test_every_ten_thousand_digits_are_measured_where_a_run_of_figure_2_ends():
    """At a point of its curve, where both records have the same noise, the test digits have the same bound."""
    ends, curves = (
        results.recorded(name).table.set_index(["run", "split", "samples"])["bound"]
        for name in ("figure2-digits", "figure2")
    )
    at_a_point = 0
    for key, about in results.manifest("figure2-digits").items():
        assert len(ends[key]) == 7
        assert about["samples"] >= results.manifest("figure2")[key]["samples"]
        if (place := (key, "test", about["samples"])) in curves:
            assert ends[place] == pytest.approx(curves[place], abs=2e-3)
            at_a_point += 1
    assert at_a_point


# their runs


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_what_is_recorded_under_another_key_is_another_run(name):
    """A changed key, of a run or of a reading, would leave the record behind and have it computed again."""
    entries, members = results.manifest(name), experiments.get(name).members("paper")
    keys, runs = {member.key for member in members}, {member.run.key for member in members}
    assert entries.keys() & keys
    assert not {Run(**entries[key]["config"]).key for key in entries.keys() - keys} & runs


def test_the_record_of_figure_2_is_what_the_experiment_runs():
    for figure in ("figure2", "figure2-alike"):
        least, most = ({run.key for run in experiments.runs(figure, profile)} for profile in ("standard", "paper"))
        entries = results.manifest(figure)
        assert least <= set(entries) <= most
        assert all(entries[key]["samples"] >= 10_000_000 for key in least)


def test_the_record_of_figure_3_is_what_the_experiment_runs():
    least, most = ({run.key for run in experiments.runs("figure3", profile)} for profile in ("standard", "paper"))
    entries = results.manifest("figure3")
    assert least <= set(entries) <= most
    assert all(entries[key]["samples"] >= 10_000_000 for key in least)


@pytest.mark.parametrize("name", ["readings", "readings-by-latents", "readings-plateau", "readings-overfitting"])
def test_the_record_of_readings_is_whole(name):
    entries, table = results.manifest(name), results.recorded(name).table
    assert set(entries) == {member.key for member in experiments.get(name).members("standard")}
    with_points = {key for key, entry in entries.items() if entry["samples"]}
    assert set(table["run"]) == with_points
    ends = table.groupby("run")["samples"].max()
    pd.testing.assert_series_equal(
        ends, pd.Series({key: entries[key]["samples"] for key in sorted(with_points)}), check_names=False
    )


def test_the_record_of_full_vb_is_what_the_experiment_runs():
    runs = {run.key: run for run in experiments.runs("full-vb", "standard")}
    assert set(runs) == set(results.manifest("full-vb"))
    others = {run.key for run in experiments.runs("full-vb-settings", "standard")}
    assert others == set(results.manifest("full-vb-settings"))
    assert len({about["samples"] for about in results.manifest("full-vb").values()}) == 1


# speed


def test_the_record_of_speed_is_whole_has_its_provenance_and_is_anonymous():
    table, about = results.table("speed")
    assert list(table.columns) == ["what", "quantity", "setting", "median", "low", "high", "unit"]
    assert not table.duplicated(["what", "quantity", "setting"]).any()
    values = table[["low", "median", "high"]]
    assert values.map(math.isfinite).all(axis=None)
    assert (values > 0).all(axis=None)
    assert (values.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert re.fullmatch(r"[0-9a-f]{12}\+?", about["commit"])
    assert about.keys() >= {*provenance.here(), "pyro", "device", "rounds", "steps", "seconds"}
    assert all(about.values())
    assert_anonymous(json.dumps(about))


def test_the_record_of_speed_has_the_size_of_figure_2():
    """The cost of a sample comes from there."""
    table, _ = results.table("speed")
    milliseconds = table.set_index(["what", "quantity", "setting"])["median"]
    for algorithm, what in (("aevb", "AEVB"), ("wake-sleep", "wake-sleep")):
        step = milliseconds[what, "time a step", leads.PAPER_SIZE]
        assert leads.recorded_cost()[algorithm] == pytest.approx(step / 1000 / 100)


# the table of Burda et al.


def test_the_record_of_burda_has_every_run_and_its_provenance():
    table, about = results.table("burda")
    assert list(table.columns) == results.TABLES["burda"]
    stages = table.groupby(["k", "seed"])["passes"].agg(list)
    assert stages.to_dict() == {(k, seed): [1, 4, 13][:n] for k, seed, n in burda.RUNS}
    assert about.keys() == {f"k = {k}, seed {seed}" for k, seed, _ in burda.RUNS}
    for entry in about.values():
        assert entry.keys() == {*provenance.here(), "device", "seconds"}
    assert_anonymous(json.dumps(about))


# all of it


def test_results_are_small():
    """The committed ones; live results are this machine's own."""
    kept = [results.ROOT / folder for folder in ("published", "recorded")]
    assert sum(path.stat().st_size for folder in kept for path in folder.rglob("*") if path.is_file()) < 10e6
