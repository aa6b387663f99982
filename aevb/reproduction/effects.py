"""The effects of readings: how far each moves the curves, and whether it brings them nearer to the published ones."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from aevb.reproduction.curves import FIGURE_2, Curves, distinct, tolerance, values_at

MOMENTS = (316_200, 1_000_000, 9_900_000)  # the samples at which effects are compared: about where records end


def effects(readings: Curves, unchanged: Curves) -> pd.DataFrame:
    """The change of the test bound by each of `readings`, in each panel, at those of MOMENTS that are recorded.

    Columns: `question`, `answer`, those that name a panel, `samples`; `change`, in nats per datapoint, of means over
    seeds; `times`, its size over the difference within which a published point is met; and `visible`, whether it is
    larger than that difference and than twice the range over the seeds of `unchanged`.
    """
    parts = []
    for samples in MOMENTS:
        moved = readings.select(split="test").at(samples).rename("moved").reset_index()
        seeds = Curves(unchanged.table, FIGURE_2).select(split="test").at_each_seed(samples)
        seeds = seeds.groupby(list(FIGURE_2.names))
        base = pd.DataFrame({FIGURE_2.value: seeds.mean(), "spread": seeds.max() - seeds.min()}).reset_index()
        both = moved.merge(base, on=list(FIGURE_2.names))
        change = both["moved"] - both[FIGURE_2.value]
        times = change.abs() / tolerance(both)
        visible = (times > 1) & (change.abs() > 2 * both["spread"])
        parts.append(both.assign(samples=samples, change=change, times=times, visible=visible))
    return pd.concat(parts, ignore_index=True).drop(columns=["split", "moved", "spread", FIGURE_2.value])


def ranked(effects: pd.DataFrame) -> pd.DataFrame:
    """The largest of the `effects` on each question at each moment, one row each.

    The questions are in the order of `times` at their last moments, the largest first, and their moments in order.
    """
    effects = effects.reset_index(drop=True)
    largest = effects.loc[effects.groupby(["question", "samples"])["times"].idxmax()]
    last = largest.groupby("question")["times"].last()
    place = largest["question"].map(last.rank(ascending=False, method="first"))
    return largest.assign(place=place).sort_values(["place", "samples"]).drop(columns="place").reset_index(drop=True)


def nearness(readings: Curves, unchanged: Curves, published: Curves) -> pd.DataFrame:
    """Whether each of `readings` brings an algorithm nearer to its published test curves on a dataset.

    Columns: `question`, `answer`, `dataset`, `algorithm`; `distance` and `unchanged`, root mean square differences from
    the published points in all panels of the reading, as far as every seed goes, the mean over seeds, in nats per
    datapoint; `outcome`: "nearer" or "farther" by more than seeds decide, else "open". What ends before the first
    published point is left out.
    """
    rows = []
    for name, part in readings.select(split="test").each("question", "answer", "dataset", "algorithm"):
        of_panels = {"dataset": name[2], "algorithm": name[3], "latent_dim": part.table["latent_dim"].unique().tolist()}
        base = unchanged.select(split="test", **of_panels)
        ours, theirs = _differences(part, base, published), _differences(base, part, published)
        if ours.size:
            spread = max(_spread(part, base), _spread(base, part))
            outcome = _compared(_distances(ours), _distances(theirs), max(_allowed(base), 2 * spread))
            rows.append((*name, _distances(ours).mean(), _distances(theirs).mean(), outcome))
    return pd.DataFrame(
        rows, columns=["question", "answer", "dataset", "algorithm", "distance", "unchanged", "outcome"]
    )


def _common_end(part: Curves, others: Curves, panel: dict) -> int:
    """The samples that all seeds of both reach in a panel."""
    return min(part.shared().end, others.select(**panel).shared().end)


def _by_panel(curves: Curves) -> Iterator[tuple[dict, Curves]]:
    names = ("dataset", "algorithm", "latent_dim")
    return ((dict(zip(names, values, strict=True)), part) for values, part in curves.each(*names))


def _differences(curves: Curves, others: Curves, published: Curves) -> np.ndarray:
    """`curves` minus the published points, as far as all seeds of both go: a row per seed, a column per point."""
    columns = []
    for panel, part in _by_panel(curves):
        points = distinct(published.select(_common_end(part, others, panel), **panel, split="test").mean())
        of_seeds = [values_at(of_seed.mean(), points.index) - points.to_numpy() for _, of_seed in part.seeds()]
        columns.append(np.array(of_seeds))
    return np.concatenate(columns, axis=1)


def _distances(differences: np.ndarray) -> np.ndarray:
    """The root mean square of each seed's differences."""
    return np.sqrt((differences**2).mean(axis=1))


def _spread(curves: Curves, others: Curves) -> float:
    """The root mean square over panels of the range over seeds, where all seeds of both end; 0 for one seed."""
    ranges = [np.ptp(part.at_each_seed(_common_end(part, others, panel))) for panel, part in _by_panel(curves)]
    return float(np.sqrt(np.mean(np.square(ranges))))


def _allowed(curves: Curves) -> float:
    """The difference within which a published point of these curves of one dataset is met, at their highest."""
    highest = curves.table.groupby("dataset", as_index=False)[FIGURE_2.value].max()
    return float(tolerance(highest).item())


def _compared(ours: np.ndarray, theirs: np.ndarray, margin: float) -> str:
    """Whether our distances, one per seed, are nearer or farther than theirs by more than seeds decide, or open.

    Of several seeds all must be on one side of all others. A single one must differ from the others by `margin`.
    """
    gap = float(ours.mean() - theirs.mean())
    several = min(len(ours), len(theirs)) > 1
    apart = max(ours) < min(theirs) or max(theirs) < min(ours) if several else abs(gap) > margin
    return ("nearer" if gap < 0 else "farther") if apart else "open"
