"""Recordings of masters' orders: pcap files with each order as packets from the master to its switch.

These packets were never on a wire. They have the addresses and ports of the connection, and sequence numbers that count
the bytes of the session's orders, so that programs for captures can read the messages.
"""

import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path

from natmirror.actions import Order
from natmirror.errors import CaptureError
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import ACK, PSH
from natmirror.replay.capture import Writer
from natmirror.rules import Rules

MAX_WAITING_LEN = 32 << 20
"""Bytes of orders that wait, with Python's overhead; beyond that the oldest are dropped."""
_ORDER_COST = 400  # bytes of Python's overhead for an order
_WINDOW = 0xFFFF


class OrderRecorder:
    """The recordings of all masters whose orders are recorded, from the first reload() on. Any thread may add(); a
    single thread calls the other methods, which may wait for the disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held longer than it takes to append to the deque
        self._waiting: deque[tuple[float, Order]] = deque()
        self._waiting_len = 0
        self._mirrors: dict[tuple[str, str], Endpoint] = {}
        self._files: dict[Path, Writer] = {}
        self._writers: dict[tuple[str, str], Writer] = {}

    def reload(self, rules: Rules) -> None:
        """Record by these rules from now on; continue the files that the rules still name. CaptureError where a new
        file cannot be created: then nothing has changed."""
        sessions = {(one.name, mirror.name): mirror for one in rules.services for mirror in one.sessions}
        paths = {key: mirror.record for key, mirror in sessions.items() if mirror.record is not None}
        with ExitStack() as undone:
            fresh = {
                path: undone.enter_context(Writer(path)) for path in set(paths.values()) if path not in self._files
            }
            undone.pop_all()
        before, self._files = self._files, {**self._files, **fresh}
        self._mirrors = {key: endpoint_of(mirror) for key, mirror in sessions.items()}
        self._writers = {key: self._files[path] for key, path in paths.items()}
        for path in before.keys() - set(paths.values()):
            self._close(path)

    def close(self) -> None:
        """Close all files."""
        self._writers.clear()
        for path in list(self._files):
            self._close(path)

    def _close(self, path: Path) -> None:
        with suppress(CaptureError):  # the log already says that the file cannot be written
            self._files.pop(path).close()

    def add(self, orders: list[Order]) -> None:
        """Add orders that masters have just given."""
        now = time.time()
        with self._lock:
            for order in orders:
                self._waiting.append((now, order))
                self._waiting_len += len(order.message) + _ORDER_COST
            while self._waiting_len > MAX_WAITING_LEN:
                self._take()

    def _take(self) -> tuple[float, Order]:
        """Remove and return the oldest order."""
        at, order = self._waiting.popleft()
        self._waiting_len -= len(order.message) + _ORDER_COST
        return at, order

    def write(self) -> None:
        """Write all waiting orders. CaptureError where a file fails; that master's orders are not recorded any more."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                at, order = self._take()
            names = (order.service, order.mirror)
            if (writer := self._writers.get(names)) is None:
                continue
            number = (1 + order.offset) & 0xFFFF_FFFF
            payload, ends = order.message, (self._mirrors[names], order.client)
            try:
                for start in range(0, len(payload), _WINDOW // 2):
                    piece = payload[start : start + _WINDOW // 2]
                    writer.write(
                        at, build(*ends, seq=number + start, ack=1, flags=ACK | PSH, window=_WINDOW, payload=piece)
                    )
            except CaptureError:
                del self._writers[names]
                raise
