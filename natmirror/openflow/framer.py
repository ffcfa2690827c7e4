"""Messages out of a byte stream that comes in pieces of any size."""

from collections.abc import Iterator
from typing import Any

from natmirror.openflow.messages import HEADER, HEADER_LEN, TYPES, VERSIONS, Type
from natmirror.reasons import EndReason

_TLS_HANDSHAKE, _TLS_MAJOR = 0x16, 0x03  # RFC 8446 §5.1
_HELLO_VERSIONS = range(1, 32)  # what a bitmap has room for
_ENOUGH = 256
"""Messages in a row that show where one begins, whatever follows them: no piece is looked through further."""
_NOTHING: Any = b""  # what most framers hold back


class Broken(Exception):
    """The stream cannot be followed any further; ``reason`` says why."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Framer:
    """One direction of a connection. It holds back less than one message, so never 64 KiB."""

    def __init__(self, *, in_middle: bool = False) -> None:
        """``in_middle``: the stream was picked up, and has to show where a message begins."""
        self.version: int | None = None
        """What both ends have agreed on: from then on no other is a message's."""
        self.in_middle = in_middle
        self.skipped_bytes = 0
        """Bytes before the first message that was recognised."""
        self._rest: bytearray = _NOTHING
        self._is_first = not in_middle

    @property
    def held(self) -> int:
        """Bytes held back for the rest of their message."""
        return len(self._rest)

    def push(self, piece: bytes) -> Iterator[bytes]:
        """Give the messages that are whole now, one by one: each is looked for when it is asked for. All have to be
        taken before the next piece comes.

        Where the stream was met in its middle, a piece counts that consists of whole messages: those who send it flush
        at their ends. Broken where this is no OpenFlow, or cannot be, once what is whole before has come out.
        """
        if self.in_middle:
            if not self._is_whole(piece):
                self.skipped_bytes += len(piece)
                return
            self.in_middle = False
        data: bytes | bytearray = piece
        if self._rest:
            self._rest += piece
            data = self._rest
        at = 0
        try:
            while len(data) - at >= HEADER_LEN:
                version, _, length, _ = HEADER.unpack_from(data, at)
                if version != self.version or length < HEADER_LEN or self._is_first:
                    self._check(data, at)
                if len(data) - at < length:
                    break
                at += length
                yield bytes(data[at - length : at])
        except Broken:
            self._rest = bytearray(data[at : at + HEADER_LEN])  # it is as broken the next time
            raise
        if data is piece:
            self._rest = bytearray(data[at:]) if at < len(data) else _NOTHING
        else:
            del self._rest[:at]
        if self._is_first and self._rest[:1] and not at:
            self._check_first(self._rest)

    def lose_place(self) -> None:
        """Note that bytes are missing from here on: the next message has to be found again."""
        self._rest = _NOTHING
        self.in_middle = True
        self._is_first = False

    def _check(self, data: bytes | bytearray, at: int) -> None:
        """Look closer at the header at ``at``."""
        version, number, length, _ = HEADER.unpack_from(data, at)
        if self._is_first:
            self._check_first(data)
            self._is_first = False
        if length < HEADER_LEN:
            raise Broken(EndReason.BAD_LENGTH)
        if number != Type.HELLO and number != Type.ERROR and version != self.version and self.version is not None:
            raise Broken(EndReason.BAD_VERSION)
        if version not in VERSIONS and number not in (Type.HELLO, Type.ERROR):
            raise Broken(EndReason.BAD_VERSION)

    def _check_first(self, data: bytes | bytearray) -> None:
        """Each end begins with a HELLO (1.3.5 §6.3.1); or with a ClientHello where TLS is spoken."""
        if data[0] == _TLS_HANDSHAKE and data[1:2] in (b"", bytes((_TLS_MAJOR,))):
            if len(data) > 1:
                raise Broken(EndReason.TLS)
        elif data[0] not in _HELLO_VERSIONS or data[1:2] not in (b"", bytes((Type.HELLO,))):
            raise Broken(EndReason.NOT_OPENFLOW)

    def _is_whole(self, piece: bytes) -> bool:
        """Return whether it may be whole messages. A HELLO does not count: it may be of another version."""
        at, count, versions = 0, 0, {self.version} if self.version else set(VERSIONS)
        while len(piece) - at >= HEADER_LEN and count < _ENOUGH:
            version, number, length, _ = HEADER.unpack_from(piece, at)
            types = TYPES.get(version, ())
            if version not in versions or length < HEADER_LEN or number >= len(types) or types[number] is None:
                return False
            if number == Type.HELLO:
                return False
            versions = {version}
            at += length
            count += 1
        if at > len(piece) or (at != len(piece) and count < _ENOUGH) or not piece:
            return False
        self.version = versions.pop()
        return True
