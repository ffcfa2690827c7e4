"""The sums of all engines, for all who show them: one look at the packet threads' counters serves several."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from natmirror.engine.shown import Snapshot
from natmirror.runtime.aggregate import aggregate

_MAX_AGE = 0.9
"""Seconds for which sums serve all who ask, so that they cost the packet threads no more than one. A client that asks
each second gets new ones each time."""
_FEW_ROWS = 1000
"""To add up fewer flows and legs takes a packet thread less time than the rest of its answer."""


class Counting(Protocol):
    """An engine, for other threads."""

    def snapshot(self) -> Snapshot:
        """Return the engine's counters. TimeoutError where its thread does not answer."""


@dataclass(frozen=True, slots=True)
class Summed:
    """The sums of all engines, which no reader changes. ``at`` is the monotonic time at which they were made, ``wall``
    the same in seconds since 1970."""

    sums: Snapshot
    at: float
    wall: float

    def serves(self, now: float) -> bool:
        """Return whether they are young enough for another question. Where few rows are added up, they never are: each
        answer shows all that has happened before."""
        rows = self.sums["flows"] + sum(mirror["legs"] for mirror in self.sums["mirrors"])
        return rows >= _FEW_ROWS and now - self.at < _MAX_AGE


class EngineSums:
    """The sums of ``engines``; any thread may ask, and gets TimeoutError where a packet thread does not answer.
    ``clock`` returns the monotonic time, ``wall`` the seconds since 1970."""

    def __init__(
        self,
        engines: Sequence[Counting],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engines = engines
        self._clock = clock
        self._wall = wall
        self._last: Summed | None = None
        self._lock = Lock()

    def fresh(self) -> Summed:
        """Make the sums now."""
        at, wall = self._clock(), self._wall()
        self._last = summed = Summed(aggregate([engine.snapshot() for engine in self._engines]), at, wall)
        return summed

    def recent(self) -> Summed:
        """Return the last sums if they are young enough, else make them. Those who ask meanwhile wait for them."""
        with self._lock:
            last = self._last
            return last if last is not None and last.serves(self._clock()) else self.fresh()
