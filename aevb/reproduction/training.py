"""Training one model of one dataset, yours or the paper's, and drawing what it learned."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

from aevb import datasets, own_data
from aevb.algorithms import ALGORITHMS
from aevb.datasets import DATASETS, LIKELIHOODS, Dataset
from aevb.files import write_whole
from aevb.reproduction import figures, grid, results
from aevb.run import Run
from aevb.trainer import Trainer

SHOWN = 100  # images in a picture


def find(what: str, likelihood: str | None = None) -> Dataset:
    """The dataset called `what`, or the one of your images at that path, made known here; by default Bernoulli.

    Raises ValueError for a likelihood that does not exist, that is given for a dataset that has its own, or that the
    images do not fit, and DataError where nothing can be read.
    """
    if what in DATASETS:
        if likelihood is not None:
            raise ValueError(f"{what} has its likelihood, {DATASETS[what].likelihood.name}: leave out --likelihood")
        return DATASETS[what]
    if likelihood is None:
        likelihood = "bernoulli"
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"unknown likelihood {likelihood!r}: choose one of {', '.join(LIKELIHOODS)}")
    dataset = own_data.describe(what, likelihood=LIKELIHOODS[likelihood])
    datasets.add(dataset)
    return dataset


def plan(dataset: Dataset, algorithm: str, latent_dim: int, hidden: int | None) -> Run:
    """A run on `dataset`, measured by the first measure of the algorithm. Raises ValueError as `Run` does."""
    measure = next(iter(ALGORITHMS[algorithm].measures)) if algorithm in ALGORITHMS else Run.measure
    return Run(dataset.name, algorithm, latent_dim, hidden or dataset.hidden, measure=measure)


def train(run: Run, samples: int) -> tuple[pd.DataFrame, Path]:
    """The curve of `run`, a row per point, and the path of a picture of what it learned.

    The curve has the columns `samples`, `train` and `test`, nats per datapoint. A run that was interrupted goes on.
    Raises ValueError where `samples` is too few for a point, and DivergedError where the run diverges.
    """
    table, _ = grid.run_grid([run], samples, jobs=1, progress=True)  # here, in this process
    value = table.columns[-1]
    curve = table.pivot_table(value, "samples", "split")[["train", "test"]].reset_index()
    path = results.live_folder() / "drawn" / f"{run.dataset}-{run.algorithm}-{run.key}.png"
    draw(grid.trained(run), path)
    return curve, path


def draw(trainer: Trainer, path: Path) -> None:
    """Write a picture of test images beside the decoder's means: along the manifold of two latents, else at samples."""
    images, model, name = trainer.images, trainer.model, trainer.run.dataset
    some = images.unit(images.test[:SHOWN])
    with plt.style.context("default"):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.8), layout="constrained")
        figures.show_images(left, some, 10, name)
        left.set_title("test images")
        if trainer.run.latent_dim == 2:
            figures.manifold(right, model, name, 10)
            right.set_title("along the two latents")
        else:
            noise = torch.Generator().manual_seed(trainer.run.seed)
            figures.samples_grid(right, model, name, 10, generator=noise)
            right.set_title("samples")
        write_whole(path, lambda temporary: figure.savefig(temporary, format="png"))
        plt.close(figure)
