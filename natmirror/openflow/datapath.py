"""What is known of a switch: learned from what it has told in production, and used to answer a master.

Answers are kept by what was asked: the reply's type, for multiparts their own type, and the request's body. Each keeps
the time when it was given. Ports follow PORT_STATUS: with the first one they are kept by their numbers, and put
together again where they are asked for, so that none costs more than itself.

All that a switch can make long has a bound. What lies beyond is not kept, and counted: a master that asks for it is
refused, as if the switch had never been asked.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Protocol

from natmirror.openflow.messages import HEADER_LEN, STATISTICS, V10, V13, V14, V15, VERSIONS, Message, Multipart, Type

Key = tuple[Type, int, bytes]
"""What was asked: the type of the answer, the multipart type or -1, the body of the request."""
NO_MULTIPART = -1

FEATURES: Key = (Type.FEATURES_REPLY, NO_MULTIPART, b"")
CONFIG: Key = (Type.GET_CONFIG_REPLY, NO_MULTIPART, b"")
PORTS: Key = (Type.MULTIPART_REPLY, Multipart.PORT_DESC, b"")

_MAX_DATAPATHS = 10_000  # beyond them, those without a connection are forgotten, the longest unseen first
_MAX_LEN = 4 << 20  # bytes of one switch's answers: the largest that was seen are table features, of 1.2 MB
_MAX_ANSWERS = 512
"""Answers of one switch, the latest: controllers ask some dozen things again and again."""
MAX_PORTS = 4096
"""Of one switch, where they follow PORT_STATUS. Chassis switches have about a thousand, and 1.0 has room for 1,364."""
_MAX_PORTS_LEN = 1 << 20  # bytes of those
_CLAIM_TIMEOUT = 600.0  # seconds
_MAX_ANSWER_LEN = 0xFFFF - HEADER_LEN - 8  # bytes of a body, behind a multipart message's headers
_SHARE = 4  # this part of the memory is for what is known of switches
_MAX_SAVED_LEN = 64 << 10  # bytes of an answer that is worth a place in a file
_MAX_TOLD_LEN = 256 << 10  # bytes of a switch's answers in a file, or for another host
_ANSWER_COST = 300  # bytes that Python's own bookkeeping takes for an answer
_PORT_COST = 150  # the same for a port
_V10_FEATURES_LEN, _V10_PORT_LEN, _V13_PORT_LEN = 24, 48, 64
_MIN_V14_PORT_LEN = 40  # 1.4.1 §7.2.1: before its properties
_V14_PORT_LEN = Struct("!4xH")
_ANY_PORT = 0xFFFF_FFFF  # OFPP_ANY
_ANY_PORTS: Key = (*PORTS[:2], _ANY_PORT.to_bytes(4, "big") + bytes(4))
"""All ports in 1.5."""
_V10_MAX_PORTS = (0xFFFF - HEADER_LEN - _V10_FEATURES_LEN) // _V10_PORT_LEN
_DELETED = 1  # OFPPR_DELETE
_MAX_BODY_LEN = 60_000  # of the 64 KiB of a message


def multipart_key(version: int, multipart: int, body: bytes) -> Key:
    """What a multipart request asks for. Where that is ports, all questions for the same ones have one key: 1.5 has a
    number there and padding, or OFPP_ANY (1.5.1 §7.3.5.7); others have nothing."""
    if multipart == Multipart.PORT_DESC and version >= V13:
        if version < V15:
            return PORTS
        return _ports_of_v15(int.from_bytes(body[:4], "big")) if len(body) >= 4 else _ANY_PORTS
    return Type.MULTIPART_REPLY, multipart, body


def _ports_of_v15(number: int) -> Key:
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
        return tuple(_bodies(self.ports.values()))

    @property
    def used(self) -> int:
        """Bytes that it takes."""
        return len(self.head) + self.length + _PORT_COST * len(self.ports) + _ANSWER_COST


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
        """All of it as values for JSON, but statistics and the largest answers, with their ages in seconds; the latest
        where that is too much."""
        told: list[list[Any]] = []
        length = 0
        for key, answer in reversed(self.answers.items()):
            kind, multipart, body = key
            if multipart in STATISTICS or answer.used > _MAX_SAVED_LEN:
                continue
            length += cost_of(key, answer)
            if length > _MAX_TOLD_LEN:
                break
            bodies = [one.hex() for one in answer.bodies]
            told.append([int(kind), multipart, body.hex(), round(now - answer.at, 3), bodies])
        return {
            "datapath_id": self.datapath_id,
            "auxiliary_id": self.auxiliary_id,
            "version": self.version,
            "answers": told[::-1],
        }


class MemoryAccount(Protocol):
    """An account of bytes, see fastpath.Memory."""

    @property
    def limit(self) -> int:
        """Bytes that may be taken."""

    @property
    def used(self) -> int:
        """Bytes taken."""

    def take(self, count: int) -> bool:
        """Take ``count`` bytes, if they are there."""

    def give(self, count: int) -> None:
        """Give ``count`` bytes back."""


class Directory:
    """The switches that are known; what is kept of them is taken from ``memory``."""

    def __init__(self, memory: MemoryAccount) -> None:
        self.left_out: Counter[str] = Counter()
        """What was not kept, by the reason why."""
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

    def leave_out(self, reason: str) -> None:
        """Something is not kept."""
        self.left_out[reason] += 1

    def learn(self, datapath: Datapath, key: Key, bodies: tuple[bytes, ...], now: float) -> None:
        """A whole answer of a switch's, if there is memory for it; older ones give way."""
        self._drop(datapath, key)
        answer = Answer(bodies, now)
        cost = cost_of(key, answer)
        if self.find(datapath.datapath_id, datapath.auxiliary_id) is not datapath:
            return  # it was forgotten, and its memory given back
        if cost > _MAX_LEN:
            self.leave_out("too-long")
            return
        while len(datapath.answers) >= _MAX_ANSWERS:
            self.leave_out("too-many-answers")
            self._drop(datapath, self._oldest(datapath))
        self._make_room(datapath, cost)
        if self._take(cost):
            datapath.answers[key] = answer
            datapath.used += cost
        else:
            self.leave_out("no-memory")

    def _make_room(self, datapath: Datapath, cost: int, key: Key | None = None) -> None:
        """Older answers give way to so many bytes, all but the one with this key."""
        while datapath.used + cost > _MAX_LEN and (oldest := self._oldest(datapath)) != key:
            self.leave_out("too-many-answers")
            self._drop(datapath, oldest)

    @staticmethod
    def _oldest(datapath: Datapath) -> Key:
        """Who the switch is goes last."""
        return next(
            (key for key in datapath.answers if key not in (FEATURES, CONFIG, PORTS, _ANY_PORTS)),
            next(iter(datapath.answers)),
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
        described = status.raw[HEADER_LEN + 8 :]
        if (length := _length_of_port(datapath.version, described, 0)) is None:
            return
        port = described[:length]
        number = port_number(datapath.version, port)
        new = None if status.body[0] == _DELETED else port
        if datapath.version == V15 and (alone := _ports_of_v15(number)) in datapath.answers and number != _ANY_PORT:
            if new is None:
                self._drop(datapath, alone)
            else:
                self.learn(datapath, alone, (new,), now)
        key = FEATURES if datapath.version == V10 else _ANY_PORTS if datapath.version == V15 else PORTS
        if key in datapath.answers and (ports := self._by_number(datapath, key)) is not None:
            self._change(datapath, key, ports, number, new, now)

    def _by_number(self, datapath: Datapath, key: Key) -> Ports | None:
        """An answer with ports, taken apart; None where they are too many to follow, and the answer is not kept any
        more."""
        answer = datapath.answers[key]
        if isinstance(answer, Ports):
            return answer
        if answer.used > _MAX_PORTS_LEN:
            self._drop(datapath, key)
            self.leave_out("too-many-ports")
            return None
        whole = b"".join(answer.bodies)
        head = whole[: _V10_FEATURES_LEN if datapath.version == V10 else 0]
        self._drop(datapath, key)
        try:
            known = split_ports(datapath.version, whole[len(head) :])
        except ValueError:
            self.leave_out("too-many-ports")
            return None
        ports = Ports(head, known, answer.at, sum(map(len, known.values())))
        cost = cost_of(key, ports)
        self._make_room(datapath, cost)
        if not self._take(cost):
            self.leave_out("no-memory")
            return None
        datapath.answers[key] = ports
        datapath.used += cost
        return ports

    def _change(self, datapath: Datapath, key: Key, ports: Ports, number: int, new: bytes | None, now: float) -> None:
        """One port of an answer is another one now, is new, or is gone."""
        ports.at = now
        datapath.answers.move_to_end(key)
        old = ports.ports.get(number)
        count = len(ports.ports) - (old is not None) + (new is not None)
        length = ports.length - len(old or b"") + len(new or b"")
        if ports.head and count > _V10_MAX_PORTS:
            self.leave_out("too-many-ports")
            return  # the message that the switch itself would send has no room for it either
        more = length - ports.length + _PORT_COST * (count - len(ports.ports))
        self._make_room(datapath, more, key)
        if count > MAX_PORTS or length > _MAX_PORTS_LEN or datapath.used + more > _MAX_LEN:
            self.leave_out("too-many-ports")
            self._drop(datapath, key)
            return
        if more <= 0:
            self._give(-more)
        elif not self._take(more):
            self.leave_out("no-memory")
            self._drop(datapath, key)
            return
        datapath.used += more
        ports.length = length
        if new is not None:
            ports.ports[number] = new
        else:
            ports.ports.pop(number, None)

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
                if key[0] is Type.MULTIPART_REPLY:
                    key = multipart_key(int(entry["version"]), *key[1:])
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
    """Descriptions of ports that lie one behind the other, by their numbers; ValueError where they are more than
    MAX_PORTS."""
    found: dict[int, bytes] = {}
    at = count = 0
    while (length := _length_of_port(version, ports, at)) is not None:
        count += 1
        if count > MAX_PORTS:
            raise ValueError("more ports than are followed")
        port = ports[at : at + length]
        found[port_number(version, port)] = port
        at += length
    return found


def _length_of_port(version: int, ports: bytes, at: int) -> int | None:
    """The length of the description that begins at a place, None where it is not whole (1.0.0 §5.2.1, 1.3.5 §7.2.1,
    1.4.1 §7.2.1)."""
    if version >= V14:
        is_there = at + _MIN_V14_PORT_LEN <= len(ports)
        length = _V14_PORT_LEN.unpack_from(ports, at)[0] if is_there else 0
        return length if _MIN_V14_PORT_LEN <= length <= len(ports) - at else None
    length = _V10_PORT_LEN if version == V10 else _V13_PORT_LEN
    return length if at + length <= len(ports) else None
