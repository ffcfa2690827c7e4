"""The statements about judged connections: what a packet thread lets the judges know, as bytes.

Each connection has a number, which is never used again, and each of its mirrors an index. A statement is a head and its
data: a whole message, or JSON. The statements of a connection are in the order in which things have happened.
"""

import json
from collections.abc import Iterator, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

_HEAD = Struct("<IBBHId")  # length of the data, kind, flag, index of the mirror, number, time
HEAD_LEN = _HEAD.size
_ASKED = Struct("<IIB")
_LEN = Struct("<I")


class StatementKind(IntEnum):
    """The kind of a statement. Those about a mirror have its index."""

    OPENED = 1
    """A connection is judged from now on. JSON: service, client, holder, version; ``is_late``: its beginning was not
    seen."""
    NAMED = 2
    """A mirror of it is judged. JSON: mirror, its name; address, with the port."""
    SESSION_OPENED = 3
    """A session with the mirror was opened: if the connection is not followed any more, another judge begins."""
    JOINED = 4
    """The master has begun its session. JSON: warm_up, is_open, has_session."""
    FROM_SWITCH = 5
    """A message of the switch."""
    FROM_CONTROLLER = 6
    """A message of production's controller."""
    FROM_MASTER = 7
    """A message of the mirror's master."""
    TOLD = 8
    """The master has got this message of the switch."""
    WITHHELD = 9
    """The master does not get this message of the switch; flag: it wants such messages."""
    MISSED = 10
    """Bytes of the switch or of its controller are missing."""
    LOST = 11
    """Statements about messages are missing from here on; flag: because the judges are behind, else memory is short."""
    LEG_ENDED = 12
    """The mirror has no session now."""
    ENDED = 13
    """The session has ended, after all bytes of the master. JSON: reason, is_fault."""
    REMOVED = 14
    """The mirror is not judged any more."""
    SWITCH_KNOWN = 15
    """The switch's datapath id. JSON."""
    CLOSED = 16
    """The connection is not judged any more; flag: after what is due has been reported."""
    ASKED = 17
    """The master asks for statistics of its rules: see ask()."""


class Statement(NamedTuple):
    """A statement; ``mirror`` is an index."""

    kind: StatementKind
    number: int
    at: float
    mirror: int
    flag: bool
    data: bytes

    def values(self) -> Any:
        """Return the data of a statement with JSON."""
        return json.loads(self.data)


def head(kind: StatementKind, number: int, at: float, length: int, mirror: int = 0, *, flag: bool = False) -> bytes:
    """Return the head of a statement with ``length`` bytes of data."""
    return _HEAD.pack(length, kind, flag, mirror, number, at)


def encode(values: Any) -> bytes:
    """Return values as the data of a statement."""
    return json.dumps(values).encode()


class Asked(NamedTuple):
    """A master's question for statistics, to be answered from the tables that its own orders have made."""

    session: int
    number: int
    """The question's number in its session."""
    n_tables: int
    question: bytes
    """The message."""
    tables: tuple[bytes, ...]
    """What the switch has answered for table statistics."""


def ask(asked: Asked) -> bytes:
    """Return a question as the data of a statement."""
    parts = [asked.question, *asked.tables]
    return _ASKED.pack(asked.session, asked.number, asked.n_tables) + b"".join(
        _LEN.pack(len(part)) + part for part in parts
    )


def asked_of(data: bytes) -> Asked:
    """Return the question in the data of a statement."""
    session, number, n_tables = _ASKED.unpack_from(data)
    question, *tables = _split(data, _ASKED.size)
    return Asked(session, number, n_tables, question, tuple(tables))


def _split(data: bytes, at: int) -> Iterator[bytes]:
    while at < len(data):
        (length,) = _LEN.unpack_from(data, at)
        at += _LEN.size
        yield data[at : at + length]
        at += length


class StatementReader:
    """Reads statements from the pieces of a stream."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def push(self, pieces: Sequence[bytes]) -> None:
        """Take the next bytes."""
        self._data = b"".join((self._data[self._at :], *pieces))
        self._at = 0

    @property
    def unread_len(self) -> int:
        """Bytes that wait for next()."""
        return len(self._data) - self._at

    def next(self) -> Statement | None:
        """Return the next statement; None where it is not complete."""
        data, begins_at = self._data, self._at + HEAD_LEN
        if len(data) < begins_at:
            return None
        length, kind, flag, mirror, number, at = _HEAD.unpack_from(data, self._at)
        if len(data) < begins_at + length:
            return None
        self._at = begins_at + length
        return Statement(StatementKind(kind), number, at, mirror, bool(flag), data[begins_at : self._at])
