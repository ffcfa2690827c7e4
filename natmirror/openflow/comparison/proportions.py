"""Compares two shares of answers: is one higher than the other by more than chance explains?

The test is Fisher's exact one, on one side: if both had the same rate, the differing answers would be spread over both
groups like balls drawn without putting back, and the probability of so many in the first group, or more, is a sum of
hypergeometric terms. It is exact for small numbers, where the usual normal approximation is not, and the numbers of a
rare difference are small.
"""

from math import exp, lgamma

_NEGLIGIBLE = 1e-12


def chance_of_more(count: int, of: int, other_count: int, other_of: int) -> float:
    """Return the probability of ``count`` or more of ``of`` beside ``other_count`` of ``other_of``, if both had the
    same rate. It is 1 if the first rate is not the higher one, and if there is nothing to compare with."""
    if not of or not other_of or count * other_of <= other_count * of:
        return 1.0
    both = count + other_count
    term = exp(_log_choose(of, count) + _log_choose(other_of, other_count) - _log_choose(of + other_of, both))
    total, at = 0.0, count
    while term > total * _NEGLIGIBLE:
        total += term
        left, room = both - at, of - at
        if not left or not room:
            break
        term *= left * room / ((at + 1) * (other_of - left + 1))
        at += 1
    return min(total, 1.0)


def _log_choose(of: int, count: int) -> float:
    return lgamma(of + 1) - lgamma(count + 1) - lgamma(of - count + 1)
