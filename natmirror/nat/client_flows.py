"""Finds the flows of one client's port."""

from natmirror.fastpath import FlowTable
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of


def ids_of(table: FlowTable, services: ServiceTable, client: Endpoint) -> list[int]:
    """Return the numbers of the flows of a client's address and port, its direct connections included."""
    rows = []
    for service in services.all():
        rows.append(table.find_orig(client, endpoint_of(service)))
        rows += [table.find_reply(endpoint_of(member.backend), client) for member in services.members(service)]
    return list(dict.fromkeys(row.id for row in rows if row is not None))
