"""What Part V measures of a run where it stands: log p(x) exactly, bounds on it, and the gaps between them."""

import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from aevb import flow_gaps, gaps
from aevb.bounds import importance_weighted
from aevb.flows import FlowVAE
from aevb.model import VAE
from aevb.reproduction.curves import Curves
from aevb.trainer import Trainer

DIGITS = 60  # the first of the test digits, and of the training digits
SAMPLES = (5, 50)  # the k of the importance-weighted bounds that are measured
DRAWS = 40  # of each of those bounds, for every digit
# how the bound, the best of its family and log p(x) are found, by the type of the model
SPLIT: dict[type, Callable[..., Any]] = {VAE: gaps.split, FlowVAE: flow_gaps.split}


@torch.no_grad()
def gaps_of(trainer: Trainer, splits: tuple[str, ...] = ("test",)) -> list[dict]:
    """Rows for one run, each the mean in nats over the first DIGITS of a split, "train" or "test".

    Quantities: "log p(x)" by quadrature, "bound" of the encoder's q (eq. 2) and "best bound" of the best q of its
    family per digit, both by Gauss-Hermite, and "L_5" and "L_50", the importance-weighted bounds of the encoder's q, as
    means of DRAWS draws. The amortization gap is best bound minus bound, the family gap log p(x) minus best bound. A
    digit whose log p(x) is not sure to the tenth of a nat counts all the same: its error hardly moves a mean. The
    family is that of diagonal Gaussians, or of the model's flow: log p(x) is then by importance sampling from the best
    q (`flow_gaps.split`).
    """
    images, run, model = trainer.images, trainer.run, trainer.model
    assert isinstance(model, VAE | FlowVAE)  # what has a q(z|x)
    about = {"run": run.key, "n_train": run.n_train, "algorithm": run.algorithm, "seed": run.seed}
    rows = []
    for split in splits:
        x = images.unit({"train": trainer.train_pixels, "test": images.test}[split][:DIGITS])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="log p\\(x\\) is not sure")
            found = SPLIT[type(model)](model, x)
        values = {"log p(x)": found.log_px, "bound": found.bound, "best bound": found.best}
        noise = torch.Generator(trainer.device).manual_seed(run.seed)
        for k in SAMPLES:
            draws = [importance_weighted(model, x, k, generator=noise) for _ in range(DRAWS)]
            values[f"L_{k}"] = torch.stack(draws)
        rows += [
            {**about, "split": split, "quantity": name, "samples": trainer.samples, "nats": value.mean().item()}
            for name, value in values.items()
        ]
    return rows


def accounts(measured: Curves) -> pd.DataFrame:
    """What `gaps_of` measured, a row per n_train, algorithm, split, samples and seed, a column per quantity, in nats.

    With the columns "amortization" and "family", the two gaps, whose sum is log p(x) minus the bound.
    """
    table = measured.table.pivot_table("nats", ["n_train", "algorithm", "split", "samples", "seed"], "quantity")
    gap = {"amortization": table["best bound"] - table["bound"], "family": table["log p(x)"] - table["best bound"]}
    return table.assign(**gap)
