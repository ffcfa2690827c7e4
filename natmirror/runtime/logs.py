"""The log of a live run: records wait in a bounded queue for a thread that writes them to stderr.

A thread that logs never blocks. While stderr is not read, the queue fills up, and further records are counted and
dropped. So are messages of one kind (a level and a format string) that come too often. Later the log says how many
were suppressed.
"""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypedDict

from natmirror.errors import HostError
from natmirror.findings import Finding, OwnCode
from natmirror.runtime.log_formats import Formatter, event_of
from natmirror.threads import NamedThread

log = logging.getLogger("natmirror")

MessageKind = tuple[int, str]
"""A level and a format string, or the kind of an event."""

MAX_QUEUED = 1000
MAX_OF_A_KIND = 20
"""Limit on messages of one kind in ``WINDOW`` seconds; far more than a person reads."""
WINDOW = 10.0

_MAX_KINDS = 1000
_OTHERS: MessageKind = (logging.INFO, "messages of other kinds")
_CHECK_INTERVAL = 1.0  # seconds between two checks for suppressed messages
_FLUSH_TIMEOUT = 1.5
_MAX_KIND_LEN = 80
_STDIN, _STDOUT, _STDERR = 0, 1, 2


@dataclass(slots=True)
class _Window:
    began_at: float
    admitted: int = 0
    suppressed: int = 0


class LogEntry(TypedDict):
    """Log messages that have not been written."""

    records_queued: int
    """Messages that wait to be written to stderr."""
    records_dropped: int
    """Messages that were dropped: 1,000 others waited, because the reader of stderr is too slow, or stderr could not be
    written, because its disk is full."""
    records_suppressed: int
    """Messages that were suppressed because 20 of the same kind had been written within 10 s. The log says how many of
    each kind were."""


class Limiter:
    """Limits the messages of each kind. Time is an argument, in seconds of any steady clock."""

    def __init__(self) -> None:
        self._windows: dict[MessageKind, _Window] = {}

    def admits(self, kind: MessageKind, now: float) -> bool:
        """Return whether one more message of a kind may be written; if not, count it."""
        window = self._window(kind, now)
        if window.admitted >= MAX_OF_A_KIND:
            window.suppressed += 1
            return False
        window.admitted += 1
        return True

    def suppress(self, kind: MessageKind, now: float) -> None:
        """Count a message that could not be written."""
        self._window(kind, now).suppressed += 1

    def take_suppressed(self, now: float) -> list[tuple[MessageKind, int]]:
        """Return the number of messages of each kind that were suppressed in windows that have ended; return each
        number once."""
        over = [(kind, window) for kind, window in self._windows.items() if now - window.began_at >= WINDOW]
        for kind, _ in over:
            del self._windows[kind]
        return [(kind, window.suppressed) for kind, window in over if window.suppressed]

    def _window(self, kind: MessageKind, now: float) -> _Window:
        window = self._windows.get(kind)
        if window is None:
            kind = kind if len(self._windows) < _MAX_KINDS else _OTHERS
            window = self._windows.setdefault(kind, _Window(now))
        if now - window.began_at >= WINDOW and not window.suppressed:
            window.began_at, window.admitted = now, 0
        return window


class Logs(logging.Handler):
    """The log handler: any thread may log without waiting, between start() and close(). ``write`` writes a text, and
    may block; it returns why that failed, or None."""

    def __init__(
        self,
        write: Callable[[str], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        formatter: Formatter | None = None,
    ) -> None:
        super().__init__()
        self.formatter: Formatter = formatter or Formatter()
        self.is_limited = False
        """Whether the messages of each kind are limited: only while packets pass, so that a start logs all it has."""
        self._write = write or _to_stderr
        self._clock = clock
        self._records: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._limiter = Limiter()
        self._dropped = self._suppressed = 0
        self._is_closed = False
        self._unwritten = 0  # messages since the last one that could be written
        self._error: str | None = None
        self._drained = threading.Event()
        self._thread = NamedThread(self._run, "log")

    def start(self, level: int = logging.INFO) -> None:
        """Become the log of this process, for messages of a level and above. Call it before any other file is opened.
        HostError where the host refuses another thread."""
        _reserve_standard_descriptors()
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostError(f"cannot start the thread log: {error}") from None
        self.addFilter(lambda record: record.levelno >= logging.INFO or record.name == log.name)
        logging.basicConfig(level=level, handlers=[self])
        # By default the failing thread itself prints these, and would block on a stderr that is not read.
        threading.excepthook = _log_end_of_thread
        sys.unraisablehook = _log_unraisable

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. Never wait, never raise: the caller may be a packet thread."""
        try:
            self._queue(record)
        except Exception:  # e.g. no memory
            self._dropped += 1

    def _queue(self, record: logging.LogRecord) -> None:
        """Queue a record. Format its arguments here, before they change; format a traceback later, since that reads
        files."""
        now = self._clock()
        event = event_of(record)
        kind = (record.levelno, str(record.msg) if event is None else event.kind)
        if self.is_limited and not self._limiter.admits(kind, now):
            self._suppressed += 1
            return
        if self._records.qsize() >= MAX_QUEUED:
            self._limiter.suppress(kind, now)
            self._dropped += 1
            return
        try:
            record.msg, record.args = record.getMessage(), None
        except Exception:
            record.msg, record.args = f"{record.msg!r} with arguments that do not fit it: {record.args!r}", None
        self._records.put(record)

    def status(self) -> LogEntry:
        """Return the state of the log as values for JSON; from any thread."""
        return {
            "records_queued": self._records.qsize(),
            "records_dropped": self._dropped,
            "records_suppressed": self._suppressed,
        }

    def findings(self) -> list[Finding]:
        """Return why messages are lost now, if they are; from any thread."""
        error = self._error
        if self._records.qsize() >= MAX_QUEUED:
            error = "stderr is not read"
        return [] if error is None else [OwnCode.LOG_LOST.found(error=error)]

    def close(self) -> None:
        """Write the queued records, for a bounded time."""
        if self._thread.is_alive() and not self._is_closed:
            self._is_closed = True  # Python closes all handlers again when it ends
            self._records.put(None)
            self._drained.wait(_FLUSH_TIMEOUT)
        super().close()

    def write_one(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the next record and write it, and the numbers of suppressed messages.
        Return whether to continue."""
        try:
            record = self._records.get(timeout=timeout)
            if record is None:
                self._write_suppressed(float("inf"))
                return False
            self._print(self.format(record) + "\n")
        except Empty:
            self._print()
        self._write_suppressed(self._clock())
        return True

    def _write_suppressed(self, now: float) -> None:
        self.acquire()
        try:
            suppressed = self._limiter.take_suppressed(now)
        finally:
            self.release()
        for (level, message), count in suppressed:
            short = message if len(message) <= _MAX_KIND_LEN else f"{message[:_MAX_KIND_LEN]}…"
            text = f"{count} similar messages suppressed: {short}"
            self._print(self.format(logging.LogRecord("natmirror", level, "", 0, text, None, None)) + "\n")

    def _print(self, text: str = "") -> None:
        """Write a text, after a line about those that could not be written before; count it if that fails."""
        notice = ""
        if self._unwritten:
            lost = f"{self._unwritten} messages were lost, because {self._error}"
            notice = self.format(logging.LogRecord("natmirror", logging.WARNING, "", 0, lost, None, None)) + "\n"
        self._error = self._write(notice + text) if notice or text else None
        if self._error is None:
            self._unwritten = 0
        elif text:
            self._unwritten += 1
            self._dropped += 1

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = self.write_one(_CHECK_INTERVAL)
            except Exception:  # no memory, or a traceback that cannot be formatted: the next record may work
                self._dropped += 1
        self._drained.set()


def print_line(text: str, *, is_error: bool = False, timeout: float = _FLUSH_TIMEOUT) -> None:
    """Print a line; give up after ``timeout`` seconds where the reader does not read."""
    number = _STDERR if is_error else _STDOUT
    thread = NamedThread(partial(_write_to, number, f"{text}\n"), "print")
    try:
        thread.start()
    except RuntimeError:  # no thread is left: lose the line rather than block
        return
    thread.join(timeout)


def _reserve_standard_descriptors() -> None:
    """Open /dev/null for each closed standard stream. Otherwise another file would get its number, and the log would go
    there."""
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _to_stderr(text: str) -> str | None:
    return _write_to(_STDERR, text)


def _write_to(number: int, text: str) -> str | None:
    """Write without Python's own buffer: the end of the process would wait for the buffer's lock. Return why that
    failed, or None."""
    data = text.encode(errors="backslashreplace")
    while data:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:  # another process that shares the stream has made it non-blocking
            ready = select.poll()
            ready.register(number, select.POLLOUT)
            ready.poll()
        except OSError as error:  # the stream is closed, or its disk is full
            return error.strerror or str(error)
    return None


def _log_end_of_thread(end: threading.ExceptHookArgs) -> None:
    name = "?" if end.thread is None else end.thread.name
    log.error("internal error: the thread %s has ended; restart natmirror", name, exc_info=end.exc_value)


def _log_unraisable(fault: Any) -> None:
    log.error("internal error: %s: %r", fault.err_msg or "ignored", fault.object, exc_info=fault.exc_value)
