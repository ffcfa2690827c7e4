"""Lags in buckets: their quantiles, and the histogram of metrics."""

from collections import Counter

import pytest

from natmirror.openflow.comparison.lags import LagHistogram, bucket_of, quantile


@pytest.mark.parametrize("seconds", [0.0005, 0.0012, 0.2, -0.003, 1.7, 45.0])
def test_a_quantile_is_right_to_six_per_cent(seconds: float) -> None:
    found = quantile(Counter({bucket_of(seconds): 3}), 0.5)
    assert found == pytest.approx(seconds, rel=0.06)


def test_the_median_is_between_faster_and_slower_answers() -> None:
    counts = Counter(map(bucket_of, [-0.01, -0.01, 0.0, 0.0, 0.0, 0.02, 0.2]))
    assert quantile(counts, 0.5) == 0.0
    assert quantile(counts, 0.95) == pytest.approx(0.2, rel=0.06)
    assert quantile(counts, 0.01) == pytest.approx(-0.01, rel=0.06)
    assert quantile(Counter(), 0.5) is None


def test_there_are_few_buckets() -> None:
    assert bucket_of(1e9) == bucket_of(100.0) < 130
    assert bucket_of(0.00001) == 0


def test_the_histogram_counts_faster_answers_as_no_lag() -> None:
    made = LagHistogram()
    for seconds in (-1.0, 0.001, 0.3, 5.0):
        made.add(seconds)
    shown = made.show()
    assert shown["at_most"] == {
        **dict.fromkeys(("0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2"), 2),
        **{"0.5": 3, "1": 3, "2": 3, "+Inf": 4},
    }
    assert shown["sum_seconds"] == pytest.approx(5.301)
