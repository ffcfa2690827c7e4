"""Messages out of a byte stream that comes in pieces of any size."""

from natmirror.openflow.wire import HEADER, HEADER_LEN, TYPES, VERSIONS, Type

_TLS_HANDSHAKE, _TLS_MAJOR = 0x16, 0x03  # RFC 8446 §5.1
_HELLO_VERSIONS = range(1, 32)  # what a bitmap has room for


class Broken(Exception):
    """The stream cannot be followed any further; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Framer:
    """One direction of a connection. It holds back less than one message, so never 64 KiB."""

    def __init__(self, *, in_middle: bool = False) -> None:
        """``in_middle``: the stream was met somewhere, and has to show where a message begins."""
        self.version: int | None = None
        """What both ends have agreed on: from then on no other is a message's."""
        self.in_middle = in_middle
        self.skipped_bytes = 0
        """Bytes before the first message that was recognised."""
        self._rest = b""
        self._is_first = not in_middle

    @property
    def held(self) -> int:
        """Bytes held back for the rest of their message."""
        return len(self._rest)

    def push(self, piece: bytes) -> list[bytes]:
        """The messages that are whole now. Where the stream was met in its middle, a piece counts that consists of
        whole messages: those who send it flush at their ends. Broken where this is no OpenFlow, or cannot be; what is
        whole before comes out first, and Broken with the next piece."""
        if self.in_middle:
            if not self._is_whole(piece):
                self.skipped_bytes += len(piece)
                return []
            self.in_middle = False
        data = self._rest + piece if self._rest else piece
        out: list[bytes] = []
        at, end = 0, len(data)
        try:
            while end - at >= HEADER_LEN:
                version, _, length, _ = HEADER.unpack_from(data, at)
                if version != self.version or length < HEADER_LEN or self._is_first:
                    self._check(data, at)
                if end - at < length:
                    break
                out.append(data[at : at + length])
                at += length
        except Broken:
            self._rest = data[at : at + HEADER_LEN]  # it is as broken the next time
            if not out:
                raise
            return out
        self._rest = data[at:]
        if self._is_first and self._rest[:1] and not out:
            self._check_first(self._rest)
        return out

    def lose_place(self) -> None:
        """Bytes are missing from here on: the next message has to be found again."""
        self._rest = b""
        self.in_middle = True
        self._is_first = False

    def _check(self, data: bytes, at: int) -> None:
        """Look closer at the header at ``at``."""
        version, number, length, _ = HEADER.unpack_from(data, at)
        if self._is_first:
            self._check_first(data)
            self._is_first = False
        if length < HEADER_LEN:
            raise Broken("of-length")
        if number != Type.HELLO and number != Type.ERROR and version != self.version and self.version is not None:
            raise Broken("of-version")
        if version not in VERSIONS and number not in (Type.HELLO, Type.ERROR):
            raise Broken("of-version")

    def _check_first(self, data: bytes) -> None:
        """Each end begins with a HELLO (1.3.5 §6.3.1); or with a ClientHello where TLS is spoken."""
        if data[0] == _TLS_HANDSHAKE and data[1:2] in (b"", bytes((_TLS_MAJOR,))):
            if len(data) > 1:
                raise Broken("tls")
        elif data[0] not in _HELLO_VERSIONS or data[1:2] not in (b"", bytes((Type.HELLO,))):
            raise Broken("not-openflow")

    def _is_whole(self, piece: bytes) -> bool:
        """Whether it can well be a number of whole messages. A HELLO does not count: it may be of another version."""
        at, versions = 0, {self.version} if self.version else set(VERSIONS)
        while len(piece) - at >= HEADER_LEN:
            version, number, length, _ = HEADER.unpack_from(piece, at)
            types = TYPES.get(version, ())
            if version not in versions or length < HEADER_LEN or number >= len(types) or types[number] is None:
                return False
            if number == Type.HELLO:
                return False
            versions = {version}
            at += length
        if not piece or at != len(piece):
            return False
        self.version = versions.pop()
        return True
