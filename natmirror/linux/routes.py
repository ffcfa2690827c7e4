"""Asks the kernel for the routes of packets and for neighbours (rtnetlink(7)).

Questions go out together, and name protocol and ports, by which policy rules may choose. pyroute2 sends each question
by itself, without them, and takes twenty times as long, which is too much for a check that runs every few seconds.
"""

import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from natmirror.linux.netlink import Message, attribute, attributes, message, messages
from natmirror.linux.pauses import give_way

# linux/netlink.h, linux/rtnetlink.h, linux/neighbour.h
_DUMP = 0x300
_ERROR, _DONE = 2, 3
_NEWROUTE, _GETROUTE, _NEWNEIGH, _GETNEIGH = 24, 26, 28, 30
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_DST, _SRC, _IIF, _OIF, _GATEWAY, _TABLE, _IP_PROTO, _SPORT, _DPORT = 1, 2, 3, 4, 5, 15, 27, 28, 29
_LINK_ADDRESS = 2  # NDA_LLADDR
_LOCAL = 2  # RTN_LOCAL
_UNKNOWN, _PERMANENT = 0x21, 0x80  # NUD_INCOMPLETE | NUD_FAILED, NUD_PERMANENT
_LEARNED_ELSEWHERE = 1 << 4  # NTF_EXT_LEARNED
REFUSING = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
"""The kinds of routes (RTN_*) and of policy rules (FR_ACT_*) that refuse a packet."""

_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # struct ndmsg: family, padding, interface, state, flags, type
_AT_ONCE = 16  # questions: their answers fit into the socket's buffer
_MAX_LEN = 1 << 16
_MAX_ROUTES = 1000
_TIMEOUT = 1.0  # seconds


Place = tuple[IPv4Address, str]
"""A neighbour's address, and the interface."""


@dataclass(frozen=True, slots=True)
class Question:
    """A TCP packet. It comes in by ``link``; without one, this host sends it."""

    to: IPv4Address
    source: IPv4Address | None = None
    link: str | None = None
    sport: int = 0
    dport: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel does with a packet. ``error`` is the errno with which it refuses the packet, or 0."""

    error: int = 0
    link: str | None = None
    gateway: IPv4Address | None = None
    is_local: bool = False

    def next_hop(self, to: IPv4Address) -> Place | None:
        """Return the neighbour that gets a packet to an address; None if there is none."""
        return None if self.link is None or self.is_local else (self.gateway or to, self.link)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The kernel's entry for a neighbour."""

    link_address: str
    is_permanent: bool
    """Whether the entry stays as it is, whatever the neighbour says."""
    is_unknown: bool
    """Whether the neighbour answers no ARP request."""


@dataclass(frozen=True, slots=True)
class RefusingRoute:
    """A route that refuses packets: its kind, in the words of ip-route(8), and its table."""

    kind: str
    network: IPv4Network
    table: int

    def __str__(self) -> str:
        return f"{self.kind} {self.network}" + ("" if self.table == 254 else f" table {self.table}")


class RouteSocket:
    """A socket for questions; a context manager. Each method raises OSError where the kernel does not answer."""

    def __init__(self) -> None:
        self.vrf: str | None = None
        """The VRF whose routes the packets take that this host sends."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT)

    def __enter__(self) -> "RouteSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        """Return the kernel's answers; none to a question about an interface that does not exist."""
        names = _Names()
        asked = [one for one in dict.fromkeys(questions) if one.link is None or names.index(one.link)]
        answers = self._exchange(_GETROUTE, [_packed(one, self.vrf, names) for one in asked])
        return {asked[one.number]: _answer(one.kind, one.body, names) for one in answers}

    def neighbours(self, places: Iterable[Place]) -> dict[Place, Neighbour]:
        """Return the kernel's entries for these neighbours, as far as there are any."""
        names = _Names()
        asked = [(place, index) for place in dict.fromkeys(places) if (index := names.index(place[1]))]
        bodies = [
            _NEIGHBOUR.pack(socket.AF_INET, 0, 0, index, 0, 0, 0) + attribute(_DST, address.packed)
            for (address, _), index in asked
        ]
        found: dict[Place, Neighbour] = {}
        for answer in self._exchange(_GETNEIGH, bodies):
            if answer.kind == _NEWNEIGH:
                state = _NEIGHBOUR.unpack_from(answer.body)[4]
                link_address = attributes(answer.body[_NEIGHBOUR.size :]).get(_LINK_ADDRESS, b"").hex(":")
                found[asked[answer.number][0]] = Neighbour(
                    link_address, bool(state & _PERMANENT), bool(state & _UNKNOWN)
                )
        return found

    def static_links(self) -> set[str]:
        """Return the interfaces that have neighbours which ARP has not found out: permanent ones, or another
        program's."""
        names, found = _Names(), set()
        for body in self.dump(_GETNEIGH, _NEIGHBOUR.pack(socket.AF_INET, *(0,) * 6)):
            _, _, _, index, state, flags, _ = _NEIGHBOUR.unpack_from(body)
            if state & _PERMANENT or flags & _LEARNED_ELSEWHERE:
                found.add(names.name(index) or "")
        return found

    def refusing(self) -> list[RefusingRoute]:
        """Return the routes that refuse packets; a bounded number."""
        self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)  # the kernel sends only the routes of that kind
        found: list[RefusingRoute] = []
        for number, kind in REFUSING.items():
            for body in self.dump(_GETROUTE, _ROUTE.pack(socket.AF_INET, *(0,) * 6, number, 0)):
                if body[7] == number and len(found) < _MAX_ROUTES:
                    values = attributes(body[_ROUTE.size :])
                    network = IPv4Network((values.get(_DST, bytes(4)), body[1]))
                    found.append(RefusingRoute(kind, network, _number(values.get(_TABLE, body[4:5]))))
        return found

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Yield the bodies of all messages that the kernel has for a request of this kind."""
        self._socket.send(message(kind, _DUMP, 0, body))
        while True:
            for answer in messages(self._socket.recv(_MAX_LEN)):
                if answer.kind in (_DONE, _ERROR):
                    return
                yield answer.body

    def _exchange(self, kind: int, bodies: Sequence[bytes]) -> Iterator[Message]:
        """Send requests; yield the answers, each with the number of its request's body."""
        for start in range(0, len(bodies), _AT_ONCE):
            some = list(enumerate(bodies))[start : start + _AT_ONCE]
            if start:
                give_way()
            self._socket.send(b"".join(message(kind, 0, number, body) for number, body in some))
            left = len(some)
            while left:
                for answer in messages(self._socket.recv(_MAX_LEN)):
                    left -= 1
                    yield answer


class _Names:
    """Names and numbers of interfaces, each looked up once."""

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def index(self, name: str) -> int:
        """Return an interface's number; 0 if there is none."""
        if name not in self._indexes:
            self._indexes[name] = 0
            with suppress(OSError):
                self._indexes[name] = socket.if_nametoindex(name)
        return self._indexes[name]

    def name(self, index: int) -> str | None:
        """Return an interface's name; None if there is none."""
        if index not in self._names:
            with suppress(OSError):
                self._names[index] = socket.if_indextoname(index)
        return self._names.get(index)


def _packed(question: Question, vrf: str | None, names: _Names) -> bytes:
    source_len = 0 if question.source is None else 32
    body = _ROUTE.pack(socket.AF_INET, 32, source_len, 0, 0, 0, 0, 0, 0) + attribute(_DST, question.to.packed)
    if question.source is not None:
        body += attribute(_SRC, question.source.packed)
    if question.link is not None:
        body += attribute(_IIF, struct.pack("=I", names.index(question.link)))
    elif vrf is not None:
        body += attribute(_OIF, struct.pack("=I", names.index(vrf)))
    body += attribute(_IP_PROTO, bytes((socket.IPPROTO_TCP,)))
    for kind, port in ((_SPORT, question.sport), (_DPORT, question.dport)):
        if port:
            body += attribute(kind, port.to_bytes(2))
    return body


def _answer(kind: int, body: bytes, names: _Names) -> Answer:
    if kind != _NEWROUTE:
        return Answer(error=-struct.unpack_from("=i", body)[0])
    values = attributes(body[_ROUTE.size :])
    gateway = values.get(_GATEWAY)
    return Answer(
        link=names.name(_number(values.get(_OIF, b"\0"))),
        gateway=None if gateway is None else IPv4Address(gateway),
        is_local=body[7] == _LOCAL,
    )


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)
