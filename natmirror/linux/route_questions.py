"""The questions to the kernel about the routes of packets between clients, backends and mirrors."""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address

from natmirror.linux.routes import Question
from natmirror.linux.sampled_clients import Client
from natmirror.linux.tun import NAME as TUN_NAME
from natmirror.rules import Backend, Mirror, Rules, Service

_MAX_QUESTIONS = 2048
_MIN_BACKENDS = 4
_MIN_LIVE_BACKENDS = 2
"""Backends, at least, about which natmirror asks for each client, and for one that has connections: its routes hardly
depend on the backend."""


def questions(
    rules: Rules, clients: Collection[Client], routes: Mapping[IPv4Address, str | None], interfaces: Iterable[str]
) -> list[Question]:
    """Return what to ask; a bounded number. ``routes`` has the outgoing interface by address, ``interfaces`` the names
    of this host's interfaces."""
    asked: dict[Question, None] = {}
    for service in rules.services:
        some = [question for client in clients for question in to_service(service, client)]
        for client, backend in ways(service, clients):
            some += requests(client, backend) + replies(client, backend, routes)
        some += [one for mirror in service.mirrors for client in clients for one in copies(mirror, client, interfaces)]
        asked |= dict.fromkeys(some)
    return list(asked)[:_MAX_QUESTIONS]


def to_service(service: Service, client: Client) -> list[Question]:
    """Return a client's packet to the service itself, by each interface by which it may come in."""
    return [Question(service.address, client.address, link, dport=service.port) for link in client.links]


def requests(client: Client, backend: Backend) -> list[Question]:
    """Return a client's packet as it is routed, after its translation, by each interface by which it may come in."""
    return [Question(backend.address, client.address, link, dport=backend.port) for link in client.links]


def replies(client: Client, backend: Backend, routes: Mapping[IPv4Address, str | None]) -> list[Question]:
    """Return a backend's reply as it is routed, before its translation; nothing without a route to the backend."""
    link = routes.get(backend.address)
    return [] if link is None else [Question(client.address, backend.address, link, sport=backend.port)]


def copies(mirror: Mirror, client: Client, interfaces: Iterable[str]) -> list[Question]:
    """Return a leg's packet, which comes in by natmirror's TUN device; nothing while there is none."""
    tuns = (link for link in interfaces if link.startswith(TUN_NAME))
    return [Question(mirror.address, mirror.source or client.address, link, dport=mirror.port) for link in tuns]


def sent_to(target: Backend | Mirror, client: Client, interfaces: Iterable[str]) -> list[Question]:
    """Return the packets that go to a backend or to a mirror."""
    return requests(client, target) if isinstance(target, Backend) else copies(target, client, interfaces)


def ways(service: Service, clients: Iterable[Client]) -> list[tuple[Client, Backend]]:
    """Return the clients and backends between which packets are asked about. The clients of a kind share the backends:
    each backend is asked about for one of them at least."""
    backends = backends_of(service)
    kinds: dict[tuple[bool, ...], list[Client]] = {}
    for client in clients:
        kinds.setdefault((client.is_beside, client.is_live, client.was_answered), []).append(client)
    found = []
    for some in kinds.values():
        least = _MIN_LIVE_BACKENDS if some[0].is_live else _MIN_BACKENDS
        each = min(max(least, -(-len(backends) // len(some))), len(backends))
        for number, client in enumerate(some):
            first = number * each
            found += [(client, backends[at % len(backends)]) for at in range(first, first + each)]
    return found


def backends_of(service: Service) -> tuple[Backend, ...]:
    """Return the backends of a service and its sorry server."""
    return service.pool.members if service.pool else ()
