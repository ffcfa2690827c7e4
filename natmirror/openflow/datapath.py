"""What is known of a switch: learned from what it has said in production, and used to answer a master.

Answers are kept by what was asked: the reply's type, for multiparts their own type, and the request's body. Each keeps
the time when it was given. Ports follow PORT_STATUS: with the first one they are kept by their numbers, and put
together again where they are asked for, so that none costs more than itself.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from natmirror.openflow.messages import STATISTICS, V13, V15, Multipart, Type
from natmirror.openflow.ports import port_bodies

Key = tuple[Type, int, bytes]
"""What was asked: the type of the answer, the multipart type or -1, the body of the request."""
NO_MULTIPART = -1

FEATURES: Key = (Type.FEATURES_REPLY, NO_MULTIPART, b"")
CONFIG: Key = (Type.GET_CONFIG_REPLY, NO_MULTIPART, b"")
PORTS: Key = (Type.MULTIPART_REPLY, Multipart.PORT_DESC, b"")
ANY_PORT = 0xFFFF_FFFF  # OFPP_ANY
ANY_PORTS: Key = (*PORTS[:2], ANY_PORT.to_bytes(4, "big") + bytes(4))
"""All ports in 1.5."""

MAX_SAVED_LEN = 64 << 10
"""Bytes of an answer that is worth a place in a file."""
_MAX_SAVED_ANSWERS_LEN = 256 << 10  # bytes of a switch's answers in a file, or for another host
_ANSWER_COST = 300  # bytes that Python's own bookkeeping takes for an answer
PORT_COST = 150
"""The same for a port."""


def multipart_key(version: int, multipart: int, body: bytes) -> Key:
    """Return what a multipart request asks for.

    Where that is ports, all questions for the same ones have one key: 1.5 has a number there and padding, or OFPP_ANY
    (1.5.1 §7.3.5.7); others have nothing.
    """
    if multipart == Multipart.PORT_DESC and version >= V13:
        if version < V15:
            return PORTS
        return v15_port_key(int.from_bytes(body[:4], "big")) if len(body) >= 4 else ANY_PORTS
    return Type.MULTIPART_REPLY, multipart, body


def v15_port_key(number: int) -> Key:
    """Return what a question for one port has for a key in 1.5."""
    return (*PORTS[:2], number.to_bytes(4, "big") + bytes(4))


@dataclass(slots=True)
class Answer:
    """The bodies of a whole answer, without multipart headers, and when it was given, in seconds."""

    bodies: tuple[bytes, ...]
    at: float

    @property
    def used(self) -> int:
        """Bytes that it takes."""
        return sum(map(len, self.bodies)) + _ANSWER_COST


@dataclass(slots=True)
class Ports:
    """The same for an answer with ports, since a PORT_STATUS has changed one of them."""

    head: bytes
    """What lies before them: 1.0 has them behind a switch's features."""
    ports: dict[int, bytes]
    """By their numbers."""
    at: float
    length: int = 0
    """Bytes of all ports."""

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """The answer with the ports as they are now."""
        if self.head:
            return (self.head + b"".join(self.ports.values()),)
        return tuple(port_bodies(self.ports.values()))

    @property
    def used(self) -> int:
        """Bytes that it takes."""
        return len(self.head) + self.length + PORT_COST * len(self.ports) + _ANSWER_COST


def cost_of(key: Key, answer: Answer | Ports) -> int:
    """What question and answer take, in bytes."""
    return len(key[2]) + answer.used


@dataclass(slots=True, eq=False)
class Datapath:
    """One switch, or one auxiliary connection of it."""

    datapath_id: int
    auxiliary_id: int
    version: int
    answers: "OrderedDict[Key, Answer | Ports]" = field(default_factory=OrderedDict)
    """The latest last."""
    used: int = 0
    """Bytes that the answers take."""

    @property
    def identity(self) -> tuple[int, int]:
        """Which one it is: datapath id and auxiliary id."""
        return self.datapath_id, self.auxiliary_id

    def plain(self, now: float) -> dict[str, Any]:
        """Return all of it as values for JSON, with the answers' ages in seconds.

        Statistics and the largest answers are left out; the oldest, too, where the rest is too much.
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
            "datapath_id": self.datapath_id,
            "auxiliary_id": self.auxiliary_id,
            "version": self.version,
            "answers": saved[::-1],
        }
