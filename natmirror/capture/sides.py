"""Tells which side of natmirror a packet was seen on, by its ends, its direction and what the API says.

A packet from the client that comes in is as the client sent it; one that goes out is as it was sent on, and the other
way round for packets to the client. So the interfaces need no roles, and both sides may have the same one. What goes
out to a mirror is a copy, what comes in from there an answer. A mirror may be the backend of other connections: then
the connection's own backend decides. With ``source`` in the rules a leg has an address of this host; the API says which
client's it is. If its mirror is on this host, too, no interface but natmirror's own shows the copy.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Any

from natmirror.capture.headers import Headers
from natmirror.net.endpoint import Endpoint, parse_endpoint

TUN_PREFIX = "natmirror"
"""Begins the name of natmirror's own device, by which the packets that it makes enter the kernel."""


class Place(StrEnum):
    """The kinds of sides."""

    CLIENT = "client side"
    BACKEND = "backend side"
    COPY = "copy to"
    ANSWERS = "answers of"
    MADE = "made for"
    """What natmirror gave to the kernel for a mirror. It is counted, and not in the file, where it would be a second
    copy of the same packets."""


@dataclass(frozen=True, slots=True, order=True)
class Side:
    """A side; of a mirror, if it has one."""

    place: Place
    mirror: str = ""

    def __str__(self) -> str:
        return f"{self.place} {self.mirror}".rstrip()


CLIENT, BACKEND = Side(Place.CLIENT), Side(Place.BACKEND)
_ROUNDS = 10
"""Answers for which a leg is known that is in none of them: its last packets may still come, but another client's leg
may get its port."""


@dataclass(frozen=True, slots=True)
class _Leg:
    """A leg that has an address of this host: its client's port, its mirror, and the last answer that had it."""

    port: int
    mirror: str
    round: int


class Sorter:
    """Sorts the packets of one client, by the endpoints that it has learnt so far. What it has learnt stays, because
    connections to removed backends and mirrors go on. ``own`` has this host's addresses."""

    def __init__(self, client: bytes, own: Collection[bytes] = ()) -> None:
        self._client = client
        self._own = frozenset(own)
        self._legs: dict[Endpoint, _Leg] = {}
        self._round = 0
        self.sourced: frozenset[tuple[bytes, bytes]] = frozenset()
        """The addresses of legs that do not have the client's: this host's, and the mirror's."""
        self._pool: dict[tuple[str, str], Endpoint] = {}
        self._members: set[Endpoint] = set()
        self._known: dict[bytes, dict[int, Endpoint]] = {}
        self._mirrors: dict[Endpoint, dict[str, str]] = {}
        self._flows: dict[int, tuple[str, Endpoint | None]] = {}
        self._direct: set[tuple[int | None, Endpoint]] = set()

    @property
    def mirrors(self) -> list[str]:
        """The names of all mirrors in the file."""
        return [self.name_of(service, name) for named in self._mirrors.values() for service, name in named.items()]

    def learn_status(self, status: Mapping[str, Any]) -> None:
        """Learn the mirrors and the backends of a status."""
        for one in status["mirrors"]:
            self._mirrors.setdefault(self._learn(one["address"]), {})[one["service"]] = one["name"]
        for one in status["backends"]:
            self._learn_backend(one["service"], one["name"], one["address"])

    def learn_answer(self, answer: Mapping[str, Any]) -> None:
        """Learn the services, the backends and the client's connections of an answer of ``natmirror explain``."""
        for service in answer["services"]:
            self._learn(service["address"])
            for one in service["pool"]:
                self._learn_backend(service["service"], one["backend"], one["address"])
            for one in service["mirrors"]:
                endpoint = self._learn(one["address"])
                self._mirrors.setdefault(endpoint, {})[service["service"]] = one["mirror"]
                if one["source"] is not None:
                    self.sourced |= {(IPv4Address(one["source"]).packed, endpoint[0])}
        self._round += 1
        self._legs = {own: leg for own, leg in self._legs.items() if leg.round + _ROUNDS > self._round}
        for one in answer["connections"]:
            backend = None if one["backend"] is None else self._pool.get((one["service"], one["backend"]))
            port = parse_endpoint(one["client"])[1]
            self._flows[port] = one["service"], backend
            for leg in one["legs"]:
                if leg["address"] not in (None, one["client"]):
                    mirror = self.name_of(one["service"], leg["mirror"])
                    self._legs[parse_endpoint(leg["address"])] = _Leg(port, mirror, self._round)

    def side_of(self, packet: Headers, device: str, *, is_outgoing: bool) -> tuple[Side, int | None] | None:
        """Return the side of a packet, and the client's port; None if it is no packet of natmirror's, or a second sight
        of one that another side has."""
        if self._legs and (found := self._side_of_leg(packet, device, is_outgoing=is_outgoing)) is not None:
            return found
        is_from_client = packet.src == self._client
        port, peer_port = (packet.sport, packet.dport) if is_from_client else (packet.dport, packet.sport)
        address = packet.dst if is_from_client else packet.src
        peer = self._peer(address, peer_port)
        if peer is None or (not is_from_client and packet.dst != self._client):
            return None
        mirror = self._mirror_of(port, peer)
        if device.startswith(TUN_PREFIX):
            return None if mirror is None else (Side(Place.MADE, mirror), port)
        if mirror is not None:
            if is_from_client and not is_outgoing:
                self._direct.add((port, peer))  # the client has a connection to the mirror's endpoint itself
            elif is_from_client == is_outgoing and (port, peer) not in self._direct:
                return Side(Place.COPY if is_outgoing else Place.ANSWERS, mirror), port
        return (CLIENT if is_from_client != is_outgoing else BACKEND), port

    def _side_of_leg(self, packet: Headers, device: str, *, is_outgoing: bool) -> tuple[Side, int | None] | None:
        """Return the side of a packet of a leg that has an address of this host."""
        if packet.sport is not None and (leg := self._legs.get((packet.src, packet.sport))) is not None:
            if device.startswith(TUN_PREFIX):
                place = Place.COPY if packet.dst in self._own else Place.MADE
                return Side(place, leg.mirror), leg.port
            return (Side(Place.COPY, leg.mirror), leg.port) if is_outgoing else None
        if packet.dport is not None and (leg := self._legs.get((packet.dst, packet.dport))) is not None:
            return None if is_outgoing else (Side(Place.ANSWERS, leg.mirror), leg.port)
        return None

    def _peer(self, address: bytes, port: int | None) -> Endpoint | None:
        """Return the service, backend or mirror; without a port, any with the address."""
        ports = self._known.get(address, {})
        return ports.get(port) if port is not None else next(iter(ports.values()), None)

    def _mirror_of(self, port: int | None, peer: Endpoint) -> str | None:
        """Return the mirror to which a connection of the client's with this peer would be a leg."""
        named = self._mirrors.get(peer)
        if named is None:
            return None
        service, backend = self._flows.get(port or 0, (None, None))
        if backend == peer or (backend is None and peer in self._members):
            return None
        found = service if service in named else next(iter(named))
        return self.name_of(found, named[found])

    def _learn_backend(self, service: str, name: str, address: str) -> None:
        endpoint = self._learn(address)
        self._pool[service, name] = endpoint
        self._members.add(endpoint)

    def _learn(self, address: str) -> Endpoint:
        endpoint = parse_endpoint(address)
        self._known.setdefault(endpoint[0], {})[endpoint[1]] = endpoint
        return endpoint

    def name_of(self, service: str, name: str) -> str:
        """Return a mirror's name in the file: ``m``, or ``service/m`` if several services have mirrors."""
        services = {one for named in self._mirrors.values() for one in named}
        return name if len(services) == 1 else f"{service}/{name}"
