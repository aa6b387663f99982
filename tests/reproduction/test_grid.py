"""Runs side by side: in one process, in several, on a cluster, killed; the bar; checkpoints; readings among them."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from aevb.fit import follow
from aevb.reproduction import grid, provenance, readings, results
from aevb.reproduction.experiments import Member
from aevb.reproduction.grid import checkpoint_path, progress_path, run_grid
from aevb.reproduction.readings import Reading
from aevb.run import Run, evaluation_grid
from aevb.trainer import DivergedError, Trainer
from tests.runs import EXPLOSIVE, FULL_VB, ON_DIGITS, PAIR, RUN, SAMPLES, bounds, by_hand, member, seeds


def test_a_grid_gives_what_each_run_gives_alone(root):
    runs = [dataclasses.replace(ON_DIGITS, step_sizes=(0.01, 0.02)), PAIR[1]]
    table, entries = run_grid(runs, SAMPLES, jobs=1)
    assert bounds(table) == by_hand(runs[0], SAMPLES) | by_hand(runs[1], SAMPLES)
    assert len(table) == 2 * 2 * 3
    for run in runs:
        rows, entry = table[table["run"] == run.key], entries[run.key]
        about = ["dataset", "latent_dim", "algorithm", "seed"]
        assert rows[about].drop_duplicates().values.tolist() == [["mnist", 2, run.algorithm, 0]]
        assert Run(**entry["config"]) == run
        assert entry["step_size"] in run.step_sizes
        assert (entry["samples"], entry["torch"]) == (12_600, torch.__version__)
        assert entry["samples_per_second"] == pytest.approx(12_600 / entry["seconds"], rel=0.5)
        json.dumps(entry)


def test_a_run_that_exists_is_not_repeated(root):
    first, entries = run_grid(PAIR, SAMPLES, jobs=1)
    kept = {run: checkpoint_path(run).read_bytes() for run in PAIR}
    again, same = run_grid(PAIR, SAMPLES, jobs=1)
    assert bounds(again) == bounds(first)
    assert [same[run.key]["seconds"] for run in PAIR] == [entries[run.key]["seconds"] for run in PAIR]
    assert {run: checkpoint_path(run).read_bytes() for run in PAIR} == kept  # its own seconds too, to the last bit
    assert len(list((results.live_folder() / "runs").iterdir())) == 2


def test_a_smaller_profiles_curve_is_the_beginning_of_a_larger_ones(root):
    short, _ = run_grid(PAIR, 10_000, jobs=1)
    long, entries = run_grid(PAIR, 20_000, jobs=1)  # goes on from there
    assert bounds(short).items() < bounds(long).items()
    assert bounds(long) == by_hand(PAIR[0], 20_000) | by_hand(PAIR[1], 20_000)
    back, shorter = run_grid(PAIR, 10_000, jobs=1)
    assert bounds(back) == bounds(short)
    assert {entry["samples"] for entry in entries.values()} == {20_000}
    assert {entry["samples"] for entry in shorter.values()} == {10_000}


def test_a_change_of_the_code_is_a_new_run(root, monkeypatch):
    before = checkpoint_path(PAIR[0])
    monkeypatch.setattr(provenance, "LOADED", provenance.Code("another", "unknown"))
    assert checkpoint_path(PAIR[0]) != before


TEN_STEPS = dataclasses.replace(ON_DIGITS, batch_size=1000)  # as far as 10,000 samples


@pytest.mark.parametrize(
    ("one", "asked", "said"),
    [
        (Member(TEN_STEPS.key, TEN_STEPS), 1, "cpu, 1 thread"),
        (member(Reading("none", "none", TEN_STEPS)), 2, "cpu, 2 threads"),
    ],
    ids=["run", "reading"],
)
def test_a_member_has_the_threads_asked_for_and_the_callers_are_given_back(root, monkeypatch, one, asked, said):
    threads, step, had = torch.get_num_threads(), Trainer.step, set()
    monkeypatch.setattr(Trainer, "step", lambda trainer: had.add(torch.get_num_threads()) or step(trainer))
    torch.set_num_threads(3)
    try:
        (outcome,) = grid.train([one], 10_000, asked)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert (had, outcome.entry["device"]) == ({asked}, said)


def copied(folder):
    """A checkout of its own, whose workers keep their runs beside it and not where this process does; its variables."""
    copy = folder / "copy"
    copy.mkdir()
    shutil.copy(provenance.ROOT / "pyproject.toml", copy)
    shutil.copytree(provenance.ROOT / "aevb", copy / "aevb", ignore=shutil.ignore_patterns("__pycache__"))
    return copy, os.environ | {"PYTHONPATH": str(copy)}


SEEDS, FAR = seeds(ON_DIGITS), 50_100


@pytest.fixture(scope="module")
def alone() -> dict[tuple[str, str, int], float]:
    """The curves of `SEEDS` as far as `FAR`, trained in this process."""
    return {place: bound for run in SEEDS for place, bound in by_hand(run, FAR).items()}


def assert_alone(copy, alone):
    """The table that a copy left has the numbers of `alone`, in the order asked for."""
    table = pd.DataFrame(json.loads((copy / "table.json").read_text(encoding="utf-8")))
    assert list(table["run"].unique()) == [run.key for run in SEEDS]
    assert bounds(table) == pytest.approx(alone, rel=1e-12)


def test_other_processes_know_data_of_your_own(root, tmp_path, noise):
    """What is added here is nowhere else; the other process gets its description."""
    np.savez(tmp_path / "noise.npz", noise)
    copy, environment = copied(tmp_path)
    code = (
        "from aevb import datasets, own_data\n"
        "from aevb.reproduction import grid\n"
        "from aevb.run import Run\n"
        f"noise = own_data.describe({str(tmp_path / 'noise.npz')!r})\n"
        "datasets.add(noise)\n"
        "runs = [Run(noise.name, 'aevb', 2, 5, seed, step_sizes=(0.02,)) for seed in (0, 1)]\n"
        "print(grid.run_grid(runs, 10_000, jobs=2)[0]['bound'].notna().sum())\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.returncode) == ("6\n", 0), done.stderr


CLUSTER = """
import subprocess, sys, threading, time
from pathlib import Path
from distributed import Client
from aevb.reproduction import grid, results
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
        table, _ = grid.run_grid(%(runs)r, %(samples)d, backend="dask")
        killer.join()
        assert servers[1].wait(10) != 0
        assert len(client.scheduler_info()["workers"]) == 1
finally:
    for server in servers:
        server.kill()
table.to_json("table.json", double_precision=15)
"""


def test_a_grid_on_a_dask_cluster_survives_a_dead_worker(tmp_path, alone):
    """A real scheduler and two worker processes on loopback; one is killed while it trains."""
    copy, environment = copied(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = CLUSTER % {"port": port, "runs": SEEDS, "samples": FAR}
    subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, check=True, timeout=300)
    assert_alone(copy, alone)


KILLED = """
from aevb.reproduction import grid
from aevb.run import Run
table, _ = grid.run_grid(%(runs)r, %(samples)d, jobs=2, progress=True)
table.to_json("table.json", double_precision=15)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
def test_processes_killed_outright_go_on_and_give_the_numbers_of_one(tmp_path, alone):
    """`kill -9` of parent and workers; what is lost is less than a piece of a curve."""
    copy, environment = copied(tmp_path)
    live, bar = copy / "results" / results.live_folder().name, tmp_path / "bar"

    def started():
        command = [sys.executable, "-c", KILLED % {"runs": SEEDS, "samples": FAR}]
        with bar.open("w") as file:
            return subprocess.Popen(command, cwd=copy, env=environment, stderr=file, start_new_session=True)

    killed = started()
    while (trained := seen(live)) < 30_000:
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = sum(torch.load(file)["progress"][0] * ON_DIGITS.batch_size for file in (live / "runs").glob("*.pt"))
    longest_piece = FAR - 39_800  # between two places of the grid, where each run is saved
    assert trained - kept <= 2 * longest_piece  # two at work
    assert started().wait(300) == 0
    assert_alone(copy, alone)
    assert {path.name for path in (live / "runs").iterdir()} == {checkpoint_path(run).name for run in SEEDS}
    assert "of 3 runs done" in bar.read_text(encoding="utf-8") and seen(live) == 3 * FAR


def seen(live):
    """Samples that the workers say they have trained on."""
    return sum(int(path.read_text(encoding="utf-8")) for path in (live / "progress").glob("[!.]*"))


def test_the_bar_counts_runs_samples_and_time_left(root, capsys):
    run_grid(PAIR, SAMPLES, jobs=1, progress=True)
    shown = capsys.readouterr().err
    goal = evaluation_grid(SAMPLES)[-1]
    assert {int(progress_path(run.key).read_text(encoding="utf-8")) for run in PAIR} == {goal}
    assert "samples/s" in shown
    assert f"{2 * goal / 1000:.1f}k/{2 * goal / 1000:.1f}k" in (last := shown.split("\r")[-1])
    assert "2 of 2 runs done" in last


@pytest.mark.parametrize("note", [b"", b"1e", b"\xff"])
def test_a_damaged_note_for_the_bar_stops_no_run(root, note):
    path = progress_path(ON_DIGITS.key)
    path.parent.mkdir(parents=True)
    path.write_bytes(note)
    table, _ = run_grid([ON_DIGITS], 10_000, jobs=1, progress=True)
    assert len(table)
    assert path.read_text(encoding="utf-8") == "10000"


def test_a_bar_over_a_grid_that_fails_stays_where_it_is(root, capsys):
    with pytest.raises(DivergedError):
        run_grid([EXPLOSIVE], SAMPLES, jobs=1, progress=True)
    assert "1 of 1 runs done" not in capsys.readouterr().err


def test_no_runs_and_no_threads_are_one_clear_line(root):
    with pytest.raises(ValueError, match=r"^runs must be 1 or more, not 0$"):
        run_grid([], SAMPLES)
    with pytest.raises(ValueError, match=r"^threads must be 1 or more, not 0$"):
        grid.train([Member(ON_DIGITS.key, ON_DIGITS)], SAMPLES, threads=0)


def test_gpus_of_one_machine_share_their_checkpoints():
    """Their random numbers are the same, and a colon is no part of a file's name everywhere."""
    assert checkpoint_path(ON_DIGITS, "cuda:1") == checkpoint_path(ON_DIGITS, "cuda") != checkpoint_path(ON_DIGITS)
    assert checkpoint_path(ON_DIGITS, "cuda").name.endswith("-cuda.pt")


# readings


def trained_by_hand(reading, samples):
    made = Trainer(reading.run, *reading.run.step_sizes)
    reading.change(made)
    with contextlib.suppress(DivergedError):
        follow([made], samples)
    return {
        (reading.key, split, point.samples): getattr(point, split)
        for point in made.curve
        for split in ("train", "test", "running")
    }


def bounds_of(outcome):
    return {(row["run"], row["split"], row["samples"]): row["bound"] for row in outcome.rows}


def test_the_unchanged_reading_is_the_librarys_own_run(root):
    reading = Reading("none", "nothing", ON_DIGITS)
    (outcome,) = grid.train([member(reading)], SAMPLES)
    own = {(reading.key, *place): value for (_, *place), value in by_hand(ON_DIGITS, SAMPLES).items()}
    assert bounds_of(outcome) == own
    assert {(row["question"], row["answer"]) for row in outcome.rows} == {("none", "nothing")}
    entry = outcome.entry
    assert (entry["question"], entry["answer"], entry["diverged"]) == ("none", "nothing", False)
    assert (Run(**entry["config"]), entry["samples"]) == (ON_DIGITS, SAMPLES)


def test_a_reading_is_trained_with_its_change_and_leaves_no_checkpoint(root):
    """Beside plain runs, whose checkpoints are their own: one that exists is no reading's."""
    wide, plain = Reading("initial weights", "wide", ON_DIGITS, readings.wide), Member(ON_DIGITS.key, ON_DIGITS)
    diverging = Reading("step size", "1e30", EXPLOSIVE)
    members = [plain, member(wide), member(diverging)]
    found = {outcome.key: outcome for outcome in grid.outcomes(members, SAMPLES, jobs=1)}
    assert bounds_of(found[plain.key]) == by_hand(ON_DIGITS, SAMPLES)
    assert bounds_of(found[wide.key]) == trained_by_hand(wide, SAMPLES)
    assert list(bounds_of(found[wide.key]).values()) != list(by_hand(ON_DIGITS, SAMPLES).values())
    assert bounds_of(found[diverging.key]) == trained_by_hand(diverging, SAMPLES) == {}
    assert {key: outcome.entry.get("diverged") for key, outcome in found.items()} == {
        plain.key: None, wide.key: False, diverging.key: True
    }  # fmt: skip
    assert [path.name for path in (root / results.live_folder().name / "runs").iterdir()] == [
        checkpoint_path(ON_DIGITS).name
    ]


def test_a_reading_of_several_step_sizes_is_refused_in_one_line_before_anything_is_trained(root):
    reading = Reading("none", "none", dataclasses.replace(ON_DIGITS, step_sizes=(0.01, 0.02)))
    with pytest.raises(ValueError, match=r"^a reading has one step size, not .*: make one reading for each$"):
        list(grid.outcomes([Member(ON_DIGITS.key, ON_DIGITS), member(reading)], SAMPLES, jobs=1))
    assert not root.exists()


# the columns of a table


@pytest.mark.parametrize(
    "one",
    [
        Member(RUN.key, RUN),
        Member(FULL_VB.key, FULL_VB),
        Member("likelihood", dataclasses.replace(RUN, measure="marginal-likelihood")),
        member(Reading("none", "none", RUN)),
    ],
    ids=["bound", "full-vb", "likelihood", "reading"],
)
def test_the_columns_of_a_member_are_those_of_its_rows(root, tiny, one):
    (outcome,) = grid.train([one], evaluation_grid(100_000, RUN.batch_size, one.run.measure)[0])
    assert outcome.rows
    for row in outcome.rows:
        assert set(row) == grid.columns(one)
