"""One look at the counters serves several who ask, where it costs the packet threads much."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from natmirror.engine.shown import Snapshot
from natmirror.runtime.engine_sums import EngineSums
from tests.helpers.client_connection import engine
from tests.helpers.clock import Clock

WALL = 1_800_000_000.0


class Counting:
    """An engine with as many flows as a test wants, which counts the looks at it."""

    def __init__(self, flows: int, before: Callable[[], None] = lambda: None) -> None:
        self._snapshot = engine(fast=True).snapshot(0.0)
        self._snapshot["flows"] = flows
        self._before = before
        self.looks = 0

    def snapshot(self) -> Snapshot:
        self._before()
        self.looks += 1
        return {**self._snapshot}


def sums_of(one: Counting, clock: Clock) -> EngineSums:
    return EngineSums([one], clock, lambda: WALL + clock.now)


def test_one_look_at_many_rows_serves_all_who_ask_within_a_second() -> None:
    one, clock = Counting(10_000), Clock()
    sums = sums_of(one, clock)
    first = sums.recent()
    clock.now += 0.89
    assert sums.recent() is first, "with the time of the look, not of the question"
    assert (first.at, first.wall) == (1000.0, WALL + 1000.0)
    assert one.looks == 1
    clock.now += 0.02
    assert sums.recent().at == 1000.91
    assert one.looks == 2


def test_few_rows_are_looked_at_for_each_question() -> None:
    one, clock = Counting(10), Clock()
    sums = sums_of(one, clock)
    assert sums.recent() is not sums.recent(), "each shows what has happened before"
    assert one.looks == 2


def test_the_legs_count_too() -> None:
    one, clock = Counting(0), Clock()
    one._snapshot["mirrors"][0]["legs"] = 1000
    sums = sums_of(one, clock)
    assert sums.recent() is sums.recent()


def test_a_look_for_another_purpose_serves_those_who_ask_too() -> None:
    one, clock = Counting(10_000), Clock()
    sums = sums_of(one, clock)
    sums.recent()
    clock.now += 0.1
    fresh = sums.fresh()
    assert fresh.at == 1000.1
    assert sums.recent() is fresh
    assert one.looks == 2


def test_those_who_ask_during_a_look_get_it() -> None:
    has_begun, may_go_on, found = threading.Event(), threading.Event(), list[Any]()

    def before() -> None:
        has_begun.set()
        assert may_go_on.wait(10.0)

    one, clock = Counting(10_000, before), Clock()
    sums = sums_of(one, clock)
    threads = [threading.Thread(target=lambda: found.append(sums.recent())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert has_begun.wait(10.0)
    may_go_on.set()
    for thread in threads:
        thread.join(10.0)
    assert one.looks == 1
    assert len({id(summed) for summed in found}) == 1


def test_a_thread_that_does_not_answer_is_an_error_and_the_next_question_is_asked() -> None:
    def refuse() -> None:
        raise TimeoutError

    one, clock = Counting(10_000, refuse), Clock()
    sums = sums_of(one, clock)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            sums.recent()
    one._before = lambda: None
    assert sums.recent().sums["flows"] == 10_000
