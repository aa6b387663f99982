"""What the paper claims, measured: each claim in a few quoted words, and the verdict its measurement gives.

Verdicts are computed from tables alone (curves and single measurements), never typed in.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from aevb import results
from aevb.data import TITLES

PAPER_END = 1e8  # where the axes of figure 2 end
FIGURE3_END = 6e7
RELIABLE_WITHIN = 0.5  # nats a datapoint: what we take "good" to mean in claim 13
OVERFITTING_FROM = 1e7  # a shorter run has not overfitted yet, and says nothing about claim 3


class Claim(NamedTuple):
    """One empirical claim: its number in the book, the paper's words, and where they stand."""

    number: int
    quote: str
    where: str


FASTER = Claim(1, "considerably faster", "fig. 2")
BETTER = Claim(2, "a better solution in all experiments", "fig. 2")
OVERFITTING = Claim(3, "more latent variables does not result in more overfitting", "fig. 2")
VARIANCE = Claim(5, "estimator variance was small (< 1)", "fig. 2")
COST = Claim(6, "20-40 minutes per million training samples", "fig. 2")
B_BELOW_A = Claim(9, "typically has less variance", "sec. 2.3")
NAIVE = Claim(10, "very high variance", "sec. 2.2")
NOT_ONLINE = Claim(11, "can't be applied efficiently for the full MNIST dataset", "fig. 3")
LIKELIHOOD = Claim(12, "estimated marginal likelihood, for different numbers of training points", "fig. 3")
RELIABLE = Claim(13, "unreliable", "sec. 5, App. D")
SAME_COST = Claim(14, "the same computational complexity as AEVB per datapoint", "sec. 4")


def _panels(curves: pd.DataFrame) -> list[tuple[str, int]]:
    """The panels (dataset, latent_dim) of figure 2 that have both algorithms."""
    counts = curves.groupby(["dataset", "latent_dim"])["algorithm"].nunique()
    return list(counts[counts == 2].index)


def _curve(curves: pd.DataFrame, dataset: str, latent_dim: int, algorithm: str, split: str = "test") -> pd.Series:
    """One curve up to PAPER_END, averaged over seeds: the bound by samples."""
    name = {"dataset": dataset, "latent_dim": latent_dim, "algorithm": algorithm, "split": split}
    chosen = curves[(curves[list(name)] == pd.Series(name)).all(axis=1) & (curves["samples"] <= PAPER_END)]
    return chosen.groupby("samples")["lower_bound"].mean()


def _value(curve: pd.Series, samples: float) -> float:
    """A curve's bound at `samples`, interpolated in log samples."""
    return float(np.interp(np.log(samples), np.log(curve.index), curve))


def speed_up(curves: pd.DataFrame, dataset: str, latent_dim: int) -> float:
    """How many times fewer samples AEVB needs for the test bound wake-sleep ends with; 0 if it never gets there."""
    wake_sleep, aevb = (_curve(curves, dataset, latent_dim, name) for name in ("wake-sleep", "aevb"))
    reached = aevb.index[aevb >= wake_sleep.iloc[-1]]
    return float(wake_sleep.index[-1] / reached[0]) if len(reached) else 0.0


def advantage(curves: pd.DataFrame, dataset: str, latent_dim: int) -> float:
    """The test bound of AEVB minus that of wake-sleep at the last number of samples both reach, nats per datapoint."""
    wake_sleep, aevb = (_curve(curves, dataset, latent_dim, name) for name in ("wake-sleep", "aevb"))
    end = min(wake_sleep.index[-1], aevb.index[-1])
    return _value(aevb, end) - _value(wake_sleep, end)


def gap_growth(curves: pd.DataFrame, dataset: str) -> float:
    """How much wider AEVB's train-test gap ends at the most latent dimensions than at the fewest, nats."""
    dims = sorted(curves.loc[curves["dataset"] == dataset, "latent_dim"].unique())

    def gap(latent_dim: int) -> float:
        train, test = (_curve(curves, dataset, latent_dim, "aevb", split) for split in ("train", "test"))
        end = min(train.index[-1], test.index[-1])
        return _value(train, end) - _value(test, end)

    return gap(dims[-1]) - gap(dims[0])


def lead(curves: pd.DataFrame, n_train: int, algorithm: str, rival: str) -> float:
    """log p(x) of `algorithm` minus `rival`'s in figure 3, test, at the last number of samples both reach, nats.

    NaN where either is missing.
    """
    chosen = curves[(curves["n_train"] == n_train) & (curves["split"] == "test")]
    ours, theirs = (
        chosen[chosen["algorithm"] == name].groupby("samples")["log_likelihood"].mean() for name in (algorithm, rival)
    )
    if ours.empty or theirs.empty:
        return float("nan")
    end = min(ours.index[-1], theirs.index[-1], FIGURE3_END)
    return _value(ours, end) - _value(theirs, end)


def table(
    curves: pd.DataFrame,
    published: pd.DataFrame,
    cost: dict[str, float],
    measured: dict[str, float],
    figure3: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Every claim tested so far: `claim, where, measure, published, ours, verdict`, one row each.

    `curves` are ours of figure 2, `published` the paper's; `cost` is the time per training sample of each
    algorithm on MNIST (`cost_per_sample`); `measured` holds the numbers chapters measured, by name. A row
    whose measurement is missing says so. `figure3` is ours and the paper's table of that figure.
    """
    rows = []
    if len(curves):
        rows += [test(curves, published) for test in (_faster, _better, _overfitting)]
    rows.append(_threshold(VARIANCE, "variance of the bound, nat²", "< 1", measured.get("estimator-variance"), 1.0))
    rows.append(_cost(cost))
    rows.append(_threshold(B_BELOW_A, "variance of B over that of A", "< 1", measured.get("variance-ratio-b-a"), 1.0))
    rows.append(_naive(measured.get("variance-ratio-score-pathwise")))
    if figure3 and len(figure3[0]):
        rows += [_not_online(*figure3), _likelihood(*figure3)]
    rows.append(_reliable(measured))
    rows.append(_same_cost(cost))
    frame = pd.DataFrame(rows, columns=["number", "claim", "where", "measure", "published", "ours", "verdict"])
    return frame.sort_values("number", ignore_index=True)


def of_profile(profile: str) -> pd.DataFrame:
    """The table of claims from what this machine last computed at `profile`."""
    curves, entries = results.live("figure2", profile)
    figure3 = results.live("figure3", profile)[0], results.published("figure3")
    measured = results.measurements(profile)
    return table(curves, results.published("figure2"), cost_per_sample(entries), measured, figure3)


def of_record() -> pd.DataFrame:
    """The table of claims from what is recorded in the repository."""
    curves, entries = results.recorded("figure2"), results.manifest("figure2")
    figure3 = results.recorded("figure3"), results.published("figure3")
    measured = results.recorded_measurements()
    return table(curves, results.published("figure2"), cost_per_sample(entries), measured, figure3)


def _row(claim: Claim, measure: str, published: str, ours: str, verdict: str) -> tuple:
    return (claim.number, f'"{claim.quote}"', claim.where, measure, published, ours, verdict)


def _share(holds: list[bool]) -> str:
    """`holds` where all do, `holds in part` where some do."""
    return "holds" if all(holds) else "holds in part" if any(holds) else "does not hold"


def _faster(curves: pd.DataFrame, published: pd.DataFrame) -> tuple:
    def summary(table: pd.DataFrame) -> tuple[str, list[bool]]:
        ratios = [speed_up(table, *panel) for panel in _panels(table)]
        wins = [ratio > 1 for ratio in ratios]
        return f"{np.median(ratios):.1f}x in the median, {sum(wins)} of {len(wins)} panels", wins

    ours, wins = summary(curves)
    return _row(FASTER, "samples wake-sleep needs over those AEVB needs", summary(published)[0], ours, _share(wins))


def _better(curves: pd.DataFrame, published: pd.DataFrame) -> tuple:
    def summary(table: pd.DataFrame) -> tuple[str, list[bool]]:
        leads = {panel: advantage(table, *panel) for panel in _panels(table)}
        text = "; ".join(
            f"{TITLES[name]} {min(values):+.1f} to {max(values):+.1f}"
            for name in ("mnist", "frey")
            if (values := [lead for (dataset, _), lead in leads.items() if dataset == name])
        )
        return text, [lead > 0 for lead in leads.values()]

    ours, wins = summary(curves)
    return _row(BETTER, "test bound, AEVB minus wake-sleep, nats", summary(published)[0], ours, _share(wins))


def _overfitting(curves: pd.DataFrame, published: pd.DataFrame) -> tuple:
    def summary(table: pd.DataFrame) -> tuple[str, list[bool]]:
        ends = table.groupby("dataset")["samples"].max()
        growth = {name: gap_growth(table, name) for name in ("mnist", "frey") if ends.get(name, 0) >= OVERFITTING_FROM}
        return "; ".join(f"{TITLES[name]} {value:+.1f}" for name, value in growth.items()), [
            v <= 0 for v in growth.values()
        ]

    measure = "growth of the train-test gap from fewest to most latents, nats"
    theirs, _ = summary(published)
    ours, holds = summary(curves)
    verdict = _share(holds) if holds else f"not testable before {OVERFITTING_FROM:.0e} samples"
    return _row(OVERFITTING, measure, theirs, ours or "-", verdict)


def _threshold(claim: Claim, measure: str, published: str, value: float | None, below: float) -> tuple:
    if value is None:
        return _row(claim, measure, published, "-", "not measured in this run")
    return _row(claim, measure, published, f"{value:.2g}", "holds" if value < below else "does not hold")


def _naive(ratio: float | None) -> tuple:
    measure = "variance of the score-function gradient over the pathwise one"
    if ratio is None:
        return _row(NAIVE, measure, "very high", "-", "not measured in this run")
    return _row(NAIVE, measure, "very high", f"{ratio:.2g}", "holds" if ratio > 10 else "does not hold")


def _not_online(ours: pd.DataFrame, published: pd.DataFrame) -> tuple:
    measure = "log p(x) of test digits, MCEM minus AEVB, 50,000 for training, nats"
    there, here = (lead(curves, 50_000, "mcem", "aevb") for curves in (published, ours))
    verdict = "not measured in this run" if np.isnan(here) else "holds" if here < 0 else "does not hold"
    return _row(NOT_ONLINE, measure, f"{there:+.1f}", f"{here:+.1f}", verdict)


def _likelihood(ours: pd.DataFrame, published: pd.DataFrame) -> tuple:
    measure = "log p(x) of test digits, AEVB minus wake-sleep and minus MCEM, 1,000 and 50,000 for training, nats"

    def leads(curves: pd.DataFrame) -> list[float]:
        return [lead(curves, n_train, "aevb", rival) for n_train in (1000, 50_000) for rival in ("wake-sleep", "mcem")]

    def text(values: list[float]) -> str:
        return "{:+.1f} and {:+.1f}; {:+.1f} and {:+.1f}".format(*values)

    here = leads(ours)
    verdict = "not measured in this run" if np.isnan(here).any() else _share([value > 0 for value in here])
    return _row(LIKELIHOOD, measure, text(leads(published)), text(here), verdict)


def _reliable(measured: dict[str, float]) -> tuple:
    measure = "rms error of the estimate, nats: worst below, best above 5 dimensions"
    below, above = (measured.get(f"appendix-d-rmse-{side}-5") for side in ("below", "above"))
    if below is None or above is None:
        return _row(RELIABLE, measure, "good below, unreliable above", "-", "not measured in this run")
    verdict = "holds" if below < RELIABLE_WITHIN < above else "holds in part" if below < above else "does not hold"
    return _row(RELIABLE, measure, "good below, unreliable above", f"{below:.2f}, {above:.2f}", verdict)


def cost_per_sample(entries: dict[str, dict]) -> dict[str, float]:
    """Seconds per training sample on MNIST for each algorithm, the mean over the runs of a manifest."""
    mnist = [entry for entry in entries.values() if entry["config"]["dataset"] == "mnist"]
    names = {entry["config"]["algorithm"] for entry in mnist}
    return {
        name: float(np.mean([1 / e["samples_per_second"] for e in mnist if e["config"]["algorithm"] == name]))
        for name in sorted(names)
    }


def _cost(cost: dict[str, float]) -> tuple:
    measure = "minutes a million samples, AEVB on MNIST, one thread"
    if "aevb" not in cost:
        return _row(COST, measure, "20-40", "-", "not measured in this run")
    minutes = cost["aevb"] * 1e6 / 60
    verdict = "faster here" if minutes < 20 else "holds" if minutes <= 40 else "slower here"
    return _row(COST, measure, "20-40", f"{minutes:.1f}", verdict)


def _same_cost(cost: dict[str, float]) -> tuple:
    measure = "seconds a sample, wake-sleep over AEVB, MNIST"
    if not {"aevb", "wake-sleep"} <= set(cost):
        return _row(SAME_COST, measure, "same complexity", "-", "not measured in this run")
    ratio = cost["wake-sleep"] / cost["aevb"]
    return _row(SAME_COST, measure, "same complexity", f"{ratio:.2f}", "holds" if ratio < 2 else "does not hold")
