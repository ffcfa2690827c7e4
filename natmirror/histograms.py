"""The JSON of histograms of durations, as the API shows them."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from typing import TypedDict


class HistogramEntry(TypedDict):
    """How many durations were short, and how many long."""

    at_most: dict[str, int]
    """For each limit in seconds, the number of durations up to it; ``+Inf``: all of them."""
    sum_seconds: float
    """The sum of all durations, in seconds."""


def histogram(bounds: Iterable[float], counts: Iterable[int], total: float) -> HistogramEntry:
    """Return the entry of a histogram. ``counts`` has the durations up to each bound, and then those above the last
    one; ``total`` is the sum of all."""
    at_most = dict(zip(_limits(tuple(bounds)), accumulate(counts), strict=True))
    return {"at_most": at_most, "sum_seconds": round(total, 6)}


@cache  # packets wait while their thread makes an answer, and there are few tables of bounds
def _limits(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(f"{bound:.6f}".rstrip("0").rstrip(".") for bound in bounds), "+Inf")


def add_histograms(entries: Sequence[HistogramEntry]) -> HistogramEntry:
    """Return the sum of histograms with the same limits."""
    sums = {limit: sum(entry["at_most"][limit] for entry in entries) for limit in entries[0]["at_most"]}
    return {"at_most": sums, "sum_seconds": round(sum(entry["sum_seconds"] for entry in entries), 6)}
