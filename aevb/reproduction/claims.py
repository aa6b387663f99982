"""The paper's claims, measured: one list, each claim with its words, its place, its measure and its rule.

Those of later papers, which Part V tests, are a list of their own.

Verdicts are computed from `results/` alone (curves, manifests and the numbers that chapters measured), never typed in.
A rule is the same for the paper's curves and for ours.
"""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd

from aevb.reproduction import after, experiments, leads, results, rules, settings, verdicts
from aevb.reproduction.curves import Curves
from aevb.reproduction.rules import Evidence, Rule

# the columns of the table of claims
COLUMNS = ["number", "claim", "where", "chapter", "measure", "published", "ours", "seeds", "verdict"]


class Claim(NamedTuple):
    """One empirical claim: its number in the book, the paper's words, where they stand, our chapter, measure and rule.

    `computed_in` is the chapter whose live runs the rule needs, where it is not `chapter`. Not `quoted`, the words are
    ours.
    """

    number: int | str
    quote: str
    where: str
    chapter: str
    measure: str
    rule: Rule
    computed_in: str = ""
    quoted: bool = True


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
    Claim(5, "estimator variance was small (< 1)", "fig. 2", "05_sgvb_estimators",
          "variance of a minibatch's mean bound, M = 100, nat²",
          rules.by_numbers("< 1", ("estimator-variance",), "{:.2g}", rules.below_one)),
    Claim(6, "20-40 minutes per million training samples", "fig. 2", "24_speed",
          "minutes per million samples, AEVB on MNIST, one thread", rules.minutes_per_million("aevb"),
          computed_in="14_figure_2"),
    Claim(7, "not very sensitive to these choices", "sec. 5", "29_asides",
          "AEVB's early lead over wake-sleep, test, nats: smallest and largest over 100 to 1,000 hidden units",
          rules.by_numbers("not shown", ("lead-by-width-smallest", "lead-by-width-largest"), "{:+.1f}, {:+.1f}",
                            rules.same_ranking)),
    Claim(8, "can be set to 1", "sec. 2.3", "29_asides",
          "test bound, L = 10 minus L = 1, best step size of each, M = 100, nats: at equal samples, at equal decoder "
          "passes",
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
          "log p(x) of test digits after equally many samples, MCEM minus AEVB, 50,000 for training, nats",
          rules.by_curves("figure3", rules.mcem_lead, lambda lead: lead < 0)),
    Claim(12, "estimated marginal likelihood, for a different number of training points", "fig. 3", "15_figure_3",
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
          "variance of eq. 24 over that of eq. 22, the encoder's gradient: at the start, after 1,000 steps; "
          "below 0.95 counts as less",
          rules.by_numbers("< 1", ("variance-ratio-24-22-start", "variance-ratio-24-22-later"), "{:.2g}, {:.2g}",
                            rules.visibly_below_one)),
    Claim(17, "straightforward to extend", "sec. 2", "21_full_vb_at_last",
          "test bound where the record ends, full VB minus MAP, 1,000 and 50,000 for training; what would count; nats",
          rules.by_numbers("left to future work",
                            ("full-vb-minus-map-1000", "full-vb-minus-map-50000", "full-vb-minus-map-counts-from"),
                            "{:+.1f}, {:+.1f}; {:.1f}", rules.larger)),
)

AFTER_RECORDS = tuple(name for name, one in experiments.EXPERIMENTS.items() if one.kind == experiments.AFTER)
# the claims of later papers that Part V tests, by chapter; their numbers begin with a V
AFTER = (
    # where the gap is
    Claim("V1", "often due to imperfect recognition networks", "Cremer et al. 2018, abstract", "32_where_the_gap_is",
          "AEVB's amortization gap minus its family gap where the record ends, nats, by training digits and split",
          rules.by_accounts("amortization the larger", ("after-gaps",), after.amortization_over_family)),
    # more samples, a tighter bound
    Claim("V2", "the bound rises with the number of samples, up to log p(x)", "Burda et al. 2016, theorem 1",
          "33_more_samples_a_tighter_bound",
          "what the bound gains from k = 1 to 5 to 50 to log p(x), nats: the smallest gain of any recorded run",
          rules.by_accounts("at least 0", AFTER_RECORDS, after.rises_with_k), quoted=False),
    Claim("V3", "trained with more samples, a model has the higher likelihood", "Burda et al. 2016, table 1",
          "33_more_samples_a_tighter_bound",
          "log p(x) of test digits, k samples (iwae-k) minus AEVB where the record ends, same seeds, nats",
          rules.by_accounts("higher", ("after-gaps", "after-importance"),
                            lambda found: after.gains(found, ("iwae-5", "iwae-50"))), quoted=False),
    Claim("V4", "reducing the signal-to-noise ratio", "Rainforth et al. 2018, abstract",
          "33_more_samples_a_tighter_bound",
          "signal to noise of the gradient at k = 64 over that at k = 4: in phi, in theta",
          rules.by_numbers("1/4; 4", ("signal-naive", "signal-theta"), "{:.2f}; {:.1f}", rules.falls_and_rises)),
    Claim("V5", "doubly reparameterized, the ratio rises instead", "Tucker et al. 2019",
          "33_more_samples_a_tighter_bound",
          "signal to noise in phi at k = 64 over that at k = 4",
          rules.by_numbers("4", ("signal-doubly",), "{:.1f}", rules.visibly_above_one), quoted=False),
    # a better q
    Claim("V6", "a flow brings q nearer to the posterior", "Rezende and Mohamed 2015, sec. 6; Kingma et al. 2016",
          "35_a_better_q",
          "family gap with a flow minus AEVB's where the record ends, same seeds, nats: the largest of any flow",
          rules.by_accounts("smaller", ("after-gaps", "after-flows"),
                            lambda found: after.gains(found, settings.FLOWS[1:], "family"), lambda gap: gap < 0,
                            rules.largest), quoted=False),
    # a better prior
    Claim("V7", "with a learned prior a model has the higher likelihood", "Tomczak and Welling 2018, sec. 5",
          "36_a_better_prior",
          "log p(x) of test digits, learned prior minus N(0, I) where the record ends, same seeds, nats",
          rules.by_accounts("higher", ("after-priors",), lambda found: after.gains(found, ("mixture", "vamp"))),
          quoted=False),
)
# fmt: on


def of_profile(profile: str, failed: Collection[str] = (), group: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """The table of claims from what this machine last computed at `profile`: CLAIMS, or those of AFTER.

    A missing measurement of a chapter in `failed` gets CHAPTER_FAILED. No chapter trains the runs of Part V: what is
    measured of them is the record's at every profile.
    """
    curves, entries = results.live("figure2", profile)
    figure3, _ = results.live("figure3", profile)
    measured = results.measurements(profile)
    found = _from_results(curves, figure3, leads.cost_per_sample(entries, "mnist"), measured, group)
    fault = np.array([(claim.computed_in or claim.chapter) in failed for claim in group])
    found.loc[(found["verdict"] == verdicts.NOT_MEASURED) & fault, "verdict"] = verdicts.CHAPTER_FAILED
    return found


def of_record(group: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """The table of claims from what is recorded in the repository: CLAIMS, or those of AFTER."""
    figure2, figure3 = results.recorded("figure2"), results.recorded("figure3")
    return _from_results(figure2, figure3, leads.recorded_cost(), results.recorded_measurements(), group)


def of_published() -> pd.DataFrame:
    """The table of claims with the paper's own curves in place of ours.

    What curves cannot show is NOT_MEASURED there.
    """
    figure2, figure3 = results.published("figure2"), results.published("figure3")
    return _from_results(figure2, figure3, {}, {})


def _from_results(
    figure2: Curves,
    figure3: Curves,
    cost: dict[str, float],
    measured: dict[str, float],
    group: tuple[Claim, ...] = CLAIMS,
) -> pd.DataFrame:
    pairs = (figure2, results.published("figure2")), (figure3, results.published("figure3"))
    return table(Evidence(*pairs, cost, measured, {} if group is CLAIMS else recorded_accounts()), group)


def recorded_accounts() -> dict[str, pd.DataFrame]:
    """What Part V measured of each run of its records, by experiment."""
    kept = {name: results.recorded(name) for name in AFTER_RECORDS}
    return {name: after.accounts(each) for name, each in kept.items() if len(each)}


def table(evidence: Evidence, group: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """Every claim of `group`, one row each, in their order: COLUMNS, the last of them one of `verdicts.VERDICTS`.

    `published` and `ours` are the measure on the paper's curves and on ours. `seeds` are its intervals over our seeds,
    of several panels the lowest. A claim whose measurement is missing is there too, and says so.
    """
    rows = [
        (
            one.number,
            f'"{one.quote}"' if one.quoted else one.quote,
            one.where,
            one.chapter,
            one.measure,
            *one.rule(evidence),
        )
        for one in group
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def headline(table: pd.DataFrame) -> str:
    """The number of claims with each verdict, in one line."""
    counts = Counter(table["verdict"])
    return f"{len(table)} claims: " + ", ".join(f"{v} {counts[v]}" for v in verdicts.VERDICTS if counts[v])
