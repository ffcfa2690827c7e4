"""The questions to the kernel about the routes of packets between clients, backends and mirrors."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from natmirror.linux.routes import Question
from natmirror.linux.sampled_clients import Client
from natmirror.linux.tun import NAME as TUN_NAME
from natmirror.rules import Backend, Mirror, Rules, Service

_MAX_QUESTIONS = 128


def questions(
    rules: Rules, clients: Iterable[Client], routes: Mapping[IPv4Address, str | None], interfaces: Iterable[str]
) -> list[Question]:
    """Return what to ask; a bounded number. ``routes`` has the outgoing interface by address, ``interfaces`` the names
    of this host's interfaces."""
    asked: dict[Question, None] = {}
    for service in rules.services:
        for client in clients:
            some = to_service(service, client)
            for backend in backends_of(service):
                some += requests(client, backend) + replies(client, backend, routes)
            for mirror in service.mirrors:
                some += copies(mirror, client, interfaces)
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


def backends_of(service: Service) -> tuple[Backend, ...]:
    """Return the backends of a service and its sorry server."""
    return service.pool.members if service.pool else ()
