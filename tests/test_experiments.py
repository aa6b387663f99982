import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aevb import experiments, results
from aevb.__main__ import main
from aevb.data import load
from aevb.experiments import checkpoint_path, figure2, figure3, figure4, figure5, run_grid
from aevb.fit import fit
from aevb.measures import mean_bound
from aevb.run import Run, evaluation_grid

AEVB = Run("mnist", "aevb", latent_dim=2, hidden=5, n_train=500, step_sizes=(0.01, 0.02))
RUNS = [AEVB, dataclasses.replace(AEVB, algorithm="wake-sleep", step_sizes=(0.02,))]
SAMPLES = 12_600  # two points


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty results folder. It reaches this process alone: with jobs=1, joblib starts no other."""
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    return tmp_path / "results"


def bounds(table):
    return table.set_index(["run", "split", "samples"])["lower_bound"].to_dict()


def by_hand(run, samples):
    """What `fit` alone gives, in the terms of a curve table."""
    return {
        (run.key, split, point.samples): getattr(point, split)
        for point in fit(run, samples).curve
        for split in ("train", "test", "running")
    }


# what is run


def test_figure_2_is_eighteen_settings_for_each_seed():
    for profile, seeds in (("smoke", 1), ("quick", 1), ("standard", 1), ("paper", 3)):
        runs = figure2(profile)
        assert len({run.key for run in runs}) == len(runs) == 18 * seeds
        settings = {(run.dataset, run.latent_dim, run.algorithm) for run in runs}
        assert len(settings) == 18
        assert {run.seed for run in runs} == set(range(seeds))


def test_figure_2_has_the_papers_settings():
    published = results.published("figure2").table
    names = ["dataset", "latent_dim", "algorithm"]
    assert {(run.dataset, run.latent_dim, run.algorithm) for run in figure2("quick")} == set(
        published[names].itertuples(index=False, name=None)
    )
    for run in figure2("paper"):
        assert run.hidden == {"mnist": 500, "frey": 200}[run.dataset]
        assert (run.batch_size, run.step_sizes, run.n_train) == (100, (0.02,), None)


def test_each_algorithm_has_its_own_reading():
    """Whatever differs between the two lists of runs is recorded under both readings."""
    ours, alike = figure2("paper"), experiments.baseline("paper")
    settings = {(r.dataset, r.algorithm, r.warm_up, r.slow_log_var, r.prior_on_encoder) for r in ours}
    assert settings == {
        ("mnist", "aevb", 10, False, True), ("mnist", "wake-sleep", 100, True, True),
        ("frey", "aevb", 10, False, True), ("frey", "wake-sleep", 10, False, False),
    }  # fmt: skip
    for run, plain in zip(ours, alike, strict=True):
        warm_up = {"mnist": 100, "frey": 10}[run.dataset]
        assert dataclasses.replace(run, warm_up=warm_up, slow_log_var=False, prior_on_encoder=True) == plain
    assert set(experiments.figure2_alike("paper")) == set(alike) - set(ours)
    assert {run.dataset for run in experiments.figure2_alike("quick", ("frey",))} == {"frey"}


def test_a_profile_changes_only_how_far_it_goes_and_how_often():
    smallest, largest = (set(figure2(profile)) for profile in ("smoke", "paper"))
    assert smallest < largest
    assert list(experiments.PROFILES) == ["smoke", "quick", "standard", "paper"]
    for figure, end in (("figure2", 10**8), ("figure3", 6 * 10**7), ("figure4", 10**7), ("figure5", 10**7)):
        reach = [profile.samples[figure] for profile in experiments.PROFILES.values()]
        assert reach == sorted(reach)
        assert reach[-1] >= end


def test_figure_3_is_as_section_5_says():
    runs = figure3("paper")
    assert len(runs) == len(set(runs)) == 3 * 2 * 3  # seeds, training sets, algorithms
    for run in runs:
        assert (run.dataset, run.hidden, run.latent_dim, run.batch_size) == ("mnist", 100, 3, 100)
        assert run.n_train in (1000, 50_000)
        assert run.measure == "marginal-likelihood"
        assert set(run.step_sizes) < {0.01, 0.02, 0.1}
    assert set(runs) <= set(experiments.figure3_step_sizes("paper"))
    assert len(experiments.figure3_step_sizes("quick")) == 3 * len(figure3("quick"))
    with pytest.raises(ValueError, match="figure 3 is about mnist"):
        figure3("quick", ("frey",))


@pytest.mark.parametrize(
    ("figure", "more"), [(figure2, experiments.figure2_seeds), (figure3, experiments.figure3_seeds)]
)
def test_more_seeds_are_none_of_the_figures_own(figure, more):
    recorded, beside = set(figure("paper")), more("standard")
    assert len(beside) == len(set(beside)) == len(experiments.MORE_SEEDS) * len(figure("quick"))
    assert not recorded & set(beside)
    assert {dataclasses.replace(run, seed=0) for run in beside} == set(figure("quick"))
    recorded_to = experiments.horizon(f"{figure.__name__}-seeds", "standard")
    assert recorded_to >= experiments.horizon(figure.__name__, "quick")  # what judges a live run goes as far


def test_minibatches_are_varied_on_the_faces_with_the_warm_up_of_the_digits():
    runs = experiments.figure2_minibatches("standard")
    assert len(set(runs)) == len(runs) == 5 * 4 * 2  # sizes, numbers of latents, algorithms
    faces = set(experiments.baseline("standard", ("frey",)))
    assert {dataclasses.replace(run, warm_up=10, batch_size=100) for run in runs} == faces
    assert {run.warm_up for run in runs} == {100}
    with pytest.raises(ValueError, match="compared on frey"):
        experiments.figure2_minibatches("quick", ("mnist",))


def test_figures_4_and_5_are_as_appendix_a_says_and_share_their_runs_with_figure_2():
    assert [(run.dataset, run.latent_dim) for run in figure4("paper")] == [("mnist", 2), ("frey", 2)]
    assert [(run.dataset, run.latent_dim) for run in figure5("paper")] == [("mnist", dim) for dim in (2, 5, 10, 20)]
    assert figure4("paper") == figure4("smoke") and figure5("paper") == figure5("smoke")
    there = {(run.dataset, run.algorithm, run.latent_dim): run.key for run in figure2("quick")}
    mine = {(run.dataset, run.algorithm, run.latent_dim): run.key for run in figure4("quick") + figure5("quick")}
    shared = {name: key for name, key in mine.items() if name in there}
    assert set(mine) - set(shared) == {("mnist", "aevb", 2)}  # which figure 2 leaves out
    assert shared.items() < there.items()
    assert figure4("quick", ("frey",)) == figure4("quick")[1:]
    with pytest.raises(ValueError, match="unknown dataset 'cifar'"):
        figure4("quick", ("cifar",))
    with pytest.raises(ValueError, match="figure 5 is about mnist"):
        figure5("quick", ("frey",))


def test_full_vb_is_compared_with_map_at_the_size_of_figure_3():
    runs = experiments.full_vb("standard")
    assert [(run.n_train, run.algorithm) for run in runs] == [
        (n, algorithm) for n in (1000, 50_000) for algorithm in ("aevb", "full-vb")
    ]
    assert {run.configuration for run in figure3("standard")} >= {
        dataclasses.replace(run.configuration, measure="marginal-likelihood") for run in runs if run.algorithm == "aevb"
    }
    assert len({run.step_sizes for run in runs}) == 1
    assert {run for run in runs if run.algorithm == "full-vb"} < set(experiments.full_vb_settings("standard"))
    with pytest.raises(ValueError, match="full VB is compared on mnist"):
        experiments.full_vb("quick", ("frey",))


@pytest.mark.parametrize("datasets", [("mnist",), ("frey",)])
def test_one_dataset_can_be_run_alone(datasets):
    assert figure2("quick", datasets) == [run for run in figure2("quick") if run.dataset in datasets]


@pytest.mark.parametrize(
    "ask", [experiments.get_profile, figure2, figure4, figure5, lambda name: experiments.compute("figure2", name)]
)
def test_unknown_profiles_are_refused_with_the_choices(ask, root):
    with pytest.raises(ValueError, match="unknown profile 'fast': choose one of smoke, quick, standard, paper") as err:
        ask("fast")
    assert "\n" not in str(err.value)
    assert not root.exists()


def test_unknown_figures_are_not_recorded(root):
    with pytest.raises(ValueError, match="cannot record 'figure9': choose one of figure2"):
        experiments.record("figure9", "smoke")


# running it


def test_a_grid_gives_what_each_run_gives_alone(root):
    table, entries = run_grid(RUNS, SAMPLES, jobs=1)
    assert bounds(table) == by_hand(RUNS[0], SAMPLES) | by_hand(RUNS[1], SAMPLES)
    assert len(table) == 2 * 2 * 3
    for run in RUNS:
        rows, entry = table[table["run"] == run.key], entries[run.key]
        about = ["dataset", "latent_dim", "algorithm", "seed"]
        assert rows[about].drop_duplicates().values.tolist() == [["mnist", 2, run.algorithm, 0]]
        assert Run(**entry["config"]) == run
        assert entry["step_size"] in run.step_sizes
        assert (entry["samples"], entry["torch"]) == (12_600, torch.__version__)
        assert entry["samples_per_second"] == pytest.approx(12_600 / entry["seconds"], rel=0.5)
        json.dumps(entry)


def test_a_run_that_exists_is_not_repeated(root):
    first, entries = run_grid(RUNS, SAMPLES, jobs=1)
    kept = {run: checkpoint_path(run).read_bytes() for run in RUNS}
    again, same = run_grid(RUNS, SAMPLES, jobs=1)
    assert bounds(again) == bounds(first)
    assert [same[run.key]["seconds"] for run in RUNS] == [entries[run.key]["seconds"] for run in RUNS]
    assert {run: checkpoint_path(run).read_bytes() for run in RUNS} == kept  # its own seconds too, to the last bit
    assert len(list((results.live_folder() / "runs").iterdir())) == 2


def test_a_smaller_profiles_curve_is_the_beginning_of_a_larger_ones(root):
    short, _ = run_grid(RUNS, 10_000, jobs=1)
    long, entries = run_grid(RUNS, 20_000, jobs=1)  # goes on from there
    assert bounds(short).items() < bounds(long).items()
    assert bounds(long) == by_hand(RUNS[0], 20_000) | by_hand(RUNS[1], 20_000)
    back, shorter = run_grid(RUNS, 10_000, jobs=1)
    assert bounds(back) == bounds(short)
    assert {entry["samples"] for entry in entries.values()} == {20_000}
    assert {entry["samples"] for entry in shorter.values()} == {10_000}


def test_a_change_of_the_code_is_a_new_run(root, monkeypatch):
    before = checkpoint_path(RUNS[0])
    monkeypatch.setattr(results, "fingerprint", lambda: "another")
    assert checkpoint_path(RUNS[0]) != before


def test_the_callers_threads_are_given_back(root):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        experiments.train([RUNS[1]], 10_000)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def copied(folder):
    """A copy of the package, whose workers keep their runs beside it and not where this process does; its variables."""
    copy = folder / "copy"
    shutil.copytree(Path(experiments.__file__).parent, copy / "aevb", ignore=shutil.ignore_patterns("__pycache__"))
    return copy, os.environ | {"PYTHONPATH": str(copy)}


def test_two_processes_give_the_numbers_of_one(root, tmp_path):
    copy, environment = copied(tmp_path)
    code = (
        "from aevb import experiments\n"
        "from aevb.run import Run\n"
        f"table, _ = experiments.run_grid({RUNS!r}, {SAMPLES}, jobs=2)\n"
        "table.to_json('table.json', double_precision=15)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, check=True, timeout=300)
    alone, _ = run_grid(RUNS, SAMPLES, jobs=1)
    together = json.loads((copy / "table.json").read_text(encoding="utf-8"))
    assert list(together["run"].values()) == list(alone["run"])  # in the order asked for
    assert list(together["lower_bound"].values()) == pytest.approx(list(alone["lower_bound"]), rel=1e-12)
    names = {path.name for path in (copy / "results" / results.live_folder().name / "runs").iterdir()}
    assert names == {checkpoint_path(run).name for run in RUNS}


CLUSTER = """
import subprocess, sys, threading, time
from pathlib import Path
from distributed import Client
from aevb import experiments, results
from aevb.run import Run

def serve(command, *arguments):
    command = [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments, "--no-dashboard"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)

address = "127.0.0.1:%(port)d"
servers = [serve("scheduler", "--host", "127.0.0.1", "--port", "%(port)d")]
options = ["--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"]
servers += [serve("worker", f"tcp://{address}", *options) for _ in range(2)]

def kill_a_worker_in_the_middle_of_a_run():
    while not list((results.live_folder() / "runs").glob("*.pt")):
        time.sleep(0.01)
    servers[1].kill()

try:
    with Client(f"tcp://{address}", timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        killer = threading.Thread(target=kill_a_worker_in_the_middle_of_a_run)
        killer.start()
        table, _ = experiments.run_grid(%(runs)r, %(samples)d, backend="dask")
        killer.join()
        assert servers[1].wait(10) != 0
        assert len(client.scheduler_info()["workers"]) == 1
finally:
    for server in servers:
        server.kill()
table.to_json("table.json", double_precision=15)
"""


def test_a_grid_on_a_dask_cluster_survives_a_dead_worker(root, tmp_path):
    """A real scheduler and two worker processes on loopback; one is killed while it trains."""
    copy, environment = copied(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runs = [dataclasses.replace(AEVB, seed=seed, step_sizes=(0.02,)) for seed in range(4)]
    code = CLUSTER % {"port": port, "runs": runs, "samples": 50_100}
    subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, check=True, timeout=300)
    alone, _ = run_grid(runs, 50_100, jobs=1)
    together = json.loads((copy / "table.json").read_text(encoding="utf-8"))
    assert list(together["run"].values()) == list(alone["run"])
    assert list(together["lower_bound"].values()) == pytest.approx(list(alone["lower_bound"]), rel=1e-12)


KILLED = """
from aevb import experiments
from aevb.run import Run
experiments.run_grid(%(runs)r, %(samples)d, jobs=2, progress=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
def test_a_grid_killed_outright_goes_on_and_ends_with_the_same_numbers(root, tmp_path):
    """`kill -9` of parent and workers, twice; what is lost is less than a piece of a curve."""
    copy, environment = copied(tmp_path)
    runs = [dataclasses.replace(AEVB, seed=seed, step_sizes=(0.02,)) for seed in range(3)]
    samples, live = 50_100, copy / "results" / results.live_folder().name
    command = [sys.executable, "-c", KILLED % {"runs": runs, "samples": samples}]
    lost, kept = [], 0
    for kills in range(3):
        with (tmp_path / f"bar{kills}").open("w") as bar:
            grid = subprocess.Popen(command, cwd=copy, env=environment, stderr=bar, start_new_session=True)
            if kills < 2:
                while (now := seen(live)) < kept + 30_000:
                    assert grid.poll() is None
                    time.sleep(0.01)
                os.killpg(grid.pid, signal.SIGKILL)
                grid.wait()
                kept = sum(torch.load(file)["progress"][0] * AEVB.batch_size for file in (live / "runs").glob("*.pt"))
                lost.append(now - kept)
        if kills == 2:
            assert grid.wait(300) == 0
    longest_piece = 50_100 - 39_800  # between two places of the grid, where each run is saved
    assert max(lost) <= 2 * longest_piece  # two at work
    assert "of 3 runs done" in (tmp_path / "bar2").read_text(encoding="utf-8") and seen(live) == 3 * samples
    alone, _ = run_grid(runs, samples, jobs=1)
    trained = [torch.load(live / "runs" / checkpoint_path(run).name)["curve"] for run in runs]
    bounds_now = [point[2] for curve in trained for point in curve]
    expected = alone.loc[alone["split"] == "test", "lower_bound"]
    assert bounds_now == pytest.approx(list(expected), rel=1e-12)


def seen(live):
    """Samples that the workers say they have trained on."""
    return sum(int(path.read_text(encoding="utf-8")) for path in (live / "progress").glob("[!.]*"))


def test_the_bar_counts_runs_samples_and_time_left(root, capsys):
    run_grid(RUNS, SAMPLES, jobs=1, progress=True)
    shown = capsys.readouterr().err
    goal = evaluation_grid(SAMPLES)[-1]
    assert {
        int((results.live_folder() / "progress" / checkpoint_path(run).stem).read_text(encoding="utf-8"))
        for run in RUNS
    } == {goal}
    assert "samples/s" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "0"], "a run of 0 samples ends before the first point of its curve: ask for more"),
        (["--samples", "-5"], "a run of -5 samples ends before the first point of its curve: ask for more"),
        (["--threads", "0"], "threads must be 1 or more, not 0"),
        (["--threads", "-1"], "threads must be 1 or more, not -1"),
        (["--jobs", "0"], "jobs must be 1 or more, not 0"),
        (["--jobs", "-1"], "jobs must be 1 or more, not -1"),
        (["--dataset", ""], "unknown dataset '': choose among mnist, frey"),
        (["--device", "cuda:99"], "--device cuda:99: torch finds no such device here"),
        (["--device", "meta"], "--device meta: torch finds no such device here"),
        (["--device", ""], "--device : torch finds no such device here"),
    ],
)
def test_sizes_of_nothing_and_devices_that_are_not_here_are_one_line(root, capsys, words, message):
    assert main(["record", "figure2", "--profile", "smoke", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"aevb: {message}") and error.count("\n") == 1
    assert not results.live_folder().exists() and not (root / "recorded").exists()


def test_no_runs_and_no_threads_are_one_clear_line(root):
    with pytest.raises(ValueError, match=r"^runs must be 1 or more, not 0$"):
        run_grid([], SAMPLES)
    with pytest.raises(ValueError, match=r"^threads must be 1 or more, not 0$"):
        experiments.train([AEVB], SAMPLES, threads=0)


def test_gpus_of_one_machine_share_their_checkpoints():
    """Their random numbers are the same, and a colon is no part of a file's name everywhere."""
    assert checkpoint_path(AEVB, "cuda:1") == checkpoint_path(AEVB, "cuda") != checkpoint_path(AEVB)
    assert checkpoint_path(AEVB, "cuda").name.endswith("-cuda.pt")


def test_an_unknown_device_is_one_line(capsys):
    assert main(["record", "figure2", "--profile", "smoke", "--device", "cuda"]) == 2 or torch.cuda.is_available()
    assert "leave it out to run on the CPU" in capsys.readouterr().err or torch.cuda.is_available()


def test_compute_keeps_curves_for_the_claims_and_record_for_good(root, monkeypatch):
    monkeypatch.setitem(experiments.FIGURES, "figure2", lambda profile, datasets: RUNS if profile == "smoke" else [])
    monkeypatch.setitem(experiments.PROFILES, "smoke", experiments.Profile({"figure2": SAMPLES}, seeds=1))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so that no other process runs
    assert {seed for seed, _ in experiments.compute("figure2", "smoke", seed=7).seeds()} == {
        run.seed + 7 for run in RUNS
    }
    computed = experiments.compute("figure2", "smoke")
    experiments.record("figure2", "smoke", samples=10_000)
    kept, entries = results.live("figure2", "smoke")
    assert bounds(kept.table) == pytest.approx(bounds(computed.table), abs=5e-4)
    assert set(entries) == {run.key for run in RUNS}
    assert set(results.recorded("figure2").table["samples"]) == {10_000}
    assert {entry["samples"] for entry in results.manifest("figure2").values()} == {10_000}


@pytest.fixture
def small_figure_5(root, monkeypatch):
    """A figure 5 of one small run."""
    monkeypatch.setitem(experiments.FIGURES, "figure5", lambda profile, datasets: [AEVB])
    return AEVB


def test_figure_5_is_recorded_with_its_models(small_figure_5, root):
    experiments.record("figure5", "smoke", samples=10_000, jobs=1)
    trained, model = fit(AEVB, 10_000).model, results.recorded_model(AEVB)
    for name, weight in trained.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), weight.half().float(), rtol=0, atol=0)
    assert results.manifest("models") == results.manifest("figure5")
    assert sorted(path.name for path in (root / "recorded" / "models").iterdir()) == [f"{AEVB.key}.npz"]


def test_a_model_is_recorded_with_the_samples_it_has_seen(small_figure_5):
    """Which a curve may not: another recording went further."""
    run_grid([AEVB], SAMPLES, jobs=1)
    experiments.record("figure5", "smoke", samples=10_000, jobs=1)
    assert results.manifest("figure5")[AEVB.key]["samples"] == 10_000
    assert results.manifest("models")[AEVB.key]["samples"] == SAMPLES


def test_curves_that_nothing_is_drawn_from_are_recorded_alone(root, monkeypatch):
    monkeypatch.setitem(experiments.FIGURES, "figure2", lambda profile, datasets: [AEVB])
    experiments.record("figure2", "smoke", samples=10_000, jobs=1)
    assert results.manifest("models") == {} and not (root / "recorded" / "models").exists()


def test_a_run_is_measured_on_each_ten_thousand_digits_where_it_ends(root, monkeypatch):
    monkeypatch.setitem(experiments.FIGURES, "figure2-digits", lambda profile, datasets: [AEVB])
    run_grid([AEVB], SAMPLES, jobs=1)
    experiments.record("figure2-digits", "smoke", samples=10_000, jobs=1)
    end, digits = fit(AEVB, SAMPLES), load("mnist")
    table = results.recorded("figure2-digits").table.set_index(["samples", "split"])["lower_bound"]
    assert results.manifest("figure2-digits")[AEVB.key]["samples"] == SAMPLES
    assert set(table.index) == {
        (SAMPLES, split) for split in (*(f"training {k}" for k in range(1, 6)), "validation", "test")
    }
    assert table[SAMPLES, "test"] == pytest.approx(end.curve[-1].test, abs=5e-4)
    noise = torch.Generator().manual_seed(AEVB.seed)
    last = mean_bound(end.model, digits, digits.train[40_000:], generator=noise)
    assert table[SAMPLES, "training 5"] == pytest.approx(last, abs=5e-4)
    noise = torch.Generator().manual_seed(AEVB.seed)
    held_back = mean_bound(end.model, digits, digits.valid, generator=noise)
    assert table[SAMPLES, "validation"] == pytest.approx(held_back, abs=5e-4)
    with pytest.raises(ValueError, match="figure2-digits is about mnist"):
        experiments.figure2_digits("quick", ("frey",))


def test_what_is_drawn_is_the_recorded_model_or_else_the_live_one(small_figure_5):
    with pytest.raises(ValueError, match="was not trained here: train it first") as error:
        experiments.drawn_model(AEVB)
    assert "\n" not in str(error.value)
    run_grid([AEVB], SAMPLES, jobs=1)
    live, name = experiments.drawn_model(AEVB)
    assert name == "live, 12,600 samples"
    for mine, theirs in zip(live.parameters(), fit(AEVB, SAMPLES).model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    experiments.record("figure5", "smoke", samples=SAMPLES, jobs=1)
    recorded, name = experiments.drawn_model(AEVB)
    assert name == "recorded, 12,600 samples"
    assert torch.equal(recorded.encoder.mu.weight, live.encoder.mu.weight.half().float())


def test_recording_full_vb_keeps_the_posterior_at_the_end_of_the_longest_curve(root, monkeypatch):
    run = dataclasses.replace(AEVB, algorithm="full-vb", step_sizes=(0.1,))
    monkeypatch.setitem(experiments.FIGURES, "full-vb", lambda *_: [run, RUNS[1]])
    experiments.record("full-vb", "smoke", samples=12_600, jobs=1)
    longest = fit(run, 12_600)
    for _ in range(2):
        for name, kept in zip(("mu", "log_var"), results.recorded_posterior(run.key), strict=True):
            torch.testing.assert_close(kept, getattr(longest.model, name).detach(), rtol=1e-3, atol=1e-7)
        experiments.record("full-vb", "smoke", samples=10_000, jobs=1)  # leaves the longer curve and its end
    table = results.recorded("full-vb").table.set_index(["run", "split", "samples"])["lower_bound"]
    for point in longest.curve:
        for split in ("train", "test", "running", "data", "evidence"):
            assert table[run.key, split, point.samples] == pytest.approx(getattr(point, split), abs=5e-4)
    assert set(table[RUNS[1].key].index.get_level_values("split")) == {"train", "test", "running"}
    with pytest.raises(ValueError, match="no posterior is recorded for run nobody"):
        results.recorded_posterior("nobody")


# the record


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_the_record_can_be_made_again(algorithm):
    """The beginning of a recorded curve, trained afresh."""
    name = next(run.key for run in figure2("standard", ("mnist",)) if run.algorithm == algorithm)
    entry, recorded = results.manifest("figure2")[name], results.recorded("figure2")
    run = Run(**{**entry["config"], "step_sizes": tuple(entry["config"]["step_sizes"])})
    ours = bounds(recorded.select(run=name).table)
    curve = fit(run, 20_000).curve
    assert [point.samples for point in curve] == [10_000, 12_600, 15_800, 20_000]
    for point in curve:
        for split in ("train", "test", "running"):
            assert getattr(point, split) == pytest.approx(ours[name, split, point.samples], abs=0.5)
