"""Timing steps in turn, over rounds, for the rows of one table."""

import functools
import statistics
import time
from collections.abc import Callable

import torch

from aevb.datasets import TITLES
from aevb.reproduction import results
from aevb.run import Run

ROUNDS = 9
STEPS = 40  # in each round; a multiple of MCEM's five updates per sample
PEAK_PRODUCTS = 10  # in each round: one takes as long as several steps
SQUARE = "1000 x 1000 product"
PAPER_RUN = Run("mnist", "aevb", 20, 500, step_sizes=(0.01,))  # of the size of figure 2

Times = dict[str, list[float]]
Step = Callable[[], object]


def describe(run: Run) -> str:
    """A run's setting, in words."""
    return f"{TITLES[run.dataset]}, {run.hidden} hidden, {run.latent_dim} latents, M = {run.batch_size}"


def row(what: str, quantity: str, setting: str, values: list[float], unit: str) -> dict:
    """One row of the table, from one value per round."""
    summary = statistics.median(values), min(values), max(values)
    return dict(zip(results.TABLES["speed"], (what, quantity, setting, *summary, unit), strict=True))


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


def square_product() -> tuple[Step, int]:
    """A 1000 x 1000 product, whose rate we call the peak, and its floating-point operations."""
    left, right, out = (torch.rand(1000, 1000) for _ in range(3))
    return functools.partial(torch.mm, left, right, out=out), 2 * 1000**3
