"""The shortest exchange that shows that a controller is alive: HELLO and ECHO_REQUEST.

It sends no features, so the controller does not learn of a switch. A connection that the controller's kernel accepts is
not enough: only the program itself answers an ECHO.
"""

from struct import Struct

from natmirror.openflow.framer import Broken, Framer
from natmirror.openflow.messages import V15, VERSIONS, Message, Type, build, negotiated, parse
from natmirror.reasons import EndReason

_HELLO_XID, _ECHO_XID = 1, 2
_MAX_LEN = 1 << 16  # controllers send some hundred bytes before they know the switch
_BITMAP = Struct("!HHI")  # 1.3.5 §7.5.1


class HelloRefused(Exception):
    """The controller has answered our HELLO with an ERROR: it knows none of our versions."""


class Handshake:
    """The handshake of one connection: the caller passes the controller's bytes to receive(), and sends what it
    returns."""

    def __init__(self) -> None:
        self.version: int | None = None
        """The version that both HELLOs agree on."""
        self.is_answered = False
        """Whether the ECHO_REPLY has come."""
        self._framer = Framer()
        self._received_len = 0
        self._hello = build(V15, Type.HELLO, _HELLO_XID, _BITMAP.pack(1, 8, sum(1 << version for version in VERSIONS)))

    @property
    def awaited(self) -> str:
        """The name of the message that is awaited from the controller."""
        return "HELLO" if self.version is None else "ECHO_REPLY"

    def begin(self) -> bytes:
        """Return the first bytes to send."""
        return self._hello

    def receive(self, data: bytes) -> bytes:
        """Return the bytes to send next; Broken where the controller speaks no OpenFlow version known here."""
        self._received_len += len(data)
        if self._received_len > _MAX_LEN:
            raise Broken(EndReason.BAD_LENGTH)
        return b"".join(self._answer(parse(raw)) for raw in self._framer.push(data))

    def _answer(self, message: Message) -> bytes:
        if message.kind == Type.ERROR:  # its xid may be any, if the controller knows none of our versions
            raise HelloRefused
        if self.version is None:
            return self._agree(message)
        if message.kind == Type.ECHO_REPLY and message.xid == _ECHO_XID:
            self.is_answered = True
        elif message.kind == Type.ECHO_REQUEST:
            return build(self.version, Type.ECHO_REPLY, message.xid, message.body)
        return b""

    def _agree(self, hello: Message) -> bytes:
        self.version = negotiated(parse(self._hello), hello)
        if self.version not in VERSIONS:
            raise Broken(EndReason.BAD_VERSION)
        self._framer.version = self.version
        return build(self.version, Type.ECHO_REQUEST, _ECHO_XID)
