"""Tables of curves: choosing rows, the mean over seeds, values between points, agreement with the published curves.

A table has one row per point, in nats per datapoint: the columns that name its curve, `samples` and the value. Ours
have `run` and `seed` too. A `Curves` knows its `Kind`, so that nothing has to be guessed from its columns.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aevb.reproduction.settings import FIGURE2, FIGURE3_NATS

COMPARABLE_FROM = 3e5  # samples; below, the published curves of figure 2 have too few points to compare with

OUTCOMES = ("met", "beaten", "too high", "too low")  # of a published point (`against_points`)
MISSES = OUTCOMES[2:]
SHIFTS = np.exp(np.linspace(-math.log(2), math.log(2), 201))  # factors of samples by which a curve may be late
OTHER_SPLIT = {"train": "test", "test": "train"}


class Kind(NamedTuple):
    """A kind of curves: the columns that name one, the column of values, the samples at which to compare."""

    names: tuple[str, ...]
    value: str
    compared_at: tuple[float, ...]


# the kind of the bounds of figure 2
FIGURE_2 = Kind(("dataset", "latent_dim", "algorithm", "split"), "bound", (1e6, 1e7, 3e7, 1e8))
# the kind of the marginal likelihoods of figure 3
FIGURE_3 = Kind(("n_train", "algorithm", "split"), "log_px", (1e6, 5e6, 1e7, 2e7, 6e7))


@dataclass(frozen=True, eq=False)
class Curves:
    """A table of curves and its kind."""

    table: pd.DataFrame
    kind: Kind

    def __len__(self) -> int:
        return len(self.table)

    def select(self, until: float = math.inf, /, **where: object) -> "Curves":
        """The rows in which each column has the value asked for, or one of those in a list; none past `until`."""
        return Curves(select(self.table[self.table["samples"] <= until], **where), self.kind)

    def each(self, *columns: str) -> "Iterator[tuple[tuple, Curves]]":
        """The curves apart by `columns`: each combination of their values, in order, with its curves."""
        for values, part in self.table.groupby(list(columns)):
            yield values, Curves(part, self.kind)

    def seeds(self) -> "list[tuple[int, Curves]]":
        """The curves of each seed by itself, with the seed; none for published curves, which have no seed."""
        return [(seed, part) for (seed,), part in self.each("seed")] if "seed" in self.table else []

    @property
    def n_runs(self) -> int:
        """The number of runs."""
        return self.table["run"].nunique()

    @property
    def end(self) -> int:
        """The samples at which the longest curve ends."""
        return self.table["samples"].max()

    def reach(self) -> pd.Series:
        """For each row the samples at which the curve of its seed ends."""
        return self.table.groupby([*self.kind.names, "seed"])["samples"].transform("max")

    def furthest(self) -> "Curves":
        """Of each curve the seeds that go furthest: where a seed stopped, the mean would have a step."""
        if "seed" not in self.table:
            return self
        return Curves(self.table[self.reach() == self._among_seeds("max")], self.kind)

    def shared(self) -> "Curves":
        """Of each curve the points that all its seeds reach."""
        return Curves(self.table[self.table["samples"] <= self._among_seeds("min")], self.kind)

    def _among_seeds(self, extreme: str) -> pd.Series:
        return self.reach().groupby([self.table[name] for name in self.kind.names]).transform(extreme)

    def mean(self) -> pd.Series:
        """The one curve that was selected, averaged over the seeds that go furthest: its value by samples.

        Raises ValueError where there are several; empty where there is none.
        """
        several = self.table.groupby(list(self.kind.names)).ngroups
        if several > 1:
            raise ValueError(f"{several} curves have no mean: select one by {', '.join(self.kind.names)}")
        return self.furthest().table.groupby("samples")[self.kind.value].mean()

    def at(self, samples: float) -> pd.Series:
        """Each curve's value at `samples`, interpolated linearly in log samples and averaged over seeds.

        Indexed by the curve's name; curves that do not reach that far, or begin later, are left out.
        """
        return self.at_each_seed(samples).groupby(list(self.kind.names)).mean()

    def at_each_seed(self, samples: float) -> pd.Series:
        """`at` of every seed by itself, the last level of the index."""
        by = [*self.kind.names, *(["seed"] if "seed" in self.table else [])]
        points = self.table.sort_values("samples")
        values = {
            name: value_at(curve.set_index("samples")[self.kind.value].astype(float), samples)
            for name, curve in points.groupby(by, sort=False)
        }
        empty = pd.MultiIndex.from_arrays([[]] * len(by), names=by)
        index = pd.MultiIndex.from_tuples(values, names=by) if values else empty
        return pd.Series(list(values.values()), index=index, name=self.kind.value, dtype=float).dropna()


def select(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows in which each column named has the value asked for, or one of those in a list."""
    chosen = pd.Series(True, table.index)
    for name, value in where.items():
        chosen &= table[name].isin(value if isinstance(value, list) else [value])
    return table[chosen]


def concat(parts: list[Curves]) -> Curves:
    """Curves of one kind in one table. Raises ValueError for several kinds."""
    kinds = {part.kind for part in parts}
    if len(kinds) != 1:
        raise ValueError(f"curves of {len(kinds)} kinds do not go into one table")
    return Curves(pd.concat([part.table for part in parts]), kinds.pop())


def value_at(curve: pd.Series, samples: float) -> float:
    """The value of `curve`, indexed by samples, at `samples`, linearly in log samples; NaN beyond its ends."""
    return float(values_at(curve, samples))


def values_at(curve: pd.Series, samples: ArrayLike) -> np.ndarray:
    """`value_at` for several numbers of samples; of an empty curve, NaN."""
    if curve.empty:
        return np.full(np.shape(samples), np.nan)
    return np.interp(np.log(samples), np.log(curve.index), curve, left=np.nan, right=np.nan)


def first_above(curve: pd.Series, level: float) -> int | None:
    """The samples of the first point of `curve`, indexed by samples, that is above `level`; None where none is."""
    return next(iter(curve.index[curve > level]), None)


def distinct(curve: pd.Series) -> pd.Series:
    """The points of `curve`, indexed by samples, without those that follow another by less than a tenth of theirs."""
    steps = curve.index.to_series().diff().fillna(math.inf)
    return curve[steps > 0.1 * curve.index]


def averages_between(running: pd.Series, places: ArrayLike) -> np.ndarray:
    """The averages of a run from 0 to the first of `places`, in samples, and from each to the next.

    `running` is the average since the point before, indexed by samples, as the split `running` of a run is.
    """
    edges, ends = np.r_[0, running.index], np.r_[0, places]
    total = np.r_[0, np.cumsum(np.diff(edges) * running)]  # nats times samples
    return np.diff(np.interp(ends, edges, total)) / np.diff(ends)


def agreement(ours: Curves, theirs: Curves, samples: tuple[float, ...] | None = None) -> pd.DataFrame:
    """Ours minus published for every curve at each of `samples`, as far as both go, in nats per datapoint.

    Columns: those that name a published curve, `samples`, `published`, `ours`, `difference`, then the number of seeds
    of which ours is the mean, `seeds`, and their range, `spread` (NaN for one). By default `samples` are those at
    which the published kind is compared. Raises ValueError where several curves of ours go by one published name.
    """
    names, parts = list(theirs.kind.names), []
    if "seed" in ours.table and ours.table.duplicated([*names, "seed", "samples"]).any():
        raise ValueError(f"several of our curves go by the same {', '.join(names)}: select one of them")
    for count in samples or theirs.kind.compared_at:
        seeds = Curves(ours.table, theirs.kind).at_each_seed(count).groupby(names)
        pair = pd.DataFrame({"published": theirs.at(count), "ours": seeds.mean(), "seeds": seeds.size()}).dropna()
        spread = (seeds.max() - seeds.min())[pair.index].where(pair["seeds"] > 1)
        both = pair.assign(spread=spread).reset_index()
        both.insert(len(names), "samples", int(count))
        parts.append(both)
    table = pd.concat(parts, ignore_index=True).astype({"seeds": int})
    table.insert(table.columns.get_loc("seeds"), "difference", table["ours"] - table["published"])
    return table


def against_points(ours: Curves, theirs: Curves) -> pd.DataFrame:
    """Each published point from COMPARABLE_FROM samples on that our curve reaches, and whether ours meets it.

    Columns: those of `theirs`, `ours` (interpolated in log samples, the mean over the seeds that go furthest) and
    `outcome`, one of OUTCOMES: "met" within `tolerance`; "beaten" above that, where the same run meets the published
    curve of the other split, as far as there is one; else "too high" or "too low".
    """
    points = theirs.table[theirs.table["samples"] >= COMPARABLE_FROM]
    parts = []
    for name, of_curve in Curves(points, theirs.kind).each(*theirs.kind.names):
        panel = dict(zip(theirs.kind.names, name, strict=True))
        of_ours = ours.select(**panel).mean()
        part = of_curve.table.assign(ours=values_at(of_ours, of_curve.table["samples"])).dropna()
        difference = part["ours"] - part[theirs.kind.value]
        is_met, is_high = difference.abs() <= tolerance(part), difference > 0
        other_is_off = _is_off(ours, theirs, panel | {"split": OTHER_SPLIT[panel["split"]]}, part)
        outcome = np.select([is_met, is_high & ~other_is_off, is_high], OUTCOMES[:3], OUTCOMES[3])
        parts.append(part.assign(outcome=outcome))
    return pd.concat(parts, ignore_index=True) if parts else points.assign(ours=math.nan, outcome="")[:0]


def _is_off(ours: Curves, theirs: Curves, panel: dict, places: pd.DataFrame) -> np.ndarray:
    """At the samples of `places`, whether ours is further than allowed from the published curve of `panel`."""
    here, there = (values_at(curves.select(**panel).mean(), places["samples"]) for curves in (ours, theirs))
    allowed = tolerance(places.assign(**{theirs.kind.value: there})).to_numpy()
    return np.abs(here - there) > allowed  # false where one of them does not reach so far


def misses(ours: Curves, theirs: Curves) -> pd.DataFrame:
    """The points of `against_points` that are missed, with three more columns.

    `late` is the factor by which our curve would have to be shrunk in samples to meet the point: the one nearest to 1
    within SHIFTS, NaN where there is none. `seeds` of our runs go as far, and `met_by` so many of them.
    """
    point = [*ours.kind.names, "samples"]
    points = against_points(ours, theirs)
    missed = points[points["outcome"].isin(MISSES)]
    of_seeds = [against_points(part, theirs).set_index(point)["outcome"] for _, part in ours.seeds()]
    outcomes = pd.concat(of_seeds, axis=1).reindex(pd.MultiIndex.from_frame(missed[point]))
    is_met = outcomes.notna() & ~outcomes.isin(MISSES)
    counts = {"seeds": outcomes.notna().sum(axis=1).to_numpy(), "met_by": is_met.sum(axis=1).to_numpy()}
    return missed.assign(late=_late(Curves(missed, theirs.kind), ours), **counts)


def _late(missed: Curves, ours: Curves) -> pd.Series:
    """The column `late` of `misses`, by the index of the points missed."""
    columns = []
    for name, part in missed.each(*missed.kind.names):
        points, curve = part.table, ours.select(**dict(zip(missed.kind.names, name, strict=True))).mean()
        shifted = values_at(curve, np.outer(points["samples"], SHIFTS))
        off = np.abs(shifted - points[[missed.kind.value]].to_numpy())
        is_met = off <= tolerance(points).to_numpy()[:, None]
        nearest = np.where(is_met, np.abs(np.log(SHIFTS)), np.inf).argmin(axis=1)
        columns.append(pd.Series(np.where(is_met.any(axis=1), SHIFTS[nearest], np.nan), points.index))
    return pd.concat(columns) if columns else pd.Series(dtype=float)


def met_by_seeds(records: dict[str, Curves], theirs: Curves) -> pd.DataFrame:
    """How many points of figure 2 each seed meets or beats in each of `records`, as far as it goes in all of them.

    A row per dataset, algorithm and seed; the columns are those of `records`, by name, and "points", all there are.
    """
    rows = []
    for panel, of_panel in theirs.each("dataset", "algorithm", "latent_dim"):
        where = dict(zip(("dataset", "algorithm", "latent_dim"), panel, strict=True))
        ours = [dict(curves.select(**where).seeds()) for curves in records.values()]
        for seed in set.intersection(*map(set, ours)):
            runs = [by_seed[seed] for by_seed in ours]
            reached = of_panel.select(min(run.end for run in runs))
            points = [against_points(run, reached) for run in runs]
            met = [(~of_record["outcome"].isin(MISSES)).sum() for of_record in points]
            rows.append((*panel[:2], seed, *met, len(points[0])))
    table = pd.DataFrame(rows, columns=["dataset", "algorithm", "seed", *records, "points"])
    return table.groupby(["dataset", "algorithm", "seed"]).sum()


def tolerance(points: pd.DataFrame) -> pd.Series:
    """The largest difference at which a published point is met, nats per datapoint.

    As `settings.FIGURE2` and `FIGURE3_NATS` say.
    """
    if "dataset" not in points:
        return pd.Series(FIGURE3_NATS, points.index)
    nats, share = (
        points["dataset"].map({n: getattr(f, field) for n, f in FIGURE2.items()}) for field in ("nats", "share")
    )
    return nats + share * points[FIGURE_2.value].abs()
