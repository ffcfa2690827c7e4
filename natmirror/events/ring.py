"""The ring of the latest events.

What repeats must not push everything else out: of the events of one kind about one subject, the first ones of a window
are kept, and what follows is kept as one event at the end of the window, with the number of times.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import takewhile

from natmirror.events.event import Event
from natmirror.events.kinds import EventKind, EventSeverity
from natmirror.events.query import MAX_EVENTS

log = logging.getLogger("natmirror")

MAX_OF_A_KIND = 10
"""Events of one kind about one subject that are kept one by one in a window."""
WINDOW = 600.0
"""Seconds."""
_MAX_SUBJECTS = 1000
_LEVELS = {
    EventSeverity.INFO: logging.INFO,
    EventSeverity.WARNING: logging.WARNING,
    EventSeverity.ERROR: logging.ERROR,
}

_Subject = tuple[EventKind, str | None, str | None, str | None, str | None, str]


@dataclass(slots=True)
class _Window:
    began_at: float
    kept: int = 0
    joined: int = 0
    """Events that were not kept one by one."""
    last: Event | None = None
    """The last of these, with the sum of their counts."""


class EventRing:
    """The latest events. Any thread may use it; none waits for a disk there. ``time_of_day`` returns the time in
    seconds since 1970."""

    def __init__(self, time_of_day: Callable[[], float]) -> None:
        self._time_of_day = time_of_day
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._windows: dict[_Subject, _Window] = {}
        self._last = 0
        self.keep_now: Callable[[], Future[None]] = _keep_nowhere
        """Has what keeps the events over a crash keep all of them now, sooner than it would; returns the future of its
        end, whose error says why it could not."""

    def restore(self, events: Iterable[Event]) -> None:
        """Take the events of earlier runs, before the first one of this run."""
        with self._lock:
            self._events.extend(events)
            self._last = max((one.number for one in self._events), default=0)

    def add(
        self,
        kind: EventKind,
        severity: EventSeverity,
        text: str,
        *,
        service: str | None = None,
        backend: str | None = None,
        mirror: str | None = None,
        code: str | None = None,
        count: int = 1,
        subject: str = "",
        is_logged: bool = True,
    ) -> None:
        """Add an event that happens now, and log it. ``subject`` tells events apart that do not repeat each other, if
        names and code do not. ``is_logged=False``: the caller logs it."""
        now = self._time_of_day()
        event = Event(0, now, kind, severity, text, service, backend, mirror, code, count)
        with self._lock:
            self._keep(event, subject)
        if is_logged:
            log.log(_LEVELS[severity], "%s", text, extra={"event": event})

    def join_repeated(self, *, at_end: bool = False) -> None:
        """Keep one event for those that have repeated in a window that is over, or in any window ``at_end`` of the run.
        Call it each second or so."""
        now = self._time_of_day()
        with self._lock:
            over = [(key, one) for key, one in self._windows.items() if at_end or not 0 <= now - one.began_at < WINDOW]
            for key, window in over:
                del self._windows[key]
                if window.last is not None:
                    text = f"{window.last.text} (the last of {window.joined} such events in a row)"
                    self._append(replace(window.last, text=text))

    def all(self) -> list[Event]:
        """Return the events, the oldest first."""
        with self._lock:
            return list(self._events)

    def after(self, number: int) -> list[Event]:
        """Return the events after the one with a number, the oldest first."""
        with self._lock:
            return [*takewhile(lambda one: one.number > number, reversed(self._events))][::-1]

    def _keep(self, event: Event, subject: str) -> None:
        key = event.kind, event.service, event.backend, event.mirror, event.code, subject
        window = self._windows.get(key)
        if window is None:
            window = _Window(event.at)
            if len(self._windows) < _MAX_SUBJECTS:
                self._windows[key] = window
        if window.kept < MAX_OF_A_KIND:
            window.kept += 1
            self._append(event)
            return
        before = 0 if window.last is None else window.last.count
        window.joined += 1
        window.last = replace(event, count=before + event.count)

    def _append(self, event: Event) -> None:
        """Number an event. The numbers follow the time of day, so that they grow over a crash that has lost the last
        ones."""
        self._last = max(self._last + 1, int(event.at * 1000))
        self._events.append(replace(event, number=self._last))


def _keep_nowhere() -> "Future[None]":
    done: Future[None] = Future()
    done.set_result(None)
    return done
