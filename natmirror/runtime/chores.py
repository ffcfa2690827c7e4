"""Chores: periodic work, which is tried again if it fails, after one log line.

A ``ChoreThread`` does work that may block on the host (a disk, a child process, another program's lock), so that it
delays neither packets nor the main thread.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

from natmirror.errors import HostError, NatmirrorError
from natmirror.linux import descriptors
from natmirror.runtime.mailbox import Mailbox, settle
from natmirror.threads import NamedThread

log = logging.getLogger("natmirror")

NEVER = 1 << 30
"""An interval in seconds that is longer than any run."""

HANGS = "hangs"
"""The error of a chore that has not returned for 10 s."""

_PAUSE_FACTOR = 20  # the pause after a chore is at least this many times as long as the chore took
_FAILED_PAUSE_FACTOR = 4  # the same after a failure, which is tried again soon
# Seconds
_RETRY_INTERVAL = 5.0  # until a chore that is done only once is tried again after a failure
_LIFE_INTERVAL = 0.2  # between two checks that the thread asked is still running
_HUNG_AFTER = 10.0  # until a chore counts as hung
_REST = 0.1  # after an error that would come again at once

_EXPECTED = (NatmirrorError, OSError, MemoryError)  # errors of the host, for which a traceback says nothing


class ChoreFailure(TypedDict):
    """A chore (periodic background work) that fails or hangs."""

    name: str
    """The chore's name."""
    error: str
    """The last error; ``hangs`` if the chore has not returned for 10 s."""
    failing_seconds: float
    """Seconds since it first failed, or since it began to hang."""


@dataclass(slots=True)
class Failure:
    """Why a chore fails, and since when (monotonic seconds)."""

    error: str
    since_at: float


class Chore:
    """Work to do every ``interval`` seconds; with ``at_end`` once more when its thread stops. The pause after it is at
    least ``pause_factor`` times as long as the work took."""

    def __init__(
        self,
        name: str,
        interval: float,
        do: Callable[[], None],
        due_at: float = 0.0,
        *,
        at_end: bool = False,
        pause_factor: int = _PAUSE_FACTOR,
    ) -> None:
        self.name = name
        self.due_at = due_at
        self.at_end = at_end
        self.failure: Failure | None = None
        self._interval = interval
        self._do = do
        self._pause_factor = pause_factor
        self._pause_ends_at = 0.0

    def run_if_due(self, clock: Callable[[], float]) -> None:
        """Run if due. A chore that takes long runs less often, so that packets keep nearly all of the processor."""
        now = clock()
        if now < self.due_at:
            return
        self.due_at = now + self._interval
        if self.run(clock):
            done_at = clock()
            self._pause_ends_at = done_at + self._pause_factor * (done_at - now)
            self.due_at = max(self.due_at, self._pause_ends_at)

    def hasten(self, at: float = 0.0) -> None:
        """Be due before the interval is over: at a time, or after the pause that the length of the work demands."""
        self.due_at = min(self.due_at, max(at, self._pause_ends_at))

    def run(self, clock: Callable[[], float]) -> bool:
        """Run now; return whether that succeeded."""
        began_at = clock()
        try:
            self._do()
        except Exception as error:
            self._failed(error, clock() - began_at, clock())
            return False
        if self.failure is not None:
            log.info("%s: works again", self.name)
            self.failure = None
        return True

    def _failed(self, error: Exception, seconds: float, now: float) -> None:
        pause = max(self._interval if self._interval < NEVER else _RETRY_INTERVAL, _FAILED_PAUSE_FACTOR * seconds)
        self.due_at, self._pause_ends_at = now + pause, now + _FAILED_PAUSE_FACTOR * seconds
        text = str(error) if isinstance(error, _EXPECTED) and str(error) else repr(error)
        if self.failure is not None and self.failure.error == text:
            return
        self.failure = Failure(text, now if self.failure is None else self.failure.since_at)
        trace = None if isinstance(error, _EXPECTED) else error
        log.error("%s: %s; trying again in %.3g s", self.name, text, pause, exc_info=trace)


class ChoreThread:
    """A thread that does chores and other threads' requests, one after another.

    It may block on the host: report_hung() logs that, and a stop waits only a bounded time for it.
    """

    def __init__(self, name: str, chores: Sequence[Chore], clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._chores = chores
        self._clock = clock
        self._woken = threading.Event()
        self._mailbox = Mailbox(self._woken.set)
        self._is_stopping = False
        self._has_ended = False
        self._under_way: tuple[str, float] | None = None
        self._hung_since: float | None = None
        self._thread = NamedThread(self._run, name)

    def start(self) -> None:
        """Start the thread. HostError where the host refuses another thread."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostError(f"cannot start the thread {self.name}: {error}") from None

    def post(self, do: Callable[[], None]) -> None:
        """Have the thread call a function soon."""
        self._mailbox.post(partial(self._track, "a request", do))

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the thread call a function soon; return the future of its result. Once the thread has ended, it is
        never settled."""
        answer: Future[Any] = Future()
        self.post(partial(settle, answer, question))
        return answer

    def ask(self, question: Callable[[], Any], timeout: float) -> Any:
        """Have the thread call a function; return its result. TimeoutError where there is none in time, or the thread
        has ended: if it has not begun the call, it never does."""
        answer = self.request(question)
        until = time.monotonic() + timeout
        while not answer.done() and not self._has_ended and (left := until - time.monotonic()) > 0:
            wait([answer], min(left, _LIFE_INTERVAL))
        answer.cancel()
        if answer.cancelled() or not answer.done():
            raise TimeoutError
        return answer.result()

    def end(self) -> None:
        """Have the thread run its ``at_end`` chores, and end."""
        self._is_stopping = True
        self._woken.set()

    def wait(self, until: float) -> str | None:
        """After end(), wait until a time for the thread's end; return the name of the chore in which it hangs, or
        None."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, until - self._clock()))
        under_way = self._under_way
        return None if not self._thread.is_alive() else under_way[0] if under_way else self.name

    def now(self) -> float:
        """Return the time on the chores' clock, in seconds."""
        return self._clock()

    def report_hung(self) -> None:
        """Log once that a chore hangs, and once that it has returned; from any thread."""
        hung = self._hung()
        if hung is not None and self._hung_since != hung[1]:
            log.error(
                "%s: has not returned after %g s; until it returns, the thread %s does no other work; check the disk or"
                " the program for which it waits",
                *(hung[0], _HUNG_AFTER, self.name),
            )
        if hung is None and self._hung_since is not None:
            log.info("%s: has returned; the thread continues", self.name)
        self._hung_since = None if hung is None else hung[1]

    def failures(self) -> list[ChoreFailure]:
        """Return the chores that fail or hang, as values for JSON; from any thread."""
        shown = failures(self._chores, self._clock())
        if (hung := self._hung()) is not None:
            shown.append(_shown(hung[0], HANGS, self._clock() - hung[1]))
        return shown

    def _hung(self) -> tuple[str, float] | None:
        under_way = self._under_way
        return under_way if under_way is not None and self._clock() - under_way[1] > _HUNG_AFTER else None

    # In the thread

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self._do_what_is_due()
            except Exception:  # e.g. no memory
                log.exception("internal error in the thread %s; continuing", self.name)
                time.sleep(_REST)
        for chore in self._chores:
            if chore.at_end:
                self._track(chore.name, partial(chore.run, self._clock))
        self._has_ended = True

    def _do_what_is_due(self) -> None:
        self._woken.clear()
        with descriptors.released():
            for chore in self._chores:
                if self._clock() >= chore.due_at and not self._is_stopping:
                    self._track(chore.name, partial(chore.run_if_due, self._clock))
            self._mailbox.read()
        due = min((chore.due_at for chore in self._chores), default=NEVER)
        if not self._is_stopping:
            self._woken.wait(max(0.0, due - self._clock()))

    def _track(self, name: str, do: Callable[[], Any]) -> None:
        self._under_way = (name, self._clock())
        try:
            do()
        finally:
            self._under_way = None


def failures(chores: Sequence[Chore], now: float) -> list[ChoreFailure]:
    """Return the chores that fail, of these, as values for JSON."""
    found = [(chore.name, chore.failure) for chore in chores]
    return [_shown(name, failure.error, now - failure.since_at) for name, failure in found if failure is not None]


def _shown(name: str, error: str, seconds: float) -> ChoreFailure:
    return {"name": name, "error": error, "failing_seconds": round(seconds, 3)}
