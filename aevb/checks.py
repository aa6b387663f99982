"""The checks of input. Each refusal is one clear line.

Data must lie in the domain of their likelihood; sizes must be one or more; scales must be finite and above zero, prices
finite and not negative.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Domain(NamedTuple):
    """The finite values from `low` to `high`. `words` say whose domain it is and what to do about other values."""

    low: float
    high: float
    words: str


def at_least(least: int, **sizes: int) -> None:
    """Raise ValueError, naming it, where one of the `sizes` is less than `least`."""
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{name} must be {least} or more, not {size}")


def above_zero(**values: float) -> None:
    """Raise ValueError, naming it, where one of the `values` is not finite and above zero."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and above 0, not {value}")


def not_negative(**values: float) -> None:
    """Raise ValueError, naming it, where one of the `values` is negative or not finite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, not {value}")


def name_datapoints(which: Tensor) -> str:
    """The datapoints where `which` `(M,)` is true, in words, the first ten by number."""
    rows = which.nonzero().flatten().tolist()
    return ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")


def vouch(x: Tensor, low: float, high: float) -> Tensor:
    """`x`, marked as lying between `low` and `high` until it is changed in place: `refuse_outside` need not look."""
    if not x.is_inference():  # inference tensors do not count their changes
        vars(x)["known_range"] = _which(x), low, high  # plain numbers: a copied or a saved tensor carries them along
    return x


def _which(x: Tensor) -> tuple[int, int, int]:
    """What no copy of `x` has, nor `x` with other data or after a change."""
    return id(x), x.data_ptr(), x._version


def refuse_outside(x: Tensor, domain: Domain) -> None:
    """Raise ValueError, saying what was found, where data `x` `(..., M, D)` are empty or not all in `domain`.

    A tensor is looked at once, and again only after a change in place: a sampler that comes back to it thousands of
    times pays nothing. Minibatches of `datasets.Images.unit_of` are vouched for. A change through memory shared with
    numpy goes unseen, and one of `x.data` in place. Tensors of the meta device have no values and pass.
    """
    if x.is_meta:
        return
    at_least(1, datapoints=x.shape[:-1].numel())
    least, most = _range(x)
    if math.isnan(least):
        raise ValueError(f"the data are not a number for datapoints {name_datapoints(x.isnan().any(-1).flatten())}")
    if not (domain.low <= least and most <= domain.high and math.isfinite(most - least)):
        raise ValueError(f"data from {least} to {most}, but {domain.words}")


def refuse_width(x: Tensor, width: int) -> None:
    """Raise ValueError where data `x` `(..., D)` have not `width` values each: a single one would broadcast."""
    if x.shape[-1:] != (width,):
        raise ValueError(f"data of shape {tuple(x.shape)} are not rows of {width} values, as this model has them")


def rows(x: Tensor) -> Tensor:
    """`x` itself. Raises ValueError where it is no `(..., M, D)`: one datapoint without its axis would broadcast."""
    if x.ndim < 2:
        raise ValueError(f"data of shape {tuple(x.shape)} are not rows of values: one datapoint is x[None]")
    return x


def refuse_latents(z: Tensor, latent_dim: int) -> None:
    """Raise ValueError where latents `z` `(..., J)` have not `latent_dim` values each: a single one would broadcast."""
    if z.shape[-1:] != (latent_dim,):
        raise ValueError(f"latents of shape {tuple(z.shape)} are not rows of {latent_dim} values, as the model has")


def _range(x: Tensor) -> tuple[float, float]:
    """The least and the largest value; both are NaN where any value is."""
    known: tuple[tuple[int, int, int], float, float] | None = vars(x).get("known_range")
    if known and known[0] == _which(x):
        return known[1:]
    least, most = (end.item() for end in torch.aminmax(x.detach()))
    vouch(x, least, most)
    return least, most
