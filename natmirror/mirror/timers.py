"""Deadlines by key, in a heap: setting, moving and cancelling cost no scan."""

import heapq
from collections.abc import Iterator
from enum import IntEnum
from typing import Any


class TimerKind(IntEnum):
    """What a deadline is for. Each kind says what the second part of its key is."""

    WINDOW_UPDATE = 1
    """A flow: its client may send further than it knows."""
    WRITE_REST = 2
    """A flow: more of its bytes are in order than were written in one call."""
    POSITIONS_KNOWN = 3
    """A flow: all its mirrors have answered how far they have come."""
    SETTLE_SESSION = 4
    """A master's session: a question of the master's has waited long enough."""
    END_DISABLED = 5
    """A kind of work that was switched off: more flows are to be ended for it."""
    SWITCH_ON = 6
    """None: the time when work that was switched off comes on again."""


Key = tuple[TimerKind, Any]
"""A kind, and which one of it (hashable)."""

AT_ONCE = 0.0
"""Due on any clock."""


class Timers:
    """At most one absolute deadline (seconds) for each key."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = 0  # makes entries of one time come in the order of their setting

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
        """The earliest deadline, or None."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # an entry whose key has moved on
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Key]:
        """Take out, one by one and earliest first, the keys whose deadline has come; keys set meanwhile are seen
        too."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            yield key

    def _rebuild(self) -> None:
        self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
