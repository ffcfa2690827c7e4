"""How much of the packet threads' time the API takes: no flood of requests slows packets down.

A bucket holds seconds of a packet thread, which answering takes out. It fills slowly while packets pass, and quickly
while none do. So a single answer comes at once, and a client that asks for one after another waits.
"""

from collections.abc import Sequence
from typing import Protocol

from natmirror.fastpath import NEVER

_STORE = 0.01  # seconds of a packet thread: enough to note some 350 flows
_IDLE_SHARE = 0.25  # of the time, in which the bucket fills while no packet passes
_BUSY_SHARE = 0.005  # the rest of an answer, in other threads and the API's process, takes three times as much
_BUSY = 0.02  # part of the time, some thousand packets a second: from there on the bucket fills by the lesser share
_LOOK_INTERVAL = 0.02  # seconds between two looks at how busy the threads are
_LONGEST_PAUSE = 0.25  # seconds, after which the threads may be less busy


class AskedThread(Protocol):
    """A packet thread, and how it has used its time, in seconds."""

    @property
    def answering_seconds(self) -> float:
        """Return the processor time that it has taken to answer other threads."""

    @property
    def busy_seconds(self) -> float:
        """Return the time in which it has had, or waited for, a processor, with the answers."""


class Allowance:
    """The time of ``threads`` that the API may take."""

    def __init__(self, threads: Sequence[AskedThread]) -> None:
        self._threads = threads
        self._left = _STORE
        self._share = _BUSY_SHARE
        self._filled_at = self._looked_at = -NEVER
        self._answering = self._packets = [0.0] * len(threads)

    def pause(self, now: float) -> float:
        """Return how many seconds the API has to wait before natmirror makes the next answer. ``now`` is a monotonic
        time."""
        answering = [thread.answering_seconds for thread in self._threads]
        if now - self._looked_at >= _LOOK_INTERVAL:
            self._look(answering, now)
        taken = sum(answering) - sum(self._answering)  # chores too have taken some, while nothing was asked
        self._left = min(_STORE, self._left + self._share * (now - self._filled_at) - taken)
        self._filled_at, self._answering = now, answering
        return 0.0 if self._left >= 0 else min(-self._left / self._share, _LONGEST_PAUSE)

    def _look(self, answering: Sequence[float], now: float) -> None:
        """Set the share by the busiest thread's packets since the last look."""
        packets = [
            max(0.0, thread.busy_seconds - answers) for thread, answers in zip(self._threads, answering, strict=True)
        ]
        busiest = max((after - before for before, after in zip(self._packets, packets, strict=True)), default=0.0)
        busy = busiest / (now - self._looked_at)
        self._share = _BUSY_SHARE + (_IDLE_SHARE - _BUSY_SHARE) * max(0.0, min(1.0, 1 - busy / _BUSY))
        self._looked_at, self._packets = now, packets
