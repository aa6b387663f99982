"""The processes that a kernel started end with it, whichever of the processes around it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aevb.book.notebooks import ROOT
from tests.written import write

# a chapter that never ends: workers at full load, a process of theirs
BUSY = """
import os, subprocess, sys, joblib

def spin(_):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(f"pids/{os.getpid()}", "w").close()
    while True:
        pass

open(f"pids/{os.getpid()}", "w").close()
joblib.Parallel(n_jobs=2)(joblib.delayed(spin)(i) for i in range(2))
"""
EXECUTES = """
import pathlib, sys
from aevb.book import execution, terminal

def command():
    text = pathlib.Path(sys.argv[1])
    return int(bool(execution.execute(text, text.with_suffix(".ipynb"), "quick").error))

terminal.leave(terminal.run(command))
"""
HANG = 120  # seconds, for a machine that is busy with other things


@pytest.fixture
def busy(tmp_path):
    """A process that executes BUSY, its kernel, and everybody below it."""
    (tmp_path / "pids").mkdir()
    text = write(tmp_path / "03_a.md", BUSY)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    client = subprocess.Popen([sys.executable, "-c", EXECUTES, text], cwd=ROOT, env=environment, start_new_session=True)
    until = time.monotonic() + HANG
    while len(list((tmp_path / "pids").iterdir())) < 3:
        assert client.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    family = psutil.Process(client.pid).children(recursive=True)
    (kernel,) = [process for process in family if "ipykernel_launcher" in process.cmdline() and not guards(process)]
    yield client, kernel, family
    for process in [*family, psutil.Process(client.pid)] if client.poll() is None else family:
        if process.is_running():
            process.kill()
    client.wait()


def guards(process: psutil.Process) -> bool:
    return any(Path(word).name == "guard.py" for word in process.cmdline())


def left(family: list[psutil.Process]) -> list[psutil.Process]:
    """The processes still there after ten seconds; three would do on an idle machine."""
    return psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
@pytest.mark.parametrize(
    ("number", "to_all", "status"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        ("SIGKILL", False, -9),
    ],
)
def test_nothing_outlives_a_command_that_is_stopped(busy, number, to_all, status):
    client, _, family = busy
    assert len(family) >= 7  # guard, kernel, Jupyter's and joblib's helpers, workers, theirs
    number = getattr(signal, number) if isinstance(number, str) else number
    (os.killpg if to_all else os.kill)(client.pid, number)
    assert client.wait(HANG) == status
    assert left(family) == []


def test_workers_end_with_a_kernel_that_is_killed(busy):
    client, kernel, family = busy
    kernel.kill()
    assert left(family) == []
    assert client.wait(HANG) == 1  # the chapter failed, and the command went on
