"""The same run in processes of their own: its speed beside others, its memory."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from aevb.trainer import Trainer
from benchmarks.timing import PAPER_RUN, Step, describe, row, seconds

SIDE_BY_SIDE_ROUNDS, SIDE_BY_SIDE_SECONDS = 3, 3.0

BARRIERS: dict[int, Barrier]
STEP: Step


def _prepare(barriers: dict[int, Barrier]) -> None:
    """In a new process: its own run, and the barriers it shares with the others."""
    global BARRIERS, STEP
    torch.set_num_threads(1)
    BARRIERS, STEP = barriers, Trainer(PAPER_RUN, 0.01).step
    seconds(STEP, 5)


def _rate(processes: int, threads: int) -> float:
    """Steps per second of this process's run on `threads` threads, while `processes` of them run."""
    torch.set_num_threads(threads)
    STEP()
    BARRIERS[processes].wait()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < SIDE_BY_SIDE_SECONDS:
        STEP()
        steps += 1
    return steps / (time.perf_counter() - start)


def side_by_side() -> list[dict]:
    """The steps of several runs at once, a process each, over those of one run on one thread.

    With one thread each, up to all cores; then with a thread per core, for one run and for as many as there are cores.
    """
    cores = os.cpu_count() or 1
    counts = sorted({cores, *(2**k for k in range(cores.bit_length()) if 2**k <= cores)})
    ways = dict.fromkeys([*((n, 1) for n in counts), (1, cores), (cores, cores)])  # (processes, threads), each once
    context = multiprocessing.get_context("spawn")
    barriers = {n: context.Barrier(n) for n in counts}
    with concurrent.futures.ProcessPoolExecutor(cores, context, _prepare, (barriers,)) as pool:

        def together(processes: int, threads: int) -> float:
            return sum(pool.map(_rate, [processes] * processes, [threads] * processes))

        together(cores, 1)  # all processes exist and are warm
        rounds = [{way: together(*way) for way in ways} for _ in range(SIDE_BY_SIDE_ROUNDS)]
    return [
        row(f"runs at once: {n}, threads each: {threads}", "steps over those of one run", describe(PAPER_RUN),
            [rates[n, threads] / rates[1, 1] for rates in rounds], "")
        for n, threads in ways
    ]  # fmt: skip


def memory() -> list[dict]:
    """The most memory a process of its own ever held, importing torch alone and making a run. On Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return []
    programs = {
        "importing torch": "import torch",
        "a run to 10,000 samples": f"from aevb.fit import fit; from aevb.run import Run; fit({PAPER_RUN!r}, 10_000)",
    }
    # not getrusage, which counts the process that started this one
    report = f"print(*(line for line in open('{status}') if line.startswith('VmHWM')))"

    def megabytes(program: str) -> float:
        command = [sys.executable, "-c", f"{program}\n{report}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        return int(said.split()[-2]) / 1024

    return [
        row(name, "peak memory", describe(PAPER_RUN), [megabytes(program) for _ in range(3)], "MiB")
        for name, program in programs.items()
    ]
