"""Chores: they fail, hang, and work again."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from natmirror.errors import HostError
from natmirror.lab.process import wait_for
from natmirror.runtime.chores import NEVER, Chore, ChoreThread, failures
from tests.helpers.clock import Clock


class Work:
    """Raises ``errors``, one at each call, then succeeds; None: this call succeeds."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error


def no_files() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize(
    "error",
    [
        no_files(),
        BlockingIOError(errno.EAGAIN, "no process"),
        MemoryError(),
        HostError("iptables refuses"),
        KeyError(7),
    ],
)
def test_a_chore_that_raises_is_tried_again(clock: Clock, error: Exception) -> None:
    work = Work(error)
    chore = Chore("rules", 5.0, work)
    chore.run_if_due(clock)
    clock.now += 4.9
    chore.run_if_due(clock)
    assert work.count == 1
    clock.now += 0.2
    chore.run_if_due(clock)
    assert (work.count, chore.failure) == (2, None)


def test_an_error_is_logged_once_and_again_when_it_changes_or_comes_back(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    chore = Chore("rules", 5.0, Work(no_files(), no_files(), HostError("locked"), None, no_files()))
    told = []
    for _ in range(5):
        chore.run_if_due(clock)
        told.append([record.getMessage() for record in caplog.records])
        caplog.clear()
        clock.now += 5.0
    many = "rules: [Errno 24] Too many open files; trying again in 5 s"
    assert told == [[many], [], ["rules: locked; trying again in 5 s"], ["rules: works again"], [many]]


def test_only_an_internal_error_is_logged_with_a_traceback(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    Chore("rules", 5.0, Work(no_files())).run_if_due(clock)
    assert "Traceback" not in caplog.text
    Chore("rules", 5.0, Work(KeyError(7))).run_if_due(clock)
    assert "rules: KeyError(7); trying again" in caplog.text
    assert "Traceback" in caplog.text


def test_a_failing_chore_is_shown_with_the_seconds_since_it_first_failed(clock: Clock) -> None:
    chores = [Chore("fine", 5.0, Work()), Chore("rules", 5.0, Work(no_files(), HostError("locked")))]
    for _ in range(2):
        for chore in chores:
            chore.run_if_due(clock)
        clock.now += 5.0
    assert failures(chores, clock.now) == [{"name": "rules", "error": "locked", "failing_seconds": 10.0}]


def test_a_chore_that_is_done_once_is_tried_until_it_succeeds(clock: Clock) -> None:
    work = Work(no_files(), no_files())
    chore = Chore("legs", NEVER, work, clock.now)
    for _ in range(10):
        chore.run_if_due(clock)
        clock.now += 5.0
    assert (work.count, chore.due_at > 1e9) == (3, True)


def test_a_chore_that_takes_long_pauses_long(clock: Clock) -> None:
    def work() -> None:
        clock.now += 2.0

    chore = Chore("flows", 5.0, work)
    chore.run_if_due(clock)
    assert chore.due_at == 1000.0 + 2.0 + 40.0


def test_a_chore_can_be_hastened_but_not_into_its_pause(clock: Clock) -> None:
    def work() -> None:
        clock.now += 0.5

    chore = Chore("iptables rules", 3.0, work, 2000.0, pause_factor=4)
    chore.hasten()
    chore.run_if_due(clock)
    assert chore.due_at == 1000.0 + 3.0
    chore.hasten()
    assert chore.due_at == 1000.5 + 4 * 0.5


def test_a_request_that_raises_does_not_affect_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    thread, work = ChoreThread("one", []), Work(KeyError(7))
    for _ in range(2):
        thread.post(work)
    thread._mailbox.read()
    assert work.count == 2
    assert "internal error: a request from another thread failed" in caplog.text


class Disk:
    """Work that blocks until ``thaw`` is set."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.thaw = threading.Event()
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.begun.set()
        assert self.thaw.wait(10.0)


@pytest.fixture
def disk() -> Iterator[Disk]:
    one = Disk()
    yield one
    one.thaw.set()


def test_a_chore_that_hangs_is_logged_once_and_no_other_begins_meanwhile(
    clock: Clock, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    thread = ChoreThread("files", [Chore("known-switches", 0.0, disk)], clock)
    thread.start()
    assert disk.begun.wait(5.0)
    for _ in range(3):
        thread.report_hung()
        clock.now += 6.0
    thread.report_hung()
    assert caplog.text.count("known-switches: has not returned after 10 s") == 1
    assert thread.failures() == [{"name": "known-switches", "error": "hangs", "failing_seconds": 18.0}]
    assert disk.count == 1
    thread.end()
    assert thread.wait(clock.now) == "known-switches", "the wait is over although it hangs"
    disk.thaw.set()
    assert thread.wait(clock.now + 5.0) is None
    thread.report_hung()
    assert "files: has returned" in caplog.text


def test_at_its_end_a_chore_thread_runs_only_the_chores_for_the_end(clock: Clock) -> None:
    last, other = Work(no_files()), Work()
    chores = [Chore("save", NEVER, last, NEVER, at_end=True), Chore("look", NEVER, other, NEVER)]
    thread = ChoreThread("files", chores, clock)
    thread.start()
    thread.end()
    assert thread.wait(clock.now + 5.0) is None
    assert (last.count, other.count) == (1, 0)


def test_a_question_that_is_not_answered_in_time_is_never_answered(clock: Clock, disk: Disk) -> None:
    thread = ChoreThread("files", [], clock)
    thread.start()
    assert thread.ask(lambda: 7, 5.0) == 7
    with pytest.raises(HostError, match="refused"):
        thread.ask(Work(HostError("refused")), 5.0)
    thread.post(disk)
    late: Callable[[], None] = Work()
    with pytest.raises(TimeoutError):
        thread.ask(late, 0.05)
    disk.thaw.set()
    assert thread.ask(lambda: 8, 5.0) == 8
    assert isinstance(late, Work)
    assert late.count == 0
    thread.end()
    assert thread.wait(clock.now + 5.0) is None


def test_a_question_to_a_chore_thread_that_has_ended_times_out_at_once(clock: Clock) -> None:
    """A stop must not wait for a client that asks for a reload at that moment."""
    thread = ChoreThread("files", [], clock)
    thread.start()
    thread.end()
    assert thread.wait(clock.now + 5.0) is None
    began_at = time.monotonic()
    with pytest.raises(TimeoutError):
        thread.ask(Work(), 60.0)
    assert time.monotonic() - began_at < 5.0


def test_a_refused_thread_is_a_host_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(HostError, match="cannot start the thread files: can't start new thread"):
        ChoreThread("files", []).start()


def test_requests_to_a_chore_thread_that_hangs_are_done_later(clock: Clock, disk: Disk) -> None:
    thread = ChoreThread("files", [], clock)
    thread.start()
    thread.post(disk)
    assert disk.begun.wait(5.0)
    work = Work()
    for _ in range(100):
        thread.post(work)
    disk.thaw.set()
    wait_for(lambda: work.count == 100, "them all")
    thread.end()
