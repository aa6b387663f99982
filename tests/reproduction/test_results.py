import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from aevb.model import bernoulli_vae, gaussian_vae
from aevb.reproduction import results
from aevb.reproduction.curves import concat
from tests.runs import ON_DIGITS, curve

# the record


def test_unknown_figures_are_refused_in_one_line():
    with pytest.raises(ValueError, match="no published curves for 'figure9': there are 'figure2' and 'figure3'") as err:
        results.published("figure9")
    assert "\n" not in str(err.value)


def entry(samples, **more):
    return {"samples": samples, "seconds": 1.5, **more}


def test_a_record_comes_back_as_it_was_written(root):
    ours = concat([curve([10_000, 12_600], [-200.125, -199.5]), curve([10_000], [-3.25], 1, run="b")])
    entries = {"a": entry(12_600, commit="abc"), "b": entry(10_000)}
    results.write_record("figure2", ours, entries)
    assert results.manifest("figure2") == entries
    order = ["run", "samples"]
    pd.testing.assert_frame_equal(
        results.recorded("figure2").table.sort_values(order, ignore_index=True)[list(ours.table.columns)],
        ours.table.sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    assert sorted(path.name for path in (root / "recorded").iterdir()) == ["figure2.csv", "figure2.json"]


def test_the_longer_curve_stays_and_other_runs_are_untouched(root):
    other = curve([10_000, 20_000], [7, 8], run="b", name=("frey", 2, "aevb", "train"))
    results.write_record("figure2", other, {"b": entry(20_000)})

    def recorded():
        kept = results.recorded("figure2")
        assert list(kept.select(run="b").mean()) == [7, 8]
        assert results.manifest("figure2")["b"] == entry(20_000)
        return list(kept.select(run="a").mean()), results.manifest("figure2")["a"]

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
    (results.live_folder() / "runs").mkdir()
    results.forget("quick")
    results.forget("quick")
    table, entries = results.live("figure2", "quick")
    assert (len(table), entries, results.measurements("quick")) == (0, {}, {})
    table, entries = results.live("figure2", "smoke")
    assert (list(table.mean()), entries) == ([-2.0], {"a": entry(10_000)})
    assert (results.live_folder() / "runs").exists()


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


DAMAGED = {
    "empty": "",
    "a column too few": "run,dataset,latent_dim,algorithm,split,seed,samples\na,mnist,3,aevb,test,0,10000\n",
    "cut": '{"a": {"samples": 12',
    "cut in a row": "run,dataset,latent_dim,algorithm,split,seed,samples,bound\na,mnist,3,ae",
    "other columns": "x,y\n1,2\n",
    "another value": '["a"]',
    "a row too long": "x\n1\n1,2\n",
    "no text": "\N{LATIN SMALL LETTER E WITH ACUTE}",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("published/figure2.csv", lambda: results.published("figure2")),
        ("recorded/figure2.csv", lambda: results.recorded("figure2")),
        ("recorded/figure2.json", lambda: results.manifest("figure2")),
        ("recorded/models.json", lambda: results.manifest("models")),
        ("recorded/speed.csv", lambda: results.table("speed")),
        ("recorded/speed.json", lambda: results.table("speed")),
        ("recorded/measurements.json", results.recorded_measurements),
        ("live/quick/figure2.csv", lambda: results.live("figure2", "quick")),
        ("live/quick/measurements/ratio.json", lambda: results.measurements("quick")),
    ],
)
def test_a_damaged_file_is_named_in_one_line(root, path, read, content):
    (root / path).parent.mkdir(parents=True)
    (root / path).write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(root / path))} is damaged: restore it, or delete it$"):
        read()


def test_a_measurement_may_be_a_whole_number(root):
    results.save_measurement("quick", "count", 3)
    assert results.measurements("quick") == {"count": 3}


def test_an_unknown_table_is_refused_with_the_choices(root):
    with pytest.raises(ValueError, match=r"^no recorded table 'x': there are speed, burda$"):
        results.table("x")


# models


def small_model(run=ON_DIGITS, scale=1.0):
    build = gaussian_vae if run.dataset == "frey" else bernoulli_vae
    model = build(6, run.hidden, run.latent_dim, generator=torch.Generator().manual_seed(0))
    for weight in model.parameters():
        weight.data *= scale
    return model


@pytest.mark.parametrize("run", [ON_DIGITS, dataclasses.replace(ON_DIGITS, dataset="frey")], ids=["mnist", "frey"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_model_comes_back_to_half_precision(root, run, scale):
    model = small_model(run, scale)
    results.write_model(run, model, entry(10_000, commit="abc"))
    back = results.recorded_model(run)
    assert results.manifest("models") == {run.key: entry(10_000, commit="abc")}
    assert type(back.decoder) is type(model.decoder)
    assert {name for name, _ in back.named_parameters()} == {name for name, _ in model.named_parameters()}
    for name, weight in model.named_parameters():  # 11 bits, and below 2^-14 steps of 2^-24
        torch.testing.assert_close(back.get_parameter(name), weight, rtol=2**-11, atol=2**-25)
    x = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    again = results.recorded_model(run)
    assert torch.equal(back.posterior(x)[0], again.posterior(x)[0])


def test_the_longer_model_stays_and_the_others_are_untouched(root):
    other = dataclasses.replace(ON_DIGITS, seed=1)
    results.write_model(other, small_model(other, 5.0), entry(7))
    for samples, scale, expected in ((10, 1.0, 1.0), (20, 2.0, 2.0), (10, 3.0, 2.0), (20, 4.0, 4.0)):
        results.write_model(ON_DIGITS, small_model(scale=scale), entry(samples))
        weight = small_model(scale=expected).encoder.mu.weight.half().float()
        assert torch.equal(results.recorded_model(ON_DIGITS).encoder.mu.weight, weight)
    assert results.manifest("models") == {ON_DIGITS.key: entry(20), other.key: entry(7)}
    weight = small_model(scale=5.0).encoder.mu.weight.half().float()
    assert torch.equal(results.recorded_model(other).encoder.mu.weight, weight)
    (root / "recorded" / "models" / f"{ON_DIGITS.key}.npz").unlink()
    results.write_model(ON_DIGITS, small_model(), entry(5))  # a manifest alone is no model
    assert results.manifest("models")[ON_DIGITS.key] == entry(5)


def test_a_missing_model_is_one_line(root):
    with pytest.raises(ValueError, match=r"no model is recorded for Run.*record figure4") as error:
        results.recorded_model(ON_DIGITS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "text", "pickle", "another run", "a weight too few"])
def test_a_damaged_model_is_one_line_and_runs_no_code(root, damage):
    results.write_model(ON_DIGITS, small_model(), entry(10_000))
    (path,) = (root / "recorded" / "models").iterdir()
    weights = dict(np.load(path))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif damage == "text":
        path.write_text("version https://example.org/a-pointer-and-no-file\n", encoding="utf-8")
    elif damage == "pickle":
        np.savez(path, **weights | {"encoder.mu.weight": np.array([Unpickled()], dtype=object)})
    elif damage == "another run":
        np.savez(path, **{name: weight[..., :1] for name, weight in weights.items()})
    else:
        np.savez(path, **{name: weight for name, weight in weights.items() if name != "decoder.logit.bias"})
    with pytest.raises(ValueError, match=r"is no model of Run.*: restore it, or record it") as error:
        results.recorded_model(ON_DIGITS)
    assert "\n" not in str(error.value)
    assert not Unpickled.executed


@pytest.mark.parametrize("damage", ["cut", "text", "pickle", "a part too few"])
def test_a_damaged_posterior_is_one_line_and_runs_no_code(root, damage):
    results.write_posterior("key", torch.zeros(500), torch.ones(500))
    path = results.posterior_path("key")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("no array\n", encoding="utf-8")
    elif damage == "pickle":
        np.savez(path, mu=np.array([Unpickled()], dtype=object), log_var=np.zeros(1))
    else:
        np.savez(path, mu=np.zeros(1))
    with pytest.raises(ValueError, match=r"is no posterior of run key: restore it, or record full-vb") as error:
        results.recorded_posterior("key")
    assert "\n" not in str(error.value)
    assert not Unpickled.executed


class Unpickled:
    """An object whose unpickling would be seen."""

    executed = False

    def __reduce__(self):
        return setattr, (Unpickled, "executed", True)


# the extent of a record


def test_the_extent_of_a_record_is_what_all_runs_of_a_seed_reach(root):
    assert results.extent("figure2") == []
    runs = [("mnist", 0, 31_622_800), ("mnist", 0, 10**7), ("mnist", 1, 10**6), ("mnist", 2, 10**6), ("frey", 0, 500)]
    entries = {
        str(number): {"config": {"dataset": dataset, "seed": seed}, "samples": samples}
        for number, (dataset, seed, samples) in enumerate(runs)
    }
    (root / "recorded").mkdir(parents=True)
    (root / "recorded" / "figure2.json").write_text(json.dumps(entries), encoding="utf-8")
    assert results.extent("figure2") == [
        "Frey Face: seed 0 to 500 samples or further",
        "MNIST: seed 0 to 10,000,000 samples or further; seeds 1, 2 to 1,000,000 samples or further",
    ]


def test_speed_comes_back_as_it_was_written_and_replaces_what_was_there(root):
    table, about = results.table("speed")
    assert (list(table.columns), len(table), about) == (results.TABLES["speed"], 0, {})
    for value in (1.0, 2.5):
        line = ("a", "time", "here, M = 1", value, value, value, "")
        results.write_table("speed", pd.DataFrame([line], columns=results.TABLES["speed"]), {"commit": "abc"})
    table, about = results.table("speed")
    assert table.values.tolist() == [list(line)]
    assert about == {"commit": "abc"}
