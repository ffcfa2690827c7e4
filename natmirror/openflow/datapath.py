"""What is known of a switch: learned from what it has told in production, and used to answer a master.

Answers are kept by what was asked: the reply's type, for multiparts their own type, and the request's body. Each keeps
the time when it was given. Ports follow PORT_STATUS.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from natmirror.fastpath import Memory
from natmirror.openflow.wire import V10, V14, Message, Multipart, Type

Key = tuple[Type, int, bytes]
"""What was asked: the type of the answer, the multipart type or -1, the body of the request."""
NO_MULTIPART = -1

FEATURES: Key = (Type.FEATURES_REPLY, NO_MULTIPART, b"")
CONFIG: Key = (Type.GET_CONFIG_REPLY, NO_MULTIPART, b"")
PORTS: Key = (Type.MULTIPART_REPLY, Multipart.PORT_DESC, b"")

_MAX_LEN = 4 << 20  # bytes of one switch's answers: the largest that was seen are table features, of 1.2 MB
_MAX_SAVED_LEN = 64 << 10  # bytes of an answer that is worth a place in a file
_ANSWER_COST = 300  # bytes that Python's own bookkeeping takes for an answer
_V10_FEATURES_LEN, _V10_PORT_LEN, _V13_PORT_LEN = 24, 48, 64
_DELETED = 1  # OFPPR_DELETE
_MAX_BODY_LEN = 60_000  # of the 64 KiB of a message


@dataclass(slots=True)
class Answer:
    """The bodies of a whole answer, without multipart headers, and when it was given, in seconds."""

    bodies: tuple[bytes, ...]
    at: float

    @property
    def cost(self) -> int:
        """What it takes, in bytes."""
        return sum(map(len, self.bodies)) + _ANSWER_COST


@dataclass(slots=True, eq=False)
class Datapath:
    """One switch, or one auxiliary connection of it."""

    datapath_id: int
    auxiliary_id: int
    version: int
    answers: "OrderedDict[Key, Answer]" = field(default_factory=OrderedDict)
    """The latest last."""
    used: int = 0
    """Bytes that the answers take."""

    def plain(self, now: float) -> dict[str, Any]:
        """All of it as values for JSON, but the largest answers; with their ages in seconds."""
        return {
            "datapath_id": self.datapath_id,
            "auxiliary_id": self.auxiliary_id,
            "version": self.version,
            "answers": [
                [int(kind), multipart, body.hex(), round(now - answer.at, 3), [one.hex() for one in answer.bodies]]
                for (kind, multipart, body), answer in self.answers.items()
                if answer.cost <= _MAX_SAVED_LEN
            ],
        }


class Directory:
    """The switches that are known; what is kept of them is taken from ``memory``."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._datapaths: dict[tuple[int, int], Datapath] = {}
        self._behind: dict[str, tuple[int, int]] = {}  # by the client's end of a living connection

    def find(self, datapath_id: int, auxiliary_id: int) -> Datapath | None:
        """The switch with these ids."""
        return self._datapaths.get((datapath_id, auxiliary_id))

    def enter(self, datapath_id: int, auxiliary_id: int, version: int) -> Datapath:
        """A switch that has told its features. What it told in another version of OpenFlow is worth nothing now."""
        known = self.find(datapath_id, auxiliary_id)
        if known is not None and known.version == version:
            return known
        if known is not None:
            self.forget(known)
        fresh = Datapath(datapath_id, auxiliary_id, version)
        self._datapaths[datapath_id, auxiliary_id] = fresh
        return fresh

    def forget(self, datapath: Datapath) -> None:
        """Let go what is known of a switch."""
        self._memory.give(datapath.used)
        datapath.answers.clear()
        datapath.used = 0
        self._datapaths.pop((datapath.datapath_id, datapath.auxiliary_id), None)

    def learn(self, datapath: Datapath, key: Key, bodies: tuple[bytes, ...], now: float) -> None:
        """A whole answer of a switch's, if there is memory for it; older ones give way."""
        self._drop(datapath, key)
        answer = Answer(bodies, now)
        if answer.cost > _MAX_LEN:
            return
        while datapath.used + answer.cost > _MAX_LEN:
            self._drop(datapath, self._oldest(datapath))
        if self._memory.take(answer.cost):
            datapath.answers[key] = answer
            datapath.used += answer.cost

    @staticmethod
    def _oldest(datapath: Datapath) -> Key:
        """Who the switch is goes last."""
        return next(
            (key for key in datapath.answers if key not in (FEATURES, CONFIG, PORTS)), next(iter(datapath.answers))
        )

    def _drop(self, datapath: Datapath, key: Key) -> None:
        answer = datapath.answers.pop(key, None)
        if answer is not None:
            datapath.used -= answer.cost
            self._memory.give(answer.cost)

    def port_changed(self, datapath: Datapath, status: Message, now: float) -> None:
        """A PORT_STATUS: ports are what they are now."""
        reason, port = status.body[0:1], status.body[8:]
        key = FEATURES if datapath.version == V10 else PORTS
        answer = datapath.answers.get(key)
        if answer is None or not reason or len(port) < _V10_PORT_LEN:
            return
        head_len = _V10_FEATURES_LEN if datapath.version == V10 else 0
        whole = b"".join(answer.bodies)
        known = split_ports(datapath.version, whole[head_len:])
        number = port_number(datapath.version, port)
        if reason[0] == _DELETED:
            known.pop(number, None)
        else:
            known[number] = port
        self.learn(datapath, key, tuple(_bodies(whole[:head_len], known.values())), now)

    def stands_behind(self, client: str, datapath: Datapath) -> None:
        """Which switch a living connection is of."""
        self._behind[client] = (datapath.datapath_id, datapath.auxiliary_id)

    def leave(self, client: str) -> None:
        """The connection is over."""
        self._behind.pop(client, None)

    def behind(self, client: str) -> Datapath | None:
        """The switch of a connection, where that is known from before."""
        ids = self._behind.get(client)
        return None if ids is None else self._datapaths.get(ids)

    def clients(self) -> list[str]:
        """The ends of the living connections whose switch is known."""
        return list(self._behind)

    def plain(self, client: str, now: float) -> dict[str, Any] | None:
        """What is known of the switch behind a connection, as values for JSON."""
        datapath = self.behind(client)
        return None if datapath is None else {"client": client, **datapath.plain(now)}

    def restore(self, entry: dict[str, Any], now: float) -> None:
        """What plain() once gave; KeyError, TypeError or ValueError where it did not."""
        datapath = self.enter(int(entry["datapath_id"]), int(entry["auxiliary_id"]), int(entry["version"]))
        self._behind[str(entry["client"])] = (datapath.datapath_id, datapath.auxiliary_id)
        for kind, multipart, body, age, bodies in entry["answers"]:
            key = (Type(kind), int(multipart), bytes.fromhex(body))
            self.learn(datapath, key, tuple(bytes.fromhex(one) for one in bodies), now - float(age))


def _bodies(head: bytes, ports: Iterable[bytes]) -> Iterable[bytes]:
    """Ports behind a head, in bodies of messages."""
    body = head
    for port in ports:
        if len(body) + len(port) > _MAX_BODY_LEN:
            yield body
            body = b""
        body += port
    yield body


def port_number(version: int, port: bytes) -> int:
    """The number in a port's description."""
    return int.from_bytes(port[0 : 2 if version == V10 else 4], "big")


def split_ports(version: int, ports: bytes) -> dict[int, bytes]:
    """Descriptions of ports that lie one behind the other, by their numbers (1.0.0 §5.2.1, 1.3.5 §7.2.1, 1.4.1
    §7.2.1)."""
    found, at = {}, 0
    while at + 8 <= len(ports):
        if version >= V14:
            length = Struct("!4xH").unpack_from(ports, at)[0]
        else:
            length = _V10_PORT_LEN if version == V10 else _V13_PORT_LEN
        if length < 8 or at + length > len(ports):
            break
        port = ports[at : at + length]
        found[port_number(version, port)] = port
        at += length
    return found
