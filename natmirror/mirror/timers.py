"""Deadlines by key, in a heap: setting, moving and cancelling one needs no search."""

import heapq
from collections.abc import Iterator
from enum import IntEnum
from typing import Any


class TimerKind(IntEnum):
    """The purpose of a deadline. Each docstring names the second part of the key first."""

    WINDOW_UPDATE = 1
    """A flow: its client gets a window update."""
    WRITE_REST = 2
    """A flow: more of its bytes are in order than one call has written."""
    POSITIONS_KNOWN = 3
    """A flow: all its mirrors have reported their positions."""
    QUESTION_TIMEOUT = 4
    """A session: an open question of the master has waited for ANSWER_TIMEOUT."""
    END_DISABLED = 5
    """A kind of work that was switched off: it is ended for the next flows."""
    SWITCH_ON = 6
    """None: work that was switched off is switched on again."""
    LAST_ACKNOWLEDGEMENTS = 7
    """A flow: its client has reset it, and no acknowledgement of its bytes is under way any more."""
    RECONNECT = 8
    """A flow: a copy of it has waited for a minute, and may begin again."""


Key = tuple[TimerKind, Any]
"""A kind, and the hashable object to which the deadline belongs."""

AT_ONCE = 0.0
"""A deadline that is due at once on any clock."""


class Timers:
    """At most one deadline for each key, as an absolute time in seconds."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = 0  # numbers the entries: those of equal time are due in the order in which they were set

    def set(self, key: Key, when: float | None) -> None:
        """Move the key's deadline to ``when``; None cancels it."""
        if when is None:
            self._due.pop(key, None)
        elif self._due.get(key) != when:
            self._due[key] = when
            self._count += 1
            heapq.heappush(self._heap, (when, self._count, key))
            if len(self._heap) > 64 + 4 * len(self._due):
                self._rebuild()

    def next(self) -> float | None:
        """Return the earliest deadline, or None."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # its key has another deadline now
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Key]:
        """Remove and yield the keys whose deadlines have come, the earliest first; also those that are set
        meanwhile."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            yield key

    def _rebuild(self) -> None:
        self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
