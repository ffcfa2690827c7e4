"""Finds the flows of one client. The table finds a flow by both its ends only, so this takes a pass, in slices."""

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


def ids_at(table: FlowTable, address: bytes, first: int, most: int) -> tuple[list[int], int | None]:
    """Return, of the next ``most`` flows from number ``first`` on, the numbers of those of a client's address; and the
    number to continue with, or None at the end."""
    ids = table.ids_from(first, most)
    rows = (table.row(number) for number in ids)
    found = [row.id for row in rows if row is not None and bytes(row.client[0:4]) == address]
    return found, ids[-1] + 1 if ids else None
