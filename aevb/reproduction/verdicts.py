"""The verdicts that a claim can have, as far as the seeds decide it.

The intervals are for the mean over seeds, or for one more run.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

# the verdicts on a claim that is measured
HOLDS, IN_PART, DOES_NOT_HOLD, UNDECIDED = "holds", "holds in part", "does not hold", "undecided"
NOT_TESTABLE, NOT_MEASURED = "not testable", "not measured"  # where measurements decide nothing, or are missing
CHAPTER_FAILED = f"{NOT_MEASURED} (chapter failed)"  # NOT_MEASURED, because the chapter that measures failed
# all verdicts, in the order in which they are counted
VERDICTS = (HOLDS, IN_PART, DOES_NOT_HOLD, UNDECIDED, NOT_TESTABLE, NOT_MEASURED, CHAPTER_FAILED)
CONFIDENCE = 0.95  # of the intervals for a mean
PREDICTED = 0.999  # the share of seeds within a prediction interval

Interval = tuple[float, float]  # its lower and its upper end


def share(states: Sequence[bool | None]) -> str:
    """The verdict from the `states` of a claim's values.

    True stands for a value that bears the claim out, False for one against it, None for neither.
    """
    if any(states):
        return HOLDS if all(states) else IN_PART
    return UNDECIDED if None in states else DOES_NOT_HOLD


def state(bears_out: Callable[[float], bool], *values: float) -> bool | None:
    """True where all `values` bear a claim out, False where none does, None where they disagree."""
    borne_out = {bears_out(value) for value in values}
    return borne_out.pop() if len(borne_out) == 1 else None


def interval(values: Sequence[float]) -> Interval:
    """Student's interval for the mean of what independent seeds gave, two or more, at CONFIDENCE."""
    middle, half = np.mean(values), stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(middle - half), float(middle + half)


def prediction_interval(values: Sequence[float]) -> Interval:
    """Student's interval for what one more independent seed gives, from what two seeds or more gave.

    PREDICTED of seeds lie in it, exactly where values are normally distributed over seeds. A run on another machine
    counts as one more seed.
    """
    half = stats.t.ppf((1 + PREDICTED) / 2, len(values) - 1) * np.std(values, ddof=1) * np.sqrt(1 + 1 / len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """`interval` of ratios, by their logarithms. Where a ratio is 0, it goes from 0 to the largest."""
    if min(ratios) <= 0:
        return 0.0, max(ratios)
    low, high = np.exp(interval(np.log(ratios).tolist()))
    return float(low), float(high)
