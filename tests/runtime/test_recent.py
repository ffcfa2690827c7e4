"""Rates of the last ten seconds and losses of the last hour, with a manual clock."""

from typing import Any

from natmirror.reasons import EndReason
from natmirror.runtime.recent import RecentCounts

RESET, STALLED = EndReason.MIRROR_RESET, EndReason.STALLED


def backend(connections: int, name: str = "c1") -> Any:
    return {"service": "web", "name": name, "address": "10.20.0.11:80", "connections": connections}


def mirror(acked: int, lost: dict[EndReason, int], name: str = "m1") -> Any:
    return {"service": "web", "name": name, "address": "10.20.0.13:80", "acked_bytes": acked, "lost_bytes": lost}


def sums(connections: int = 0, acked: int = 0, lost: dict[EndReason, int] | None = None) -> Any:
    return {"backends": [backend(connections)], "mirrors": [mirror(acked, lost or {})]}


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    recent = RecentCounts(100.0)
    for second in range(0, 61, 2):  # 3 connections and 1,000 bytes a second for half a minute, then none
        count = min(second, 30)
        recent.look(sums(3 * count, 1000 * count), 100.0 + second)
        if second == 30:
            assert recent.connection_rate(backend(90), 130.0) == 3.0
            assert recent.copy_rate(mirror(30_000, {}), 130.5) == round(10_000 / 10.5, 3)
        if second == 34:
            assert recent.connection_rate(backend(90), 134.0) == 1.8
    assert recent.connection_rate(backend(90), 160.0) == 0.0


def test_until_ten_seconds_have_passed_rates_are_those_since_the_start() -> None:
    recent = RecentCounts(100.0)
    assert recent.connection_rate(backend(5), 100.1) == 5.0, "less than a second tells no rate"
    assert recent.connection_rate(backend(8), 104.0) == 2.0
    recent.look(sums(8), 104.0)
    assert recent.connection_rate(backend(8), 104.0) == 2.0


def test_after_a_pause_of_the_looks_rates_are_those_since_the_last_one() -> None:
    recent = RecentCounts(100.0)
    recent.look(sums(0), 100.0)
    assert recent.connection_rate(backend(60), 160.0) == 1.0


def test_what_a_reload_adds_counts_from_the_first_look_on() -> None:
    recent = RecentCounts(100.0)
    recent.look(sums(10), 102.0)
    added, losing = backend(500, "c2"), mirror(9000, {RESET: 70}, "m2")
    assert recent.connection_rate(added, 104.0) == 0.0
    assert recent.lost_in_last_hour(losing, 104.0) == {}
    after: Any = {"backends": [added], "mirrors": [losing]}
    recent.look(after, 104.0)
    assert recent.connection_rate(backend(520, "c2"), 114.0) == 2.0
    assert recent.lost_in_last_hour(mirror(9000, {RESET: 75}, "m2"), 114.0) == {RESET: 5}


def test_losses_are_those_of_the_last_hour() -> None:
    recent = RecentCounts(0.0)
    recent.look(sums(), 0.0)
    assert recent.lost_in_last_hour(mirror(0, {RESET: 7}), 1.0) == {RESET: 7}
    for second in range(2, 7300, 2):
        lost = {RESET: 7} | ({STALLED: 100} if second >= 1800 else {})
        recent.look(sums(lost=lost), float(second))
        shown = recent.lost_in_last_hour(mirror(0, lost), float(second))
        if second in (1800, 3500):
            assert shown == {RESET: 7, STALLED: 100}
        if second in (3700, 5300):
            assert shown == {STALLED: 100}
    assert shown == {}


def test_a_count_that_shrinks_is_no_loss_and_no_rate() -> None:
    recent = RecentCounts(0.0)
    recent.look(sums(10, 1000, {RESET: 50}), 60.0)
    later = 3700.0
    recent.look(sums(10, 1000, {RESET: 50}), later - 60)
    assert recent.connection_rate(backend(3), later) == 0.0
    assert recent.lost_in_last_hour(mirror(0, {RESET: 40}), later) == {}


def test_the_samples_of_an_hour_are_few() -> None:
    recent = RecentCounts(0.0)
    for second in range(0, 20_000, 2):
        recent.look(sums(second), float(second))
    [lost], [connections] = recent._lost.values(), recent._connections.values()
    assert (len(lost._points), len(connections._points)) == (61, 6)
