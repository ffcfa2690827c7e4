"""The log of a live run: records wait in a bounded queue for a thread that writes them to stderr.

A thread that logs never blocks. While stderr is not read, the queue fills up, and further records are counted and
dropped. So are records of one kind (a level and a message before its arguments) that come too often. The log
says how many were suppressed as soon as it can.
"""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypedDict

from natmirror.errors import HostError

log = logging.getLogger("natmirror")

Kind = tuple[int, str]
"""A level, and a message before its arguments."""

MAX_QUEUED = 1000
MAX_OF_A_KIND = 20
"""Records of a kind in ``WINDOW`` seconds; far more than a person reads."""
WINDOW = 10.0

_MAX_KINDS = 1000
_OTHERS: Kind = (logging.INFO, "records of other kinds")
_LOOK_INTERVAL = 1.0
_FLUSH_TIMEOUT = 1.5
_MAX_KIND_LEN = 80
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_STDIN, _STDOUT, _STDERR = 0, 1, 2


@dataclass(slots=True)
class _Window:
    began_at: float
    admitted: int = 0
    suppressed: int = 0


class LogEntry(TypedDict):
    """The records of the log."""

    records_queued: int
    """Records that wait to be written to stderr."""
    records_dropped: int
    """Records that were dropped, because stderr was not read and 1,000 waited already."""
    records_suppressed: int
    """Records that were left out, because more than 20 alike came in 10 s: the log says how many of which."""


class Limiter:
    """How many records of each kind are written. Time is an argument, in seconds of any steady clock."""

    def __init__(self) -> None:
        self._windows: dict[Kind, _Window] = {}

    def admits(self, kind: Kind, now: float) -> bool:
        """Return whether one more of a kind may be written; otherwise it is counted."""
        window = self._window(kind, now)
        if window.admitted >= MAX_OF_A_KIND:
            window.suppressed += 1
            return False
        window.admitted += 1
        return True

    def suppress(self, kind: Kind, now: float) -> None:
        """Count a record that could not be written."""
        self._window(kind, now).suppressed += 1

    def take_suppressed(self, now: float) -> list[tuple[Kind, int]]:
        """Return how many of each kind were suppressed in windows that are over; each is returned once."""
        over = [(kind, window) for kind, window in self._windows.items() if now - window.began_at >= WINDOW]
        for kind, _ in over:
            del self._windows[kind]
        return [(kind, window.suppressed) for kind, window in over if window.suppressed]

    def _window(self, kind: Kind, now: float) -> _Window:
        window = self._windows.get(kind)
        if window is None:
            kind = kind if len(self._windows) < _MAX_KINDS else _OTHERS
            window = self._windows.setdefault(kind, _Window(now))
        if now - window.began_at >= WINDOW and not window.suppressed:
            window.began_at, window.admitted = now, 0
        return window


class Logs(logging.Handler):
    """Takes records from any thread without waiting, between start() and close(). ``write`` takes a text, and may wait
    as long as it has to."""

    def __init__(self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        self.is_limited = False
        """Whether kinds are limited: from the moment on that packets pass. A start says all that it has to say."""
        self._write = write or _to_stderr
        self._clock = clock
        self._records: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._limiter = Limiter()
        self._dropped = self._suppressed = 0
        self._is_closed = False
        self._drained = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        """Become the log of this process, before it opens what it keeps open. HostError where the host has no thread
        left."""
        _keep_standard_numbers()
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostError(f"cannot start the thread log: {error}") from None
        logging.basicConfig(level=logging.INFO, handlers=[self])
        # What would be printed by the thread that it happens in, which a stderr that is not read would stop.
        threading.excepthook = _log_end_of_thread
        sys.unraisablehook = _log_unraisable

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. Never wait, never raise: the thread that logs may be one that passes packets."""
        try:
            self._queue(record)
        except Exception:  # no memory, for one
            self._dropped += 1

    def _queue(self, record: logging.LogRecord) -> None:
        """Arguments become text here, as they are now; a traceback later, since that reads files."""
        now = self._clock()
        kind = (record.levelno, str(record.msg))
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

    def close(self) -> None:
        """Write what waits, for a bounded time; then leave it."""
        if self._thread.is_alive() and not self._is_closed:
            self._is_closed = True  # Python closes all handlers once more when it ends
            self._records.put(None)
            self._drained.wait(_FLUSH_TIMEOUT)
        super().close()

    def write_one(self, timeout: float) -> bool:
        """Write the next record, waiting for it for some seconds, and what was suppressed; return whether to go on."""
        try:
            record = self._records.get(timeout=timeout)
            if record is None:
                self._write_suppressed(float("inf"))
                return False
            self._write(self.format(record) + "\n")
        except Empty:
            pass
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
            self._write(self.format(logging.LogRecord("natmirror", level, "", 0, text, None, None)) + "\n")

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = self.write_one(_LOOK_INTERVAL)
            except Exception:  # no memory, or a traceback that cannot be formatted: the next record may fit
                self._dropped += 1
        self._drained.set()


def say(text: str, *, is_error: bool = False, timeout: float = _FLUSH_TIMEOUT) -> None:
    """Print a line; give up after some seconds where the other end does not read."""
    number = _STDERR if is_error else _STDOUT
    thread = threading.Thread(target=_write_to, args=(number, f"{text}\n"), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread is left: it is lost rather than waited for
        return
    thread.join(timeout)


def _keep_standard_numbers() -> None:
    """Where one of the standard streams is closed, nothing else is to get its number: the log would go there."""
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free


def _to_stderr(text: str) -> None:
    _write_to(_STDERR, text)


def _write_to(number: int, text: str) -> None:
    """Past Python's own buffer, whose lock the end of the process would wait for."""
    data = text.encode(errors="backslashreplace")
    while data:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:  # another process that has it, too, does not want to wait
            ready = select.poll()
            ready.register(number, select.POLLOUT)
            ready.poll()
        except OSError:
            return  # it is closed, or its disk is full


def _log_end_of_thread(end: threading.ExceptHookArgs) -> None:
    name = "?" if end.thread is None else end.thread.name
    log.error("internal error: thread %s has ended", name, exc_info=end.exc_value)


def _log_unraisable(fault: Any) -> None:
    log.error("internal error: %s: %r", fault.err_msg or "ignored", fault.object, exc_info=fault.exc_value)
