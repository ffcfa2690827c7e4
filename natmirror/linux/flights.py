"""The packets of production and of legs, and how they look at each hook on their way through this host.

natmirror's queue changes a packet in the middle of a hook: chains with the queue's own priority may see it before or
after, so that they have two views of it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from natmirror.linux.foreign_rules import (
    BaseChain,
    TestPacket,
    span_of,
)
from natmirror.linux.hooks import ChainHook
from natmirror.linux.sampled_clients import connected_links
from natmirror.linux.tun import NAME as TUN_NAME
from natmirror.rules import Backend, Mirror, Rules, Service

EARLIEST = -(1 << 31)
_RAW, _CONNTRACK, _MANGLE = -300, -200, -150
_MAX_FLIGHTS = 500

Routes = Mapping[IPv4Address | IPv4Network, str | None]
"""The interface to which this host's route leads, for each backend, mirror and network of clients; None where there is
no route, or where known clients have routes to different ones."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of this host decides how packets look at each hook."""

    routes: Routes
    links: Mapping[str, Collection[IPv4Network]] = field(default_factory=dict)
    """The networks of each interface whose hosts certainly come in by it."""
    addresses: Collection[IPv4Address] = ()
    """The host's own addresses."""
    bridges: Collection[str] = ()
    filtered: Collection[str] = ()
    """The interfaces with a tc filter, which may mark what comes in."""
    unread_queues: Collection[int] = frozenset()
    """NFQUEUEs of other programs' rules that certainly no program reads."""

    def entrance(self, end: IPv4Address | IPv4Network, is_asymmetric: bool) -> "Entrance":
        """Return where packets of this host or network come in."""
        link = self.routes.get(end)
        if link is None or is_asymmetric:
            return Entrance(None, is_certain=True)
        return Entrance(link, connected_links(IPv4Network(end), self.links) == [link])


@dataclass(frozen=True, slots=True)
class Entrance:
    """The interface by which packets come in, or None. Without ``is_certain``, only the route says so."""

    link: str | None
    is_certain: bool

    @property
    def certain_link(self) -> str | None:
        """Return the interface; None unless it is certain."""
        return self.link if self.is_certain else None


Jumps = Mapping[str, tuple[ChainHook, int]]
"""The hook and the priority of each chain in which natmirror's jump to its queue stands, by the chain's place."""
View = tuple[ChainHook, int, TestPacket]
"""A hook, and how a packet looks there from a priority on."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A kind of packet, and how it looks at each hook."""

    packets: str
    views: tuple[View, ...]
    service: str
    path: tuple[str, str]
    """The backend or mirror, and the network of the clients."""
    is_production: bool = True
    has_route: bool = True
    """Whether this host has a route to the backend. Clients may have one even if a sample of their network has none."""
    opens: bool = False
    """Whether the first packet of a connection is one of them."""
    queued_at: tuple[ChainHook, int] | None = None
    """The hook and the priority at which natmirror's queue takes the packet."""
    entrance: str = ""
    """The interface by which the packet comes in, if only the route says so."""
    is_arp: bool = False

    def at(self, chain: BaseChain, jumps: Jumps) -> list[TestPacket]:
        """Return how the packet may look in a chain; empty if it may not come there."""
        if self.is_arp and not chain.gets_arp:
            return []
        found = [packet for hook, since, packet in self.views if hook == chain.hook and since <= chain.priority]
        if not found or (
            chain.hook in (ChainHook.INGRESS, ChainHook.EGRESS) and not chain.devices & {found[-1].iif, found[-1].oif}
        ):
            return []
        if (chain.hook, chain.priority) != self.queued_at or chain.place in jumps:
            return found[-1:]
        if self.queued_at not in jumps.values():
            return []
        after = [packet for hook, since, packet in self.views if hook == chain.hook and since == chain.priority + 1]
        return [*found[-1:], *after] if after else []


def flights(rules: Rules, host: Surroundings) -> list[Flight]:
    """Return the packets of each service with a pool, each client network, backend and mirror."""
    found: list[Flight] = []
    for service in rules.services:
        for clients in rules.switches:
            pool = service.pool
            for backend in pool.members if pool else ():
                found += _production(service, backend, clients, host, bool(pool and pool.asymmetric))
            for mirror in service.mirrors:
                found += _copies(service, mirror, clients, host)
            if len(found) >= _MAX_FLIGHTS:
                return found
    return found


def _production(
    service: Service, backend: Backend, clients: IPv4Network, host: Surroundings, is_asymmetric: bool
) -> Iterator[Flight]:
    sources = host.entrance(clients, is_asymmetric), host.entrance(backend.address, is_asymmetric)
    yield from _both_ways(service, backend, clients, host, *(source.certain_link for source in sources))
    for flight in _both_ways(service, backend, clients, host, *(source.link for source in sources)):
        source = sources[flight.queued_at == (ChainHook.FORWARD, _MANGLE)]
        if source.link is not None and not source.is_certain:
            yield replace(flight, entrance=source.link)


def _both_ways(
    service: Service,
    backend: Backend,
    clients: IPv4Network,
    host: Surroundings,
    client_link: str | None,
    backend_link: str | None,
) -> Iterator[Flight]:
    """Yield the packets of clients and of a backend, which come in by these interfaces."""
    name = f"{backend.name} of service {service.name}"
    ends = service.name, (backend.name, str(clients))
    has_route = host.routes.get(backend.address) is not None
    port, service_port = (backend.port, backend.port), (service.port, service.port)
    asked = _received(
        host, client_link, TestPacket(span_of(clients), span_of(service.address), dport=service_port), service.address
    )
    is_here = None if backend.address in host.addresses else False
    request = replace(asked, dst=span_of(backend.address), dport=port, is_to_this_host=is_here)
    for state in ("new", "established"):
        tracked = replace(request, state=state)
        yield Flight(
            f"clients' packets to {name}",
            (
                *entering(host, asked),
                (ChainHook.PREROUTING, _RAW + 1, request),
                (ChainHook.PREROUTING, _CONNTRACK + 1, tracked),
                *leaving(host, replace(tracked, oif=host.routes.get(backend.address))),
            ),
            *ends,
            has_route=has_route,
            opens=True,
            queued_at=(ChainHook.PREROUTING, _RAW),
        )
    reply = _received(host, backend_link, TestPacket(span_of(backend.address), span_of(clients), sport=port))
    tracked = replace(reply, state="established")
    forwarded = replace(tracked, oif=host.routes.get(clients))
    is_ours = service.address in host.addresses
    translated = replace(
        forwarded,
        src=span_of(service.address),
        sport=service_port,
        comes_by_its_route=False if is_ours else None,
        is_from_this_host=True if is_ours else None,
    )
    yield Flight(
        f"replies of {name}",
        (
            *entering(host, reply),
            (ChainHook.PREROUTING, _CONNTRACK + 1, tracked),
            *leaving(host, forwarded)[:1],
            (ChainHook.FORWARD, _MANGLE + 1, translated),
            *leaving(host, translated)[1:],
        ),
        *ends,
        has_route=has_route,
        queued_at=(ChainHook.FORWARD, _MANGLE),
    )


def _copies(service: Service, mirror: Mirror, clients: IPv4Network, host: Surroundings) -> Iterator[Flight]:
    ours = clients if mirror.source is None else IPv4Network(mirror.source)
    port, name = (mirror.port, mirror.port), f"{mirror.name} of service {service.name}"
    link = host.routes.get(mirror.address)
    packet = TestPacket(span_of(ours), span_of(mirror.address), dport=port, iif=f"{TUN_NAME}0")
    if mirror.source is None:
        packet = replace(packet, comes_by_its_route=False)
    elif mirror.source in host.addresses:
        packet = replace(packet, is_from_this_host=True)
    if link == "lo":
        packet = replace(packet, is_to_this_host=None)
    untracked = replace(packet, state="untracked")
    seen: list[View] = [(ChainHook.PREROUTING, EARLIEST, packet), (ChainHook.PREROUTING, _RAW + 1, untracked)]
    if link != "lo":
        seen += leaving(host, replace(untracked, oif=link))
    ends = service.name, (mirror.name, str(clients))
    yield Flight(f"copies to {name}", tuple(seen), *ends, is_production=False)
    entrance = host.entrance(mirror.address, mirror.asymmetric)
    if entrance.link == "lo":
        return
    answer = TestPacket(span_of(mirror.address), span_of(ours), sport=port)
    answer = _received(host, entrance.certain_link, answer, mirror.source)
    yield Flight(
        f"answers of {name}",
        tuple(entering(host, answer)),
        *ends,
        is_production=False,
        queued_at=(ChainHook.PREROUTING, _RAW),
    )


def _received(host: Surroundings, link: str | None, packet: TestPacket, own: IPv4Address | None = None) -> TestPacket:
    """Return a packet as it comes in by an interface (None: unknown), to one of the host's own addresses or to none."""
    if own is not None:
        packet = replace(packet, is_to_this_host=True if own in host.addresses else None)
    is_marked = bool(host.filtered) if link is None else link in host.filtered
    packet = replace(packet, mark=None, connection_mark=None) if is_marked else packet
    return packet if link is None else replace(packet, iif=link, comes_by_its_route=True)


def entering(host: Surroundings, packet: TestPacket) -> list[View]:
    """Return the views of a received packet up to its first change."""
    views: list[View] = [(ChainHook.PREROUTING, EARLIEST, packet)]
    if packet.iif is not None:
        views.append((ChainHook.INGRESS, EARLIEST, packet))
    if packet.iif in host.bridges:
        views.append((ChainHook.BRIDGE_IN, EARLIEST, replace(packet, iif=None)))
    return views


def leaving(host: Surroundings, packet: TestPacket) -> list[View]:
    """Return the views of a packet after routing, FORWARD first."""
    views: list[View] = [(ChainHook.FORWARD, EARLIEST, packet), (ChainHook.POSTROUTING, EARLIEST, packet)]
    views.append((ChainHook.EGRESS, EARLIEST, replace(packet, iif=None)))
    if packet.oif in host.bridges:
        views.append((ChainHook.BRIDGE_OUT, EARLIEST, replace(packet, oif=None)))
    return views
