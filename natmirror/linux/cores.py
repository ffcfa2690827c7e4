"""The number of packet threads, by this host's cores."""

import os

from natmirror.rules import MAX_THREADS, Rules


def thread_count(rules: Rules) -> int:
    """Return the number of packet threads: the number in the rules, or the number of cores, rounded down to a power of
    two."""
    cores = min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return rules.threads or 1 << (cores.bit_length() - 1)
