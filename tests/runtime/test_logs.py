"""The log, for which no thread waits, with a reader and without one."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.findings import OwnCode
from natmirror.runtime.logs import MAX_OF_A_KIND, MAX_QUEUED, WINDOW, Limiter, Logs
from tests.helpers.clock import Clock

KIND = (logging.ERROR, "thread %d has not run")


class Out:
    """A writer that keeps the text."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, text: str) -> None:
        self.text += text

    def lines(self) -> list[str]:
        """Return the messages, without time and level."""
        return [line.split(" ", 2)[2] if line[:1].isdigit() else line for line in self.text.splitlines()]


@pytest.fixture
def out() -> Out:
    return Out()


@pytest.fixture
def logs(clock: Clock, out: Out) -> Logs:
    return Logs(out, clock)


@pytest.fixture
def log(logs: Logs) -> Iterator[logging.Logger]:
    logger = logging.Logger("test")
    logger.addHandler(logs)
    yield logger


def drain(logs: Logs) -> None:
    while logs.status()["records_queued"]:
        assert logs.write_one(0.0)
    logs.write_one(0.0)


def test_a_window_admits_a_number_of_messages_of_one_kind_and_counts_the_others() -> None:
    limiter = Limiter()
    admitted = [limiter.admits(KIND, 1000.0 + second / 100) for second in range(MAX_OF_A_KIND + 7)]
    assert admitted == [True] * MAX_OF_A_KIND + [False] * 7
    assert limiter.admits((logging.ERROR, "another"), 1000.0)
    assert limiter.take_suppressed(1000.0 + WINDOW - 0.1) == []
    assert limiter.take_suppressed(1000.0 + WINDOW) == [(KIND, 7)]
    assert limiter.take_suppressed(1000.0 + WINDOW) == []
    assert limiter.admits(KIND, 1000.0 + WINDOW)


def test_a_rare_kind_is_never_suppressed() -> None:
    limiter = Limiter()
    assert all(limiter.admits(KIND, 1000.0 + second) for second in range(100))


def test_an_unbounded_number_of_kinds_takes_bounded_memory() -> None:
    limiter = Limiter()
    for number in range(5000):
        limiter.suppress((logging.INFO, str(number)), 1000.0)
    assert sum(count for _, count in limiter.take_suppressed(1000.0 + WINDOW)) == 5000
    assert len(limiter._windows) == 0


def test_records_are_written_in_order_with_their_arguments_of_that_moment(
    logs: Logs, log: logging.Logger, out: Out
) -> None:
    legs = [1]
    log.info("legs %s", legs)
    legs.append(2)
    log.error("wrong arguments %d", "x")
    try:
        raise KeyError(7)
    except KeyError:
        log.exception("internal error")
    drain(logs)
    lines = out.lines()
    assert lines[0] == "legs [1]"
    assert lines[1] == "'wrong arguments %d' with arguments that do not fit it: ('x',)"
    assert lines[2:4] == ["internal error", "Traceback (most recent call last):"]
    assert lines[-1] == "KeyError: 7"


class Unprintable:
    """An object that cannot be formatted."""

    def __repr__(self) -> str:
        raise MemoryError


def test_an_argument_that_cannot_be_formatted_raises_no_error(logs: Logs, log: logging.Logger) -> None:
    log.info("leg %s", Unprintable())
    assert logs.status() == {"records_queued": 0, "records_dropped": 1, "records_suppressed": 0}


def test_records_beyond_a_full_queue_are_dropped_and_counted(
    logs: Logs, log: logging.Logger, out: Out, clock: Clock
) -> None:
    for number in range(MAX_QUEUED + 500):
        log.info("leg %d", number)
    assert logs.status() == {"records_queued": MAX_QUEUED, "records_dropped": 500, "records_suppressed": 0}
    clock.now += WINDOW
    drain(logs)
    assert "500 similar messages suppressed: leg %d" in out.lines()
    assert len(out.lines()) == MAX_QUEUED + 1


def test_kinds_are_limited_only_while_packets_pass(logs: Logs, log: logging.Logger, out: Out, clock: Clock) -> None:
    for number in range(30):
        log.warning("preflight: %d", number)
    logs.is_limited = True
    for number in range(143):
        log.warning("leg %d", number)
    assert logs.status() == {"records_queued": 30 + MAX_OF_A_KIND, "records_dropped": 0, "records_suppressed": 123}
    drain(logs)
    assert len(out.lines()) == 30 + MAX_OF_A_KIND
    clock.now += WINDOW
    logs.write_one(0.0)
    assert out.lines()[-1] == "123 similar messages suppressed: leg %d"


def test_a_writer_that_hangs_blocks_neither_logging_nor_the_stop(clock: Clock) -> None:
    thaw, begun = threading.Event(), threading.Event()

    def hang(text: str) -> None:
        begun.set()
        assert thaw.wait(20.0)

    logs = Logs(hang, clock)
    logs._thread.start()
    logger = logging.Logger("test")
    logger.addHandler(logs)
    for number in range(2 * MAX_QUEUED):
        logger.info("leg %d", number)
    assert begun.wait(5.0)
    logs.close()  # for a bounded time
    assert logs.status()["records_dropped"] >= MAX_QUEUED - 1
    thaw.set()


PROGRAM = """
import logging, sys, threading
from natmirror.findings import OwnCode
from natmirror.runtime.logs import Logs, print_line
logs = Logs()
logs.start()
{body}
logs.close()
print_line("the summary")
print_line("the last words", is_error=True)
"""


def python(body: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20.0, check=True)


def test_a_process_writes_all_records_in_order_before_it_ends() -> None:
    done = python("for number in range(100): logging.getLogger('natmirror').error('number %d', number)")
    lines = done.stderr.splitlines()
    assert [line.rpartition(" ")[2] for line in lines[:-1]] == [str(number) for number in range(100)]
    assert lines[-1] == "the last words"
    assert done.stdout == "the summary\n"


def test_the_exception_that_ends_a_thread_is_logged() -> None:
    done = python("thread = threading.Thread(target=lambda: 1 / 0, name='api'); thread.start(); thread.join()")
    assert "ERROR internal error: the thread api has ended" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_a_process_ends_even_if_no_program_reads_its_output() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    body = "for number in range(3000): logging.getLogger('natmirror').error('number %d', number)"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(body=body)], stdout=write, stderr=write)
    assert process.wait(20.0) == 0
    os.close(read)
    os.close(write)


def test_no_other_file_gets_the_number_of_a_closed_standard_stream() -> None:
    body = """
import socket
one, other = socket.socketpair()
logging.getLogger("natmirror").error("without a reader")
"""
    program = PROGRAM.format(body=body) + "sys.exit(min(one.fileno(), other.fileno()) < 3)"
    done = subprocess.run(["sh", "-c", f"exec {sys.executable} -c '{program}' <&- >&- 2>&-"], timeout=20.0, check=False)
    assert done.returncode == 0


def test_a_slow_reader_gets_all_records() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    body = "for number in range(900): logging.getLogger('natmirror').error('number %d ' + 200 * 'x', number)"
    with subprocess.Popen([sys.executable, "-c", PROGRAM.format(body=body)], stdout=write, stderr=write) as process:
        os.close(write)
        with os.fdopen(read, "rb") as reader:
            time.sleep(0.5)
            lines = reader.read().decode().splitlines()
        assert process.wait(20.0) == 0
    assert [line.split()[3] for line in lines[:-2]] == [str(number) for number in range(900)]
    assert lines[-2:] == ["the summary", "the last words"]


def test_messages_that_a_full_disk_refuses_are_counted_and_named_once_it_works_again(clock: Clock) -> None:
    out, errors = Out(), ["No space left on device"]

    def write(text: str) -> str | None:
        if not errors:
            out(text)
        return errors[0] if errors else None

    logs = Logs(write, clock)
    logger = logging.Logger("test")
    logger.addHandler(logs)
    assert logs.findings() == []
    for number in range(3):
        logger.warning("lost %d", number)
    drain(logs)
    [found] = logs.findings()
    assert (found.code, logs.status()["records_dropped"]) == (OwnCode.LOG_LOST, 3)
    assert "because No space left on device" in found.problem
    errors.clear()
    logs.write_one(0.0)
    assert out.lines() == ["3 messages were lost, because No space left on device"]
    assert logs.findings() == []
    logger.warning("whole")
    drain(logs)
    assert out.lines()[1:] == ["whole"]


def test_events_of_one_kind_are_limited_together(
    logs: Logs, out: Out, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("natmirror"), "handlers", [logs])
    logs.is_limited = True
    ring = EventRing(clock)
    for number in range(MAX_OF_A_KIND + 5):
        ring.add(EventKind.BACKEND_UP, EventSeverity.WARNING, f"web/c{number} is up", backend=f"c{number}")
    ring.add(EventKind.BACKEND_DOWN, EventSeverity.WARNING, "web/c0 is down")
    drain(logs)
    assert len(out.lines()) == MAX_OF_A_KIND + 1
    clock.now += WINDOW
    logs.write_one(0.0)
    assert out.lines()[-1] == "5 similar messages suppressed: backend-up"
