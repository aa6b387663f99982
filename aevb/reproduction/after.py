"""What Part V measures of a run where it stands: log p(x) exactly, bounds on it, and the gaps between them.

And what its claims ask of these measurements, by name and seed.
"""

import warnings

import pandas as pd
import torch

from aevb import aggregated, flow_gaps, gaps
from aevb.bounds import importance_weighted
from aevb.flows import FlowVAE
from aevb.model import VAE, LatentVariableModel
from aevb.reproduction.curves import Curves
from aevb.trainer import Trainer

RIVAL = "aevb"  # the method that the others lead or trail
DIGITS = 60  # the first of the test digits, and of the training digits
SAMPLES = (5, 50)  # the k of the importance-weighted bounds that are measured
DRAWS = 40  # of each of those bounds, for every digit
MISSED = 1.0  # nats: a log p(x) as far below a bound is that of a lattice that missed a posterior


@torch.no_grad()
def gaps_of(trainer: Trainer, splits: tuple[str, ...] = ("test",)) -> list[dict]:
    """Rows for one run, each the mean in nats over the first DIGITS of a split, "train" or "test".

    Quantities: "log p(x)" by quadrature, "bound" of the encoder's q (eq. 2) and "best bound" of the best q of its
    family per digit, both by Gauss-Hermite, and "L_5" and "L_50", the importance-weighted bounds of the encoder's q, as
    means of DRAWS draws. The amortization gap is best bound minus bound, the family gap log p(x) minus best bound. A
    digit whose log p(x) is not sure to the tenth of a nat counts all the same: its error hardly moves a mean. Where
    that of any digit is more than MISSED below L_50, or a best bound is not a number, "log p(x)" and "best bound" are
    left out. The family is that of diagonal Gaussians, or of the model's flow: log p(x) is then by importance sampling
    from the best q (`flow_gaps.split`).
    """
    model = trainer.model
    assert isinstance(model, VAE | FlowVAE)  # what has a q(z|x)
    return _gaps_of(trainer, model, splits)


@torch.no_grad()
def rates_of(trainer: Trainer) -> list[dict]:
    """Rows of `gaps_of` on test digits for a model with any prior, and the parts of its rate over all test digits.

    The lattices are laid where q(z|x) of the test digits is, not about the origin. The bound is that of eq. 2 under the
    model's own prior, whatever its objective bent. Quantities, beside those of `gaps_of`: "rate", "information" and
    "information at most", as in `aggregated.surgery`.
    """
    model, run = trainer.model, trainer.run
    assert isinstance(model, VAE)
    digits = trainer.images.unit(trainer.images.test)
    rows = _gaps_of(trainer, aggregated.rescaled(model, digits, gaps.LIMIT), ("test",))
    parts = aggregated.surgery(model, digits, generator=torch.Generator(trainer.device).manual_seed(run.seed))
    values = {"rate": parts.rate, "information": parts.information, "information at most": parts.at_most}
    return rows + [{**rows[0], "quantity": name, "nats": value} for name, value in values.items()]


def _gaps_of(trainer: Trainer, model: LatentVariableModel, splits: tuple[str, ...]) -> list[dict]:
    images, run = trainer.images, trainer.run
    about = {"run": run.key, "n_train": run.n_train, "algorithm": run.algorithm, "seed": run.seed}
    rows = []
    for split in splits:
        x = images.unit({"train": trainer.train_pixels, "test": images.test}[split][:DIGITS])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="log p\\(x\\) is not sure")
            found = flow_gaps.split(model, x) if isinstance(model, FlowVAE) else gaps.split(model, x)
        values = {"log p(x)": found.log_px, "bound": found.bound, "best bound": found.best}
        noise = torch.Generator(trainer.device).manual_seed(run.seed)
        for k in SAMPLES:
            draws = [importance_weighted(model, x, k, generator=noise) for _ in range(DRAWS)]
            values[f"L_{k}"] = torch.stack(draws)
        found_all = (found.log_px >= values[f"L_{SAMPLES[-1]}"].mean(0) - MISSED) & ~found.best.isnan()
        if not found_all.all():
            del values["log p(x)"], values["best bound"]
        rows += [
            {**about, "split": split, "quantity": name, "samples": trainer.samples, "nats": value.mean().item()}
            for name, value in values.items()
        ]
    return rows


def accounts(measured: Curves) -> pd.DataFrame:
    """What `gaps_of` measured, a row per n_train, algorithm, split, samples and seed, a column per quantity, in nats.

    With the columns "amortization" and "family", the two gaps, whose sum is log p(x) minus the bound; and "marginal",
    the divergence of the aggregated posterior from the prior, where the rate was measured. Raises ValueError where two
    records have the same run: each was measured on its own machine, and their mean is no run's.
    """
    names = ["n_train", "algorithm", "split", "samples", "seed"]
    if measured.table.duplicated([*names, "quantity"]).any():
        raise ValueError("several records have the same run: compare runs within one of them")
    table = measured.table.pivot(index=names, columns="quantity", values="nats")
    gap = {"amortization": table["best bound"] - table["bound"], "family": table["log p(x)"] - table["best bound"]}
    if "rate" in table:
        gap["marginal"] = table["rate"] - table["information"]
    return table.assign(**gap)


BySeed = dict[str, list[float]]  # the values of a measure, one per seed, by the names that are shown


def at_end(accounts: pd.DataFrame) -> pd.DataFrame:
    """The rows of each algorithm and training set at the most samples that one of its seeds reaches."""
    samples = accounts.index.get_level_values("samples").to_series(index=accounts.index)
    return accounts[samples == samples.groupby(["n_train", "algorithm"]).transform("max")]


def amortization_over_family(accounts: pd.DataFrame) -> BySeed:
    """The amortization gap minus the family gap where AEVB ends, by training set and split, in nats."""
    chosen = at_end(accounts[accounts.index.get_level_values("algorithm") == RIVAL])
    return _by_seed(chosen["amortization"] - chosen["family"], "n_train", "split")


def rises_with_k(accounts: pd.DataFrame) -> BySeed:
    """The smallest of what the bound gains from each number of samples to the next, over all that is recorded, in nats.

    From k = 1, the bound of eq. 2, through SAMPLES to log p(x), which is the limit.
    """
    ladder = ["bound", *(f"L_{k}" for k in SAMPLES), "log p(x)"]
    steps = accounts[ladder].diff(axis=1)[ladder[1:]]
    names = [f"to k = {k}" for k in SAMPLES] + ["to log p(x)"]
    return {name: [float(steps[step].min())] for name, step in zip(names, steps, strict=True) if len(steps)}


def gains(accounts: pd.DataFrame, algorithms: tuple[str, ...], quantity: str = "log p(x)") -> BySeed:
    """`quantity` of test digits where each of the `algorithms` ends minus that of AEVB, in nats.

    With the same training set, samples and seed; without what has no counterpart.
    """
    test = accounts[quantity].xs("test", level="split")
    rival = test.xs(RIVAL, level="algorithm")
    ends = at_end(accounts)[quantity].xs("test", level="split")
    chosen = ends[ends.index.get_level_values("algorithm").isin(algorithms)]
    return _by_seed(
        (chosen - rival.reindex(chosen.index.droplevel("algorithm")).to_numpy()).dropna(), "algorithm", "n_train"
    )


def _by_seed(values: pd.Series, *levels: str) -> BySeed:
    named = values.groupby(list(levels), sort=False)
    return {
        " ".join(part if isinstance(part, str) else f"{part:,}" for part in name): [float(value) for value in each]
        for name, each in named
    }
