"""Judges whether one commit is slower than another: the statistic of paired measures, and the verdict.

A pair is one measure of each side, one right after the other. Its ratio is the new side's cost over the base's cost;
the cost of a speed is its reciprocal. So a ratio above 1 means slower, for every measure. Most disturbances of the
machine affect both halves of a pair. The rest is noise with outliers and no known distribution. So the statistic is the
median of the ratios, and the bounds of its interval are two of the ratios, chosen by rank: each ratio lies above or
below the true median with equal probability, so the binomial distribution gives the ranks that enclose the true median
with a probability of at least 95 % (Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2). Outliers are
kept.

Ratios within the band count as no difference: 3 %, from 1/1.03 to 1.03, so that the sides can be exchanged. The verdict
says where the whole interval lies:

========= ========================================================================================
equal     within the band: a difference may exist, but it is smaller than 3 %
slower    above the band: the new side costs at least 3 % more
faster    below the band
undecided across an edge of the band, or there are too few pairs for an interval
========= ========================================================================================

An interval from 1.01 to 1.05 is undecided although the new side costs more: it does not show whether it costs 3 % more.
More pairs narrow an interval, with the square root of their number. If the true ratio lies on an edge, no number of
pairs suffices.

A measure ends with the first pair after which it is decided. Judging after each pair makes a chance verdict more
likely. So before the last pair, *slower* and *faster* need an interval of EARLY_LEVEL, and *equal* needs FIRST_VERDICT
pairs.
If both sides are equal, fewer than one measure in a hundred is called slower, however much the ratios scatter (a test
counts them).

Instructions are counted, not sampled: one count for each side decides, within EXACT_BAND.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import accumulate
from math import comb
from statistics import median

BAND = 1.03
EXACT_BAND = 1.01
LEVEL = 0.95
EARLY_LEVEL = 0.999
FIRST_VERDICT = 10


class Verdict(StrEnum):
    """The verdict on a measure."""

    SLOWER = "slower"
    EQUAL = "equal"
    FASTER = "faster"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Interval:
    """A median of samples, and the bounds that enclose the true median."""

    low: float
    middle: float
    high: float


def interval_of_median(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return the interval that encloses the true median with at least this probability; None for too few values (at
    95 %, five or fewer)."""
    ordered = sorted(values)
    outside = _outside(len(ordered), level)
    return Interval(ordered[outside - 1], median(ordered), ordered[-outside]) if outside else None


@cache
def _outside(count: int, level: float) -> int:
    """Return the rank of the interval's bounds, counted from either end of ``count`` values; 0 where there is none."""
    tails = accumulate(comb(count, rank) / 2**count for rank in range(count // 2))
    return sum(2 * tail <= 1 - level for tail in tails)


def judge(interval: Interval | None, band: float = BAND) -> Verdict:
    """Return the verdict on the interval of a ratio of costs."""
    if interval is None:
        return Verdict.UNDECIDED
    if 1 / band <= interval.low and interval.high <= band:
        return Verdict.EQUAL
    if interval.low > band:
        return Verdict.SLOWER
    if interval.high < 1 / band:
        return Verdict.FASTER
    return Verdict.UNDECIDED


def judge_counts(base: float, new: float) -> Verdict:
    """Return the verdict on two exact counts."""
    ratio = new / base
    return judge(Interval(ratio, ratio, ratio), EXACT_BAND)


def is_decided(ratios: Sequence[float], band: float = BAND) -> bool:
    """Return whether these ratios suffice for a verdict."""
    if judge(interval_of_median(ratios, EARLY_LEVEL), band) is not Verdict.UNDECIDED:
        return True
    return len(ratios) >= FIRST_VERDICT and judge(interval_of_median(ratios), band) is Verdict.EQUAL
