"""Recordings of masters' orders: pcap files with each order as packets from the master to its switch.

These packets were never on a wire. They have the addresses and ports of the connection, and sequence numbers that count
the bytes of the session's orders, so that programs for captures can read the messages.

While a disk is full or does not answer, its orders wait in memory, and are written later. If they get too many, the
oldest are dropped, and counted.
"""

import threading
import time
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from natmirror.actions import Order
from natmirror.errors import CaptureError
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import ACK, PSH
from natmirror.rules import Rules
from natmirror.runtime.recording import Recording

MAX_WAITING_LEN = 32 << 20
"""Bytes of orders that wait, with Python's overhead; beyond that the oldest are dropped."""
_ORDER_COST = 400  # bytes of Python's overhead for an order
_WINDOW = 0xFFFF
_APPEND_LEN = 1 << 20  # bytes of orders that are appended at once


@dataclass(frozen=True, slots=True)
class _Waiting:
    at: float
    master: Endpoint
    order: Order

    @property
    def cost(self) -> int:
        return len(self.order.message) + _ORDER_COST

    def packets(self) -> list[tuple[float, bytes]]:
        packets = []
        for start in range(0, len(self.order.message), _WINDOW // 2):
            packet = build(
                self.master,
                self.order.client,
                seq=(1 + self.order.offset + start) & 0xFFFF_FFFF,
                ack=1,
                flags=ACK | PSH,
                window=_WINDOW,
                payload=self.order.message[start : start + _WINDOW // 2],
            )
            packets.append((self.at, packet))
        return packets


@dataclass(slots=True)
class OrderFile:
    """One recording, and the orders that wait for it."""

    recording: Recording
    waiting: deque[_Waiting] = field(default_factory=deque)
    lost: int = 0
    """Orders that were dropped because too many waited."""
    error: str | None = None
    """Why the last append() failed; None if it did not."""
    is_appending: bool = False


class OrderRecorder:
    """The recordings of all masters whose orders are recorded, from the first reload() on. Any thread may add(); a
    single thread calls the other methods, which may wait for the disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held while a disk is asked
        self._waiting_len = 0
        self._files: dict[Path, OrderFile] = {}
        self._by_master: dict[tuple[str, str], tuple[Endpoint, OrderFile]] = {}

    @property
    def files(self) -> dict[Path, OrderFile]:
        """The present files; from any thread."""
        return self._files

    def reload(self, rules: Rules) -> None:
        """Record by these rules from now on; continue the files that the rules still name. CaptureError where a new
        file cannot be created: then nothing has changed."""
        sessions = {(one.name, mirror.name): mirror for one in rules.services for mirror in one.sessions}
        paths = {key: mirror.record for key, mirror in sessions.items() if mirror.record is not None}
        files = {path: file for path, file in self._files.items() if path in paths.values()}
        with ExitStack() as undone:
            for path in set(paths.values()) - files.keys():
                files[path] = OrderFile(undone.enter_context(closing(Recording(path))))
            undone.pop_all()
        removed = [file for path, file in self._files.items() if path not in files]
        with self._lock:
            self._files = files
            self._by_master = {key: (endpoint_of(sessions[key]), files[path]) for key, path in paths.items()}
            self._waiting_len -= sum(one.cost for file in removed for one in file.waiting)
        for file in removed:
            file.recording.close()

    def close(self) -> None:
        """Close all files."""
        self._by_master = {}
        for file in self._files.values():
            file.recording.close()

    def add(self, orders: list[Order]) -> None:
        """Add orders that masters have just given."""
        now = time.time()
        with self._lock:
            for order in orders:
                if (found := self._by_master.get((order.service, order.mirror))) is not None:
                    master, file = found
                    file.waiting.append(_Waiting(now, master, order))
                    self._waiting_len += file.waiting[-1].cost
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop orders of the file for which most wait, until the others have room."""
        while self._waiting_len > MAX_WAITING_LEN:
            fullest = max(self._files.values(), key=lambda file: len(file.waiting))
            self._waiting_len -= fullest.waiting.popleft().cost
            fullest.lost += 1

    def write(self) -> None:
        """Write all waiting orders. CaptureError where a file fails: its orders wait on, if there is room."""
        for path, file in self._files.items():
            file.is_appending = True
            try:
                self._write_file(file)
                file.error = None
            except CaptureError as error:
                file.error = str(error).removeprefix(f"{path}: ")
            file.is_appending = False
        if errors := [f"{path}: {file.error}" for path, file in self._files.items() if file.error is not None]:
            raise CaptureError("; ".join(errors))

    def _write_file(self, file: OrderFile) -> None:
        taken = self._take(file)
        while True:
            try:
                file.recording.append(packet for one in taken for packet in one.packets())
            except CaptureError:
                with self._lock:
                    file.waiting.extendleft(reversed(taken))
                    self._waiting_len += sum(one.cost for one in taken)
                    self._drop_oldest()
                raise
            if not (taken := self._take(file)):
                return

    def _take(self, file: OrderFile) -> list[_Waiting]:
        """Remove and return the oldest waiting orders of a file."""
        taken, count = [], 0
        with self._lock:
            while file.waiting and count < _APPEND_LEN:
                taken.append(file.waiting.popleft())
                count += taken[-1].cost
            self._waiting_len -= count
        return taken
