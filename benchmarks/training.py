"""The cost of a training step, beside its matrix products, a step by hand, the usual loop and Pyro.

    python -m benchmarks.training            one table, in about three minutes on a quiet machine
    python -m benchmarks.training --record   and keep it in results/recorded, for the book's page on speed

Everything runs in one process on one thread and in turn, so that a busy machine slows all alike. The table has medians
over rounds, the least and the most. A share or a ratio is taken within each round.
"""

import argparse
import functools
import importlib.metadata
import time

import pandas as pd
import torch
from tabulate import tabulate
from tqdm import tqdm

from aevb.reproduction import provenance, results
from aevb.run import Run
from aevb.trainer import Trainer
from benchmarks import by_hand, peers, processes, variants
from benchmarks.timing import (
    PAPER_RUN,
    ROUNDS,
    SQUARE,
    STEPS,
    Step,
    Times,
    describe,
    in_turn,
    ratios,
    row,
    seconds,
    square_product,
)

OTHERS = {
    "wake-sleep": Run("mnist", "wake-sleep", 20, 500, step_sizes=(0.01,)),
    "AEVB, Frey Face": Run("frey", "aevb", 20, 200, step_sizes=(0.02,)),
    "MCEM": Run("mnist", "mcem", 3, 100, step_sizes=(0.02,), measure="marginal-likelihood"),
}
HIDDEN, BATCHES = (100, 200, 1000), (20, 500)  # beside the paper's 500 and 100
OURS, IN_TURN, AT_PEAK = "AEVB", "matrix products, in turn", "matrix products, at peak"
MATRIX_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


def time_rows(times: Times, setting: str, floors: Times) -> list[dict]:
    """The time of each step, and the share of it that each of the `floors` would have taken."""
    rows = []
    for name, values in times.items():
        rows.append(row(name, "time a step", setting, [1e3 * value for value in values], "ms"))
        for floor, least in floors.items():
            if name not in (IN_TURN, AT_PEAK):
                rows.append(row(name, f"share of {floor}", setting, ratios(least, values, 100), "%"))
    return rows


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
    from benchmarks import pyro_peer  # here, for the tests do without Pyro

    more = {
        "written by hand": by_hand.HandWritten(PAPER_RUN, 0.01).step,
        **pyro_peer.steps(PAPER_RUN),
        "tutorial loop": peers.tutorial(PAPER_RUN),
    }
    return beside_the_floor(PAPER_RUN, more, STEPS)


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
    sizes = [(hidden, PAPER_RUN.batch_size) for hidden in HIDDEN] + [(PAPER_RUN.hidden, batch) for batch in BATCHES]
    runs = [Run("mnist", "aevb", 20, hidden, batch_size=batch, step_sizes=(0.01,)) for hidden, batch in sizes]
    return [line for run in runs for line in beside_the_floor(run, {}, STEPS // 2)]


def parts_of_a_step() -> list[dict]:
    """The parts of a step's time, by torch's profiler: each kernel's own time, as a share of the step's.

    The rest is Python, autograd's bookkeeping and the profiler's own, which makes every call a little slower: a row of
    its own has the time of a step with it over that without. The last row is the time of the matrix products within the
    step over that of the same products alone.
    """
    trainer = Trainer(PAPER_RUN, 0.01)
    step, alone = (
        trainer.step,
        functools.partial(by_hand.multiply, by_hand.products(trainer.model, PAPER_RUN.batch_size)),
    )
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
    rows = [row(name, "part of a step", describe(PAPER_RUN), values, "%") for name, values in parts.items()]
    slower = ratios(with_profiler, without)
    rows.append(row("under the profiler", "time over that without it", describe(PAPER_RUN), slower, ""))
    rows.append(row("matrix products", "time in a step over that alone", describe(PAPER_RUN), inside_over_alone, ""))
    return rows


def _kind(kernel: str) -> str:
    if kernel in MATRIX_PRODUCTS:
        return "matrix products"
    return "optimiser" if "adagrad" in kernel else "other kernels"


def what_was_tried(compiled: bool) -> list[dict]:
    """Each idea's time over that of the same step without it."""
    tried = variants.TRIED | (variants.COMPILED if compiled else {})
    steps: dict[str, Step] = {name: variants.Variant(PAPER_RUN, 0.01, **pieces).step for name, pieces in tried.items()}
    # the cost where nothing is compiled yet
    with torch.compiler.config.patch(force_disable_caches=True):  # type: ignore[attr-defined] # torch adds it
        first = {name: seconds(step, 1) for name, step in steps.items()}
    times = in_turn(steps)
    plain = times[variants.PLAIN]
    rows = [
        row(name, "time over the plain step's", describe(PAPER_RUN), ratios(t, plain), "") for name, t in times.items()
    ]
    for name in variants.COMPILED.keys() & first.keys():
        rows.append(row(name, "time of the first step", describe(PAPER_RUN), [first[name]], "s"))
    return rows


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
        processes.side_by_side,
        processes.memory,
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
