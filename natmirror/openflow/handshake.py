"""The least that a switch can send to a controller to learn that it is alive: HELLO, and an ECHO_REQUEST.

No features are sent, so the controller knows no switch of ours. That the controller's kernel takes connections is not
enough: only the program itself answers an ECHO.
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
    """One connection's handshake: the controller's bytes go into receive(), what it returns is to be sent."""

    def __init__(self) -> None:
        self.version: int | None = None
        """The version that both HELLOs agree on."""
        self.is_answered = False
        """Whether the ECHO has come back."""
        self._framer = Framer()
        self._received_len = 0
        self._hello = build(V15, Type.HELLO, _HELLO_XID, _BITMAP.pack(1, 8, sum(1 << version for version in VERSIONS)))

    @property
    def awaited(self) -> str:
        """The message that is awaited from the controller."""
        return "HELLO" if self.version is None else "ECHO_REPLY"

    def begin(self) -> bytes:
        """Return what to send first."""
        return self._hello

    def receive(self, data: bytes) -> bytes:
        """Return what to send back; Broken where the controller speaks no OpenFlow version that is known here."""
        self._received_len += len(data)
        if self._received_len > _MAX_LEN:
            raise Broken(EndReason.BAD_LENGTH)
        return b"".join(self._answer(parse(raw)) for raw in self._framer.push(data))

    def _answer(self, message: Message) -> bytes:
        if message.kind == Type.ERROR:  # where it knows none of our versions, its xid is any
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
