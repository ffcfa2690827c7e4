"""Cuts a byte stream, which comes in pieces of any size, into OpenFlow messages."""

from collections.abc import Iterator
from typing import Any

from natmirror.openflow.messages import HEADER, HEADER_LEN, TYPES, VERSIONS, Type
from natmirror.reasons import EndReason

_TLS_HANDSHAKE, _TLS_MAJOR = 0x16, 0x03  # RFC 8446 §5.1
_HELLO_VERSIONS = range(1, 32)  # those that a bitmap has room for
_ENOUGH = 256
"""Messages in a row that prove where a message begins: the rest of the piece is not checked."""
_NOTHING: Any = b""  # shared, since most framers have no incomplete message


class Broken(Exception):
    """The rest of the stream cannot be read, for ``reason``."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Framer:
    """The framer of one direction of a connection. It holds less than one message, so never 64 KiB."""

    def __init__(self, *, is_picked_up: bool = False) -> None:
        """``is_picked_up``: the connection was picked up, and the framer has to find where a message begins."""
        self.version: int | None = None
        """The version that both ends have agreed on: a message in another one is an error."""
        self.seeks_start = is_picked_up
        self.skipped_bytes = 0
        """Bytes before the first recognised message."""
        self._rest: bytearray = _NOTHING
        self._is_first = not is_picked_up

    @property
    def held(self) -> int:
        """Bytes of an incomplete message."""
        return len(self._rest)

    def push(self, piece: bytes) -> Iterator[bytes]:
        """Yield the messages that are complete now. The caller has to take all of them before it pushes the next piece.

        While the framer seeks the start of a message, it begins at the first piece that consists of whole messages:
        senders flush at the end of a message. Broken where the bytes are not OpenFlow, after the messages before them.
        """
        if self.seeks_start:
            if not self._is_whole(piece):
                self.skipped_bytes += len(piece)
                return
            self.seeks_start = False
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
            self._rest = bytearray(data[at : at + HEADER_LEN])  # the next call raises Broken again
            raise
        if data is piece:
            self._rest = bytearray(data[at:]) if at < len(data) else _NOTHING
        else:
            del self._rest[:at]
        if self._is_first and self._rest[:1] and not at:
            self._check_first(self._rest)

    def note_gap(self) -> None:
        """Note that bytes are missing here: seek the start of the next message."""
        self._rest = _NOTHING
        self.seeks_start = True
        self._is_first = False

    def _check(self, data: bytes | bytearray, at: int) -> None:
        """Check the header at ``at``, which is the first one or unusual."""
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
        """Check the first bytes: each end begins with a HELLO (1.3.5 §6.3.1), or with a ClientHello over TLS."""
        if data[0] == _TLS_HANDSHAKE and data[1:2] in (b"", bytes((_TLS_MAJOR,))):
            if len(data) > 1:
                raise Broken(EndReason.TLS)
        elif data[0] not in _HELLO_VERSIONS or data[1:2] not in (b"", bytes((Type.HELLO,))):
            raise Broken(EndReason.NOT_OPENFLOW)

    def _is_whole(self, piece: bytes) -> bool:
        """Return whether the piece may consist of whole messages, none of them a HELLO, whose version may differ."""
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
