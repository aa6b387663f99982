"""Computing an experiment for a page, recording it, and the models that come of it."""

import dataclasses
import itertools
import json
import os
import shutil

import pytest
import torch

from aevb.__main__ import main
from aevb.fit import fit
from aevb.reproduction import experiments, grid, readings, recording, results
from aevb.reproduction.curves import FIGURE_2, Kind
from aevb.reproduction.experiments import Experiment
from aevb.reproduction.grid import run_grid
from aevb.reproduction.readings import Reading
from aevb.trainer import DivergedError, Trainer
from tests.runs import EXPLOSIVE, ON_DIGITS, PAIR, SAMPLES, bounds


@pytest.fixture
def has(monkeypatch):
    """A function that gives an experiment other runs, far fewer and smaller, and other fields."""

    def give(name, runs, **fields):
        changed = dataclasses.replace(experiments.get(name), runs=lambda n_seeds, datasets: runs, **fields)
        monkeypatch.setitem(experiments.EXPERIMENTS, name, changed)

    return give


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, set[str]]]:
    """The runs trained from now on: the key of each, with the keys that figure 2 and the readings had by then."""
    log, train = [], grid.train

    def logged(members, *arguments):
        there = set(results.manifest("figure2")) | set(results.manifest("readings"))
        log.extend((one.key, there) for one in members)
        return train(members, *arguments)

    monkeypatch.setattr(grid, "train", logged)
    return log


# for a page and for good


def test_compute_keeps_curves_for_the_claims_and_record_for_good(root, has, monkeypatch):
    has("figure2", PAIR, samples={"smoke": SAMPLES})
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so that no other process runs
    assert {seed for seed, _ in recording.compute("figure2", "smoke", seed=7).seeds()} == {run.seed + 7 for run in PAIR}
    computed = recording.compute("figure2", "smoke")
    recording.record("figure2", "smoke", samples=10_000)
    kept, entries = results.live("figure2", "smoke")
    assert bounds(kept.table) == pytest.approx(bounds(computed.table), abs=5e-4)
    assert set(entries) == {run.key for run in PAIR}
    assert set(results.recorded("figure2").table["samples"]) == {10_000}
    assert {entry["samples"] for entry in results.manifest("figure2").values()} == {10_000}


def test_a_run_is_recorded_as_soon_as_it_is_done_and_not_run_again_unless_to_go_further(root, has, trained):
    first, second = PAIR
    has("figure2", PAIR, samples={"standard": 10_000, "paper": SAMPLES})
    recording.record("figure2", jobs=1)  # which is at "standard"
    assert trained == [(first.key, set()), (second.key, {first.key})]
    shutil.rmtree(results.live_folder())  # so that only the record knows
    kept = {path.name: path.read_bytes() for path in (root / "recorded").iterdir()}
    recording.record("figure2", jobs=1)
    recording.record("figure2", "paper", samples=12_599, jobs=1)  # which is no further in whole points
    assert len(trained) == 2 and not results.live_folder().exists()
    assert {path.name: path.read_bytes() for path in (root / "recorded").iterdir()} == kept
    recording.record("figure2", "paper", jobs=1)
    assert [key for key, _ in trained[2:]] == [first.key, second.key]
    assert {entry["samples"] for entry in results.manifest("figure2").values()} == {SAMPLES}


def test_what_is_done_stays_recorded_where_a_later_run_fails(root, has):
    has("figure2", [ON_DIGITS, EXPLOSIVE])
    with pytest.raises(DivergedError):
        recording.record("figure2", "smoke", samples=10_000, jobs=1)
    assert set(results.manifest("figure2")) == set(results.recorded("figure2").table["run"]) == {ON_DIGITS.key}


def test_unknown_experiments_and_profiles_are_refused_with_the_choices(root):
    for ask in (recording.compute, recording.record):
        with pytest.raises(ValueError, match=r"^unknown experiment 'figure9': choose one of figure2, .*plateau$"):
            ask("figure9", "smoke")
        for name in ("figure2", "figure4", "figure5"):
            with pytest.raises(ValueError, match=r"^unknown profile 'fast': choose one of smoke, quick, .*paper$"):
                ask(name, "fast")
    assert not root.exists()


# an experiment that is added


def test_an_experiment_is_added_by_one_entry(root, monkeypatch):
    kind = Kind(("batch_size", "step_size", "split"), "bound", (1e4,))
    runs = [dataclasses.replace(ON_DIGITS, batch_size=size) for size in (50, 100)]

    def few(n_seeds, datasets):
        return [dataclasses.replace(run, seed=seed) for run in runs for seed in range(n_seeds)]

    added = Experiment("batches", kind, few, ("mnist",), {"smoke": 10_000, "paper": 10_000})
    monkeypatch.setitem(experiments.EXPERIMENTS, added.name, added)
    assert results.recorded("batches").table.empty
    assert main(["record", "batches", "--profile", "smoke", "--jobs", "1"]) == 0
    recorded = results.recorded("batches")
    assert recorded.kind == kind
    assert list(recorded.table.columns) == ["run", *kind.names, "seed", "samples", "bound"]
    assert set(results.manifest("batches")) == {run.key for run in runs}
    for run in runs:
        mine = recorded.select(batch_size=run.batch_size, step_size=0.02, split="test", seed=0)
        assert mine.mean().to_dict() == pytest.approx({10_000: fit(run, 10_000).curve[-1].test}, abs=5e-4)
    assert experiments.horizon("batches", "quick") == 10**6
    assert len(experiments.runs("batches", "paper")) == 6


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        (Kind(("warm_up", "n_train", "slow_log_var", "split"), "bound", (1e6,)), "slow_log_var, warm_up"),
        (Kind(("question", *FIGURE_2.names), "bound", (1e6,)), "question"),  # which readings have
        (Kind(FIGURE_2.names, "log_px", (1e6,)), "log_px"),  # which other measures have
    ],
)
def test_a_table_with_a_column_that_the_runs_lack_is_refused_before_anything_is_trained(
    root, monkeypatch, kind, lacking
):
    added = Experiment("asks-for-more", kind, lambda n_seeds, datasets: [ON_DIGITS], ("mnist",), {"smoke": 10_000})
    monkeypatch.setitem(experiments.EXPERIMENTS, added.name, added)
    for ask in (recording.record, recording.compute):
        with pytest.raises(ValueError, match=rf"^asks-for-more cannot be stored: Run\(.*\) has no {lacking}$"):
            ask("asks-for-more", "smoke")
    assert not root.exists()


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_every_experiment_has_the_columns_of_its_table(name):
    experiment = experiments.get(name)
    for member in experiment.members("paper"):
        wanted = set(results.table_columns(experiment.kind))
        assert experiment.measured or wanted <= grid.columns(member)  # what is measured brings its own


# beside the table


@pytest.fixture
def small_figure_5(has):
    """A figure 5 of one small run."""
    has("figure5", [ON_DIGITS])
    return ON_DIGITS


def test_figure_5_is_recorded_with_its_models(root, small_figure_5):
    recording.record("figure5", "smoke", samples=10_000, jobs=1)
    trained, model = fit(ON_DIGITS, 10_000).model, results.recorded_model(ON_DIGITS)
    for name, weight in trained.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), weight.half().float(), rtol=0, atol=0)
    assert results.manifest("models") == results.manifest("figure5")
    assert sorted(path.name for path in (root / "recorded" / "models").iterdir()) == [f"{ON_DIGITS.key}.npz"]


def test_a_model_is_recorded_with_the_samples_it_has_seen(root, small_figure_5):
    """Its curve may have seen fewer: another recording went further."""
    run_grid([ON_DIGITS], SAMPLES, jobs=1)
    recording.record("figure5", "smoke", samples=10_000, jobs=1)
    assert results.manifest("figure5")[ON_DIGITS.key]["samples"] == 10_000
    assert results.manifest("models")[ON_DIGITS.key]["samples"] == SAMPLES


class Killed(BaseException):
    """What nothing catches."""


def kill_at(monkeypatch, write):
    """Let the process end as `results` begins its write of this number."""
    numbers = itertools.count(1)

    def killing(through):
        def counted(path, content):
            if next(numbers) == write:
                raise Killed
            through(path, content)

        return counted

    for name in ("write_bytes", "write_text"):
        monkeypatch.setattr(results, name, killing(getattr(results, name)))


@pytest.mark.parametrize("write", range(1, 5))
def test_weights_are_as_far_as_the_record_after_a_kill_at_any_write(root, small_figure_5, monkeypatch, write):
    recording.record("figure5", "smoke", samples=10_000, jobs=1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, write)
        recording.record("figure5", "smoke", samples=SAMPLES, jobs=1)
    recording.record("figure5", "smoke", samples=SAMPLES, jobs=1)
    assert results.manifest("figure5")[ON_DIGITS.key]["samples"] == SAMPLES
    assert results.manifest("models")[ON_DIGITS.key]["samples"] == SAMPLES
    weight = fit(ON_DIGITS, SAMPLES).model.encoder.mu.weight.half().float()
    assert torch.equal(results.recorded_model(ON_DIGITS).encoder.mu.weight, weight)


@pytest.mark.parametrize("write", range(1, 4))
def test_a_posterior_is_as_far_as_the_record_after_a_kill_at_any_write(root, has, monkeypatch, write):
    run = dataclasses.replace(ON_DIGITS, algorithm="full-vb", step_sizes=(0.1,))
    has("full-vb", [run])
    recording.record("full-vb", "smoke", samples=10_000, jobs=1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, write)
        recording.record("full-vb", "smoke", samples=SAMPLES, jobs=1)
    recording.record("full-vb", "smoke", samples=SAMPLES, jobs=1)
    assert results.manifest("full-vb")[run.key]["samples"] == SAMPLES
    mu, _ = results.recorded_posterior(run.key)
    torch.testing.assert_close(mu, fit(run, SAMPLES).model.mu.detach(), rtol=1e-3, atol=1e-7)


def test_weights_behind_the_record_are_recorded_anew(root, small_figure_5):
    recording.record("figure5", "smoke", samples=10_000, jobs=1)
    behind = results.manifest("models")
    recording.record("figure5", "smoke", samples=SAMPLES, jobs=1)
    (root / "recorded" / "models.json").write_text(json.dumps(behind), encoding="utf-8")
    assert recording.record("figure5", "smoke", samples=SAMPLES, jobs=1) == 1
    assert results.manifest("models")[ON_DIGITS.key]["samples"] == SAMPLES
    assert recording.record("figure5", "smoke", samples=SAMPLES, jobs=1) == 0


def test_curves_that_nothing_is_drawn_from_are_recorded_alone(root, has):
    has("figure2", [ON_DIGITS])
    recording.record("figure2", "smoke", samples=10_000, jobs=1)
    assert results.manifest("models") == {} and not (root / "recorded" / "models").exists()


def test_where_a_run_is_measured_at_its_end_the_table_has_that_and_no_curve(root, has):
    has("figure2-digits", [ON_DIGITS])
    run_grid([ON_DIGITS], SAMPLES, jobs=1)
    recording.record("figure2-digits", "smoke", samples=10_000, jobs=1)
    assert results.manifest("figure2-digits")[ON_DIGITS.key]["samples"] == SAMPLES
    measured = {
        (row["run"], row["split"], row["samples"]): row["bound"]
        for row in experiments.on_each_ten_thousand(fit(ON_DIGITS, SAMPLES))
    }
    assert bounds(results.recorded("figure2-digits").table) == pytest.approx(measured, abs=5e-4)


def of_place(trainer):
    """A row of Part V's table that says how far the run is."""
    about = {"run": trainer.run.key, "seed": trainer.run.seed, "samples": trainer.samples}
    return {**about, **dict.fromkeys(experiments.AFTER.names, "a"), "nats": float(trainer.samples)}


def test_what_is_measured_on_the_way_stays_beside_what_is_measured_further_on(root, has):
    fields = {"samples": {"smoke": 12_600, "paper": 15_800}, "places": (10_000, 15_800)}
    has("after-gaps", [ON_DIGITS], measured=lambda trainer: [of_place(trainer)], **fields)
    for profile, places in (("smoke", [10_000, 12_600]), ("paper", [10_000, 12_600, 15_800])):
        assert recording.record("after-gaps", profile, jobs=1) == 1
        assert list(results.recorded("after-gaps").table["nats"]) == places
        assert results.manifest("after-gaps")[ON_DIGITS.key]["samples"] == places[-1]
    assert recording.record("after-gaps", "paper", jobs=1) == 0


def test_a_place_that_this_machine_has_gone_past_is_measured_all_the_same(root, has):
    has("after-gaps", [ON_DIGITS], measured=lambda trainer: [of_place(trainer)], places=(10_000,))
    run_grid([ON_DIGITS], 12_600, jobs=1)
    recording.record("after-gaps", "smoke", samples=10_000, jobs=1)
    assert list(results.recorded("after-gaps").table["samples"]) == [10_000]
    assert results.manifest("after-gaps")[ON_DIGITS.key]["samples"] == 10_000


def test_recording_full_vb_keeps_the_posterior_at_the_end_of_the_longest_curve(root, has):
    run = dataclasses.replace(ON_DIGITS, algorithm="full-vb", step_sizes=(0.1,))
    has("full-vb", [run, PAIR[1]])
    run_grid([run], SAMPLES, jobs=1)
    recording.record("full-vb", "smoke", samples=10_000, jobs=1)
    with pytest.raises(ValueError, match="no posterior is recorded for run"):  # it is of another place
        results.recorded_posterior(run.key)
    recording.record("full-vb", "smoke", samples=SAMPLES, jobs=1)
    longest = fit(run, SAMPLES)
    for _ in range(2):
        for name, kept in zip(("mu", "log_var"), results.recorded_posterior(run.key), strict=True):
            torch.testing.assert_close(kept, getattr(longest.model, name).detach(), rtol=1e-3, atol=1e-7)
        recording.record("full-vb", "smoke", samples=10_000, jobs=1)  # leaves the longer curve and its end
    table = bounds(results.recorded("full-vb").table)
    for point in longest.curve:
        for split in ("train", "test", "running", "data", "evidence"):
            assert table[run.key, split, point.samples] == pytest.approx(getattr(point, split), abs=5e-4)
    assert {split for key, split, _ in table if key == PAIR[1].key} == {"train", "test", "running"}
    with pytest.raises(ValueError, match="no posterior is recorded for run nobody"):
        results.recorded_posterior("nobody")


# drawing


def test_what_is_drawn_is_the_recorded_model_or_else_the_live_one(root, small_figure_5):
    for model in (recording.drawn_model, recording.live_model):
        with pytest.raises(ValueError, match="was not trained here: train it first") as error:
            model(ON_DIGITS)
        assert "\n" not in str(error.value)
    run_grid([ON_DIGITS], SAMPLES, jobs=1)
    live, name = recording.drawn_model(ON_DIGITS)
    assert name == "live, 12,600 samples"
    for mine, theirs in zip(live.parameters(), fit(ON_DIGITS, SAMPLES).model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    recording.record("figure5", "smoke", samples=SAMPLES, jobs=1)
    recorded, name = recording.drawn_model(ON_DIGITS)
    assert name == "recorded, 12,600 samples"
    assert torch.equal(recorded.encoder.mu.weight, live.encoder.mu.weight.half().float())
    again, name = recording.live_model(ON_DIGITS)
    assert name == "live, 12,600 samples"
    assert torch.equal(again.encoder.mu.weight, live.encoder.mu.weight)


def test_what_an_algorithm_trains_that_is_no_vae_is_not_drawn(monkeypatch):
    run = dataclasses.replace(ON_DIGITS, algorithm="full-vb", step_sizes=(0.1,))
    monkeypatch.setattr(grid, "trained", lambda run: Trainer(run, 0.1))
    with pytest.raises(ValueError, match="trains a FullVB and no VAE"):
        recording.live_model(run)


# readings

FEW = (Reading("a", "b", ON_DIGITS), Reading("a", "wide", ON_DIGITS, readings.wide), Reading("c", "d", EXPLOSIVE))


def test_readings_are_kept_one_by_one_and_not_repeated(root, has, trained):
    keys = [reading.key for reading in FEW]
    has("readings", FEW[:1])
    recording.record("readings", samples=SAMPLES, jobs=1)
    has("readings", FEW, samples={"standard": 10_000})
    recording.record("readings", samples=SAMPLES, jobs=1)
    assert trained == [(key, set(keys[:place])) for place, key in enumerate(keys)]
    recording.record("readings", jobs=1)  # further already
    recording.record("readings", samples=SAMPLES, jobs=1)  # or diverged
    assert len(trained) == len(keys)
    table, entries = results.recorded("readings"), results.manifest("readings")
    assert {key: entry["diverged"] for key, entry in entries.items()} == {
        reading.key: reading.question == "c" for reading in FEW
    }
    first = table.select(run=keys[0], split="test")
    assert first.mean().tolist() == pytest.approx([p.test for p in fit(ON_DIGITS, SAMPLES).curve], abs=6e-4)
    assert set(first.table["question"]) == {"a"}
    assert entries[keys[0]]["config"] == json.loads(json.dumps(dataclasses.asdict(ON_DIGITS)))


def test_a_reading_that_diverges_before_anything_else_is_recorded_is_recorded_too(root, has):
    has("readings", FEW[::-1])
    recording.record("readings", samples=10_000, jobs=1)
    assert set(results.manifest("readings")) == {reading.key for reading in FEW}
    assert set(results.recorded("readings").table["run"]) == {reading.key for reading in FEW[:2]}


def test_a_reading_of_several_step_sizes_is_refused_before_anything_is_trained(root, has):
    several = Reading("none", "none", dataclasses.replace(ON_DIGITS, step_sizes=(0.01, 0.02)))
    has("readings", [FEW[0], several])
    with pytest.raises(
        ValueError, match=r"^a reading has one step size, not \(0\.01, 0\.02\): make one reading for each$"
    ):
        recording.record("readings", samples=10_000, jobs=1)
    assert not root.exists()


# the command


def test_the_command_records_readings(root, has):
    has("readings", FEW, datasets=("mnist",))
    words = ["--profile", "smoke", "--samples", "10000", "--jobs", "1", "--threads", "1", "--dataset", "mnist"]
    assert main(["record", "readings", *words]) == 0
    assert set(results.manifest("readings")) == {reading.key for reading in FEW}


NO_POINT = "a run of {} samples ends before the first point of its curve: ask for more"
WHICH = "choose one of smoke, quick, standard, paper"


@pytest.mark.parametrize("name", ["figure2", "readings-by-latents"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "0"], NO_POINT.format(0)),
        (["--samples", "-5"], NO_POINT.format(-5)),
        (["--threads", "0"], "threads must be 1 or more, not 0"),
        (["--threads", "-1"], "threads must be 1 or more, not -1"),
        (["--jobs", "0"], "jobs must be 1 or more, not 0"),
        (["--jobs", "-1"], "jobs must be 1 or more, not -1"),
        (["--dataset", ""], "unknown dataset '': choose among mnist, frey"),
        (["--dataset", "nonsense"], "unknown dataset 'nonsense': choose among mnist, frey"),
        (["--profile", "nonsense"], f"unknown profile 'nonsense': {WHICH}"),
        (["--profile", "nonsense", "--samples", "0", "--threads", "4"], f"unknown profile 'nonsense': {WHICH}"),
        (["--device", "cuda:99"], "--device cuda:99: torch finds no such device here"),
        (["--device", "meta"], "--device meta: torch finds no such device here"),
        (["--device", ""], "--device : torch finds no such device here"),
    ],
)
def test_sizes_of_nothing_and_what_does_not_exist_are_one_line(root, capsys, name, words, message):
    assert main(["record", name, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"aevb: {message}") and error.count("\n") == 1
    assert not results.live_folder().exists() and not (root / "recorded").exists()


@pytest.mark.parametrize(
    ("name", "dataset", "choice"),
    [("readings-by-latents", "frey", "mnist"), ("readings-plateau", "mnist", "frey"), ("figure3", "frey", "mnist")],
)
def test_a_dataset_that_an_experiment_is_not_about_is_one_line(root, capsys, name, dataset, choice):
    assert main(["record", name, "--dataset", dataset]) == 2
    assert capsys.readouterr().err == f"aevb: {name} has nothing of {dataset}: choose {choice}\n"
    assert not root.exists()


def test_sizes_of_nothing_are_refused_also_where_nothing_is_left_to_run(root, has):
    has("figure2", [ON_DIGITS])
    recording.record("figure2", samples=10_000, jobs=1)
    for options, message in (({"jobs": 0}, "jobs must be 1"), ({"threads": 0}, "threads must be 1")):
        with pytest.raises(ValueError, match=f"^{message}"):
            recording.record("figure2", samples=10_000, **options)


def test_a_reading_is_refused_on_another_device_than_the_cpu(root, has):
    """Its change draws there, and an ensemble's captured step would not see it."""
    has("readings", [Reading("none", "none", ON_DIGITS)])
    with pytest.raises(ValueError, match=r"^a reading changes its trainer on the CPU: leave out --device$"):
        recording.record("readings", samples=10_000, device="cuda")
    assert not root.exists()


def test_an_unknown_device_is_one_line(capsys):
    assert main(["record", "figure2", "--profile", "smoke", "--device", "cuda"]) == 2 or torch.cuda.is_available()
    assert "leave it out to run on the CPU" in capsys.readouterr().err or torch.cuda.is_available()
