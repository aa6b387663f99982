"""Datapoints that go through in batches, and errors and warnings that name them by their number among all."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from aevb.checks import name_datapoints

Part = TypeVar("Part")

_begin: ContextVar[int] = ContextVar("_begin", default=0)  # of the batch under way, among all datapoints


def in_batches(of_batch: Callable[[int, int], Part], n: int, size: int) -> list[Part]:
    """`of_batch(begin, end)` for each `size` of `n` datapoints in turn: what `name` names in there counts from `begin`.

    Not for batches within batches: the inner ones would count from the inner beginning alone.
    """
    parts = []
    for begin in range(0, n, size):
        token = _begin.set(begin)
        try:
            parts.append(of_batch(begin, min(begin + size, n)))
        finally:
            _begin.reset(token)
    return parts


def name(which: Tensor) -> str:
    """`checks.name_datapoints` of `which` `(M,)`, by their numbers among all datapoints where these M are a batch."""
    return name_datapoints(F.pad(which, (_begin.get(), 0)))


def refuse_nan(log_density: Tensor) -> None:
    """Raise ValueError, naming datapoints, where the `log_density` `(M,)` of one is not a number."""
    if (bad := torch.isnan(log_density)).any():
        raise ValueError(f"the log-density is not a number for datapoints {name(bad)}")
