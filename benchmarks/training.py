"""The cost of a training step, beside its matrix products, the same step by autograd, the usual loop and Pyro.

    python -m benchmarks.training            one table, in about four minutes on a quiet machine
    python -m benchmarks.training --record   and keep it in results/recorded, for the book's page on speed

Everything runs in one process on one thread and in turn, so that a busy machine slows all alike. The table has medians
over rounds, the least and the most. A share or a ratio is taken within each round.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import time

import pandas as pd
import torch
from tabulate import tabulate
from tqdm import tqdm

from aevb.algorithms import OfMinibatches
from aevb.reproduction import provenance, results
from aevb.run import Run
from aevb.trainer import Trainer
from benchmarks import denormals, floor, peers, processes, variants
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

WAKE_SLEEP_RUN = dataclasses.replace(PAPER_RUN, algorithm="wake-sleep")
FREY_RUNS = [Run("frey", algorithm, 20, 200, step_sizes=(0.02,)) for algorithm in ("aevb", "wake-sleep")]
MCEM_RUN = Run("mnist", "mcem", 3, 100, step_sizes=(0.02,), measure="marginal-likelihood")
HIDDEN, BATCHES = (100, 200, 1000), (20, 500)  # beside the paper's 500 and 100
IN_TURN, AT_PEAK = "products in turn", "products at peak"
MATRIX_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


def time_row(what: str, setting: str, times: list[float]) -> dict:
    """The time of a step."""
    return row(what, "time a step", setting, [1e3 * value for value in times], "ms")


def by_autograd(run: Run) -> Trainer:
    """The same run by an equal objective, whose gradient nobody has derived by hand."""
    trainer = Trainer(run, run.step_sizes[0])
    assert isinstance(trainer.updates, OfMinibatches)
    trainer.updates.objective = functools.partial(trainer.updates.objective)
    return trainer


def kind_of_step(run: Run, peers: dict[str, Step]) -> tuple[dict[str, Step], int]:
    """The library's step, first, the same by autograd, its matrix products alone and its `peers`, by name.

    And the floating-point operations of those products.
    """
    trainer = Trainer(run, run.step_sizes[0])
    title, products = trainer.algorithm.title, floor.products(run.algorithm, trainer.model, run.batch_size)
    steps: dict[str, Step] = {
        title: trainer.step,
        f"{title} by autograd": by_autograd(run).step,
        **peers,
        f"{title}, {IN_TURN}": functools.partial(floor.multiply, products),
    }
    return steps, floor.flops(products)


def beside_the_floors(runs: list[Run], peers: dict[str, Step], n: int = STEPS) -> list[dict]:
    """The steps of `runs`, each beside its own floors, and `peers` of the first, all in the same rounds.

    The runs are of one size, and differ in algorithm.
    """
    kinds = [kind_of_step(run, {} if k else peers) for k, run in enumerate(runs)]
    square, work = square_product()
    times = in_turn({SQUARE: square} | {name: step for steps, _ in kinds for name, step in steps.items()}, n)
    setting, rates = describe(runs[0]), [work / value / 1e9 for value in times[SQUARE]]
    rows = [row(SQUARE, "rate", setting, rates, "GFLOP/s")]
    for steps, flops in kinds:
        title = next(iter(steps))
        of_kind = {name: times[name] for name in steps}
        of_kind[f"{title}, {AT_PEAK}"] = [flops / 1e9 / rate for rate in rates]
        rows.append(row(title, "floating-point operations a step", setting, [flops / 1e9], "GFLOP"))
        rows += rows_of_a_kind(title, of_kind, setting)
    return rows


def rows_of_a_kind(title: str, times: Times, setting: str) -> list[dict]:
    """The time of each step, the share of it that each floor is, and how often it holds the time of the library's."""
    rows = [time_row(name, setting, values) for name, values in times.items()]
    floors = {kind: times.pop(f"{title}, {kind}") for kind in (IN_TURN, AT_PEAK)}
    for name, values in times.items():
        for kind, least in floors.items():
            rows.append(row(name, f"share of {kind}", setting, ratios(least, values, 100), "%"))
        if name != title:
            rows.append(row(name, "time over the library's", setting, ratios(values, times[title]), ""))
    return rows


def at_the_paper_size() -> list[dict]:
    """AEVB and wake-sleep at the size of figure 2, and the peers of AEVB."""
    from benchmarks import pyro_peer  # here, for the tests do without Pyro

    more = {**pyro_peer.steps(PAPER_RUN), "tutorial loop": peers.tutorial(PAPER_RUN)}
    return beside_the_floors([PAPER_RUN, WAKE_SLEEP_RUN], more)


def other_sizes() -> list[dict]:
    """Faces; AEVB with other numbers of hidden units, and other minibatches; MCEM."""
    runs = [dataclasses.replace(PAPER_RUN, hidden=hidden) for hidden in HIDDEN]
    runs += [dataclasses.replace(PAPER_RUN, batch_size=batch_size) for batch_size in BATCHES]
    rows = beside_the_floors(FREY_RUNS, {})
    for run in runs:
        rows += beside_the_floors([run], {}, STEPS // 2)
    times = in_turn({"MCEM": Trainer(MCEM_RUN, MCEM_RUN.step_sizes[0]).step})
    return [*rows, time_row("MCEM", describe(MCEM_RUN), times["MCEM"])]


def parts_of_a_step() -> list[dict]:
    """The parts of a step's time, by torch's profiler: each kernel's own time, as a share of the step's.

    The rest is Python and the profiler's own, which makes every call a little slower: a row of its own has the time of
    a step with it over that without. The last row is the time of the matrix products within the step over that of the
    same products alone.
    """
    trainer = Trainer(PAPER_RUN, 0.01)
    products = floor.products(PAPER_RUN.algorithm, trainer.model, PAPER_RUN.batch_size)
    step, alone = trainer.step, functools.partial(floor.multiply, products)
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
        other_sizes,
        parts_of_a_step,
        denormals.without_flushing,
        functools.partial(what_was_tried, compiled=record),
        processes.side_by_side,
        processes.memory,
    )
    table = pd.DataFrame(
        [line for part in tqdm(parts, unit="part") for line in part()], columns=results.TABLES["speed"]
    )
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
        results.write_table("speed", table, about)


if __name__ == "__main__":
    main()
