"""OpenFlow sessions through a whole engine: the rules, the messages, and a master that accepts them."""

from pathlib import Path
from typing import Any

from natmirror.actions import Drop, Hook
from natmirror.engine.engine import Engine
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import FIN, RST, SYN
from natmirror.openflow import messages
from natmirror.openflow.framer import Framer
from natmirror.openflow.messages import Type, build, parse
from natmirror.openflow.shown import SessionEntry
from natmirror.reasons import DropReason
from tests.helpers.client_connection import ClientConnection
from tests.helpers.support import MASTER, RULES, packet, summary

OF = RULES.replace("10.20.0.13}", "10.20.0.13, protocol: openflow}")
AGAIN = RULES.replace("10.20.0.13}", "10.20.0.13, protocol: openflow, reconnect: next-message}")
DATAPATH = 7
FEATURES = DATAPATH.to_bytes(8, "big") + bytes((0, 0, 0, 0, 254, 0, 0, 0)) + bytes(8)
TLS = bytes.fromhex("1603010200010001fc0303")
MASTER_ISS = 0x7FFF_FFF0


def hello(version: int = messages.V13) -> bytes:
    return messages.hello(version, 1)


def packet_in(number: int, size: int = 60) -> bytes:
    return build(messages.V13, Type.PACKET_IN, 0, b"\xff\xff\xff\xff" + number.to_bytes(2, "big") + bytes(18 + size))


def request(kind: Type, xid: int, body: bytes = b"") -> bytes:
    return build(messages.V13, kind, xid, body)


def session_of(one: Engine, now: float) -> SessionEntry:
    """What is shown of the only session."""
    session = one.flows(now)[0]["legs"][0]["session"]
    assert session is not None
    return session


class Master:
    """The master's end of a session's leg: it acknowledges everything at once. ``may_be_late``: its packets may come
    when the leg has ended."""

    def __init__(self, connection: ClientConnection, endpoint: Endpoint = MASTER, *, may_be_late: bool = False) -> None:
        self.may_be_late = may_be_late
        self.connection = connection
        self.endpoint = endpoint
        self.port = connection.client
        self.iss: int | None = None
        self.said = 0
        self.stream = bytearray()
        self.ended = ""

    def take(self) -> None:
        """Take the leg's packets, accept its SYN, and acknowledge its data."""
        while legs := self.connection.to_mirror:
            segments, self.connection.to_mirror = list(legs), []
            for one in segments:
                letters, number, _, data = summary(one.raw)
                if one.flags & SYN:
                    self.iss, self.stream, self.said, self.ended = number, bytearray(), 0, ""
                    self._send("SA", options=bytes((2, 4, 5, 180)), at=-1)
                    continue
                if self.iss is None:
                    continue
                at = (number - self.iss - 1) & 0xFFFF_FFFF
                if data and at == len(self.stream):
                    self.stream += data
                if one.flags & (FIN | RST):
                    self.ended = letters
                if data or one.flags & FIN:
                    self._send("A")

    def say(self, *messages: bytes) -> None:
        """Send messages to the switch."""
        data = b"".join(messages)
        self._send("PA", data)
        self.said += len(data)
        self.take()

    def close(self) -> None:
        self._send("FA")
        self.said += 1
        self.take()

    def _send(self, letters: str, data: bytes = b"", *, options: bytes = b"", at: int = 0) -> None:
        assert self.iss is not None
        ack = self.iss + 1 + len(self.stream) + ("F" in self.ended)
        number = MASTER_ISS + 1 + self.said + at
        raw = packet(self.endpoint, self.port, letters, number, ack, data, options=options)
        verdict = self.connection.take(raw, Hook.PREROUTING)
        assert self.may_be_late or verdict == Drop(DropReason.FOR_LEG)

    def messages(self) -> list[tuple[Type | None, int, bytes]]:
        """Return type, transaction id and body of each message that it got."""
        return [(one.kind, one.xid, one.body) for one in map(parse, Framer().push(bytes(self.stream)))]


def began(one: Engine, *, at: Endpoint = MASTER, **options: Any) -> tuple[ClientConnection, Master]:
    """Return a connection after both HELLOs, and its master ``at`` an endpoint, which has accepted the leg."""
    connection = ClientConnection(one, **options)
    connection.connect()
    connection.from_client("PA", hello())
    connection.from_backend("PA", hello())
    master = Master(connection, at)
    master.take()
    return connection, master


def introduced(one: Engine, *, features: bytes = FEATURES, **options: Any) -> tuple[ClientConnection, Master]:
    """Return a connection and its master, which both have the switch's features."""
    connection, master = began(one, **options)
    connection.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    connection.from_client("PA", build(messages.V13, Type.FEATURES_REPLY, 5, features))
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 77))
    return connection, master


def recorded(path: Path) -> str:
    return RULES.replace("10.20.0.13}", f"10.20.0.13, protocol: openflow, record: {path}}}")
