"""The measures that a curve can show: the lower bound of figure 2, the marginal likelihood of figure 3."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from aevb.bounds import EVALUATION_BATCH, estimator_a, estimator_b
from aevb.datasets import Images
from aevb.full_vb import FullVB, held_out_bound
from aevb.marginal_likelihood import appendix_d
from aevb.model import LatentVariableModel

LIKELIHOOD_POINTS = 1000  # of the first training and the first test points, as in figure 3


class Measure(NamedTuple):
    """The layout of one measure's curves: the places of their points, and the columns of their table.

    Points begin at `start` samples, `per_decade` of them in each decade. `column` is the name of the values in a
    table, `words` is what they are called in print, and `splits` are the fields of a `run.Point` that it has.
    """

    start: int
    per_decade: int
    column: str
    words: str
    splits: tuple[str, ...]


# the measures, by name
MEASURES = {
    "bound": Measure(10_000, 10, "bound", "The lower bound", ("train", "test", "running")),
    "marginal-likelihood": Measure(100_000, 5, "log_px", "log p(x)", ("train", "test")),
}


@torch.no_grad()
def _mean(estimator: Callable[[Tensor], Tensor], images: Images, pixels: Tensor) -> float:
    return sum(estimator(images.unit(batch)).sum().item() for batch in pixels.split(EVALUATION_BATCH)) / len(pixels)


def mean_bound(model: LatentVariableModel, images: Images, pixels: Tensor, *, generator: torch.Generator) -> float:
    """The lower bound in nats per datapoint, averaged over `pixels` `(N, D)`, by estimator B with one sample each."""
    return _mean(partial(estimator_b, model, generator=generator), images, pixels)


def mean_sampled_bound(
    model: LatentVariableModel, images: Images, pixels: Tensor, *, generator: torch.Generator
) -> float:
    """As `mean_bound`, by estimator A with one sample each: for any prior, and any q(z|x) that can be sampled."""
    return _mean(partial(estimator_a, model, generator=generator), images, pixels)


def mean_held_out_bound(model: FullVB, images: Images, pixels: Tensor, *, generator: torch.Generator) -> float:
    """The held-out bound of full VB in nats per datapoint, averaged over `pixels` `(N, D)` at one draw of theta."""
    return held_out_bound(model, images.unit(pixels), 1, generator=generator).mean().item()


def mean_likelihood(model: LatentVariableModel, images: Images, pixels: Tensor, *, generator: torch.Generator) -> float:
    """log p(x) in nats per datapoint by Appendix D, over the first `LIKELIHOOD_POINTS` of `pixels` `(N, D)`."""
    x = images.unit(pixels[:LIKELIHOOD_POINTS])
    return appendix_d(model, x, generator=generator).mean()[0]
