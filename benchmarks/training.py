"""The cost of a training step, beside its matrix products, a step by hand, the usual loop and Pyro.

    python -m benchmarks.training            one table, in about three minutes on a quiet machine
    python -m benchmarks.training --record   and keep it in results/recorded, for the book's page on speed

Everything runs in one process on one thread and in turn, so that a busy machine slows all alike. The table has medians
over rounds, the least and the most. A share or a ratio is taken within each round.
"""

import argparse
import concurrent.futures
import functools
import importlib.metadata
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pandas as pd
import torch
from tabulate import tabulate
from tqdm import tqdm

from aevb.datasets import TITLES
from aevb.reproduction import provenance, results
from aevb.run import Run
from aevb.trainer import Trainer
from benchmarks import by_hand, peers, variants

ROUNDS = 9
STEPS = 40  # in each round; a multiple of MCEM's five updates per sample
PAPER = Run("mnist", "aevb", 20, 500, step_sizes=(0.01,))
OTHERS = {
    "wake-sleep": Run("mnist", "wake-sleep", 20, 500, step_sizes=(0.01,)),
    "AEVB, Frey Face": Run("frey", "aevb", 20, 200, step_sizes=(0.02,)),
    "MCEM": Run("mnist", "mcem", 3, 100, step_sizes=(0.02,), measure="marginal-likelihood"),
}
HIDDEN, BATCHES = (100, 200, 1000), (20, 500)  # beside the paper's 500 and 100
PEAK_PRODUCTS = 10  # in each round: one takes as long as several steps
SIDE_BY_SIDE_ROUNDS, SIDE_BY_SIDE_SECONDS = 3, 3.0
OURS, IN_TURN, AT_PEAK = "AEVB", "matrix products, in turn", "matrix products, at peak"
SQUARE = "1000 x 1000 product"
MATRIX_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}

Times = dict[str, list[float]]
Step = Callable[[], object]


def describe(run: Run) -> str:
    """A run's setting, in words."""
    return f"{TITLES[run.dataset]}, {run.hidden} hidden, {run.latent_dim} latents, M = {run.batch_size}"


def row(what: str, quantity: str, setting: str, values: list[float], unit: str) -> dict:
    """One row of the table, from one value per round."""
    summary = statistics.median(values), min(values), max(values)
    return dict(zip(results.SPEED_COLUMNS, (what, quantity, setting, *summary, unit), strict=True))


def seconds(step: Step, n: int = STEPS) -> float:
    """Seconds per step, over `n` of them."""
    start = time.perf_counter()
    for _ in range(n):
        step()
    return (time.perf_counter() - start) / n


def in_turn(steps: dict[str, Step], n: int = STEPS) -> Times:
    """Seconds per step of each in each round, after a few steps that do not count."""
    for step in steps.values():
        seconds(step, 5)
    counts = {name: PEAK_PRODUCTS if name == SQUARE else n for name in steps}
    rounds = [{name: seconds(step, counts[name]) for name, step in steps.items()} for _ in range(ROUNDS)]
    return {name: [times[name] for times in rounds] for name in steps}


def ratios(times: list[float], to: list[float], scale: float = 1.0) -> list[float]:
    """`times` over `to` in each round."""
    return [scale * a / b for a, b in zip(times, to, strict=True)]


def time_rows(times: Times, setting: str, floors: Times) -> list[dict]:
    """The time of each step, and the share of it that each of the `floors` would have taken."""
    rows = []
    for name, values in times.items():
        rows.append(row(name, "time a step", setting, [1e3 * value for value in values], "ms"))
        for floor, least in floors.items():
            if name not in (IN_TURN, AT_PEAK):
                rows.append(row(name, f"share of {floor}", setting, ratios(least, values, 100), "%"))
    return rows


def square_product() -> tuple[Step, int]:
    """A 1000 x 1000 product, whose rate we call the peak, and its floating-point operations."""
    left, right, out = (torch.rand(1000, 1000) for _ in range(3))
    return functools.partial(torch.mm, left, right, out=out), 2 * 1000**3


def flops_a_step(trainer: Trainer) -> float:
    """Floating-point operations of the matrix products in a step, counted while steps are made."""
    with torch.profiler.profile(with_flops=True, acc_events=True) as profile:
        seconds(trainer.step, 5)
    return sum(event.flops for event in profile.key_averages() if event.key in MATRIX_PRODUCTS) / 5


def beside_the_floor(run: Run, more: dict[str, Step], n: int) -> list[dict]:
    """AEVB's step for `run`, `more` steps, and both floors, in the same rounds."""
    trainer = Trainer(run, run.step_sizes[0])
    products = by_hand.products(trainer.model, run.batch_size)
    square, work = square_product()
    steps: dict[str, Step] = {
        OURS: trainer.step,
        **more,
        IN_TURN: functools.partial(by_hand.multiply, products),
        SQUARE: square,
    }
    times = in_turn(steps, n)
    square_times = times.pop(SQUARE)
    times[AT_PEAK] = [by_hand.flops(products) * value / work for value in square_times]
    floors = {IN_TURN: times[IN_TURN], AT_PEAK: times[AT_PEAK]}
    return [
        *time_rows(times, describe(run), floors),
        row(OURS, "floating-point operations a step", describe(run), [by_hand.flops(products) / 1e9], "GFLOP"),
        row(SQUARE, "rate", describe(run), [work / value / 1e9 for value in square_times], "GFLOP/s"),
    ]


def at_the_paper_size() -> list[dict]:
    """AEVB at the size of figure 2 beside everything."""
    more = {
        "written by hand": by_hand.HandWritten(PAPER, 0.01).step,
        **peers.pyro_steps(PAPER),
        "tutorial loop": peers.tutorial(PAPER),
    }
    return beside_the_floor(PAPER, more, STEPS)


def other_steps() -> list[dict]:
    """The other runs of figures 2 and 3; their floor is the peak rate alone."""
    trainers = {name: Trainer(run, run.step_sizes[0]) for name, run in OTHERS.items()}
    work = {name: flops_a_step(trainer) for name, trainer in trainers.items()}
    square, square_work = square_product()
    times = in_turn({**{name: trainer.step for name, trainer in trainers.items()}, SQUARE: square})
    rows = []
    for name, run in OTHERS.items():
        least = {AT_PEAK: [work[name] * value / square_work for value in times[SQUARE]]}
        rows += time_rows({name: times[name]}, describe(run), least)
    return rows


def other_sizes() -> list[dict]:
    """AEVB with other numbers of hidden units, and other minibatches."""
    sizes = [(hidden, PAPER.batch_size) for hidden in HIDDEN] + [(PAPER.hidden, batch) for batch in BATCHES]
    runs = [Run("mnist", "aevb", 20, hidden, batch_size=batch, step_sizes=(0.01,)) for hidden, batch in sizes]
    return [line for run in runs for line in beside_the_floor(run, {}, STEPS // 2)]


def parts_of_a_step() -> list[dict]:
    """The parts of a step's time, by torch's profiler: each kernel's own time, as a share of the step's.

    The rest is Python, autograd's bookkeeping and the profiler's own, which makes every call a little slower: a row of
    its own has the time of a step with it over that without. The last row is the time of the matrix products within the
    step over that of the same products alone.
    """
    trainer = Trainer(PAPER, 0.01)
    step, alone = trainer.step, functools.partial(by_hand.multiply, by_hand.products(trainer.model, PAPER.batch_size))
    seconds(step, 5)
    parts: Times = {name: [] for name in ("matrix products", "optimiser", "other kernels", "rest")}
    with_profiler, without, inside_over_alone = [], [], []
    for _ in range(ROUNDS):
        without.append(seconds(step, STEPS // 2))
        with torch.profiler.profile(acc_events=True) as profile:
            with_profiler.append(seconds(step, STEPS // 2))
        spent = dict.fromkeys(parts, 0.0)
        for event in profile.key_averages():
            if event.key.startswith("aten::"):
                spent[_kind(event.key)] += event.self_cpu_time_total / 1e6 / (STEPS // 2)
        inside_over_alone.append(spent["matrix products"] / seconds(alone, STEPS // 2))
        spent["rest"] = with_profiler[-1] - sum(spent.values())
        for name, values in parts.items():
            values.append(100 * spent[name] / with_profiler[-1])
    rows = [row(name, "part of a step", describe(PAPER), values, "%") for name, values in parts.items()]
    slower = ratios(with_profiler, without)
    rows.append(row("under the profiler", "time over that without it", describe(PAPER), slower, ""))
    rows.append(row("matrix products", "time in a step over that alone", describe(PAPER), inside_over_alone, ""))
    return rows


def _kind(kernel: str) -> str:
    if kernel in MATRIX_PRODUCTS:
        return "matrix products"
    return "optimiser" if "adagrad" in kernel else "other kernels"


def what_was_tried(compiled: bool) -> list[dict]:
    """Each idea's time over that of the same step without it."""
    tried = variants.TRIED | (variants.COMPILED if compiled else {})
    steps: dict[str, Step] = {name: variants.Variant(PAPER, 0.01, **pieces).step for name, pieces in tried.items()}
    # the cost where nothing is compiled yet
    with torch.compiler.config.patch(force_disable_caches=True):  # type: ignore[attr-defined] # torch adds it
        first = {name: seconds(step, 1) for name, step in steps.items()}
    times = in_turn(steps)
    plain = times[variants.PLAIN]
    rows = [row(name, "time over the plain step's", describe(PAPER), ratios(t, plain), "") for name, t in times.items()]
    for name in variants.COMPILED.keys() & first.keys():
        rows.append(row(name, "time of the first step", describe(PAPER), [first[name]], "s"))
    return rows


BARRIERS: dict[int, Barrier]
STEP: Step


def _prepare(barriers: dict[int, Barrier]) -> None:
    """In a new process: its own run, and the barriers it shares with the others."""
    global BARRIERS, STEP
    torch.set_num_threads(1)
    BARRIERS, STEP = barriers, Trainer(PAPER, 0.01).step
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
        row(f"runs at once: {n}, threads each: {threads}", "steps over those of one run", describe(PAPER),
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
        "a run to 10,000 samples": f"from aevb.fit import fit; from aevb.run import Run; fit({PAPER!r}, 10_000)",
    }
    # not getrusage, which counts the process that started this one
    report = f"print(*(line for line in open('{status}') if line.startswith('VmHWM')))"

    def megabytes(program: str) -> float:
        command = [sys.executable, "-c", f"{program}\n{report}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        return int(said.split()[-2]) / 1024

    return [
        row(name, "peak memory", describe(PAPER), [megabytes(program) for _ in range(3)], "MiB")
        for name, program in programs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="compile too, and write results/recorded/speed.csv")
    record = parser.parse_args().record
    if record:
        provenance.announce_commit()
    torch.set_num_threads(1)
    start = time.perf_counter()
    parts = (
        at_the_paper_size,
        other_steps,
        other_sizes,
        parts_of_a_step,
        functools.partial(what_was_tried, compiled=record),
        side_by_side,
        memory,
    )
    table = pd.DataFrame([line for part in tqdm(parts, unit="part") for line in part()], columns=results.SPEED_COLUMNS)
    print(tabulate(table, headers="keys", floatfmt=".2f", showindex=False))
    if record:
        about = {
            **provenance.here(),
            "pyro": importlib.metadata.version("pyro-ppl"),
            "device": "cpu, one thread",
            "rounds": ROUNDS,
            "steps": STEPS,
            "seconds": round(time.perf_counter() - start, 1),
        }
        results.write_speed(table, about)


if __name__ == "__main__":
    main()
