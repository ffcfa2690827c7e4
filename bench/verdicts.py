"""Whether a commit is slower than another: the statistic of paired measures, and the verdict on it.

A pair is one measure of each side, made right after one another. Its ratio is the cost of the new side over that of the
base, where the cost of a speed is its reciprocal: above 1 is slower, whatever was measured. What the machine does
meanwhile mostly falls on both halves of a pair; the rest is noise that has outliers and no known distribution. So the
statistic is the median of the ratios, and its interval takes two of the ratios themselves, by their rank: each ratio
lies above or below the true median like a coin, so that the binomial distribution gives the ranks that enclose it with
a probability of at least 95 % (Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2). Outliers stay.

The band is what counts as no difference: 3 %, from 1/1.03 to 1.03, so that the sides can be exchanged. The verdict says
where the whole interval lies:

========= ========================================================================================
equal     within the band: a difference may exist, but it is smaller than 3 %
slower    above the band: the new side costs at least 3 % more
faster    below the band
undecided across an edge of the band, or there are too few pairs for an interval
========= ========================================================================================

An interval from 1.01 to 1.05 is undecided although it shows that the new side costs more: whether it costs too much is
what is not known. More pairs narrow an interval, with the square root of their number; where the truth lies on the edge
no number suffices.

A measure ends with the first pair after which it is decided. Asking after each pair gives chance many opportunities;
therefore, before the last pair, *slower* and *faster* need an interval of EARLY_LEVEL, and *equal* FIRST_VERDICT pairs.
Of two equal sides, fewer than one measure in a hundred is called slower, however much their ratios scatter (a test
counts them).

Instructions are counted, not sampled: one count a side decides, within EXACT_BAND.
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
    """What is said of a measure."""

    SLOWER = "slower"
    EQUAL = "equal"
    FASTER = "faster"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and the bounds that enclose the true one."""

    low: float
    middle: float
    high: float


def interval_of_median(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return the interval that has the true median with at least this probability; None for too few values (at 95 %
    five or fewer)."""
    ordered = sorted(values)
    outside = _outside(len(ordered), level)
    return Interval(ordered[outside - 1], median(ordered), ordered[-outside]) if outside else None


@cache
def _outside(count: int, level: float) -> int:
    """Return the rank of the interval's bounds among so many values, from either end; 0 where there is none."""
    tails = accumulate(comb(count, rank) / 2**count for rank in range(count // 2))
    return sum(2 * tail <= 1 - level for tail in tails)


def judge(interval: Interval | None, band: float = BAND) -> Verdict:
    """Return where the interval of a ratio of costs lies."""
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


def is_decided(ratios: Sequence[float]) -> bool:
    """Whether no more pairs are needed."""
    if judge(interval_of_median(ratios, EARLY_LEVEL)) is not Verdict.UNDECIDED:
        return True
    return len(ratios) >= FIRST_VERDICT and judge(interval_of_median(ratios)) is Verdict.EQUAL
