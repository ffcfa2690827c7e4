"""By how much answers come later than production's, as counts that can be added up: 20 buckets for each power of ten,
so that a quantile is right to 6 %."""

import math
from collections.abc import Mapping

from natmirror.histograms import HistogramEntry, histogram

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""The limits of the histogram of metrics, in seconds."""
_SMALLEST, _LARGEST = 1e-4, 100.0  # seconds; a smaller lag counts as none
_BUCKETS_IN_TEN = 20


def bucket_of(seconds: float) -> int:
    """Return the number of a lag's bucket: 0 for none, negative where the master was faster."""
    size = min(abs(seconds), _LARGEST)
    if size < _SMALLEST:
        return 0
    number = 1 + round(_BUCKETS_IN_TEN * math.log10(size / _SMALLEST))
    return number if seconds > 0 else -number


def quantile(counts: Mapping[int, int], part: float) -> float | None:
    """Return the lag in seconds that ``part`` of the answers do not exceed; None without an answer."""
    total, below = sum(counts.values()), 0
    for bucket in sorted(counts):
        below += counts[bucket]
        if below >= part * total:
            return _middle(bucket)
    return None


def _middle(bucket: int) -> float:
    if not bucket:
        return 0.0
    size = float(_SMALLEST * 10 ** ((abs(bucket) - 1) / _BUCKETS_IN_TEN))
    return size if bucket > 0 else -size


class LagHistogram:
    """All lags since the start, for metrics."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def add(self, seconds: float) -> None:
        """Count a lag; one of a faster master counts as 0."""
        seconds = max(seconds, 0.0)
        self._counts[next((at for at, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))] += 1
        self._total += seconds

    def show(self) -> HistogramEntry:
        """Return values for JSON."""
        return histogram(BOUNDS, self._counts, self._total)
