"""Figures and tables of the chapter on the paper's asides."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from aevb.reproduction import figures, readings, tables

_SAMPLES, _BASELINE = "samples and minibatch", (readings.BASELINE, readings.BASELINE)
# question and answer in the record of readings by L, M and step size
RUNS = {
    (1, 100, 0.005): (_SAMPLES, "L = 1, M = 100, step size 0.005"),
    (1, 100, 0.01): ("step size", "0.01"),
    (1, 100, 0.02): _BASELINE,
    (10, 100, 0.0025): (_SAMPLES, "L = 10, M = 100, step size 0.0025"),
    (10, 100, 0.005): (_SAMPLES, "L = 10, M = 100, step size 0.005"),
    (10, 100, 0.01): (_SAMPLES, "L = 10, M = 100, step size 0.01"),
    (10, 100, 0.02): (_SAMPLES, "L = 10, M = 100"),
    (1, 10, 0.02): (_SAMPLES, "L = 1, M = 10"),
    (10, 10, 0.02): (_SAMPLES, "L = 10, M = 10"),
}
# the same by hidden units and step size
WIDTHS = {(width, 0.01): ("hidden units", f"{width}, step size 0.01") for width in (100, 200, 1000)}
WIDTHS |= {(width, 0.02): ("hidden units", f"{width}") for width in (100, 200, 1000)}
WIDTHS |= {(readings.DIGITS.hidden, step_size): RUNS[1, 100, step_size] for step_size in (0.01, 0.02)}


def samples(by_samples: dict[tuple, float], by_passes: dict[tuple, float], end: int) -> Markdown:
    """The table of test bounds by L, M and step size: at `end` samples, and at as many decoder passes."""
    rows = [(*name, f"{bound:.1f}", f"{by_passes[name]:.1f}") for name, bound in by_samples.items()]
    return tables.markdown_table(["L", "M", "step size", f"at {end:,} samples", f"at {end:,} passes"], rows)


def widths(ends: dict[tuple[str, int], float]) -> Figure:
    """The test bound against the width of the hidden layer, a line per algorithm; `ends` is by algorithm and width."""
    figure, axis = plt.subplots(figsize=(6.0, 3.0))
    across = sorted({width for _, width in ends})
    for algorithm in dict.fromkeys(name for name, _ in ends):
        bounds = [ends[algorithm, width] for width in across]
        axis.plot(across, bounds, "o-", color=figures.COLOURS[algorithm], label=figures.NAMES[algorithm])
    axis.set(xscale="log", xlabel="hidden units", ylabel="test bound (nats)")
    axis.set_xticks(across, [str(width) for width in across])
    axis.minorticks_off()
    axis.legend()
    return figure


def total_variance(draws: Iterable[Tensor]) -> float:
    """The sum of the variances of the components of `draws`, two or more flat tensors, read once."""
    first, second, n = torch.zeros(()), torch.zeros(()), 0
    for draw in draws:
        first, second, n = first + draw, second + draw.square(), n + 1
    return float(((second - first.square() / n) / (n - 1)).sum())


def variances(ratios: dict[int, Sequence[float]]) -> Markdown:
    """The table of variances of B over A by training samples: of the value, and of the gradient."""
    rows = [(f"{count:,}", *(f"{ratio:.2f}" for ratio in of_count)) for count, of_count in ratios.items()]
    return tables.markdown_table(["training samples", "B over A: the value", "the gradient in $\\phi$"], rows)
