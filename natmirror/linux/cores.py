"""The number of packet threads, by this host's cores, and what they take of them before others."""

import os

from natmirror.rules import MAX_THREADS, Rules

_FIRST_SHARE = 0.8
"""The part of the cores that packets may take before all programs of this host. With half of it, a flood at half of
what a thread can pass had it wait for others."""


def thread_count(rules: Rules) -> int:
    """Return the number of packet threads: the number in the rules, or the number of cores, rounded down to a power of
    two."""
    cores = min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return rules.threads or 1 << (cores.bit_length() - 1)


def first_share(threads: int) -> float:
    """Return the part of a core that each of so many packet threads may take before all other programs; together they
    take four fifths of the cores' time so at most, also where threads share a core."""
    return _FIRST_SHARE * min(1.0, len(os.sched_getaffinity(0)) / threads)
