"""The scheduling class of a packet thread, as the kernel has it, with what it takes of a core by a manual clock."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from natmirror._ffi import ffi, lib
from natmirror.linux.cores import first_share
from natmirror.linux.loop import LoopEvent
from natmirror.unprivileged import drop_capabilities
from tests.helpers.loop import Stage

USUAL, FIRST = os.SCHED_OTHER, os.SCHED_RR
LOOK = 1 / 64  # seconds: a little more than between two looks


def in_thread(call: Callable[[], Any]) -> Any:
    """Call this in a thread of its own, so that the tests' keeps its class."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(call).result()


def own_class() -> int:
    return os.sched_getscheduler(threading.get_native_id()) & ~os.SCHED_RESET_ON_FORK


def own_slice() -> int:
    """Return the slice of the calling thread in nanoseconds; skip the test where the kernel does not show it."""
    shown = Path("/proc/thread-self/sched")
    found = re.search(r"^se\.slice\s*:\s*(\d+)$", shown.read_text(), re.MULTILINE) if shown.exists() else None
    if found is None:
        pytest.skip("the kernel shows no slices of threads")
    return int(found[1])


def new(share: float) -> Any:
    """Return what the calling thread may take; skip the test where the kernel lets none go first."""
    priority = ffi.new("nl_priority *")
    lib.nl_priority_begin(priority, share)
    if share and not priority.goes_first:
        pytest.skip("the kernel lets no thread go first: it needs CAP_SYS_NICE or a limit (RLIMIT_RTPRIO)")
    return priority


def take(seconds: float) -> None:
    """Take processor time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_thread_goes_first_while_it_takes_less_than_its_share_of_a_core() -> None:
    def classes() -> list[int]:
        priority, now, found = new(0.8), 1000.0, [own_class()]
        lib.nl_priority_keep(priority, now)
        for taken, passed in ((0.016, LOOK), (0.012, LOOK), (0.035, LOOK), (0.0, LOOK / 2), (0.0, LOOK), (0.0, LOOK)):
            take(taken)
            now += passed
            lib.nl_priority_keep(priority, now)
            found.append(own_class())
        return found

    # Some more than its share; less; far more; then too soon after the look before; then less than half is back
    assert in_thread(classes) == [FIRST, FIRST, FIRST, USUAL, USUAL, USUAL, FIRST]


def test_a_thread_of_the_usual_class_asks_for_short_turns_that_begin_at_once() -> None:
    def slices() -> tuple[int, int, int]:
        before = own_slice()
        lib.nl_priority_begin(ffi.new("nl_priority *"), 0.0)
        return before, own_slice(), own_class()

    before, after, policy = in_thread(slices)
    assert after == 100_000 < before
    assert policy == USUAL


def test_a_thread_that_has_gone_first_keeps_short_turns_and_its_nice_value() -> None:
    def turns() -> tuple[int, int]:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
        priority = new(0.5)
        lib.nl_priority_keep(priority, 1000.0)
        take(0.04)
        lib.nl_priority_keep(priority, 1000.0 + LOOK)
        assert own_class() == USUAL
        return own_slice(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert in_thread(turns) == (100_000, 3)


def test_a_thread_that_takes_all_of_a_core_keeps_others_from_it_for_some_50_ms() -> None:
    def looks() -> int:
        priority, now, count = new(first_share(1)), 1000.0, 0
        lib.nl_priority_keep(priority, now)
        while own_class() == FIRST and count < 10:
            take(LOOK)
            now += LOOK
            lib.nl_priority_keep(priority, now)
            count += 1
        return count

    assert 2 <= in_thread(looks) <= 4


def test_what_a_thread_takes_at_once_it_owes() -> None:
    def classes() -> list[int]:
        priority, now, found = new(0.5), 1000.0, list[int]()
        lib.nl_priority_keep(priority, now)
        for taken, passed in ((0.1, 0.1), (0.1, 0.05), (0.0, 0.05), (0.0, 0.05)):
            take(taken)  # as in Python, between two looks
            now += passed
            lib.nl_priority_keep(priority, now)
            found.append(own_class())
        return found

    # 6 ms in store, and 50 ms that came in: 44 ms are owed; more in the usual class is not; then 50 ms come in
    assert in_thread(classes) == [USUAL, USUAL, USUAL, FIRST]


def test_a_thread_with_a_small_share_has_a_small_store() -> None:
    def classes() -> list[int]:
        priority, now, found = new(0.05), 1000.0, [own_class()]
        lib.nl_priority_keep(priority, now)
        take(0.004)  # of 0.6 ms, and 0.8 ms that come in
        lib.nl_priority_keep(priority, now + LOOK)
        return [*found, own_class()]

    assert in_thread(classes) == [FIRST, USUAL]


def test_a_thread_keeps_the_class_that_the_operator_has_given_it() -> None:
    def classes() -> tuple[int, int]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        priority = ffi.new("nl_priority *")
        lib.nl_priority_begin(priority, 0.5)
        lib.nl_priority_keep(priority, 1000.0)
        return own_class(), priority.goes_first

    assert in_thread(classes) == (os.SCHED_BATCH, 0)


def test_a_thread_keeps_the_class_that_it_gets_while_it_runs() -> None:
    def classes() -> list[int]:
        priority, found = new(0.5), list[int]()
        lib.nl_priority_keep(priority, 1000.0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
        take(0.04)
        for look in range(1, 20):
            lib.nl_priority_keep(priority, 1000.0 + look * LOOK)
            found.append(own_class())
        lib.nl_priority_end(priority)
        return [*found, own_class()]

    assert set(in_thread(classes)) == {os.SCHED_FIFO}


def test_a_thread_whose_nice_value_changes_while_it_goes_first_stops_going_first() -> None:
    def what_it_has() -> tuple[int, int, int]:
        priority = new(0.5)
        lib.nl_priority_keep(priority, 1000.0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        drop_capabilities()  # so that the kernel refuses a lower value than this
        take(0.04)
        lib.nl_priority_keep(priority, 1000.0 + LOOK)
        return own_class(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), priority.goes_first

    assert in_thread(what_it_has) == (USUAL, 5, 0)


def test_at_its_end_a_thread_is_of_the_usual_class() -> None:
    def classes() -> tuple[int, int]:
        priority = new(0.5)
        lib.nl_priority_keep(priority, 1000.0)
        lib.nl_priority_end(priority)
        after = own_class()
        lib.nl_priority_keep(priority, 1001.0)
        return after, own_class()

    assert in_thread(classes) == (USUAL, USUAL)


def test_programs_that_a_packet_thread_starts_are_of_the_usual_class() -> None:
    ask = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]

    def policy() -> int:
        priority = new(0.5)
        assert priority.goes_first
        return int(subprocess.run(ask, capture_output=True, check=True, text=True).stdout)

    assert in_thread(policy) == USUAL


def test_the_loop_looks_at_what_its_thread_takes(stage: Stage) -> None:
    def classes() -> tuple[int, int]:
        new(0.5)  # or skip
        os.sched_setscheduler(0, USUAL, os.sched_param(0))
        lib.nl_priority_begin(ffi.addressof(stage.loop, "priority"), 1e-9)
        before = own_class()
        until = time.monotonic() + 10
        while own_class() == FIRST and time.monotonic() < until:
            assert stage.run(time.monotonic()) is LoopEvent.TIMER
        return before, own_class()

    assert in_thread(classes) == (FIRST, USUAL), "a loop that never waits takes more than a billionth of a core"


def test_threads_together_go_first_for_four_fifths_of_their_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert [first_share(threads) for threads in (1, 2, 4, 16)] == [0.8, 0.8, 0.4, 0.1]
