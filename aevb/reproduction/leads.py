"""The quantities that claims compare: leads between curves, costs of a sample.

A lead is the same on the paper's curves as on ours.
"""

import numpy as np
import pandas as pd

from aevb.algorithms import ALGORITHMS
from aevb.reproduction import results
from aevb.reproduction.curves import Curves, value_at
from aevb.reproduction.settings import RIVALS

PAPER_END = 1e8  # where the axes of figure 2 end
FIGURE3_END = 6e7  # where the axes of figure 3 end
PAPER_SIZE = "MNIST, 500 hidden, 20 latents, M = 100"  # the benchmark's name for a step of figure 2


def panels(curves: Curves) -> list[tuple[str, int]]:
    """The panels (dataset, latent_dim) of figure 2 that have both algorithms of the paper."""
    panels = curves.each("dataset", "latent_dim")
    return [panel for panel, part in panels if set(RIVALS) <= set(part.table["algorithm"])]


def _ends_shared(*curves: pd.Series, until: float = PAPER_END) -> tuple[float, ...]:
    """The values of curves at `until`, or where the shortest of them ends."""
    end = min(until, *(curve.index[-1] for curve in curves))
    return tuple(value_at(curve, end) for curve in curves)


def _test_bound(curves: Curves, dataset: str, latent_dim: int, algorithm: str, until: float = PAPER_END) -> pd.Series:
    """The test bound of one curve of figure 2 up to `until`."""
    return curves.select(until, dataset=dataset, latent_dim=latent_dim, algorithm=algorithm, split="test").mean()


def dims(curves: Curves, dataset: str) -> list[int]:
    """The numbers of latents that AEVB has."""
    return sorted(curves.select(dataset=dataset, algorithm="aevb").table["latent_dim"].unique())


def speed_up(curves: Curves, dataset: str, latent_dim: int) -> float:
    """The factor by which AEVB needs fewer samples for the test bound that wake-sleep ends with; 0 if it never does."""
    wake_sleep, aevb = (_test_bound(curves, dataset, latent_dim, name) for name in ("wake-sleep", "aevb"))
    reached = aevb.index[aevb >= wake_sleep.iloc[-1]]
    return float(wake_sleep.index[-1] / reached[0]) if len(reached) else 0.0


def advantage(curves: Curves, dataset: str, latent_dim: int, until: float = PAPER_END) -> float:
    """The test bound of AEVB minus that of wake-sleep at `until`, or where the shorter ends, nats per datapoint."""
    both = (_test_bound(curves, dataset, latent_dim, name, until=np.inf) for name in ("aevb", "wake-sleep"))
    aevb, wake_sleep = _ends_shared(*both, until=until)
    return aevb - wake_sleep


def gap_growth(curves: Curves, dataset: str) -> float:
    """The growth of AEVB's train-test gap from the fewest to the most latents, nats per datapoint.

    At PAPER_END, or where the shortest of the four curves ends: a gap grows as training goes on.
    """
    latent_dims = dims(curves, dataset)
    chosen = curves.select(dataset=dataset, algorithm="aevb")
    train_fewest, test_fewest, train_most, test_most = _ends_shared(
        *(
            chosen.select(latent_dim=latent_dim, split=split).mean()
            for latent_dim in (latent_dims[0], latent_dims[-1])
            for split in ("train", "test")
        )
    )
    return (train_most - test_most) - (train_fewest - test_fewest)


def superfluous_gain(curves: Curves, dataset: str) -> float:
    """AEVB's test bound with the most latents minus that with the next fewer, nats per datapoint.

    At PAPER_END, or where the shorter curve ends.
    """
    latent_dims = dims(curves, dataset)[-2:]
    fewer, most = _ends_shared(*(_test_bound(curves, dataset, dim, "aevb", until=np.inf) for dim in latent_dims))
    return most - fewer


def lead(curves: Curves, n_train: int, algorithm: str, rival: str, split: str = "test") -> float:
    """log p(x) of `algorithm` minus that of `rival` in figure 3, nats per datapoint; NaN where either is missing.

    At FIGURE3_END, or where the shorter curve ends.
    """
    chosen = curves.select(n_train=n_train, split=split)
    ours, theirs = (chosen.select(algorithm=name).mean() for name in (algorithm, rival))
    if ours.empty or theirs.empty:
        return float("nan")
    mine, rivals = _ends_shared(ours, theirs, until=FIGURE3_END)
    return mine - rivals


def cost_per_sample(entries: dict[str, dict], dataset: str) -> dict[str, float]:
    """Seconds per training sample on `dataset` for each algorithm, the median over the runs of a manifest."""
    chosen = [entry for entry in entries.values() if entry["config"]["dataset"] == dataset]
    names = {entry["config"]["algorithm"] for entry in chosen}
    return {
        name: float(np.median([1 / e["samples_per_second"] for e in chosen if e["config"]["algorithm"] == name]))
        for name in sorted(names)
    }


def recorded_cost() -> dict[str, float]:
    """Seconds per training sample on MNIST for each algorithm that the recorded benchmark has.

    It ran the algorithms in turn; the runs of the record were not all made under the same load.
    """
    speed, _ = results.table("speed")
    chosen = (speed["quantity"] == "time a step") & (speed["setting"] == PAPER_SIZE)
    milliseconds = speed[chosen].set_index("what")["median"] / 100  # a sample's share of a step
    titles = {name: ALGORITHMS[name].title for name in RIVALS}
    return {name: milliseconds[title] / 1e3 for name, title in titles.items() if title in milliseconds}
