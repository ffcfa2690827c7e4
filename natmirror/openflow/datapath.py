"""A known switch: its answers to its controller in production, which also answer a master.

An answer is kept, with its time, under a key: the reply's type, the multipart type, and the request's body. Ports
follow PORT_STATUS: from the first PORT_STATUS on they are kept by number, and joined when a master asks for them, so
that a PORT_STATUS costs no more than its own port.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from natmirror.openflow.messages import STATISTICS, V13, V15, Multipart, Type
from natmirror.openflow.ports import port_bodies

Key = tuple[Type, int, bytes]
"""The key of an answer: its type, the multipart type or -1, the body of the request."""
NO_MULTIPART = -1

FEATURES: Key = (Type.FEATURES_REPLY, NO_MULTIPART, b"")
CONFIG: Key = (Type.GET_CONFIG_REPLY, NO_MULTIPART, b"")
PORTS: Key = (Type.MULTIPART_REPLY, Multipart.PORT_DESC, b"")
ANY_PORT = 0xFFFF_FFFF  # OFPP_ANY
ANY_PORTS: Key = (*PORTS[:2], ANY_PORT.to_bytes(4, "big") + bytes(4))
"""The key for all ports in 1.5."""

MAX_SAVED_LEN = 64 << 10
"""Bytes of the longest answer that is saved in a file."""
_MAX_SAVED_ANSWERS_LEN = 256 << 10  # bytes of a switch's answers in a file or a record
_ANSWER_COST = 300  # bytes that Python needs for an answer besides its body
PORT_COST = 150
"""Bytes that Python needs for a port besides its description."""


def multipart_key(version: int, multipart: int, body: bytes) -> Key:
    """Return the key of the answer to a multipart request.

    Requests for the same ports have one key: in 1.5 the body is a port number or OFPP_ANY, and padding (1.5.1
    §7.3.5.7); in earlier versions it is empty.
    """
    if multipart == Multipart.PORT_DESC and version >= V13:
        if version < V15:
            return PORTS
        return v15_port_key(int.from_bytes(body[:4], "big")) if len(body) >= 4 else ANY_PORTS
    return Type.MULTIPART_REPLY, multipart, body


def v15_port_key(number: int) -> Key:
    """Return the key of the answer to a request for one port in 1.5."""
    return (*PORTS[:2], number.to_bytes(4, "big") + bytes(4))


@dataclass(slots=True)
class Answer:
    """The bodies of a whole answer, without multipart headers, and the time when it was given, in seconds."""

    bodies: tuple[bytes, ...]
    at: float

    @property
    def used(self) -> int:
        """Bytes of memory."""
        return sum(map(len, self.bodies)) + _ANSWER_COST


@dataclass(slots=True)
class Ports:
    """An answer with ports, after a PORT_STATUS has changed one of them."""

    head: bytes
    """The bytes before the ports: in 1.0 these follow the switch's features."""
    ports: dict[int, bytes]
    """The ports' descriptions by number."""
    at: float
    length: int = 0
    """Bytes of all descriptions."""

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """The answer with the ports as they are now."""
        if self.head:
            return (self.head + b"".join(self.ports.values()),)
        return tuple(port_bodies(self.ports.values()))

    @property
    def used(self) -> int:
        """Bytes of memory."""
        return len(self.head) + self.length + PORT_COST * len(self.ports) + _ANSWER_COST


def cost_of(key: Key, answer: Answer | Ports) -> int:
    """Return the memory of a key and its answer, in bytes."""
    return len(key[2]) + answer.used


class SwitchId(NamedTuple):
    """A switch, or an auxiliary connection of one. A client chooses the ids that it sends, so clients of different
    services or addresses are different switches."""

    client: str
    """The service and the client's address: ``openflow/10.10.0.11``."""
    datapath_id: int
    auxiliary_id: int

    @property
    def address(self) -> str:
        """The client's address."""
        return self.client.rpartition("/")[2]


@dataclass(slots=True, eq=False)
class Datapath:
    """One switch, or one auxiliary connection of it."""

    identity: SwitchId
    version: int
    holder: int
    """The number of the client for which the answers take memory."""
    connection: str | None = None
    """The switch's latest connection, while that is open: ``openflow/10.10.0.11:40001``."""
    answers: "OrderedDict[Key, Answer | Ports]" = field(default_factory=OrderedDict)
    """The answers by key, the latest last."""
    used: int = 0
    """Bytes of memory of the answers."""

    def plain(self, now: float) -> dict[str, Any]:
        """Return the switch as values for JSON, with the answers' ages in seconds.

        Statistics and the longest answers are left out; so are the oldest, if all together are too long.
        """
        saved: list[list[Any]] = []
        length = 0
        for key, answer in reversed(self.answers.items()):
            kind, multipart, body = key
            if multipart in STATISTICS or answer.used > MAX_SAVED_LEN:
                continue
            length += cost_of(key, answer)
            if length > _MAX_SAVED_ANSWERS_LEN:
                break
            bodies = [one.hex() for one in answer.bodies]
            saved.append([int(kind), multipart, body.hex(), round(now - answer.at, 3), bodies])
        return {
            "client": self.connection,
            "datapath_id": self.identity.datapath_id,
            "auxiliary_id": self.identity.auxiliary_id,
            "version": self.version,
            "answers": saved[::-1],
        }
