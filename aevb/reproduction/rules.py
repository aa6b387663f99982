"""The rules that judge claims: by curves, by numbers that chapters measured, by Part V's record, by the clock."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from aevb.algorithms import ALGORITHMS
from aevb.datasets import TITLES
from aevb.reproduction import leads, verdicts
from aevb.reproduction.after import BySeed
from aevb.reproduction.curves import Curves, concat
from aevb.reproduction.settings import FIGURE3_N_TRAIN
from aevb.reproduction.verdicts import DOES_NOT_HOLD, HOLDS, IN_PART, NOT_MEASURED, NOT_TESTABLE, Interval, share

OVERFITTING_FROM = 1e7  # a shorter run has not overfitted yet, and says nothing about claims 3 and 4
RELIABLE_WITHIN = 0.5  # nats per datapoint: what we take "good" to mean in claim 13
NO_WORSE = 1.0  # nats per datapoint: a smaller difference is none, in claims 4 and 8

Panel = tuple[str, int]  # dataset and number of latents
ByPanel = dict[Panel, float]  # the value of a measure in each panel
ByName = dict[str, float]  # the values of a measure, by the names that are shown
Name = TypeVar("Name", Panel, str)  # of the values of one measure


class Evidence(NamedTuple):
    """The evidence by which claims are judged.

    `figure2` and `figure3` are our and the paper's curves of each; `cost` is the seconds per training sample of each
    algorithm on MNIST (`leads.cost_per_sample`, `leads.recorded_cost`); `measured` holds the numbers that chapters
    measured, by name. `after` is what Part V measured of each recorded run (`after.accounts`), by experiment.
    """

    figure2: tuple[Curves, Curves]
    figure3: tuple[Curves, Curves]
    cost: dict[str, float]
    measured: dict[str, float]
    after: Mapping[str, pd.DataFrame] = MappingProxyType({})


class Judged(NamedTuple):
    """The finding of a rule: the measure on the paper's side and on ours, its intervals over our seeds, the verdict."""

    published: str
    ours: str
    seeds: str
    verdict: str


Rule = Callable[[Evidence], Judged]  # the finding on a claim by the evidence


# rules by curves: a measure of them, and a test of each of its values


def _listed(values: Mapping[Any, float]) -> str:
    return "; ".join(f"{name} {value:+.1f}" for name, value in values.items())


def by_curves(
    figure: str,
    measure: Callable[[Curves], dict[Name, float]],
    bears_out: Callable[[float], bool],
    tell: Callable[[dict[Name, float]], str] = _listed,
    shown: Callable[[dict[Name, Interval]], dict[Any, Interval]] = dict,
    interval: Callable[[list[float]], Interval] = verdicts.interval,
) -> Rule:
    """A rule for the curves of `figure`: `measure` gives values, `bears_out` says whether one supports the claim.

    `tell` puts the values in words, and `shown` picks and names the few whose `interval` over seeds is shown.

    Where there are several seeds, a value bears a claim out, or speaks against it, only if its whole interval does too.
    """

    def rule(evidence: Evidence) -> Judged:
        ours, published = getattr(evidence, figure)
        here, there = measure(ours), tell(measure(published))
        if not here:
            return Judged(there, "-", "-", NOT_MEASURED)
        parts = [part for _, part in ours.seeds() if measure(part).keys() == here.keys()]  # seeds with every curve
        if len(parts) < 2:
            return Judged(there, tell(here), "one seed", share([bears_out(value) for value in here.values()]))
        shared = concat(parts).shared()
        by_seed = [measure(part) for _, part in shared.seeds()]
        intervals = {name: interval([values[name] for values in by_seed]) for name in here}
        states = [verdicts.state(bears_out, here[name], *intervals[name]) for name in here]
        words = "; ".join(f"{name} {low:.1f} to {high:.1f}" for name, (low, high) in shown(intervals).items())
        return Judged(there, tell(here), f"{len(parts)} seeds, {_reach(shared)}: {words}", share(states))

    return rule


def _reach(shared: Curves) -> str:
    ends = shared.reach()
    return f"to {ends.min() / 1e6:.2g} million samples{' or further' if ends.nunique() > 1 else ''}"


def speed_ups(curves: Curves) -> ByPanel:
    """`leads.speed_up` of each panel."""
    return {panel: leads.speed_up(curves, *panel) for panel in leads.panels(curves)}


def median_speed_up(ratios: ByPanel) -> str:
    """The median of `ratios` in words, and the number of panels in which AEVB is faster."""
    wins = sum(ratio > 1 for ratio in ratios.values())
    return f"{np.median(list(ratios.values())):.1f}x in the median, {wins} of {len(ratios)} panels"


def advantages(curves: Curves) -> ByPanel:
    """`leads.advantage` in each panel."""
    return {panel: leads.advantage(curves, *panel) for panel in leads.panels(curves)}


def range_of_leads(advantages: ByPanel) -> str:
    """The least and the largest advantage of each dataset, in words."""
    return "; ".join(
        f"{title} {min(values):+.1f} to {max(values):+.1f}"
        for name, title in TITLES.items()
        if (values := [value for (dataset, _), value in advantages.items() if dataset == name])
    )


def lowest(intervals: dict[Panel, Interval]) -> dict[str, Interval]:
    """The panel of each dataset whose interval begins lowest."""
    lowest = {}
    for dataset, title in TITLES.items():
        panels = {latent_dim: limits for (name, latent_dim), limits in intervals.items() if name == dataset}
        if panels:
            latent_dim = min(panels, key=panels.__getitem__)
            lowest[f"{title}, {latent_dim} latents,"] = panels[latent_dim]
    return lowest


def over(measure: Callable[[Curves, str], float]) -> Callable[[Curves], ByName]:
    """`measure` for each dataset with several numbers of latents and curves long enough to overfit."""

    def of_curves(curves: Curves) -> ByName:
        ends: dict[str, list[int]] = {name: [] for name in TITLES}
        for (name, _), part in curves.select(algorithm="aevb").each("dataset", "latent_dim"):
            ends[name].append(part.end)
        long = [name for name, each in ends.items() if len(each) > 1 and min(each) >= OVERFITTING_FROM]
        return {TITLES[name]: measure(curves, name) for name in long}

    return of_curves


def mcem_lead(curves: Curves) -> ByName:
    """log p(x) of MCEM minus AEVB's on 50,000 digits, nats per datapoint; empty where either is missing."""
    return _all_or_nothing({ALGORITHMS["mcem"].title: leads.lead(curves, max(FIGURE3_N_TRAIN), "mcem", "aevb")})


def aevb_leads(curves: Curves) -> ByName:
    """log p(x) of AEVB minus each rival's on each training set, nats per datapoint; empty where a curve is missing."""
    return _all_or_nothing(
        {
            f"{ALGORITHMS[rival].title}, {n_train:,}": leads.lead(curves, n_train, "aevb", rival)
            for n_train in FIGURE3_N_TRAIN
            for rival in ("wake-sleep", "mcem")
        }
    )


def _all_or_nothing(values: ByName) -> ByName:
    return {} if np.isnan(list(values.values())).any() else values


# rules by numbers that chapters measured


def by_numbers(published: str, names: tuple[str, ...], form: str, judge: Callable[..., str]) -> Rule:
    """A rule for numbers of these `names` that a chapter measured: `form` tells them, `judge` gives the verdict."""

    def rule(evidence: Evidence) -> Judged:
        values = [evidence.measured.get(name) for name in names]
        if any(value is None for value in values):
            return Judged(published, "-", "-", NOT_MEASURED)
        return Judged(published, form.format(*values), "one seed", judge(*values))

    return rule


def below_one(*values: float) -> str:
    """Borne out by values below one."""
    return share([value < 1 for value in values])


def visibly_below_one(*ratios: float) -> str:
    """Borne out by ratios below one by more than the draws behind them leave open."""
    return share([ratio < 0.95 for ratio in ratios])  # of a hundred draws or fewer: nearer to one, they are equal


def falls_and_rises(falls: float, rises: float) -> str:
    """Borne out by a first factor visibly below one and a second visibly above it."""
    return share([falls < 0.95, rises > 1 / 0.95])


def visibly_above_one(*factors: float) -> str:
    """Borne out by factors above one by more than the draws behind them leave open."""
    return share([factor > 1 / 0.95 for factor in factors])


def far_above_one(ratio: float) -> str:
    """Borne out by a ratio above ten."""
    return share([ratio > 10])


def larger(*gains_and_least: float) -> str:
    """Borne out by gains above the last number, spoken against by losses as large; what is smaller decides nothing."""
    *gains, least = gains_and_least
    return share([gain > 0 if abs(gain) > least else None for gain in gains])


def same_ranking(smallest: float, largest: float) -> str:
    """Borne out where AEVB leads throughout, and by less than twice as much in one place as in another."""
    return DOES_NOT_HOLD if smallest <= 0 else HOLDS if largest < 2 * smallest else IN_PART


def one_will_do(by_samples: float, by_passes: float) -> str:
    """Borne out where ten samples gain nothing for ten times the work, in part where they gain nothing for as much."""
    return HOLDS if by_samples < NO_WORSE else IN_PART if by_passes <= 0 else DOES_NOT_HOLD


def good_below(below: float, above: float) -> str:
    """Borne out where RELIABLE_WITHIN lies between the two errors, in part where they are only in that order."""
    return HOLDS if below < RELIABLE_WITHIN < above else IN_PART if below < above else DOES_NOT_HOLD


# rules by the record of Part V


def by_accounts(
    says: str,
    experiments: tuple[str, ...],
    measure: Callable[[pd.DataFrame], BySeed],
    bears_out: Callable[[float], bool] = lambda value: value > 0,
    shown: Callable[[ByName], Collection[str]] = list,
) -> Rule:
    """A rule for what Part V measured: `measure` gives values by seed, `bears_out` says whether one supports the claim.

    All values are judged; `shown` picks the names of those that are shown.

    `measure` sees the runs of these `experiments`. Those that have AEVB have runs of their own of it, so that a claim
    compares with it within one of them.

    A value is the mean over its seeds. Where it has several it counts only if its whole interval agrees with it. `says`
    is what the later paper gives, in the place of a published number.
    """

    def rule(evidence: Evidence) -> Judged:
        parts = [evidence.after[name] for name in experiments if name in evidence.after]
        found = measure(pd.concat(parts)) if parts else {}
        if not found:
            return Judged(says, "-", "-", NOT_MEASURED)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        intervals = {name: verdicts.interval(values) for name, values in found.items() if len(values) > 1}
        states = [verdicts.state(bears_out, mean, *intervals.get(name, ())) for name, mean in means.items()]
        chosen = shown(means)
        words = "; ".join(
            f"{name} {low:+.1f} to {high:+.1f}" for name, (low, high) in intervals.items() if name in chosen
        )
        return Judged(says, _listed({name: means[name] for name in chosen}), words or "one value each", share(states))

    return rule


def largest(values: ByName) -> list[str]:
    """The name of the largest value for each number of training digits, which is the last word of a name."""
    by_digits = {name.split()[-1]: name for name in sorted(values, key=values.__getitem__)}
    return [name for name in values if name in by_digits.values()]


# rules by the clock


def minutes_per_million(algorithm: str) -> Rule:
    """The verdict on minutes per million samples: not testable, for the paper's machine is not here."""

    def rule(evidence: Evidence) -> Judged:
        if algorithm not in evidence.cost:
            return Judged("20-40", "-", "-", NOT_MEASURED)
        return Judged("20-40", f"{evidence.cost[algorithm] * 1e6 / 60:.1f}", "one machine", NOT_TESTABLE)

    return rule


def same_cost(algorithm: str, other: str) -> Rule:
    """Borne out where a sample of `algorithm` costs less than two of the `other`."""

    def rule(evidence: Evidence) -> Judged:
        if not {algorithm, other} <= set(evidence.cost):
            return Judged("same complexity", "-", "-", NOT_MEASURED)
        ratio = evidence.cost[algorithm] / evidence.cost[other]
        return Judged("same complexity", f"{ratio:.2f}", "one machine", HOLDS if ratio < 2 else DOES_NOT_HOLD)

    return rule
