"""Shows the limits per client of each service, and the clients that have met them."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import TypedDict

from natmirror.fastpath import ClientTable
from natmirror.reasons import ClientLimit
from natmirror.rules import Service


class ClientLimitEntry(TypedDict):
    """A service's limit for each client, and the clients that have met it."""

    service: str
    """The service's name in the rules."""
    limit: ClientLimit
    """The limit, by its key in ``per-client``."""
    value: str
    """The limit's value in the rules."""
    refused_syns: int
    """Clients' SYNs that were answered with a RST or dropped because of it."""
    limited_clients: int
    """How often a client began to be limited; again after ten minutes without that."""
    last_client: str | None
    """The address of the client that was limited last; null: none was."""
    last_seconds: float | None
    """How long ago that was, in seconds."""


def client_limits(
    services: Iterable[tuple[int, Service]], clients: ClientTable, now: float
) -> Iterator[ClientLimitEntry]:
    """Yield the limits of these services, each with its number."""
    for number, service in services:
        for limit, value in _values(service):
            found = clients.limited(number, limit)
            client = found.last_client
            yield {
                "service": service.name,
                "limit": limit,
                "value": value,
                "refused_syns": found.syns,
                "limited_clients": found.clients,
                "last_client": None if client is None else str(IPv4Address(client)),
                "last_seconds": None if client is None else round(now - found.last_at, 3),
            }


def _values(service: Service) -> Iterator[tuple[ClientLimit, str]]:
    if (limits := service.per_client) is None:
        return
    if limits.max_connections is not None:
        yield ClientLimit.MAX_CONNECTIONS, str(limits.max_connections)
    if limits.new_connections is not None:
        yield ClientLimit.NEW_CONNECTIONS, str(limits.new_connections)
