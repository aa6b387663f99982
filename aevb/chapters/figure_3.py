"""Figures and tables of the chapter on figure 3."""

import time

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

from aevb.reproduction import leads, verdicts
from aevb.reproduction.curves import Curves, value_at
from aevb.reproduction.figures import NAMES
from aevb.reproduction.settings import FIGURE3_N_TRAIN, FIGURE3_STEP_SIZES
from aevb.reproduction.tables import markdown_table
from aevb.trainer import Trainer

STEPS, ROUNDS = 100, 5  # in which algorithms are timed
Leads = dict[tuple[int, str], list[float]]  # by training digits and split, seed by seed


def leads_by_seed(recorded: Curves, algorithm: str, rival: str) -> Leads:
    """The leads of `algorithm` over `rival` in log p(x) where the axes end, nats per digit."""
    return {
        (n_train, split): [leads.lead(part, n_train, algorithm, rival, split) for _, part in recorded.seeds()]
        for n_train in FIGURE3_N_TRAIN
        for split in ("train", "test")
    }


def leads_table(values: Leads) -> Markdown:
    """The leads seed by seed, with Student's 95 % interval for their mean."""
    rows = []
    for (n_train, split), of_seeds in values.items():
        low, high = verdicts.interval(of_seeds)
        rows.append((f"{n_train:,}", split, ", ".join(f"{v:+.1f}" for v in of_seeds), f"{low:+.1f} to {high:+.1f}"))
    return markdown_table(["digits", "split", "seed by seed", "95 %"], rows)


def step_sizes_table(tried: pd.DataFrame, published: Curves) -> Markdown:
    """log p(x) of the training digits at each step size and, from the same samples or the first later, published.

    `tried` is indexed by n_train, algorithm and split, with a column per step size, all after 10^6 samples. The step
    size that the book takes is bold.
    """
    rows = []
    for (n_train, algorithm, split), values in tried.iterrows():
        if split == "train":
            taken = FIGURE3_STEP_SIZES[n_train][algorithm]
            curve = published.select(n_train=n_train, algorithm=algorithm, split=split).mean()
            place = max(1e6, curve.index[0])
            ours = (f"**{value:.1f}**" if step == taken else f"{value:.1f}" for step, value in values.items())
            theirs = f"{value_at(curve, place):.1f} at {place / 1e6:.1f}M"
            rows.append((f"{n_train:,}", NAMES[algorithm], *ours, theirs))
    return markdown_table(["digits", "algorithm", *map(str, tried.columns), "published"], rows)


def rescaled_table(theirs: pd.Series, ours: pd.Series, factor: float) -> Markdown:
    """Ours at `factor` times the samples beside theirs, at four of the published points; both indexed by samples."""
    places = theirs.index[factor * theirs.index <= ours.index[-1]]
    rows = []
    for samples in places[np.linspace(0, len(places) - 1, 4).astype(int)]:
        mine = value_at(ours, factor * samples)
        published, difference = theirs[samples], mine - theirs[samples]
        rows.append((f"{samples / 1e6:.0f}M", f"{published:.1f}", f"{mine:.1f}", f"{difference:+.1f}"))
    return markdown_table(["published samples", "published", "ours, rescaled", "difference"], rows)


def seconds_per_million(trainers: dict[str, Trainer]) -> dict[str, float]:
    """Seconds per million training samples of each trainer, which takes STEPS in turn with the others.

    The median over ROUNDS, without evaluation, on one thread.
    """
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(ROUNDS):
        for name, trainer in trainers.items():
            samples, before = STEPS * trainer.run.batch_size, time.perf_counter()
            trainer.advance(trainer.samples + samples)
            seconds[name].append((time.perf_counter() - before) / samples * 1e6)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def costs_table(rows: dict[str, float], seconds: dict[str, float]) -> Markdown:
    """Decoder rows per sample and seconds per million samples of each algorithm, and the seconds over AEVB's."""
    return markdown_table(
        ["algorithm", "decoder evaluations per sample", "seconds per million samples", "over AEVB"],
        [
            (NAMES[name], f"{rows[name]:.1f}", f"{seconds[name]:.0f}", f"{seconds[name] / seconds['aevb']:.1f}")
            for name in rows
        ],
    )
