"""Watches in the main thread whether threads get a core when they want to run, and whether natmirror runs at all.

The kernel counts for each thread how long it ran, and how long it could have run and waited for a core, because of
others that ran there or of a quota (the kernel's scheduler/sched-stats.rst). A program that was stopped or frozen waits
for none.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from natmirror.findings import Finding, Findings, HostCode
from natmirror.runtime.chores import Chore
from natmirror.runtime.worker import Worker

_THREADS = Path("/proc/self/task")
_LOOKS = 5  # that are compared
_MIN_WAITED = 0.3
"""A packet thread is starved if it has waited for this share of the time,"""
_WAITED_FACTOR = 6
"""and so many times as long as it has run: it shares its core with more than a few others, or has a small quota."""
# Seconds
_INTERVAL = 1.0
_STILL = 3.0  # between two looks: natmirror stood still
_TOLD_FOR = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a thread has spent since its start, in seconds."""

    ran: float
    waited: float


class CoreWatch:
    """Watches these workers. Time is an argument, in seconds of any steady clock."""

    def __init__(self, workers: Sequence[Worker], findings: Findings, threads: Path = _THREADS) -> None:
        self._workers = workers
        self._findings = findings
        self._threads = threads
        self._seen: deque[tuple[float, list[Spent | None]]] = deque(maxlen=_LOOKS)  # the main thread's first
        self._stood_still: tuple[float, float] | None = None
        self.chore = Chore("cores", _INTERVAL, lambda: self._findings.replace("cores", self.look(time.monotonic())))

    def look(self, now: float) -> list[Finding]:
        """Return what is wrong now; call this every second."""
        spent = [self._spent(os.getpid()), *(self._spent(worker.native_id) for worker in self._workers)]
        if self._seen and now - self._seen[-1][0] >= _STILL and not self._has_waited(spent[0], now):
            self._stood_still = now, now - self._seen[-1][0]
            self._seen.clear()
        self._seen.append((now, spent))
        if self._stood_still is not None and now - self._stood_still[0] >= _TOLD_FOR:
            self._stood_still = None
        found = list(self._starved(now, spent)) if len(self._seen) == _LOOKS else []
        if self._stood_still is not None:
            found.append(HostCode.STOOD_STILL.found(seconds=f"{self._stood_still[1]:.0f}"))
        return found

    def _has_waited(self, spent: Spent | None, now: float) -> bool:
        """Return whether the main thread, whose work never blocks, has waited for a core since the last look."""
        at, (then, *_) = self._seen[-1]
        return then is None or spent is None or spent.waited - then.waited > (now - at) / 2

    def _starved(self, now: float, spent: Sequence[Spent | None]) -> Iterator[Finding]:
        first_at, first = self._seen[0]
        for number, (then, one) in enumerate(zip(first[1:], spent[1:], strict=True)):
            if then is None or one is None:
                continue
            ran, waited = one.ran - then.ran, one.waited - then.waited
            if waited >= _MIN_WAITED * (now - first_at) and waited >= _WAITED_FACTOR * ran:
                yield HostCode.CPU_SCARCE.found(
                    number=number, waited=f"{waited:.1f}", seconds=f"{now - first_at:.0f}", ran=f"{1000 * ran:.0f}"
                )

    def _spent(self, native_id: int | None) -> Spent | None:
        with suppress(OSError, ValueError):
            ran, waited, _ = (self._threads / str(native_id) / "schedstat").read_text(encoding="ascii").split()
            return Spent(int(ran) / 1e9, int(waited) / 1e9)
        return None
