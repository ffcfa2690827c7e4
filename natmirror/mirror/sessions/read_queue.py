"""The queue of bytes that switches, controllers and masters have sent and that are still to be read.

C adds the bytes that both ends of a connection and the masters send; Python adds in between the events that C does not
see. The queue is read after the verdicts on the packets that carried the bytes. Its memory is bounded, and counts for
the client whose connection it is: bytes beyond the limits are not read.
"""

from collections import Counter, deque
from enum import IntEnum

from natmirror.fastpath import NO_HOLDER, READ_MIRROR, READ_ORIG, READ_REPLY, Gear

_MAX_LEN = 16 << 20  # bytes that wait, including Python's overhead; later ones are lost
_RESERVE = 4 << 20  # bytes in addition, for streams with few bytes in the queue: reading the others may take long
_LITTLE = 64 << 10
_ENTRY_COST = 200  # bytes of Python's overhead for an entry


class ReadEvent(IntEnum):
    """The kind of an entry; its ``of`` is the number of a session for MASTER, MASTER_LOST and ENDED, else of a flow."""

    ORIG = READ_ORIG
    """The next bytes of a switch."""
    REPLY = READ_REPLY
    """The next bytes of its controller."""
    MASTER = READ_MIRROR
    """The next bytes of a master; none: it has closed its side."""
    OPENED = 3
    FINISHED = 4
    """The client has closed its side; all bytes before that have been read."""
    RESET = 5
    FORGOTTEN = 6
    """The flow has left the table."""
    ORIG_LOST = 7
    """The controller has bytes of the switch that are missing here."""
    REPLY_LOST = 8
    MASTER_LOST = 9
    ENDED = 10
    """The session's leg has ended."""
    ORIG_AMBIGUOUS = 11
    """The switch has sent two versions of a byte, and it is unknown which one its controller has."""


READ = frozenset((ReadEvent.ORIG, ReadEvent.REPLY, ReadEvent.ORIG_LOST, ReadEvent.REPLY_LOST, ReadEvent.ORIG_AMBIGUOUS))
"""The events that an observer follows."""
_LOST = {
    ReadEvent.ORIG: ReadEvent.ORIG_LOST,
    ReadEvent.REPLY: ReadEvent.REPLY_LOST,
    ReadEvent.MASTER: ReadEvent.MASTER_LOST,
}


class ReadQueue:
    """The read queue of one engine."""

    def __init__(self, gear: Gear) -> None:
        self._gear = gear
        self._memory = gear.memory
        self._waiting: deque[tuple[ReadEvent, int, bytes, int]] = deque()
        self._waiting_len = 0
        self._waiting_of: Counter[tuple[ReadEvent, int]] = Counter()  # by stream, without Python's overhead
        self._lost: set[tuple[ReadEvent, int]] = set()  # streams that have lost bytes and got no entry since

    def add(self, kind: ReadEvent, of: int, data: bytes = b"", holder: int = NO_HOLDER) -> None:
        """Append an entry; its data counts for the client ``holder``."""
        if not self._gear.add_read(kind, of, data, holder):
            self._fetch()
            self._append(kind, of, data, holder)

    def take(self) -> tuple[ReadEvent, int, bytes]:
        """Remove and return the first entry; there has to be one."""
        self._fetch()
        kind, of, data, holder = self._waiting.popleft()
        self._lost.discard((kind, of))
        self._waiting_len -= len(data) + _ENTRY_COST
        if data:
            self._memory.give(holder, len(data) + _ENTRY_COST)
            self._waiting_of[kind, of] -= len(data)
            if not self._waiting_of[kind, of]:
                del self._waiting_of[kind, of]
        return kind, of, data

    def clear(self) -> None:
        """Remove all entries."""
        self._gear.take_read()
        for *_, data, holder in self._waiting:
            if data:
                self._memory.give(holder, len(data) + _ENTRY_COST)
        self._waiting.clear()
        self._lost.clear()
        self._waiting_of.clear()
        self._waiting_len = 0

    @property
    def has_more(self) -> bool:
        return bool(self._waiting) or self._gear.has_read

    def _fetch(self) -> None:
        """Move the entries that the C gear holds here: its buffer is for the next batch."""
        for kind, of, data, holder in self._gear.take_read():
            self._append(ReadEvent(kind), of, data, holder)

    def _append(self, kind: ReadEvent, of: int, data: bytes, holder: int) -> None:
        if data:
            limit = _MAX_LEN + (_RESERVE if self._waiting_of[kind, of] + len(data) <= _LITTLE else 0)
            if self._waiting_len + len(data) > limit or not self._memory.take_urgently(holder, len(data) + _ENTRY_COST):
                kind, data = _LOST[kind], b""
            else:
                self._waiting_of[kind, of] += len(data)
        if kind in _LOST.values():
            if (kind, of) in self._lost:
                return
            self._lost.add((kind, of))
        elif kind in _LOST:
            self._lost.discard((_LOST[kind], of))  # a later loss is reported again
        self._waiting.append((kind, of, data, holder))
        self._waiting_len += len(data) + _ENTRY_COST
