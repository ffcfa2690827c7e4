"""Histograms of durations, in C."""

from bisect import bisect_left

import pytest

from natmirror._ffi import ffi, lib

BOUNDS = [float(bound) for bound in lib.nm_time_bounds]


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.999999, 1.0, 1.000001])
def test_a_duration_counts_up_to_the_next_bound(factor: float) -> None:
    for bound in BOUNDS:
        times = ffi.new("nm_times *")
        lib.nm_times_add(times, factor * bound)
        place = bisect_left(BOUNDS, factor * bound)
        assert list(times.counts) == [int(number == place) for number in range(len(BOUNDS) + 1)]
        assert times.sum == max(0.0, factor * bound)


def test_longer_durations_than_all_bounds_count_too() -> None:
    times = ffi.new("nm_times *")
    lib.nm_times_add(times, 11.0)
    lib.nm_times_add(times, float("inf"))
    assert list(times.counts) == [0] * len(BOUNDS) + [2]
