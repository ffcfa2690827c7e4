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
from natmirror.openflow.wire import HEADER_LEN, STATISTICS, V10, V14, VERSIONS, Message, Multipart, Type

Key = tuple[Type, int, bytes]
"""What was asked: the type of the answer, the multipart type or -1, the body of the request."""
NO_MULTIPART = -1

FEATURES: Key = (Type.FEATURES_REPLY, NO_MULTIPART, b"")
CONFIG: Key = (Type.GET_CONFIG_REPLY, NO_MULTIPART, b"")
PORTS: Key = (Type.MULTIPART_REPLY, Multipart.PORT_DESC, b"")

_MAX_DATAPATHS = 10_000  # beyond them, those without a connection are forgotten, the longest unseen first
_MAX_LEN = 4 << 20  # bytes of one switch's answers: the largest that was seen are table features, of 1.2 MB
_CLAIM_TIMEOUT = 600.0  # seconds
_MAX_ANSWER_LEN = 0xFFFF - HEADER_LEN - 8  # bytes of a body, behind a multipart message's headers
_SHARE = 4  # this part of the memory is for what is known of switches
_MAX_SAVED_LEN = 64 << 10  # bytes of an answer that is worth a place in a file
_ANSWER_COST = 300  # bytes that Python's own bookkeeping takes for an answer
_V10_FEATURES_LEN, _V10_PORT_LEN, _V13_PORT_LEN = 24, 48, 64
_ALL_PORTS = (b"", b"\xff\xff\xff\xff")
"""How a question for the ports begins that means all: 1.5 has a number there, OFPP_ANY."""
_DELETED = 1  # OFPPR_DELETE
_MAX_BODY_LEN = 60_000  # of the 64 KiB of a message


@dataclass(slots=True)
class Answer:
    """The bodies of a whole answer, without multipart headers, and when it was given, in seconds."""

    bodies: tuple[bytes, ...]
    at: float


def cost_of(key: Key, answer: Answer) -> int:
    """What question and answer take, in bytes."""
    return len(key[2]) + sum(map(len, answer.bodies)) + _ANSWER_COST


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

    @property
    def identity(self) -> tuple[int, int]:
        """Which one it is: datapath id and auxiliary id."""
        return self.datapath_id, self.auxiliary_id

    def plain(self, now: float) -> dict[str, Any]:
        """All of it as values for JSON, but the largest answers; with their ages in seconds."""
        return {
            "datapath_id": self.datapath_id,
            "auxiliary_id": self.auxiliary_id,
            "version": self.version,
            "answers": [
                [int(kind), multipart, body.hex(), round(now - answer.at, 3), [one.hex() for one in answer.bodies]]
                for (kind, multipart, body), answer in self.answers.items()
                if multipart not in STATISTICS and sum(map(len, answer.bodies)) <= _MAX_SAVED_LEN
            ],
        }


class Directory:
    """The switches that are known; what is kept of them is taken from ``memory``."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._used = 0
        self._unclaimed: dict[str, float] = {}  # those that were restored and not met yet, and since when
        self._datapaths: dict[tuple[int, int], Datapath] = {}
        self._behind: dict[str, tuple[int, int]] = {}  # by the client's end of a living connection

    def find(self, datapath_id: int, auxiliary_id: int) -> Datapath | None:
        """The switch with these ids."""
        return self._datapaths.get((datapath_id, auxiliary_id))

    def enter(self, datapath_id: int, auxiliary_id: int, version: int) -> Datapath:
        """A switch that has told its features. What it told in another version of OpenFlow is worth nothing now."""
        ids = datapath_id, auxiliary_id
        known = self._datapaths.pop(ids, None)
        if known is not None and known.version == version:
            self._datapaths[ids] = known  # the last seen last
            return known
        if known is not None:
            self.forget(known)
        if len(self._datapaths) >= _MAX_DATAPATHS:
            connected = set(self._behind.values())
            unconnected = (datapath for place, datapath in self._datapaths.items() if place not in connected)
            self.forget(next(unconnected, next(iter(self._datapaths.values()))))
        self._datapaths[ids] = Datapath(datapath_id, auxiliary_id, version)
        return self._datapaths[ids]

    def forget(self, datapath: Datapath) -> None:
        """Let go what is known of a switch."""
        self._give(datapath.used)
        datapath.answers.clear()
        datapath.used = 0
        if self.find(datapath.datapath_id, datapath.auxiliary_id) is datapath:
            del self._datapaths[datapath.datapath_id, datapath.auxiliary_id]

    def learn(self, datapath: Datapath, key: Key, bodies: tuple[bytes, ...], now: float) -> None:
        """A whole answer of a switch's, if there is memory for it; older ones give way."""
        self._drop(datapath, key)
        answer = Answer(bodies, now)
        cost = cost_of(key, answer)
        if cost > _MAX_LEN or self.find(datapath.datapath_id, datapath.auxiliary_id) is not datapath:
            return  # the latter was forgotten, and its memory given back
        while datapath.used + cost > _MAX_LEN:
            self._drop(datapath, self._oldest(datapath))
        if self._take(cost):
            datapath.answers[key] = answer
            datapath.used += cost

    @staticmethod
    def _oldest(datapath: Datapath) -> Key:
        """Who the switch is goes last."""
        return next(
            (key for key in datapath.answers if key not in (FEATURES, CONFIG, PORTS)), next(iter(datapath.answers))
        )

    def _drop(self, datapath: Datapath, key: Key) -> None:
        answer = datapath.answers.pop(key, None)
        if answer is not None:
            datapath.used -= cost_of(key, answer)
            self._give(cost_of(key, answer))

    def _take(self, cost: int) -> bool:
        """Legs need most of the memory; and who switches are is worth more than their longest answers."""
        share = self._memory.limit // (_SHARE if cost <= _MAX_SAVED_LEN else 2 * _SHARE)
        if self._used + cost > share or not self._memory.take(cost):
            return False
        self._used += cost
        return True

    def _give(self, cost: int) -> None:
        self._used -= cost
        self._memory.give(cost)

    def port_changed(self, datapath: Datapath, status: Message, now: float) -> None:
        """A PORT_STATUS: ports are what they are now."""
        described = split_ports(datapath.version, status.body[8:])
        if not described:
            return
        number, port = next(iter(described.items()))
        is_deleted = status.body[0] == _DELETED
        for key in _keys_of_port(datapath, number):
            if is_deleted and key[2][:4] not in _ALL_PORTS:
                self._drop(datapath, key)
                continue
            whole = b"".join(datapath.answers[key].bodies)
            head = whole[: _V10_FEATURES_LEN if datapath.version == V10 else 0]
            known = split_ports(datapath.version, whole[len(head) :])
            if is_deleted:
                known.pop(number, None)
            else:
                known[number] = port
            bodies = _one_body(head, known) if datapath.version == V10 else tuple(_bodies(known.values()))
            self.learn(datapath, key, bodies, now)

    def stands_behind(self, client: str, datapath: Datapath) -> None:
        """Which switch a living connection is of."""
        self._behind[client] = datapath.identity
        self._unclaimed.pop(client, None)

    def leave(self, client: str) -> None:
        """The connection is over."""
        self._behind.pop(client, None)
        self._unclaimed.pop(client, None)

    def lend(self, now: float) -> None:
        """Another host passes all connections from now on: what is known of them holds until it tells otherwise."""
        for client in self._behind:
            self._unclaimed.setdefault(client, now)

    def behind(self, client: str) -> Datapath | None:
        """The switch of a connection, where that is known from before."""
        ids = self._behind.get(client)
        return None if ids is None else self._datapaths.get(ids)

    def clients(self, now: float) -> list[str]:
        """The ends of the living connections whose switch is known; what was restored and has not been met within ten
        minutes is none."""
        for client in [one for one, at in self._unclaimed.items() if now - at > _CLAIM_TIMEOUT]:
            self.leave(client)
        return list(self._behind)

    def living(self) -> list[str]:
        """The same without what was restored and has not been met yet."""
        return [client for client in self._behind if client not in self._unclaimed]

    def take_in(self, entry: dict[str, Any], now: float) -> None:
        """The same as restore(), of another host's connection; where it is met here, this host knows better."""
        client = str(entry["client"])
        if client not in self._behind or client in self._unclaimed:
            self.restore(entry, now)

    def withdraw(self, client: str) -> None:
        """The other host does not have the connection any more."""
        if client in self._unclaimed:
            self.leave(client)

    def plain(self, client: str, now: float) -> dict[str, Any] | None:
        """What is known of the switch behind a connection, as values for JSON."""
        datapath = self.behind(client)
        return None if datapath is None else {"client": client, **datapath.plain(now)}

    def restore(self, entry: dict[str, Any], now: float) -> None:
        """What plain() once gave; KeyError, TypeError or ValueError where it did not."""
        answers = []
        try:
            ids = (int(entry["datapath_id"]), int(entry["auxiliary_id"]))
            for kind, multipart, body, age, bodies in entry["answers"]:
                key = (Type(kind), int(multipart), bytes.fromhex(body))
                answers.append((key, tuple(bytes.fromhex(one) for one in bodies), now - float(age)))
        except OverflowError as error:
            raise ValueError(str(error)) from None
        is_possible = all(bodies and max(map(len, bodies)) <= _MAX_ANSWER_LEN for _, bodies, _ in answers)
        if entry["version"] not in VERSIONS or not is_possible:
            raise ValueError("a switch that cannot be")
        datapath = self.enter(*ids, int(entry["version"]))
        client = str(entry["client"])
        self._behind[client], self._unclaimed[client] = datapath.identity, now
        for key, known, at in answers:
            self.learn(datapath, key, known, at)


def _keys_of_port(datapath: Datapath, number: int) -> list[Key]:
    """The answers that a port is in."""
    if datapath.version == V10:
        return [FEATURES] if FEATURES in datapath.answers else []
    about = (*_ALL_PORTS, number.to_bytes(4, "big"))
    return [key for key in datapath.answers if key[:2] == PORTS[:2] and key[2][:4] in about]


def _one_body(head: bytes, ports: dict[int, bytes]) -> tuple[bytes]:
    """A 1.0 switch's features with other ports, as many as one message holds."""
    room = (0xFFFF - HEADER_LEN - len(head)) // _V10_PORT_LEN
    return (head + b"".join(list(ports.values())[:room]),)


def _bodies(ports: Iterable[bytes]) -> Iterable[bytes]:
    """Ports in bodies of messages."""
    body = b""
    for port in ports:
        if body and len(body) + len(port) > _MAX_BODY_LEN:
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
