"""Ops that wait to be written to the store: added by threads that never wait, taken by the one that writes."""

import threading
from collections import deque
from collections.abc import Sequence

from natmirror.replication.store import PUT, Op


class WriteQueue:
    """Ops in their order, at most ``most``. What does not fit, or comes between close() and open(), is not kept: then
    all has to be written again. ``now`` is in seconds of any steady clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()  # held for no longer than it takes to put a list into another
        self._ops: deque[Op] = deque()
        self._since: float | None = None
        self._is_open = False
        self._missed = False
        self._put: set[str] | None = None

    def open(self) -> None:
        """Keep ops from now on: the writer is connected, and is going to have all written again."""
        with self._lock:
            self._is_open, self._missed = True, False

    def close(self) -> None:
        """Keep no more ops: the writer has lost its connection."""
        with self._lock:
            self._is_open = False
            self._ops.clear()
            self._since = self._put = None

    def add(self, ops: Sequence[Op], now: float) -> None:
        """Add ops; from any thread."""
        with self._lock:
            if not self._is_open:
                return
            if len(self._ops) + len(ops) > self._most:
                self._missed = True
                return
            self._ops += ops
            self._since = now if self._since is None else self._since
            if self._put is not None:
                self._put.update(op.key for op in ops if op.what == PUT)

    def note_missed(self) -> None:
        """Note that ops were lost before they came here; from any thread."""
        with self._lock:
            self._missed = True

    def take(self, most: int) -> list[Op]:
        """Return the next ops, in their order."""
        with self._lock:
            taken = [self._ops.popleft() for _ in range(min(most, len(self._ops)))]
            if not self._ops:
                self._since = None
            return taken

    def take_missed(self) -> bool:
        """Return whether ops were lost since the last call: then all has to be written again."""
        with self._lock:
            missed, self._missed = self._missed, False
            return missed

    def watch_puts(self) -> None:
        """Note the keys that are put from now on."""
        with self._lock:
            self._put = set()

    def take_puts(self) -> set[str]:
        """Return the keys that were put since watch_puts()."""
        with self._lock:
            put, self._put = self._put or set(), None
            return put

    def waiting(self) -> int:
        """Return how many ops wait."""
        return len(self._ops)

    def age(self, now: float) -> float:
        """Return for how many seconds the oldest op has waited."""
        since = self._since
        return 0.0 if since is None else now - since
