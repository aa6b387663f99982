"""What denormal numbers cost: numbers too small for full precision, which `optimizer.flushed_denormals` makes zero."""

import contextlib
import functools
from unittest import mock

import torch

from aevb import optimizer
from aevb.trainer import Trainer
from benchmarks.floor import networks
from benchmarks.timing import PAPER_RUN, Step, describe, in_turn, ratios, row, seconds

STEPS_BEFORE = 2000


def step_without_flushing(trainer: Trainer) -> None:
    """`Trainer.step`, in which denormal numbers are numbers."""
    with mock.patch.object(optimizer, "flushed_denormals", contextlib.nullcontext):
        trainer.step()


def denormal(values: torch.Tensor) -> torch.Tensor:
    """Which of `values` are too small for full precision, and not zero."""
    return (values != 0) & (values.abs() < torch.finfo(values.dtype).tiny)


def without_flushing() -> list[dict]:
    """The time of a step that keeps them, and of products of the weights it leads to with digits and with random data.

    Each over that of the same after flushing. A digit is zero where the weights are denormal, and spares the product.
    """
    flushing, other = Trainer(PAPER_RUN, 0.01), Trainer(PAPER_RUN, 0.01)
    steps: dict[str, Step] = {"with": flushing.step, "without": functools.partial(step_without_flushing, other)}
    for step in steps.values():
        seconds(step, STEPS_BEFORE)
    with torch.no_grad():
        W, usual = (networks(trainer.model)[0].hidden.weight.clone() for trainer in (other, flushing))
    x = flushing.draw()[1].clone()
    for name, data in {"digits": x, "random data": torch.rand_like(x)}.items():
        steps[f"{name}, usual"] = functools.partial(torch.mm, data, usual.T)
        steps[f"{name}, denormal"] = functools.partial(torch.mm, data, W.T)
    times, setting = in_turn(steps), describe(PAPER_RUN)
    slower, share = ratios(times["without"], times["with"]), 100 * denormal(W).float().mean().item()
    rows = [
        row("without flushing denormals", "time over the library's", setting, slower, ""),
        row("first weights, not flushed", "denormal", setting, [share], "%"),
    ]
    for name in ("digits", "random data"):
        slower = ratios(times[f"{name}, denormal"], times[f"{name}, usual"])
        rows.append(row(f"{name} times those weights", "time over that with flushed weights", setting, slower, ""))
    return rows
