"""The queue of ops for the store: threads that must not wait add them, the Synchroniser's thread takes them."""

import threading
from collections import deque
from collections.abc import Sequence

from natmirror.replication.store import PUT, Op


class WriteQueue:
    """A queue of at most ``most`` bytes of ops. It loses ops that do not fit, and those that are added between close()
    and open(): then all records have to be written again. ``now`` is in seconds of any steady clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()  # never held longer than it takes to copy a list
        self._ops: deque[Op] = deque()
        self._len = 0  # bytes of the ops
        self._since: float | None = None
        self._is_open = False
        self._missed = False
        self._put: set[str] | None = None

    def open(self) -> None:
        """Accept ops: the writer is connected, and all records are going to be written again."""
        with self._lock:
            self._is_open, self._missed = True, False

    def close(self) -> None:
        """Drop all ops, and accept no more: the writer has lost its connection."""
        with self._lock:
            self._is_open = False
            self._ops.clear()
            self._len = 0
            self._since = self._put = None

    def add(self, ops: Sequence[Op], now: float) -> None:
        """Add ops, all or none of them; from any thread."""
        with self._lock:
            if not self._is_open:
                return
            more = sum(op.cost for op in ops)
            if self._len + more > self._most:
                self._missed = True
                return
            self._ops += ops
            self._len += more
            self._since = now if self._since is None else self._since
            if self._put is not None:
                self._put.update(op.key for op in ops if op.what == PUT)

    def note_missed(self) -> None:
        """Note that ops were lost before add(); from any thread."""
        with self._lock:
            self._missed = True

    def take(self, most: int) -> list[Op]:
        """Remove and return the next ops, at most ``most``."""
        with self._lock:
            taken = [self._ops.popleft() for _ in range(min(most, len(self._ops)))]
            self._len -= sum(op.cost for op in taken)
            if not self._ops:
                self._since = None
            return taken

    def take_missed(self) -> bool:
        """Return whether ops were lost since the last call."""
        with self._lock:
            missed, self._missed = self._missed, False
            return missed

    def watch_puts(self) -> None:
        """Begin to note the keys of PUT ops, for take_puts()."""
        with self._lock:
            self._put = set()

    def take_puts(self) -> set[str]:
        """Return the keys of PUT ops since watch_puts()."""
        with self._lock:
            put, self._put = self._put or set(), None
            return put

    def waiting(self) -> int:
        """Return the number of queued ops."""
        return len(self._ops)

    def is_half_full(self) -> bool:
        """Return whether ops take half of what the queue may hold."""
        return 2 * self._len > self._most

    def age(self, now: float) -> float:
        """Return an upper bound of the seconds that the oldest op has waited; 0 where none waits."""
        since = self._since
        return 0.0 if since is None else now - since
