"""The command `train`: one model of one dataset, yours or the paper's."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

from aevb import datasets, own_data
from aevb.algorithms import ALGORITHMS
from aevb.datasets import BERNOULLI, DATASETS, LIKELIHOODS, Dataset
from aevb.files import write_whole
from aevb.measures import MEASURES
from aevb.reproduction import figures, grid, results
from aevb.reproduction.experiments import Member
from aevb.run import Run
from aevb.trainer import Trainer


def find(what: str, likelihood: str | None = None, scale: float | None = None, light: bool = False) -> Dataset:
    """The dataset called `what`, or that of your images at this path, which is made known.

    The other arguments are those of `own_data.describe`, the likelihood by its name. Raises ValueError where they are
    given for a dataset that is described already, for a likelihood that does not exist or that the images do not fit,
    and DataError where nothing can be read.
    """
    if what in DATASETS:
        if likelihood is not None or scale is not None or light:
            raise ValueError(f"{what} is described already: leave out --likelihood, --scale and --light")
        return DATASETS[what]
    likelihood = likelihood or BERNOULLI.name
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"unknown likelihood {likelihood!r}: choose one of {', '.join(LIKELIHOODS)}")
    dataset = own_data.describe(what, likelihood=LIKELIHOODS[likelihood], scale=scale, light=light)
    datasets.add(dataset)
    return dataset


def plan(dataset: Dataset, algorithm: str, latent_dim: int, hidden: int | None) -> Run:
    """A run on `dataset`, measured by the first measure of the algorithm. Raises ValueError as `Run` does."""
    measure = next(iter(ALGORITHMS[algorithm].measures)) if algorithm in ALGORITHMS else Run.measure
    return Run(dataset.name, algorithm, latent_dim, dataset.hidden if hidden is None else hidden, measure=measure)


def train_and_draw(run: Run, samples: int) -> tuple[pd.DataFrame, Path, int]:
    """The curve of `run`, a row per point, and the path of a picture of what it learned in so many samples.

    The curve has the columns `samples`, `train` and `test`, nats per datapoint. A run that was interrupted goes on; one
    that was trained further than `samples` is drawn as it is, further than the curve.
    Raises ValueError where `samples` is too few for a point, and DivergedError where the run diverges.
    """
    (outcome,) = grid.outcomes([Member(run.key, run)], samples, jobs=1, progress=True)  # in this process
    table = pd.DataFrame(outcome.rows)
    curve = table.pivot_table(MEASURES[run.measure].column, "samples", "split")[["train", "test"]].reset_index()
    path = results.live_folder() / "drawn" / f"{run.dataset}-{run.algorithm}-{run.key}.png"
    trainer = grid.trained(run)
    write_picture(trainer, path)
    return curve, path, trainer.samples


def write_picture(trainer: Trainer, path: Path) -> None:
    """Write a picture of test images beside the decoder's means: along the manifold of two latents, else at samples."""
    images, model, name = trainer.images, trainer.model, trainer.run.dataset
    n = images.dataset.tiles
    some = images.unit(images.test[: n * n])
    with plt.style.context("default"):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.8), layout="constrained")
        figures.show_images(left, some, n, name)
        left.set_title("test images")
        if trainer.run.latent_dim == 2:
            figures.manifold(right, model, name)
            right.set_title("along the two latents")
        else:
            noise = torch.Generator().manual_seed(trainer.run.seed)
            figures.samples_grid(right, model, name, n, generator=noise)
            right.set_title("samples")
        write_whole(path, lambda temporary: figure.savefig(temporary, format="png"))
        plt.close(figure)
