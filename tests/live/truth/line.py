"""An OpenFlow connection with Open vSwitch over its management socket."""

import socket
from pathlib import Path
from struct import pack

from natmirror.openflow.framer import Framer
from natmirror.openflow.messages import (
    MORE,
    V10,
    V15,
    Message,
    Multipart,
    Type,
    build,
    hello,
    multipart_of,
    parse,
)

_NO_PORT, _ANY = 0xFFFF, 0xFFFF_FFFF
_V10_ALL_WILDCARDS = (1 << 22) - 1
_TIMEOUT = 10.0


class Line:
    """A connection in one version of OpenFlow."""

    def __init__(self, path: Path, version: int) -> None:
        self.version = version
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_TIMEOUT)
        self._socket.connect(str(path))
        self._framer = Framer()
        self._waiting: list[bytes] = []
        self._xid = 1 << 30  # above those of the orders
        self.send(hello(version, self._next_xid()))
        assert self._next().kind is Type.HELLO
        # On this socket Open vSwitch reports no removal before it has a length for PACKET_INs
        self.send(build(version, Type.SET_CONFIG, self._next_xid(), pack("!HH", 0, 128)))

    def close(self) -> None:
        self._socket.close()

    def _next_xid(self) -> int:
        self._xid += 1
        return self._xid

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def _next(self) -> Message:
        while not self._waiting:
            piece = self._socket.recv(1 << 16)
            assert piece, "the switch has closed the connection"
            self._waiting += self._framer.push(piece)
        return parse(self._waiting.pop(0))

    def _read_until(self, kind: Type, xid: int) -> list[Message]:
        """Return the messages up to the answer to a question, which is the last one."""
        found = []
        while True:
            message = self._next()
            if message.kind is Type.ECHO_REQUEST:
                self.send(build(self.version, Type.ECHO_REPLY, message.xid, message.body))
                continue
            found.append(message)
            if message.xid == xid and message.kind in (kind, Type.ERROR):
                return found

    def barrier(self) -> tuple[Message, list[Message]]:
        """Return the message of a BARRIER, and what the switch has sent up to its reply."""
        request = build(self.version, Type.BARRIER_REQUEST, self._next_xid())
        self.send(request)
        return parse(request), self._read_until(Type.BARRIER_REPLY, self._xid)

    def flow_request(self) -> Message:
        """Return a request for the statistics of all rules."""
        return parse(self._multipart_request(Multipart.FLOW, self._all_flows()))

    def _all_flows(self) -> bytes:
        if self.version == V10:
            return pack("!I36xBxH", _V10_ALL_WILDCARDS, 0xFF, _NO_PORT)
        return pack("!B3xII4xQQHH4x", 0xFF, _ANY, _ANY, 0, 0, 1, 4)

    def _multipart_request(self, kind: Multipart, body: bytes) -> bytes:
        head = pack("!HH", kind, 0) + bytes(0 if self.version == V10 else 4)
        return build(self.version, Type.MULTIPART_REQUEST, self._next_xid(), head + body)

    def ask(self, kind: Multipart, body: bytes = b"") -> tuple[list[Message], list[Message]]:
        """Return the parts of the answer to a multipart request, and the other messages that came before its end."""
        request = self._multipart_request(kind, self._all_flows() if kind is Multipart.FLOW else body)
        self.send(request)
        return self.answer_to(parse(request))

    def answer_to(self, request: Message) -> tuple[list[Message], list[Message]]:
        """Return the parts of the answer to a request that was sent, and the other messages before its end."""
        parts: list[Message] = []
        others: list[Message] = []
        while True:
            *before, part = self._read_until(Type.MULTIPART_REPLY, request.xid)
            assert part.kind is Type.MULTIPART_REPLY, f"the switch refuses {multipart_of(request)}: {part.raw.hex()}"
            parts.append(part)
            others += before
            if not multipart_of(part)[1] & MORE:
                return parts, others

    def ask_groups(self) -> tuple[list[Message], list[Message]]:
        """Return the descriptions of all groups, as ask() does."""
        return self.ask(Multipart.GROUP_DESC, pack("!I4x", 0xFFFF_FFFC) if self.version == V15 else b"")

    def ask_meters(self) -> tuple[list[Message], list[Message]]:
        """Return the configurations of all meters, as ask() does."""
        return self.ask(Multipart.METER_CONFIG, pack("!I4x", _ANY))
