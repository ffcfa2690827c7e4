"""The statements of an engine for the process of its judges (openflow/comparison/statements.py), until they are sent.

Nothing is copied: the queue keeps the bytes of messages that have been framed anyway. Its memory is bounded, and counts
for the client whose connection it is. What has no room is left out, and a statement says so: the judge of that
connection follows no tables from there on. If even the statements that cannot be left out have no room, the queue is
closed, and judges begin again in another process.
"""

from collections import Counter, deque
from itertools import islice

from natmirror.fastpath import NO_HOLDER, ClientMemory
from natmirror.openflow.comparison.statements import StatementKind, head

FLUSH_INTERVAL = 0.05
"""Seconds that a statement waits for others, at most."""
_MAX_LEN = 4 << 20  # bytes that wait, including Python's overhead; then messages are left out
_MAX_LEN_OF_ALL = 8 << 20  # the same with statements that cannot be left out
_FLUSH_LEN = 64 << 10  # bytes after which they are sent at once
_COST = 250  # bytes of Python's overhead for a statement
_MAX_PARTS = 512  # of one call to the kernel, which takes 1,024 at most


class StatementQueue:
    """The statements of one engine. It is closed until open()."""

    def __init__(self, memory: ClientMemory) -> None:
        self.is_open = False
        self.first_number = 1
        """The number of the first connection of the present process: those before it were another's."""
        self.held = Counter[int]()
        """The bytes that wait, by client."""
        self.left_out = 0
        """Messages that had no room, since natmirror began."""
        self.is_behind = False
        """Whether the latest one had none because too much waits; else memory was short."""
        self._memory = memory
        self._next_number = 1
        self._waiting: deque[tuple[bytes, bytes, int]] = deque()  # head, data, and holder
        self._len = 0
        self._sent = 0  # bytes of the first statement
        self._began_at: float | None = None
        self._is_urgent = False

    def open(self) -> None:
        """Begin, for a process that knows nothing yet."""
        self.close()
        self.first_number = self._next_number
        self.is_open = True

    def close(self) -> None:
        """Forget all statements, and take none: there is no process."""
        for holder, count in self.held.items():
            self._memory.give(holder, count)
        self.held.clear()
        self._waiting.clear()
        self._len = self._sent = 0
        self._began_at, self._is_urgent, self.is_open = None, False, False

    def new_number(self) -> int:
        """Return the number of a connection that is judged from now on."""
        number = self._next_number
        self._next_number += 1
        return number

    def add(
        self,
        kind: StatementKind,
        number: int,
        at: float,
        data: bytes = b"",
        mirror: int = 0,
        *,
        flag: bool = False,
        holder: int = NO_HOLDER,
        is_message: bool = False,
    ) -> bool:
        """Append a statement; return False if it has no room. A message is left out then; else the queue is closed.
        A message counts for the client ``holder``."""
        if not self.is_open:
            return False
        cost = len(data) + _COST
        most, take = (_MAX_LEN, self._memory.take) if is_message else (_MAX_LEN_OF_ALL, self._memory.take_urgently)
        is_behind = self._len + cost > most
        if is_behind or not take(holder, cost):
            if is_message:
                self.left_out += 1
                self.is_behind = is_behind
            else:
                self.close()
            return False
        self.held[holder] += cost
        self._len += cost
        self._waiting.append((head(kind, number, at, len(data), mirror, flag=flag), data, holder))
        if self._began_at is None:
            self._began_at = at
        self._is_urgent |= kind is StatementKind.ASKED or self._len >= _FLUSH_LEN
        return True

    def due_at(self) -> float | None:
        """Return when statements have to be sent; None where none waits."""
        if self._began_at is None or self._is_urgent:
            return self._began_at
        return self._began_at + FLUSH_INTERVAL

    def parts(self) -> list[bytes]:
        """Return the next bytes to send, as parts for one call."""
        found = [part for first, data, _ in islice(self._waiting, _MAX_PARTS) for part in (first, data) if part]
        sent = self._sent
        while sent >= len(found[0]):
            sent -= len(found.pop(0))
        found[0] = found[0][sent:]
        return found

    def sent(self, count: int) -> None:
        """Note that ``count`` bytes have been sent."""
        count += self._sent
        while self._waiting and count >= (length := len(self._waiting[0][0]) + len(self._waiting[0][1])):
            count -= length
            _, data, holder = self._waiting.popleft()
            cost = len(data) + _COST
            self._memory.give(holder, cost)
            self._len -= cost
            self.held[holder] -= cost
            if not self.held[holder]:
                del self.held[holder]
        self._sent = count
        if not self._waiting:
            self._began_at, self._is_urgent = None, False
