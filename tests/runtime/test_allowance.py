"""The time that the API may take, by a manual clock."""

from dataclasses import dataclass

import pytest

from natmirror.runtime.allowance import Allowance

STORE, SLICE, STEP = 0.01, 0.001, 0.001  # seconds


@dataclass
class Thread:
    """A packet thread."""

    answering_seconds: float = 0.0
    busy_seconds: float = 0.0


def answered(threads: list[Thread], seconds: float, busy: float) -> float:
    """Have a client ask without a pause, for seconds in which the first thread's packets take the part ``busy`` of its
    time. Return the time that the threads took to answer."""
    allowance, now, next_at = Allowance(threads), 100.0, 100.0
    asked = 0
    while now < 100.0 + seconds:
        if now >= next_at:
            pause = allowance.pause(now)
            next_at = now + pause
            if not pause:
                thread = threads[asked % len(threads)]
                thread.answering_seconds += SLICE
                thread.busy_seconds += SLICE
                asked += 1
        threads[0].busy_seconds += busy * STEP
        now += STEP
    return sum(thread.answering_seconds for thread in threads)


def test_a_list_comes_at_once() -> None:
    threads = [Thread()]
    allowance = Allowance(threads)
    allowance.pause(100.0)
    for _ in range(int(STORE / SLICE)):
        assert allowance.pause(100.0) == 0
        threads[0].answering_seconds += SLICE
    threads[0].answering_seconds += SLICE
    assert allowance.pause(100.0) > 0


@pytest.mark.parametrize(("busy", "share"), [(0.0, 0.25), (0.01, 0.13), (0.02, 0.005), (0.5, 0.005), (0.99, 0.005)])
@pytest.mark.parametrize("count", [1, 4])
def test_a_flood_gets_a_small_share_while_a_thread_passes_packets(busy: float, share: float, count: int) -> None:
    took = answered([Thread() for _ in range(count)], 20.0, busy)
    assert took == pytest.approx(STORE + 20.0 * share, rel=0.1)


def test_an_allowance_that_was_not_used_is_not_kept_for_ever() -> None:
    threads = [Thread()]
    allowance = Allowance(threads)
    allowance.pause(100.0)
    assert allowance.pause(10_000.0) == 0
    threads[0].answering_seconds += STORE + SLICE
    assert 0 < allowance.pause(10_000.0) <= 0.25


def test_a_long_answer_is_made_up_for_step_by_step() -> None:
    threads = [Thread()]
    allowance = Allowance(threads)
    allowance.pause(100.0)
    threads[0].answering_seconds = 1.01
    now, pauses = 100.0, []
    while pause := allowance.pause(now):
        pauses.append(pause)
        now += pause
    assert max(pauses) == 0.25
    assert now == pytest.approx(104.0, rel=0.01)


def test_without_threads_nothing_waits() -> None:
    assert Allowance([]).pause(100.0) == 0


def test_what_chores_took_while_nothing_was_asked_does_not_keep_the_next_answer_waiting() -> None:
    threads = [Thread()]
    allowance = Allowance(threads)
    allowance.pause(100.0)
    for _ in range(60):
        threads[0].answering_seconds += SLICE  # once a second
        threads[0].busy_seconds += 0.1
    assert allowance.pause(160.0) == 0
