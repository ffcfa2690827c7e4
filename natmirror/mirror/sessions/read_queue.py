"""What is to be read of connections and masters, in its order, until there is time for it.

C puts there what both ends of a connection send, and what masters say; Python puts between that what C does not see. It
is read after the verdicts of the packets that brought it, and held for no longer than memory allows.
"""

from collections import Counter, deque
from enum import IntEnum

from natmirror.fastpath import READ_MIRROR, READ_ORIG, READ_REPLY, Gear

_MAX_LEN = 16 << 20  # bytes that wait, by all that they cost; what comes then is not read
_RESERVE = 4 << 20  # bytes besides, for streams of which little waits, since others may take long to read
_LITTLE = 64 << 10
_ENTRY_COST = 200  # bytes that Python's own bookkeeping takes for an entry


class ReadEvent(IntEnum):
    """What an entry is; ``of`` is the number of a flow, for the last three of a session."""

    ORIG = READ_ORIG
    """The next of what a switch has sent."""
    REPLY = READ_REPLY
    """The next of what its controller has sent."""
    MASTER = READ_MIRROR
    """The next of what a master has sent; nothing: it has closed its side."""
    OPENED = 3
    FINISHED = 4
    """The client has closed its side, and everything before has been read."""
    RESET = 5
    FORGOTTEN = 6
    """The flow has left the table."""
    ORIG_LOST = 7
    """Bytes of the switch's are missing here that its controller has."""
    REPLY_LOST = 8
    MASTER_LOST = 9
    ENDED = 10
    """The session's leg is over."""


_LOST = {
    ReadEvent.ORIG: ReadEvent.ORIG_LOST,
    ReadEvent.REPLY: ReadEvent.REPLY_LOST,
    ReadEvent.MASTER: ReadEvent.MASTER_LOST,
}


class ReadQueue:
    """All that waits to be read in one engine."""

    def __init__(self, gear: Gear) -> None:
        self._gear = gear
        self._waiting: deque[tuple[ReadEvent, int, bytes]] = deque()
        self._waiting_len = 0
        self._waiting_of: Counter[tuple[ReadEvent, int]] = Counter()  # the same by stream, without what entries cost
        self._lost: set[tuple[ReadEvent, int]] = set()  # streams of which nothing has come since some of it was lost

    def add(self, kind: ReadEvent, of: int, data: bytes = b"") -> None:
        """Put an entry behind all others."""
        if not self._gear.add_read(kind, of, data):
            self._fetch()
            self._append(kind, of, data)

    def take(self) -> tuple[ReadEvent, int, bytes]:
        """Take out the first entry, where something waits."""
        self._fetch()
        kind, of, data = self._waiting.popleft()
        self._lost.discard((kind, of))
        self._waiting_len -= len(data) + _ENTRY_COST
        if data:
            self._waiting_of[kind, of] -= len(data)
            if not self._waiting_of[kind, of]:
                del self._waiting_of[kind, of]
        return kind, of, data

    def clear(self) -> None:
        """Forget all that waits."""
        self._gear.take_read()
        self._waiting.clear()
        self._lost.clear()
        self._waiting_of.clear()
        self._waiting_len = 0

    @property
    def has_more(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting) or self._gear.has_read

    def _fetch(self) -> None:
        """What the gear holds is taken over: its room is for the next batch."""
        for kind, of, data in self._gear.take_read():
            self._append(ReadEvent(kind), of, data)

    def _append(self, kind: ReadEvent, of: int, data: bytes) -> None:
        if data:
            limit = _MAX_LEN + (_RESERVE if self._waiting_of[kind, of] + len(data) <= _LITTLE else 0)
            if self._waiting_len + len(data) > limit:
                kind, data = _LOST[kind], b""
            else:
                self._waiting_of[kind, of] += len(data)
        if kind in _LOST.values():
            if (kind, of) in self._lost:
                return
            self._lost.add((kind, of))
        elif kind in _LOST:
            self._lost.discard((_LOST[kind], of))  # what is lost after this has to be told once more
        self._waiting.append((kind, of, data))
        self._waiting_len += len(data) + _ENTRY_COST
