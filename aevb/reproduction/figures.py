"""The figures that several pages share, in one style."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.rcsetup import cycler
from matplotlib.ticker import LogLocator
from torch import Tensor

from aevb import datasets
from aevb.algorithms import ALGORITHMS
from aevb.colours import BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW
from aevb.full_vb import FullVB
from aevb.model import Decoder
from aevb.reproduction import results
from aevb.reproduction.curves import Curves
from aevb.reproduction.leads import FIGURE3_END, PAPER_END
from aevb.reproduction.settings import FIGURE2, FIGURE3_N_TRAIN, LATENT_DIMS

COLOURS = {name: algorithm.colour for name, algorithm in ALGORITHMS.items()}  # the colours of algorithms, by name
# the titles of algorithms and datasets, by name
NAMES = {name: algorithm.title for name, algorithm in ALGORITHMS.items()}
NAMES |= datasets.TITLES
# the style of each source of curves: the paper's behind, pale and wide; ours in front
SOURCES: dict[str, dict[str, Any]] = {
    "published": {"linewidth": 4.5, "alpha": 0.28},
    "recorded": {"linewidth": 1.3},
    "live": {"linewidth": 1.3, "marker": "o", "markersize": 3.2},
}
# the range over several seeds: hatched, for pale is what was published
SEEDS: dict[str, Any] = {"facecolor": "none", "hatch": "|" * 6, "linewidth": 0}
SPLITS: dict[str, Literal["-", "--"]] = {"test": "-", "train": "--"}  # the line of each split
# the mark of each digit, (colour, ring or not): two that share a colour are not easily confused as digits
DIGITS = (
    *((BLUE, False), (BLUE, True), (ORANGE, False), (GREEN, False), (PINK, False)),
    *((SKY, False), (GREEN, True), (SKY, True), (PINK, True), (ORANGE, True)),
)
# the limits of the paper's axes: of the samples, and of the bound of each dataset
PAPER_AXES = {"samples": (1e5, PAPER_END)} | {name: panels.limits for name, panels in FIGURE2.items()}
# the panels of figure 2: dataset and number of latents
PANELS = tuple((name, dim) for name, dims in LATENT_DIMS.items() for dim in dims)


def use_style() -> None:
    """Set the book's matplotlib style for this session, in place of the reader's own settings."""
    plt.rcdefaults()
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.figsize": (7.0, 3.6),
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, YELLOW]),
            "legend.frameon": False,
            "hatch.linewidth": 0.6,
            "image.cmap": "gray_r",
        }
    )


def figure2(sources: dict[str, Curves], axes: dict[str, tuple[float, float]] = PAPER_AXES) -> Figure:
    """Figure 2: the lower bound against training samples, nine panels, test solid and train dashed.

    `sources` maps "published", "recorded" or "live" to curves (see `aevb.reproduction.results`). `axes` gives the
    limits of `samples` and of each dataset's bound, by default those the paper drew. Where a source has
    several seeds, the line is the mean of those that go furthest and the hatched band the range of all.
    """
    columns = max(len(dims) for dims in LATENT_DIMS.values())
    figure, grid = plt.subplots(len(LATENT_DIMS), columns, figsize=(9.6, 2.4 * len(LATENT_DIMS)), sharex=True)
    for row, (dataset, dims) in zip(grid, LATENT_DIMS.items(), strict=True):
        for axis, latent_dim in zip(row, dims, strict=False):
            _draw(axis, sources, dataset=dataset, latent_dim=latent_dim)
            title = f"{NAMES[dataset]}, $N_z = {latent_dim}$"
            axis.set(xscale="log", xlim=axes["samples"], ylim=axes[dataset], title=title)
            axis.xaxis.set_major_locator(LogLocator(numticks=6))
            axis.tick_params(labelleft=False)  # a row has one scale
        row[0].set_ylabel("bound (nats per datapoint)")
        row[0].tick_params(labelleft=True)
        for axis in row[len(dims) :]:
            axis.axis("off")
    for above, below in pairwise(grid):
        for k in range(columns):
            above[k].tick_params(labelbottom=not below[k].axison)
    figure.supxlabel("training samples seen", fontsize=10)
    grid[-1, -1].legend(handles=_legend(sources), loc="center left")
    return figure


def title(dataset: str, algorithm: str) -> str:
    """The title of the curves of an algorithm on a dataset."""
    return f"{NAMES[algorithm]}, {NAMES[dataset]}"


def trained_alike() -> Curves:
    """The record of figure 2 with both algorithms trained alike, at the settings of `settings.baseline`."""
    return results.recorded("figure2-alike")


def figure2_alike() -> Figure:
    """Figure 2 with both algorithms trained alike: the curves of `trained_alike` in front of the published ones."""
    return figure2({"published": results.published("figure2"), "recorded": trained_alike()})


def figure3(
    sources: dict[str, Curves],
    samples: tuple[float, float] = (0, FIGURE3_END),
    scale: str = "linear",
    log_px: tuple[float, float] = (-160, -100),
) -> Figure:
    """Figure 3: log p(x) against training samples, one panel per training-set size, test solid and train dashed.

    `sources` as for `figure2`. `samples` and `scale` are the limits and the scale of the horizontal axis, `log_px` the
    limits of the other, by default the paper's.
    """
    figure, axes = plt.subplots(1, len(FIGURE3_N_TRAIN), figsize=(9.6, 3.9), sharey=True)
    for axis, n_train in zip(axes, FIGURE3_N_TRAIN, strict=True):
        _draw(axis, sources, n_train=n_train)
        axis.set(xscale=scale, xlim=samples, ylim=log_px, title=f"$N_{{train}}$ = {n_train:,}")
        axis.set_xlabel("training samples seen")
    axes[0].set_ylabel("log p(x) (nats per datapoint)")
    figure.legend(handles=_legend(sources), loc="outside right center")
    return figure


def _draw(axis: Axes, sources: dict[str, Curves], **panel: str | int) -> None:
    """The train and test curves of a panel, of every source."""
    for source, curves in sources.items():
        chosen = curves.select(split=["train", "test"], **panel)
        for (algorithm, split), curve in chosen.each("algorithm", "split"):
            style: dict[str, Any] = {"color": COLOURS[algorithm], "linestyle": SPLITS[split], **SOURCES[source]}
            if split == "train":
                style.pop("marker", None)
            axis.plot(curve.mean(), **style)
            seeds = curve.table.groupby("samples")[curve.kind.value]
            if len(curve.seeds()) > 1:
                low, high, colour = seeds.min(), seeds.max(), COLOURS[algorithm]
                axis.fill_between(low.index, low, high, edgecolor=colour, **SEEDS)


def _legend(sources: dict[str, Curves]) -> list[Line2D | Patch]:
    drawn = {name for curves in sources.values() for name in curves.table["algorithm"].unique()}
    algorithms = [Line2D([], [], color=COLOURS[name], label=NAMES[name]) for name in COLOURS if name in drawn]
    splits = [Line2D([], [], color=GREY, linestyle=line, label=name) for name, line in SPLITS.items()]
    kinds = [Line2D([], [], color=GREY, label=source, **SOURCES[source]) for source in sources]
    several = any(len(curves.seeds()) > 1 for curves in sources.values())
    ranges = [Patch(edgecolor=GREY, label="range of seeds", **SEEDS)] if several else []
    return [*algorithms, *splits, *kinds, *ranges]


def image_grid(images: Tensor, image_shape: tuple[int, int], columns: int, light: bool = False) -> np.ndarray:
    """Tile `images` `(n, D)`, values in [0, 1], into one array of `columns` columns with a thin gap between.

    The gap is 1 for images that are `light`, which are drawn light on dark, and 0 for others: white either way.
    """
    height, width = image_shape
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), 1.0 if light else 0.0)
    for index, image in enumerate(images.reshape(-1, height, width).numpy()):
        row, column = divmod(index, columns)
        top, left = row * (height + 1), column * (width + 1)
        canvas[top : top + height, left : left + width] = image
    return canvas


def show_images(axis: Axes, images: Tensor, columns: int, dataset: str) -> None:
    """Draw `images` `(n, D)` of a dataset on `axis` as a grid, light on dark or black on white as the dataset says."""
    about = datasets.get(dataset)
    canvas = image_grid(images, about.image_shape, columns, light=about.light)
    axis.imshow(canvas, cmap="gray" if about.light else "gray_r", vmin=0, vmax=1)
    axis.axis("off")


def levels(mass: Tensor, shares: Sequence[float]) -> list[float]:
    """The heights above which a density on a lattice, its `mass` of any shape, has those `shares`; the lowest first."""
    ordered = mass.flatten().sort(descending=True).values
    return [ordered[int((ordered.cumsum(0) < share).sum())].item() for share in sorted(shares, reverse=True)]


def latent_grid(n: int) -> Tensor:
    """The latents of figure 4 (Appendix A): `n` by `n` points of the unit square through the inverse Gaussian CDF.

    The points are the centres of `n^2` equal cells, so that each stands for the same share of p(z) = N(0, I).
    `(n * n, 2)`, in the order of a picture's tiles: z_1 grows to the right, z_2 upwards.
    """
    z = torch.special.ndtri((torch.arange(n) + 0.5) / n)
    upwards, rightwards = torch.meshgrid(z.flip(0), z, indexing="ij")
    return torch.stack([rightwards, upwards], -1).reshape(-1, 2)


@torch.no_grad()
def manifold(axis: Axes, model: Decoder | FullVB, dataset: str, n: int | None = None) -> None:
    """A panel of figure 4: the decoder's means at the `latent_grid` of `n` by `n`, for a model with two latents.

    By default `n` is the number of tiles that the dataset has.
    """
    n = n or datasets.get(dataset).tiles
    show_images(axis, model.decoder.mean(latent_grid(n)), n, dataset)


@torch.no_grad()
def samples_grid(axis: Axes, model: Decoder | FullVB, dataset: str, n: int, *, generator: torch.Generator) -> None:
    """A panel of figure 5: the decoder's means at `n` by `n` draws z ~ N(0, I)."""
    z = torch.randn(n * n, model.latent_dim, generator=generator)
    show_images(axis, model.decoder.mean(z), n, dataset)
