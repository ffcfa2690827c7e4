"""The parts of bench.junk that need no network."""

from dataclasses import replace

from bench.junk import Figures, Queue, Result, p99_bound
from bench.junk_peers import BURST, Pace

QUIET = [Figures(0.0001, 0.0002, 0), Figures(0.0001, 0.0004, 0), Figures(0.0001, 0.0002, 0)]
JUNK = [Figures(0.0001, 0.0003, 0, 0.0005), Figures(0.0001, 0.0004, 0, 0.002), Figures(0.0001, 0.0008, 0, 0.001)]
BESIDE = [Figures(0.0001, 0.0002, 0, others=0.03), Figures(0.0001, 0.0005, 0), Figures(0.0001, 0.0002, 0)]
RESULT = Result("SYNs", 20_000, 10_000, QUIET, BESIDE, JUNK, 90_000, Figures(0.1, 2.0, 0), Figures(0.0001, 0.0003, 0))


def test_each_ratio_is_the_median_of_pairs() -> None:
    assert list(RESULT.ratios.values()) == [0.0003 / 0.0002, 0.0003 / 0.0002]
    assert list(RESULT.failures()) == []


def test_a_row_has_milliseconds() -> None:
    cells = [cell.strip() for cell in RESULT.row().strip("|").split("|")]
    assert cells == [
        "SYNs", "20,000", "10,000", "0.10 ms", "0.20 ms", "0.20 ms", "0.40 ms", "1.5", "1.5",
        "≤ 1.00 ms", "≤ 0.00 ms", "≤ 0.00 ms", "3%", "0",
        "90,000", "2000.00 ms", "0.30 ms", "0",
    ]  # fmt: skip


def test_a_high_ratio_and_lost_connections_fail() -> None:
    half = [Figures(0.0001, 0.001, 1), JUNK[1], Figures(0.0001, 0.0007, 0)]
    slow = replace(RESULT, half=half, dropped=[BESIDE[0]] * 3)
    assert list(slow.failures()) == [
        "SYNs: p99 is 3.5 times as long as without junk",
        "SYNs: p99 is 3.5 times as long as with junk that the kernel drops",
        "SYNs: 1 connections were lost",
    ]
    lost = replace(RESULT, limited=Figures(0.0001, 0.0003, 2))
    assert list(lost.failures()) == ["SYNs: 2 connections were lost"]


def test_the_bound_that_99_in_100_keep() -> None:
    before = {"0.0001": 100, "0.001": 200, "+Inf": 300}
    assert p99_bound(before, {"0.0001": 199, "0.001": 299, "+Inf": 400}) == 0.0001
    assert p99_bound(before, {"0.0001": 198, "0.001": 300, "+Inf": 400}) == 0.001
    assert p99_bound(before, {"0.0001": 100, "0.001": 200, "+Inf": 402}) == float("inf")
    assert p99_bound(before, before) == 0.0001


def test_the_kernels_counters_of_a_queue() -> None:
    assert Queue.parse(" 6653  1234  17 2 65531     5     6   123456  1\n") == Queue(17, 11, 123456)


def test_a_sender_keeps_to_its_rate_and_does_not_make_up_for_a_stop() -> None:
    pace = Pace(10_000, 5.0)
    times = [5.0 + step * 0.00037 for step in range(1, 1001)]
    assert abs(sum(map(pace.due, times)) - 3700) <= 1
    assert pace.due(7.0) == BURST
    assert pace.due(7.00015) == 1
