"""Figures and tables of the chapter on figure 4."""

import copy
import itertools
from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown
from torch import Tensor

from aevb import datasets
from aevb.colours import BLUE
from aevb.measures import mean_bound
from aevb.model import VAE
from aevb.reproduction import recording, results
from aevb.reproduction.curves import Curves, value_at
from aevb.reproduction.figures import NAMES, latent_grid, manifold, show_images
from aevb.reproduction.tables import markdown_table
from aevb.run import Run

PLACE = 1e5  # samples: before, runs of one configuration differ most


def on_the_way(curves: Curves, recorded: Curves) -> bool:
    """Whether each curve that reaches PLACE is there between the record's values at a tenth and at ten times of it."""
    slow, fast = (recorded.at(share * PLACE) for share in (1 / 10, 10))
    found = curves.at(PLACE)
    found = found[found.index.intersection(slow.index)]
    return bool((found > slow[found.index]).all() and (found < fast[found.index]).all())


def drawn(runs: Iterable[Run]) -> list[tuple[Run, VAE, str]]:
    """Each of `runs` with the model to draw and its name; without those that are neither recorded nor at hand."""
    kept = results.manifest("models")
    return [(run, *recording.drawn_model(run)) for run in runs if run.key in kept or datasets.available(run.dataset)]


def rounding(run: Run, model: VAE, recorded: Curves) -> float:
    """What rounding did to the test bound of the recorded `model`, relative to its curve, with the same noise.

    0 where there is nothing to compare: no record, no data, or a curve that does not reach so far.
    """
    kept = results.manifest("models").get(run.key)
    curve = recorded.select(run=run.key, split="test").mean()
    if kept is None or not datasets.available(run.dataset) or curve.empty or curve.index[-1] < kept["samples"]:
        return 0.0
    images, noise = datasets.load(run.dataset), torch.Generator().manual_seed(run.seed)
    return mean_bound(model, images, images.test, generator=noise) / value_at(curve, kept["samples"]) - 1


def grid_figure(n: int) -> None:
    """Draw the points of figure 4 and the borders of their cells, in the unit square and in the plane of z."""
    grid, edges = latent_grid(n), torch.arange(1, n) / n
    _, axes = plt.subplots(1, 2, figsize=(8.0, 3.9))
    for axis, points, lines, limits in (
        (axes[0], torch.special.ndtr(grid), edges, (0, 1)),
        (axes[1], grid, torch.special.ndtri(edges), (-2.5, 2.5)),
    ):
        for place in lines.tolist():
            axis.axhline(place, color="#cccccc", linewidth=0.6)
            axis.axvline(place, color="#cccccc", linewidth=0.6)
        axis.plot(*points.T, ".", color=BLUE, markersize=2.5)
        axis.set(xlim=limits, ylim=limits, aspect="equal")
        axis.grid(False)
    axes[0].set(xlabel="$u_1$", ylabel="$u_2$", title="unit square")
    axes[1].set(xlabel="$z_1$", ylabel="$z_2$", title=r"$z = \Phi^{-1}(u)$")


def manifolds(models: dict[str, VAE], names: dict[str, str]) -> None:
    """Draw figure 4: a panel per dataset, empty where it has no model, with the model's name in its title."""
    _, axes = plt.subplots(1, 2, figsize=(10.0, 6.0), gridspec_kw={"width_ratios": [1, 1.37]})
    for axis, dataset in zip(axes, ("frey", "mnist"), strict=True):
        axis.axis("off")
        if dataset in models:
            manifold(axis, models[dataset], dataset)
            axis.set_title(f"{NAMES[dataset]}, {names[dataset]}")


def two_manifolds(*models: tuple[VAE, str]) -> None:
    """Draw the manifolds of two models of MNIST side by side, 12 by 12 tiles, with their names."""
    _, axes = plt.subplots(1, 2, figsize=(8.0, 4.2))
    for axis, (model, name) in zip(axes, models, strict=True):
        manifold(axis, model, "mnist", 12)
        axis.set_title(name)


def codes_figure(mu: Tensor, labels: Tensor) -> None:
    """Draw the means `mu` `(n, 2)` of q(z|x), coloured and named by label, in the plane and through Phi."""
    _, axes = plt.subplots(1, 2, figsize=(9.6, 4.7))
    colours = plt.get_cmap("tab10")
    box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5}
    for axis, points in zip(axes, (mu, torch.special.ndtr(mu)), strict=True):
        kinds = [points[labels == digit] for digit in range(10)]
        reach = 0.05 * (points.max() - points.min()).item()
        for digit, place in enumerate(_apart(torch.stack([own.median(0).values for own in kinds]), reach).tolist()):
            axis.plot(*kinds[digit].T, ".", color=colours(digit), markersize=1.6, alpha=0.6)
            axis.text(*place, str(digit), fontsize=11, weight="bold", ha="center", va="center", bbox=box)
        axis.set_aspect("equal")
    axes[0].set(xlabel="$z_1$", ylabel="$z_2$", title="means of q(z|x)")
    axes[1].set(xlabel=r"$\Phi(z_1)$", ylabel=r"$\Phi(z_2)$", xlim=(0, 1), ylim=(0, 1))


def _apart(places: Tensor, reach: float) -> Tensor:
    """`places` `(n, 2)`, no two the same, with those nearer than `reach` to each other moved apart along their line."""
    places = places.clone()
    for _ in range(20):  # one pair moved apart may meet another
        for one, other in itertools.combinations(range(len(places)), 2):
            between = places[other] - places[one]
            short = reach - between.norm()
            if short > 0:
                step = 0.5 * short * between / between.norm()
                places[one] -= step
                places[other] += step
    return places


def nearest(a: Tensor, b: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Distances and rows of the `k` nearest of `b` `(m, D)` for each row of `a` `(n, D)`, nearest first: `(n, k)`."""
    found = [torch.cdist(part, b).topk(k, largest=False) for part in a.split(500)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def same_label(codes: Tensor, labels: Tensor) -> float:
    """The share of rows of `codes` `(n, D)` whose nearest neighbour among the others has the same label."""
    neighbours = nearest(codes, codes, 2)[1][:, 1]  # the nearest is the row itself
    return (labels[neighbours] == labels).float().mean().item()


def principal_components(train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and the two leading principal directions of `train` `(N, D)`: `(D,)`, `(D, 2)`."""
    return train.mean(0), torch.linalg.eigh(torch.cov(train.T)).eigenvectors[:, -2:]


@torch.no_grad()
def reconstructions(dataset: str, model: VAE) -> dict[str, Tensor]:
    """The test images `(n, D)` and what is kept of them: by the mean image, two principal components, two latents."""
    images = datasets.load(dataset)
    x = images.unit(images.test)
    mean, directions = principal_components(images.unit(images.train).double())
    linear = mean + (x.double() - mean) @ directions @ directions.T
    return {
        "the image": x,
        "the mean image": mean.expand_as(x).float(),
        "two principal components": linear.float(),
        "two latents": model.decoder.mean(model.posterior(x)[0]),
    }


def squared_errors(kept: dict[str, Tensor]) -> dict[str, float]:
    """The mean over images of the squared error, summed over pixels, against the first of `kept`."""
    x = next(iter(kept.values()))
    return {name: (images - x).square().sum(1).mean().item() for name, images in kept.items() if images is not x}


def reconstructions_figure(dataset: str, kept: dict[str, Tensor], rows: Tensor) -> None:
    """Draw some `rows` of the test images, each above what two components and two latents keep of it."""
    names = "the image", "two principal components", "two latents"
    height, width = datasets.load(dataset).dataset.image_shape
    _, axis = plt.subplots(figsize=(9.6, 9.6 * len(names) * height / (len(rows) * width) + 0.1))
    show_images(axis, torch.cat([kept[name][rows].clamp(0, 1) for name in names]), len(rows), dataset)


@torch.no_grad()
def steps(model: VAE, n: int) -> tuple[Tensor, Tensor]:
    """Distances between neighbouring tiles of the `n` by `n` manifold: of the images, and of z; first along rows."""
    z = latent_grid(n).reshape(n, n, 2)
    images, places = (
        torch.cat(
            [
                (field[:, 1:] - field[:, :-1]).norm(dim=-1).flatten(),
                (field[1:] - field[:-1]).norm(dim=-1).flatten(),
            ]
        )
        for field in (model.decoder.mean(z), z)
    )
    return images, places


@torch.no_grad()
def halfway(model: VAE, mu: Tensor, pairs: Tensor) -> dict[str, Tensor]:
    """The decoder's means at the first ends of `pairs` `(2, n)` of codes `mu`, and halfway, by either."""
    ends = model.decoder.mean(mu[pairs])
    return {"ends": ends[0], "latents": model.decoder.mean(mu[pairs].mean(0)), "pixels": ends.mean(0)}


def _line(a: Tensor, b: Tensor, n: int) -> Tensor:
    """`n` points from `a` to `b`, both `(D,)`: `(n, D)`."""
    t = torch.linspace(0, 1, n)[:, None]
    return (1 - t) * a + t * b


@torch.no_grad()
def walks_figure(model: VAE, mu: Tensor, labels: Tensor, pairs: Iterable[tuple[int, int]]) -> None:
    """Draw the way from the first digit of one kind to the first of another, in latent space and as a cross-fade.

    `mu` `(n, 2)` are the codes of the digits with these `labels`, `pairs` the kinds at the ends.
    """
    first = [int(torch.where(labels == digit)[0][0]) for digit in range(10)]
    shown = []
    for a, b in pairs:
        walk = model.decoder.mean(_line(mu[first[a]], mu[first[b]], 9))
        shown += [walk, _line(walk[0], walk[-1], 9)]
    _, axis = plt.subplots(figsize=(5.4, 3.7))
    show_images(axis, torch.cat(shown), 9, "mnist")


def shares_table(title: str, shares: dict[str, float]) -> Markdown:
    """One row per name and its share, in per cent."""
    return markdown_table([title, ""], [(name, f"{share:.0%}") for name, share in shares.items()])


def bounds_rows(table: pd.DataFrame, tolerance: str) -> list[tuple[str, str, str]]:
    """Rows of a closing box: the published bounds of the table of `curves.agreement`, ours, and the `tolerance`."""
    return [
        (
            f"{NAMES[r.dataset]}, {r.latent_dim} latents, {r.split}: {r.published:.1f} at {r.samples:.0e} (figure 2)",
            f"{r.ours:.1f}",
            tolerance,
        )
        for r in table.itertuples()
    ]


def rotated(model: VAE, rotation: Tensor) -> VAE:
    """A copy of `model` whose latent plane is turned by `rotation` `(2, 2)`: its decoder sees `rotation @ z`.

    The means of its encoder are turned back, their variances are not.
    """
    turned = copy.deepcopy(model)
    turned.decoder.hidden.weight.data = model.decoder.hidden.weight @ rotation
    turned.encoder.mu.weight.data = rotation.T @ model.encoder.mu.weight
    turned.encoder.mu.bias.data = rotation.T @ model.encoder.mu.bias
    return turned
