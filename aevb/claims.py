"""What the paper claims, measured: each claim in a few quoted words, and the verdict its measurement gives.

Verdicts are computed from `results/` alone (curves, manifests and the numbers that chapters measured), never typed in.
A rule is the same for the paper's curves and for ours.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from aevb import results
from aevb.curves import Curves, concat, value_at
from aevb.data import TITLES

PAPER_END = 1e8  # where the axes of figure 2 end
FIGURE3_END = 6e7
OVERFITTING_FROM = 1e7  # a shorter run has not overfitted yet, and says nothing about claims 3 and 4
RELIABLE_WITHIN = 0.5  # nats a datapoint: what we take "good" to mean in claim 13
NO_WORSE = 1.0  # nats a datapoint: a smaller difference is none, in claims 4 and 8

CONFIDENCE = 0.95  # of the intervals over seeds
PAPER_SIZE = "MNIST, 500 hidden, 20 latents, M = 100"  # the benchmark's name for a step of figure 2

HOLDS, IN_PART, DOES_NOT_HOLD, UNDECIDED = "holds", "holds in part", "does not hold", "undecided"
NOT_TESTABLE, NOT_MEASURED = "not testable", "not measured"
CHAPTER_FAILED = f"{NOT_MEASURED} (chapter failed)"
VERDICTS = (HOLDS, IN_PART, DOES_NOT_HOLD, UNDECIDED, NOT_TESTABLE, NOT_MEASURED, CHAPTER_FAILED)
COLUMNS = ["number", "claim", "where", "chapter", "measure", "published", "ours", "seeds", "verdict"]


class Claim(NamedTuple):
    """One empirical claim: its number in the book, the paper's words, where they stand, our chapter, our measure."""

    number: int
    quote: str
    where: str
    chapter: str
    measure: str


# fmt: off
FASTER = Claim(1, "considerably faster", "fig. 2", "14_figure_2",
               "samples wake-sleep needs over those AEVB needs")
BETTER = Claim(2, "a better solution in all experiments", "fig. 2", "14_figure_2",
               "test bound, AEVB minus wake-sleep, nats")
OVERFITTING = Claim(3, "more latent variables does not result in more overfitting", "fig. 2", "14_figure_2",
                    "growth of the train-test gap from fewest to most latents, nats")
SUPERFLUOUS = Claim(4, "superfluous latent variables did not result in overfitting", "sec. 5", "14_figure_2",
                    "test bound of AEVB with the most latents minus that with the next fewer, nats")
VARIANCE = Claim(5, "estimator variance was small (< 1)", "fig. 2", "05_sgvb_estimators",
                 "variance of the bound, nat²")
COST = Claim(6, "20-40 minutes per million training samples", "fig. 2", "24_speed",
             "minutes a million samples, AEVB on MNIST, one thread")
WIDTHS = Claim(7, "not very sensitive to these choices", "sec. 5", "19_what_the_paper_does_not_say",
               "AEVB's lead over wake-sleep, test, nats: smallest and largest over 100 to 1,000 hidden units")
ONE_SAMPLE = Claim(8, "can be set to 1", "sec. 2.3", "19_what_the_paper_does_not_say",
                   "test bound, L = 10 minus L = 1 at M = 100, nats: at equal samples, at equal decoder passes")
B_BELOW_A = Claim(9, "typically has less variance", "sec. 2.3", "19_what_the_paper_does_not_say",
                  "variance of B over A's, before training and after 100,000 samples: the bound; its gradient in phi")
NAIVE = Claim(10, "very high variance", "sec. 2.2", "06_reparameterization",
              "variance of the score-function gradient over the pathwise one")
NOT_ONLINE = Claim(11, "can't be applied efficiently for the full MNIST dataset", "fig. 3", "15_figure_3",
                   "log p(x) of test digits, MCEM minus AEVB, 50,000 for training, nats")
LIKELIHOOD = Claim(12, "estimated marginal likelihood, for different numbers of training points", "fig. 3",
                   "15_figure_3", "log p(x) of test digits, AEVB minus each rival, 1,000 and 50,000 for training, nats")
RELIABLE = Claim(13, "unreliable", "sec. 5, App. D", "20_appendix_d_estimator",
                 "rms error of the estimate, nats: worst below, best above 5 dimensions")
SAME_COST = Claim(14, "the same computational complexity as AEVB per datapoint", "sec. 4", "10_wake_sleep",
                  "seconds a sample, wake-sleep over AEVB, MNIST")
MANIFOLD = Claim(15, "low-dimensional manifold", "sec. 5, App. A", "16_figure_4",
                 "step between neighbours of figure 4's grid over the distance of neighbours in the data")
ANALYTIC = Claim(16, "a lower variance", "App. F.1", "13_full_vb",
                 "variance of eq. 24 over that of eq. 22, the encoder's gradient: at the start, after 1,000 steps")
FULL_VB = Claim(17, "straightforward to extend", "sec. 2", "21_full_vb_at_last",
                "test bound at the end of the record, full VB minus MAP, 1,000 and 50,000 for training, nats")
# fmt: on


def _panels(curves: Curves) -> list[tuple[str, int]]:
    """The panels (dataset, latent_dim) of figure 2 that have both algorithms of the paper."""
    panels = curves.each("dataset", "latent_dim")
    return [panel for panel, part in panels if {"aevb", "wake-sleep"} <= set(part.table["algorithm"])]


def _ends_shared(*curves: pd.Series) -> tuple[float, ...]:
    """The values of curves where the shortest of them ends."""
    end = min(curve.index[-1] for curve in curves)
    return tuple(value_at(curve, end) for curve in curves)


def _test_bound(curves: Curves, dataset: str, latent_dim: int, algorithm: str, until: float = PAPER_END) -> pd.Series:
    """The test bound of one curve of figure 2 up to `until`."""
    return curves.select(until, dataset=dataset, latent_dim=latent_dim, algorithm=algorithm, split="test").mean()


def _dims(curves: Curves, dataset: str) -> list[int]:
    """The numbers of latents that AEVB has."""
    return sorted(curves.select(dataset=dataset, algorithm="aevb").table["latent_dim"].unique())


def speed_up(curves: Curves, dataset: str, latent_dim: int) -> float:
    """How many times fewer samples AEVB needs for the test bound wake-sleep ends with; 0 if it never gets there."""
    wake_sleep, aevb = (_test_bound(curves, dataset, latent_dim, name) for name in ("wake-sleep", "aevb"))
    reached = aevb.index[aevb >= wake_sleep.iloc[-1]]
    return float(wake_sleep.index[-1] / reached[0]) if len(reached) else 0.0


def advantage(curves: Curves, dataset: str, latent_dim: int) -> float:
    """The test bound of AEVB minus that of wake-sleep at the last number of samples both reach, nats per datapoint."""
    aevb, wake_sleep = _ends_shared(
        *(_test_bound(curves, dataset, latent_dim, name) for name in ("aevb", "wake-sleep"))
    )
    return aevb - wake_sleep


def gap_growth(curves: Curves, dataset: str) -> float:
    """How much wider AEVB's train-test gap is at the most latent dimensions than at the fewest, nats.

    At the last number of samples that all four curves reach, because a gap grows as training goes on.
    """
    dims = _dims(curves, dataset)
    chosen = curves.select(PAPER_END, dataset=dataset, algorithm="aevb")
    train_fewest, test_fewest, train_most, test_most = _ends_shared(
        *(
            chosen.select(latent_dim=latent_dim, split=split).mean()
            for latent_dim in (dims[0], dims[-1])
            for split in ("train", "test")
        )
    )
    return (train_most - test_most) - (train_fewest - test_fewest)


def superfluous_gain(curves: Curves, dataset: str) -> float:
    """AEVB's test bound with the most latents minus that with the next fewer, nats.

    At PAPER_END, or where the shorter curve ends.
    """
    dims = _dims(curves, dataset)[-2:]
    fewer, most = (_test_bound(curves, dataset, latent_dim, "aevb", until=np.inf) for latent_dim in dims)
    end = min(fewer.index[-1], most.index[-1], PAPER_END)
    return value_at(most, end) - value_at(fewer, end)


def lead(curves: Curves, n_train: int, algorithm: str, rival: str, split: str = "test") -> float:
    """log p(x) of `algorithm` minus `rival`'s in figure 3 at the last number of samples both reach, nats.

    NaN where either is missing.
    """
    chosen = curves.select(n_train=n_train, split=split)
    ours, theirs = (chosen.select(algorithm=name).mean() for name in (algorithm, rival))
    if ours.empty or theirs.empty:
        return float("nan")
    end = min(ours.index[-1], theirs.index[-1], FIGURE3_END)
    return value_at(ours, end) - value_at(theirs, end)


def cost_per_sample(entries: dict[str, dict]) -> dict[str, float]:
    """Seconds per training sample on MNIST for each algorithm, the median over the runs of a manifest."""
    mnist = [entry for entry in entries.values() if entry["config"]["dataset"] == "mnist"]
    names = {entry["config"]["algorithm"] for entry in mnist}
    return {
        name: float(np.median([1 / e["samples_per_second"] for e in mnist if e["config"]["algorithm"] == name]))
        for name in sorted(names)
    }


def recorded_cost() -> dict[str, float]:
    """Seconds per training sample on MNIST for each algorithm that the recorded benchmark has.

    It ran the algorithms in turn; the runs of the record were not all made under the same load.
    """
    speed, _ = results.speed()
    chosen = (speed["quantity"] == "time a step") & (speed["setting"] == PAPER_SIZE)
    milliseconds = speed[chosen].set_index("what")["median"] / 100  # a sample's share of a step
    names = {"aevb": "AEVB", "wake-sleep": "wake-sleep"}
    return {algorithm: milliseconds[name] / 1e3 for algorithm, name in names.items() if name in milliseconds}


class Evidence(NamedTuple):
    """What the claims are judged by.

    `figure2` and `figure3` are our and the paper's curves of each; `cost` is the time per training sample of each
    algorithm on MNIST (`cost_per_sample`, `recorded_cost`); `measured` holds the numbers that chapters measured, by
    name.
    """

    figure2: tuple[Curves, Curves]
    figure3: tuple[Curves, Curves]
    cost: dict[str, float]
    measured: dict[str, float]


def of_profile(profile: str, failed: Collection[str] = ()) -> pd.DataFrame:
    """The table of claims from what this machine last computed at `profile`.

    What is missing and would have come from one of the chapters in `failed` is told from the rest: CHAPTER_FAILED.
    """
    curves, entries = results.live("figure2", profile)
    figure3, _ = results.live("figure3", profile)
    found = _from_results(curves, figure3, cost_per_sample(entries), results.measurements(profile))
    timed = found["number"].isin([COST.number, SAME_COST.number])  # by the runs of figure 2, here
    chapters = found["chapter"].mask(timed, FASTER.chapter)
    found.loc[(found["verdict"] == NOT_MEASURED) & chapters.isin(failed), "verdict"] = CHAPTER_FAILED
    return found


def of_record() -> pd.DataFrame:
    """The table of claims from what is recorded in the repository."""
    measured = results.recorded_measurements()
    return _from_results(results.recorded("figure2"), results.recorded("figure3"), recorded_cost(), measured)


def _from_results(figure2: Curves, figure3: Curves, cost: dict[str, float], measured: dict[str, float]) -> pd.DataFrame:
    pairs = (figure2, results.published("figure2")), (figure3, results.published("figure3"))
    return table(Evidence(*pairs, cost, measured))


def table(evidence: Evidence) -> pd.DataFrame:
    """Every claim, one row each, in their order: COLUMNS, the last of them one of VERDICTS.

    `published` and `ours` are what `measure` gives on the paper's curves and on ours, `seeds` its intervals over our
    seeds (`interval`), of several panels the lowest. Where there are several seeds, a value bears a claim out, or
    speaks against it, only if its whole interval does too; a claim that no value bears out and not all speak against
    is UNDECIDED. A claim whose measurement is missing is there too, and says so.
    """
    rows = [
        _by_curves(
            FASTER, evidence.figure2, _speed_ups, lambda ratio: ratio > 1, _median_speed_up, _lowest, ratio_interval
        ),
        _by_curves(BETTER, evidence.figure2, _advantages, lambda lead: lead > 0, _range_of_leads, _lowest),
        _by_curves(OVERFITTING, evidence.figure2, _over(gap_growth), lambda growth: growth <= 0),
        _by_curves(SUPERFLUOUS, evidence.figure2, _over(superfluous_gain), lambda gain: gain > -NO_WORSE),
        _by_curves(NOT_ONLINE, evidence.figure3, _mcem_lead, lambda lead: lead < 0),
        _by_curves(LIKELIHOOD, evidence.figure3, _leads, lambda lead: lead > 0),
        _cost(evidence.cost),
        _same_cost(evidence.cost),
        *(_by_number(*rule, evidence.measured) for rule in RULES),
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values("number", ignore_index=True)


def headline(table: pd.DataFrame) -> str:
    """How many claims got each verdict, in one line."""
    counts = Counter(table["verdict"])
    return f"{len(table)} claims: " + ", ".join(f"{v} {counts[v]}" for v in VERDICTS if counts[v])


def _row(claim: Claim, published: str, ours: str, seeds: str, verdict: str) -> tuple:
    return (claim.number, f'"{claim.quote}"', *claim[2:], published, ours, seeds, verdict)


def _share(states: list[bool | None]) -> str:
    """The verdict: True stands for a value that bears the claim out, False for one against it, None for neither."""
    if any(states):
        return HOLDS if all(states) else IN_PART
    return UNDECIDED if None in states else DOES_NOT_HOLD


# claims that curves decide: what is measured on curves, by name, and when one of its values bears the claim out

Values = dict[str | tuple[str, int], float]
Interval = tuple[float, float]


def _listed(values: Values) -> str:
    return "; ".join(f"{name} {value:+.1f}" for name, value in values.items())


def interval(values: list[float]) -> Interval:
    """Student's interval for the mean of what independent seeds gave, two or more, at CONFIDENCE."""
    middle, half = np.mean(values), stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(middle - half), float(middle + half)


def prediction_interval(values: Sequence[float], confidence: float = 0.999) -> Interval:
    """Student's interval for what one more independent seed gives, from what two seeds or more gave.

    Right for values that are normal among seeds. A run on another machine counts as one more seed.
    """
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) * np.sqrt(1 + 1 / len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def ratio_interval(ratios: list[float]) -> Interval:
    """`interval` of ratios, taken of their logarithms; where a ratio is 0, from there to the largest."""
    return tuple(map(float, np.exp(interval(np.log(ratios))))) if min(ratios) > 0 else (0.0, max(ratios))


def _by_curves(
    claim: Claim,
    curves: tuple[Curves, Curves],
    measure: Callable[[Curves], Values],
    bears_out: Callable[[float], bool],
    tell: Callable[[Values], str] = _listed,
    shown: Callable[[dict[str | tuple[str, int], Interval]], dict[str, Interval]] = dict,
    interval: Callable[[list[float]], Interval] = interval,
) -> tuple:
    """`tell` puts the values in words, and `shown` picks and names the few whose `interval` over seeds is shown."""
    ours, published = curves
    here, there = measure(ours), tell(measure(published))
    if not here:
        return _row(claim, there, "-", "-", NOT_MEASURED)
    parts = [part for _, part in ours.seeds() if measure(part).keys() == here.keys()]  # seeds with every curve
    if len(parts) < 2:
        return _row(claim, there, tell(here), "one seed", _share([bears_out(value) for value in here.values()]))
    shared = concat(parts).shared()
    ends = shared.reach()
    by_seed = [measure(part) for _, part in shared.seeds()]
    intervals = {name: interval([values[name] for values in by_seed]) for name in here}
    words = "; ".join(f"{name} {low:.1f} to {high:.1f}" for name, (low, high) in shown(intervals).items())
    further = " or further" if ends.nunique() > 1 else ""
    seeds = f"{len(parts)} seeds, to {ends.min():.0e} samples{further}: {words}"
    return _row(claim, there, tell(here), seeds, _share([_state(bears_out, here[n], *intervals[n]) for n in here]))


def _state(bears_out: Callable[[float], bool], *values: float) -> bool | None:
    borne_out = {bears_out(value) for value in values}
    return borne_out.pop() if len(borne_out) == 1 else None


def _speed_ups(curves: Curves) -> Values:
    return {panel: speed_up(curves, *panel) for panel in _panels(curves)}


def _median_speed_up(ratios: Values) -> str:
    wins = sum(ratio > 1 for ratio in ratios.values())
    return f"{np.median(list(ratios.values())):.1f}x in the median, {wins} of {len(ratios)} panels"


def _advantages(curves: Curves) -> Values:
    return {panel: advantage(curves, *panel) for panel in _panels(curves)}


def _range_of_leads(leads: Values) -> str:
    return "; ".join(
        f"{TITLES[name]} {min(values):+.1f} to {max(values):+.1f}"
        for name in TITLES
        if (values := [lead for (dataset, _), lead in leads.items() if dataset == name])
    )


def _lowest(intervals: dict[tuple[str, int], Interval]) -> dict[str, Interval]:
    """Of each dataset the panel whose interval begins lowest."""
    lowest = {}
    for dataset, title in TITLES.items():
        panels = {latent_dim: limits for (name, latent_dim), limits in intervals.items() if name == dataset}
        if panels:
            latent_dim = min(panels, key=panels.get)
            lowest[f"{title}, {latent_dim} latents,"] = panels[latent_dim]
    return lowest


def _over(measure: Callable[[Curves, str], float]) -> Callable[[Curves], Values]:
    """`measure` for each dataset with several numbers of latents and curves long enough to overfit."""

    def of_curves(curves: Curves) -> Values:
        ends = {name: [] for name in TITLES}
        for (name, _), part in curves.select(algorithm="aevb").each("dataset", "latent_dim"):
            ends[name].append(part.end)
        long = [name for name, each in ends.items() if len(each) > 1 and min(each) >= OVERFITTING_FROM]
        return {TITLES[name]: measure(curves, name) for name in long}

    return of_curves


def _mcem_lead(curves: Curves) -> Values:
    return _all_or_nothing({"MCEM": lead(curves, 50_000, "mcem", "aevb")})


def _leads(curves: Curves) -> Values:
    rivals = {"wake-sleep": "wake-sleep", "mcem": "MCEM"}
    return _all_or_nothing(
        {
            f"{rivals[rival]}, {n_train:,}": lead(curves, n_train, "aevb", rival)
            for n_train in (1000, 50_000)
            for rival in rivals
        }
    )


def _all_or_nothing(values: Values) -> Values:
    return {} if np.isnan(list(values.values())).any() else values


# claims that chapters decide: the names of their numbers, how they are told, the verdict they give


def _by_number(
    claim: Claim,
    published: str,
    names: tuple[str, ...],
    form: str,
    judge: Callable[..., str],
    measured: dict[str, float],
) -> tuple:
    values = [measured.get(name) for name in names]
    if any(value is None for value in values):
        return _row(claim, published, "-", "-", NOT_MEASURED)
    return _row(claim, published, form.format(*values), "one seed", judge(*values))


def _below_one(*values: float) -> str:
    return _share([value < 1 for value in values])


def _visibly_below_one(*ratios: float) -> str:
    return _share([ratio < 0.95 for ratio in ratios])  # of a hundred draws or less: nearer to one, they are equal


def _far_above_one(ratio: float) -> str:
    return _share([ratio > 10])


def _positive(*gains: float) -> str:
    return _share([gain > 0 for gain in gains])


def _same_ranking(smallest: float, largest: float) -> str:
    return DOES_NOT_HOLD if smallest <= 0 else HOLDS if largest < 2 * smallest else IN_PART


def _one_will_do(by_samples: float, by_passes: float) -> str:
    return HOLDS if by_samples < NO_WORSE else IN_PART if by_passes <= 0 else DOES_NOT_HOLD


def _good_below(below: float, above: float) -> str:
    return HOLDS if below < RELIABLE_WITHIN < above else IN_PART if below < above else DOES_NOT_HOLD


# fmt: off
RULES = (
    (VARIANCE, "< 1", ("estimator-variance",), "{:.2g}", _below_one),
    (WIDTHS, "not shown", ("lead-by-width-smallest", "lead-by-width-largest"), "{:+.1f}, {:+.1f}", _same_ranking),
    (ONE_SAMPLE, "not shown", ("gain-of-ten-samples", "gain-at-equal-passes"), "{:+.1f}, {:+.1f}", _one_will_do),
    (B_BELOW_A, "< 1", ("variance-ratio-b-a-early", "variance-ratio-b-a",
                        "variance-ratio-b-a-gradient-early", "variance-ratio-b-a-gradient"),
     "{:.2g}, {:.2g}; {:.2g}, {:.2g}", _visibly_below_one),
    (NAIVE, "very high", ("variance-ratio-score-pathwise",), "{:.2g}", _far_above_one),
    (RELIABLE, "good below, unreliable above", ("appendix-d-rmse-below-5", "appendix-d-rmse-above-5"),
     "{:.2f}, {:.2f}", _good_below),
    (MANIFOLD, "by eye", ("manifold-step-ratio",), "{:.2g}", _below_one),
    (ANALYTIC, "< 1", ("variance-ratio-24-22-start", "variance-ratio-24-22-later"),
     "{:.2g}, {:.2g}", _visibly_below_one),
    (FULL_VB, "left to future work", ("full-vb-minus-map-1000", "full-vb-minus-map-50000"),
     "{:+.1f}, {:+.1f}", _positive),
)
# fmt: on


# claims that clocks decide


def _cost(cost: dict[str, float]) -> tuple:
    """Not testable whatever our number: the paper's belongs to a machine that is not here."""
    if "aevb" not in cost:
        return _row(COST, "20-40", "-", "-", NOT_MEASURED)
    return _row(COST, "20-40", f"{cost['aevb'] * 1e6 / 60:.1f}", "one machine", NOT_TESTABLE)


def _same_cost(cost: dict[str, float]) -> tuple:
    if not {"aevb", "wake-sleep"} <= set(cost):
        return _row(SAME_COST, "same complexity", "-", "-", NOT_MEASURED)
    ratio = cost["wake-sleep"] / cost["aevb"]
    return _row(SAME_COST, "same complexity", f"{ratio:.2f}", "one machine", HOLDS if ratio < 2 else DOES_NOT_HOLD)
