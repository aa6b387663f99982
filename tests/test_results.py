import ast
import dataclasses
import getpass
import json
import math
import platform
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from aevb import experiments, results
from aevb.bounds import kl_to_prior
from aevb.training import IMPLIED, Run

PUBLISHED = results.published("figure2")
NAME = ("mnist", 3, "aevb", "test")


def curve(samples, bounds, seed=0, name=NAME, run="a"):
    fixed = {"run": run, **dict(zip(results.LAYOUTS["figure2"].curve, name, strict=True)), "seed": seed}
    return pd.DataFrame([{**fixed, "samples": n, "lower_bound": b} for n, b in zip(samples, bounds, strict=True)])


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty results folder."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    return tmp_path


# reading curves


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_curve_is_interpolated_linearly_in_log_samples(order):
    table = curve([1e4, 1e6, 1e7], [-200.0, -100.0, -90.0])[order]
    for samples, bound in ((1e4, -200), (1e5, -150), (10**5.5, -125), (1e6, -100), (10**6.25, -97.5), (1e7, -90)):
        assert results.at(table, samples)[NAME] == pytest.approx(bound, abs=1e-9)


def test_a_curve_is_never_extrapolated():
    other = ("frey", 2, "wake-sleep", "train")
    table = pd.concat([curve([1e4, 1e6], [-2, -1]), curve([1e5, 1e8], [5, 6], name=other)])
    for samples, names in ((9_999, []), (1e4, [NAME]), (3e5, [NAME, other]), (1.01e6, [other]), (1.1e8, [])):
        assert set(results.at(table, samples).index) == set(names)


def test_seeds_are_averaged_as_far_as_each_goes():
    table = pd.concat([curve([1e4, 1e6], [-4, -2]), curve([1e4, 1e5], [-10, -8], seed=1)])
    assert results.at(table, 1e4)[NAME] == -7
    assert results.at(table, 1e5)[NAME] == pytest.approx(-5.5)
    assert results.at(table, 1e6)[NAME] == -2


def test_agreement_with_oneself_is_exact_and_with_a_shifted_self_the_shift():
    same = results.agreement(PUBLISHED, PUBLISHED)
    assert (same["difference"] == 0).all()
    assert (len(same), list(same["samples"].unique())) == (3 * 36, [10**6, 10**7, 10**8])
    higher = results.agreement(PUBLISHED.assign(lower_bound=PUBLISHED["lower_bound"] + 2.5), PUBLISHED)
    assert higher["difference"].to_numpy() == pytest.approx(2.5)  # positive where ours is better
    assert (higher["ours"] > higher["published"]).all()


def test_agreement_goes_only_as_far_as_both_do():
    short = PUBLISHED[(PUBLISHED["samples"] < 2e7) & (PUBLISHED["dataset"] == "mnist")]
    for pair in ((short, PUBLISHED), (PUBLISHED, short)):
        table = results.agreement(*pair)
        assert set(table["dataset"]) == {"mnist"}
        assert set(table["samples"]) == {10**6, 10**7}


def test_agreement_of_an_empty_record_is_empty(root):
    assert results.agreement(results.recorded("figure2"), PUBLISHED).empty


# the published curves


def test_published_curves_have_the_documented_columns():
    assert list(PUBLISHED.columns) == [*results.LAYOUTS["figure2"].curve, "samples", "lower_bound"]
    names = PUBLISHED.groupby(["dataset", "latent_dim", "algorithm"])["split"].unique()
    assert len(names) == 18
    figure3 = results.published("figure3")
    assert list(figure3.columns) == ["n_train", "algorithm", "split", "samples", "log_likelihood"]
    assert len(figure3.groupby(["n_train", "algorithm"])) == 6
    assert (
        {tuple(sorted(splits)) for splits in names}
        == {("test", "train")}
        == {tuple(sorted(splits)) for splits in figure3.groupby(["n_train", "algorithm"])["split"].unique()}
    )


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        (("mnist", 3, "aevb"), (-155.3, -138.3, -130.3), (-152.9, -138.0, -133.4)),
        (("mnist", 20, "wake-sleep"), (-134.2, -108.3, -104.1), (-130.8, -108.3, -104.6)),
        (("mnist", 20, "aevb"), (-126.3, -104.2, -98.3), (-124.2, -104.8, -100.2)),
        (("frey", 2, "aevb"), (663.8, 835.1, 934.6), (673.0, 822.6, 872.4)),
        (("frey", 10, "wake-sleep"), (577, 578, 578.5), (568, 569, 569.1)),
    ],
)
def test_published_values(name, train, test):
    """As tabulated when the curves were read off, to their resolution."""
    for split, bounds in (("train", train), ("test", test)):
        for samples, bound in zip(results.LAYOUTS["figure2"].samples, bounds, strict=True):
            resolution = 1.0 if name[0] == "frey" else 0.25 if samples > 1e6 else 0.1
            assert results.at(PUBLISHED, samples)[*name, split] == pytest.approx(bound, abs=resolution)


def test_unknown_figures_are_refused_in_one_line():
    with pytest.raises(ValueError, match="no published curves for 'figure9': there are 'figure2' and 'figure3'") as err:
        results.published("figure9")
    assert "\n" not in str(err.value)


# the fingerprint of the code


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the package, of which `fingerprint` is asked."""
    folder = tmp_path / "aevb"
    shutil.copytree(Path(results.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(results, "__file__", str(folder / "results.py"))
    return folder


@pytest.mark.parametrize("name", results.NUMERICAL)
def test_the_fingerprint_is_blind_to_what_does_not_change_numbers(package, name):
    before, path = results.fingerprint(), package / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    docstrings = [
        node.body[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    ]
    lines = text.splitlines()
    for docstring in sorted(docstrings, key=lambda node: -node.lineno):  # from the last, so that places stay right
        lines[docstring.lineno - 1 : docstring.end_lineno] = [" " * docstring.col_offset + '"""Other words."""']
    edited = "# a comment\n" + "\n".join(lines).replace("\n\n", "\n\n\n") + "\n# another\n"
    assert edited.count("Other words") > 1
    path.write_text(edited, encoding="utf-8")
    assert results.fingerprint() == before


@pytest.mark.parametrize("name", results.NUMERICAL)
def test_the_fingerprint_sees_every_numerical_module(package, name):
    before, path = results.fingerprint(), package / f"{name}.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    functions = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef)]
    last = max(functions, key=lambda node: node.lineno).body[-1]
    lines.insert(last.lineno - 1, " " * last.col_offset + "assert True")  # deep inside a function
    path.write_text("\n".join(lines), encoding="utf-8")
    assert results.fingerprint() != before


def test_the_fingerprint_covers_all_that_a_run_imports():
    """`training` and what it imports of the package, but for `files`, which only writes."""
    found, rest = set(), ["training"]
    while rest:
        name = rest.pop()
        found.add(name)
        tree = ast.parse((Path(results.__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        used = {node.module.removeprefix("aevb.") for node in nodes if node.module.startswith("aevb.")}
        used |= {alias.name for node in nodes if node.module == "aevb" for alias in node.names}
        rest += used - found - {"files"}
    assert found == set(results.NUMERICAL)


# the record


def entry(samples, **more):
    return {"samples": samples, "seconds": 1.5, **more}


def test_a_record_comes_back_as_it_was_written(root):
    table = pd.concat([curve([10_000, 12_600], [-200.125, -199.5]), curve([10_000], [-3.25], 1, run="b")])
    entries = {"a": entry(12_600, commit="abc"), "b": entry(10_000)}
    results.write_record("figure2", table, entries)
    assert results.manifest("figure2") == entries
    order = ["run", "samples"]
    pd.testing.assert_frame_equal(
        results.recorded("figure2").sort_values(order, ignore_index=True)[list(table.columns)],
        table.sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    assert sorted(path.name for path in (root / "recorded").iterdir()) == ["figure2.csv", "figure2.json"]


def test_the_longer_curve_stays_and_other_runs_are_untouched(root):
    other = curve([10_000, 20_000], [7, 8], run="b", name=("frey", 2, "aevb", "train"))
    results.write_record("figure2", other, {"b": entry(20_000)})

    def recorded():
        table = results.recorded("figure2")
        kept = table[table["run"] == "b"]
        assert list(kept["lower_bound"]) == [7, 8]
        assert results.manifest("figure2")["b"] == entry(20_000)
        return list(table.loc[table["run"] == "a", "lower_bound"]), results.manifest("figure2")["a"]

    short, long = curve([10_000], [-3]), curve([10_000, 12_600], [-4, -2])
    results.write_record("figure2", short, {"a": entry(10_000)})
    assert recorded() == ([-3], entry(10_000))
    results.write_record("figure2", long, {"a": entry(12_600)})
    assert recorded() == ([-4, -2], entry(12_600))
    results.write_record("figure2", short, {"a": entry(10_000)})
    assert recorded() == ([-4, -2], entry(12_600))


def test_live_curves_are_kept_by_profile_and_forgotten_by_profile(root):
    for profile, bound in (("quick", -1.0), ("smoke", -2.0)):
        results.write_live("figure2", profile, curve([10_000], [bound]), {"a": entry(10_000)})
        results.save_measurement(profile, "m", bound)
    (root / "live" / "runs").mkdir()
    results.forget("quick")
    results.forget("quick")
    table, entries = results.live("figure2", "quick")
    assert (len(table), entries, results.measurements("quick")) == (0, {}, {})
    table, entries = results.live("figure2", "smoke")
    assert (list(table["lower_bound"]), entries) == ([-2.0], {"a": entry(10_000)})
    assert (root / "live" / "runs").exists()


def test_measurements_come_back_and_are_added_to_the_record(root):
    results.save_measurement("quick", "ratio-a", 0.1)
    results.save_measurement("quick", "ratio-b", 2.5e-7)
    results.save_measurement("quick", "ratio-a", 1 / 3)
    assert results.measurements("quick") == {"ratio-a": 1 / 3, "ratio-b": 2.5e-7}
    assert results.measurements("smoke") == results.recorded_measurements() == {}
    results.record_measurements("quick")
    results.save_measurement("smoke", "ratio-b", 4.0)
    results.record_measurements("smoke")
    assert results.recorded_measurements() == pytest.approx({"ratio-a": 1 / 3, "ratio-b": 4.0}, rel=0.005)


def assert_anonymous(text):
    for name in {platform.node(), getpass.getuser()} - {""}:
        assert not re.search(rf"\b{re.escape(name)}\b", text)
    assert not re.search(r"(?<![\w<])(/|[A-Z]:\\\\)\w+", text), "an absolute path"


def test_provenance_says_what_computed_and_not_who_or_where():
    provenance = results.provenance()
    assert set(provenance) == {"commit", "python", "torch", "numpy", "machine", "system", "date"}
    assert all(provenance.values())
    assert_anonymous(json.dumps(provenance))


# what is recorded


@pytest.fixture
def record():
    return results.recorded("figure2"), results.manifest("figure2")


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
    assert table["lower_bound"].map(math.isfinite).all()
    assert not table.duplicated(["run", "split", "samples"]).any()
    assert_anonymous(json.dumps([{k: v for k, v in about.items() if k != "config"} for about in entries.values()]))
    for about in entries.values():  # every field, but those that the record is older than
        assert set(about["config"]) | set(IMPLIED) == {field.name for field in dataclasses.fields(Run)}


@pytest.mark.parametrize(
    ("name", "published"), [(("mnist", 3, "aevb", "train"), -155.3), (("mnist", 20, "wake-sleep", "test"), -130.8)]
)
def test_the_record_meets_the_paper_at_a_million_samples(record, name, published):
    values = results.at(record[0], 1e6)
    assert values[name] == pytest.approx(published, abs=3)


@pytest.mark.parametrize(
    ("figure", "measure"),
    [
        ("figure3", "marginal-likelihood"),
        ("figure3-step-sizes", "marginal-likelihood"),
        ("full-vb", "bound"),
        ("full-vb-settings", "bound"),
    ],
)
def test_every_other_recorded_curve_has_its_provenance(figure, measure):
    table, entries = results.recorded(figure), results.manifest(figure)
    assert set(table["run"]) == set(entries)
    assert table[results.LAYOUTS[figure].value].map(math.isfinite).all()
    assert not table.duplicated(["run", "split", "samples"]).any()
    for key, about in entries.items():
        run = Run(**about["config"])
        assert run.key == key
        assert run.measure == measure
        assert table.loc[table["run"] == key, "samples"].max() == about["samples"]
        assert about["step_size"] in run.step_sizes
        assert about["seconds"] > 0
    assert_anonymous(json.dumps([{k: v for k, v in about.items() if k != "config"} for about in entries.values()]))


def test_the_record_of_figure_3_is_what_the_experiment_runs():
    keys = {run.key for run in experiments.figure3("standard")}
    assert keys == set(results.manifest("figure3"))
    assert {about["samples"] for about in results.manifest("figure3").values()} == {10_000_000}


def test_the_record_of_figure_3_meets_the_paper():
    """From 5 million samples on: MCEM on 1,000 digits within 2 nats, train curves of AEVB on 50,000 within 2 nats."""
    table = results.agreement(results.recorded("figure3"), results.published("figure3"))
    late = table[table["samples"] >= 5e6].set_index(["n_train", "algorithm", "split"]).sort_index()["difference"].abs()
    assert (late[1000, "mcem"] < 2).all()
    assert (late[50_000, "aevb", "train"] < 2).all()


def test_the_record_of_full_vb_is_what_the_experiment_runs():
    """And the posterior kept with it costs what the end of the curve says, up to half precision."""
    runs = {run.key: run for run in experiments.full_vb("standard")}
    assert set(runs) == set(results.manifest("full-vb"))
    assert {run.key for run in experiments.full_vb_settings("standard")} == set(results.manifest("full-vb-settings"))
    assert len({about["samples"] for about in results.manifest("full-vb").values()}) == 1
    table = results.recorded("full-vb").set_index(["run", "split", "samples"])["lower_bound"]
    for key, run in runs.items():
        if run.algorithm == "full-vb":
            end = results.manifest("full-vb")[key]["samples"]
            price = table[key, "data", end] - table[key, "evidence", end]
            ours = kl_to_prior(*results.recorded_posterior(key)).item() / run.n_train
            assert ours == pytest.approx(price, rel=0.005)


def test_results_are_small():
    """What is committed; live results are this machine's own."""
    kept = [results.ROOT / folder for folder in ("published", "recorded")]
    assert sum(path.stat().st_size for folder in kept for path in folder.rglob("*") if path.is_file()) < 10e6
