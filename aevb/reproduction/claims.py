"""The paper's claims, measured: one list, each claim with its words, its place, its measure and its rule.

Verdicts are computed from `results/` alone (curves, manifests and the numbers that chapters measured), never typed in.
A rule is the same for the paper's curves and for ours.
"""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd

from aevb.reproduction import leads, results, rules, verdicts
from aevb.reproduction.curves import Curves
from aevb.reproduction.rules import Evidence, Rule

# the columns of the table of claims
COLUMNS = ["number", "claim", "where", "chapter", "measure", "published", "ours", "seeds", "verdict"]


class Claim(NamedTuple):
    """One empirical claim: its number in the book, the paper's words, where they stand, our chapter, measure and rule.

    `computed_in` is the chapter whose live runs the rule needs, where it is not `chapter`.
    """

    number: int
    quote: str
    where: str
    chapter: str
    measure: str
    rule: Rule
    computed_in: str = ""


# fmt: off
# the claims of the paper, in the book's order
CLAIMS = (
    Claim(1, "considerably faster", "fig. 2", "14_figure_2", "samples wake-sleep needs over those AEVB needs",
          rules.by_curves("figure2", rules.speed_ups, lambda ratio: ratio > 1, rules.median_speed_up, rules.lowest,
                           verdicts.ratio_interval)),
    Claim(2, "a better solution in all experiments", "fig. 2", "14_figure_2",
          "test bound, AEVB minus wake-sleep, nats",
          rules.by_curves("figure2", rules.advantages, lambda lead: lead > 0, rules.range_of_leads, rules.lowest)),
    Claim(3, "more latent variables does not result in more overfitting", "fig. 2", "14_figure_2",
          "growth of the train-test gap from fewest to most latents, nats",
          rules.by_curves("figure2", rules.over(leads.gap_growth), lambda growth: growth <= 0)),
    Claim(4, "superfluous latent variables did not result in overfitting", "sec. 5", "14_figure_2",
          "test bound of AEVB with the most latents minus that with the next fewer, nats",
          rules.by_curves("figure2", rules.over(leads.superfluous_gain), lambda gain: gain > -rules.NO_WORSE)),
    Claim(5, "estimator variance was small (< 1)", "fig. 2", "05_sgvb_estimators", "variance of the bound, nat²",
          rules.by_numbers("< 1", ("estimator-variance",), "{:.2g}", rules.below_one)),
    Claim(6, "20-40 minutes per million training samples", "fig. 2", "24_speed",
          "minutes per million samples, AEVB on MNIST, one thread", rules.minutes_per_million("aevb"),
          computed_in="14_figure_2"),
    Claim(7, "not very sensitive to these choices", "sec. 5", "29_asides",
          "AEVB's lead over wake-sleep, test, nats: smallest and largest over 100 to 1,000 hidden units",
          rules.by_numbers("not shown", ("lead-by-width-smallest", "lead-by-width-largest"), "{:+.1f}, {:+.1f}",
                            rules.same_ranking)),
    Claim(8, "can be set to 1", "sec. 2.3", "29_asides",
          "test bound, L = 10 minus L = 1 at M = 100, nats: at equal samples, at equal decoder passes",
          rules.by_numbers("not shown", ("gain-of-ten-samples", "gain-at-equal-passes"), "{:+.1f}, {:+.1f}",
                            rules.one_will_do)),
    Claim(9, "typically has less variance", "sec. 2.3", "29_asides",
          "estimator B's variance over A's at step size 0.02, before training and after 100,000 samples: "
          "bound; gradient in phi",
          rules.by_numbers("< 1", ("variance-ratio-b-a-early", "variance-ratio-b-a",
                                    "variance-ratio-b-a-gradient-early", "variance-ratio-b-a-gradient"),
                            "{:.2g}, {:.2g}; {:.2g}, {:.2g}", rules.visibly_below_one)),
    Claim(10, "very high variance", "sec. 2.2", "06_reparameterization",
          "variance of the score-function gradient over the pathwise one",
          rules.by_numbers("very high", ("variance-ratio-score-pathwise",), "{:.2g}", rules.far_above_one)),
    Claim(11, "can't be applied efficiently for the full MNIST dataset", "fig. 3", "15_figure_3",
          "log p(x) of test digits, MCEM minus AEVB, 50,000 for training, nats",
          rules.by_curves("figure3", rules.mcem_lead, lambda lead: lead < 0)),
    Claim(12, "estimated marginal likelihood, for different numbers of training points", "fig. 3", "15_figure_3",
          "log p(x) of test digits, AEVB minus each rival, 1,000 and 50,000 for training, nats",
          rules.by_curves("figure3", rules.aevb_leads, lambda lead: lead > 0)),
    Claim(13, "unreliable", "sec. 5, App. D", "20_appendix_d_estimator",
          "rms error of the estimate, nats: worst below, best above 5 dimensions",
          rules.by_numbers("good below, unreliable above", ("appendix-d-rmse-below-5", "appendix-d-rmse-above-5"),
                            "{:.2f}, {:.2f}", rules.good_below)),
    Claim(14, "the same computational complexity as AEVB per datapoint", "sec. 4", "10_wake_sleep",
          "seconds per sample, wake-sleep over AEVB, MNIST", rules.same_cost("wake-sleep", "aevb"),
          computed_in="14_figure_2"),
    Claim(15, "low-dimensional manifold", "sec. 5, App. A", "16_figure_4",
          "step between neighbours of figure 4's grid over the distance of neighbours in the data",
          rules.by_numbers("by eye", ("manifold-step-ratio",), "{:.2g}", rules.below_one)),
    Claim(16, "a lower variance", "App. F.1", "13_full_vb",
          "variance of eq. 24 over that of eq. 22, the encoder's gradient: at the start, after 1,000 steps",
          rules.by_numbers("< 1", ("variance-ratio-24-22-start", "variance-ratio-24-22-later"), "{:.2g}, {:.2g}",
                            rules.visibly_below_one)),
    Claim(17, "straightforward to extend", "sec. 2", "21_full_vb_at_last",
          "test bound at the end of the record, full VB minus MAP, 1,000 and 50,000 for training, nats",
          rules.by_numbers("left to future work", ("full-vb-minus-map-1000", "full-vb-minus-map-50000"),
                            "{:+.1f}, {:+.1f}", rules.positive)),
)
# fmt: on


def of_profile(profile: str, failed: Collection[str] = ()) -> pd.DataFrame:
    """The table of claims from what this machine last computed at `profile`.

    A missing measurement of a chapter in `failed` gets CHAPTER_FAILED.
    """
    curves, entries = results.live("figure2", profile)
    figure3, _ = results.live("figure3", profile)
    found = _from_results(curves, figure3, leads.cost_per_sample(entries, "mnist"), results.measurements(profile))
    fault = np.array([(claim.computed_in or claim.chapter) in failed for claim in CLAIMS])
    found.loc[(found["verdict"] == verdicts.NOT_MEASURED) & fault, "verdict"] = verdicts.CHAPTER_FAILED
    return found


def of_record() -> pd.DataFrame:
    """The table of claims from what is recorded in the repository."""
    measured = results.recorded_measurements()
    return _from_results(results.recorded("figure2"), results.recorded("figure3"), leads.recorded_cost(), measured)


def of_published() -> pd.DataFrame:
    """The table of claims with the paper's own curves in place of ours.

    What curves cannot show is NOT_MEASURED there.
    """
    figure2, figure3 = results.published("figure2"), results.published("figure3")
    return _from_results(figure2, figure3, {}, {})


def _from_results(figure2: Curves, figure3: Curves, cost: dict[str, float], measured: dict[str, float]) -> pd.DataFrame:
    pairs = (figure2, results.published("figure2")), (figure3, results.published("figure3"))
    return table(Evidence(*pairs, cost, measured))


def table(evidence: Evidence) -> pd.DataFrame:
    """Every claim, one row each, in their order: COLUMNS, the last of them one of `verdicts.VERDICTS`.

    `published` and `ours` are the measure on the paper's curves and on ours. `seeds` are its intervals over our seeds,
    of several panels the lowest. A claim whose measurement is missing is there too, and says so.
    """
    rows = [
        (number, f'"{quote}"', where, chapter, measure, *rule(evidence))
        for number, quote, where, chapter, measure, rule, _ in CLAIMS
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def headline(table: pd.DataFrame) -> str:
    """The number of claims with each verdict, in one line."""
    counts = Counter(table["verdict"])
    return f"{len(table)} claims: " + ", ".join(f"{v} {counts[v]}" for v in verdicts.VERDICTS if counts[v])
