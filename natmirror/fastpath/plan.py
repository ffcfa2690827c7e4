"""What the C gear knows of clients, services and backends."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from natmirror._ffi import ffi, lib
from natmirror.fastpath.constants import IPV4
from natmirror.net.packet import Endpoint


@dataclass(frozen=True, slots=True)
class PlannedService:
    """How new connections of a service are made: ``table`` holds numbers of backends, and is empty for a service
    without a pool."""

    endpoint: Endpoint
    flags: int
    """Of its flows: WATCHED, TAPPED."""
    table: "array[int]" = field(default_factory=lambda: array("H"))
    derived: "array[int]" = field(default_factory=lambda: array("H"))
    """The same, for clients whose backend nobody knows; empty: each has to be told."""
    in_turn: bool = False
    """One entry of the table after the other; else the one that the client's hash says."""
    with_port: bool = False
    """The client's port counts for the hash."""
    is_held: bool = False
    """Mirrors may hold its clients back."""
    needs_python: bool = False
    """Python chooses for each new connection, or says why there is none."""


class Plan:
    """What the C gear knows of clients, services and backends, to open flows by itself.

    Services and backends have numbers, from 0 on, that whoever puts them here gives them. The gear points into it: it
    has to live as long as the gear is used.
    """

    def __init__(self, gear: Any) -> None:
        self.services = ffi.new("nm_service[]", 1)
        """The rows ``nm_service``; each put() may move them."""
        self.backends = ffi.new("nm_backend[]", 1)
        """The rows ``nm_backend``, likewise."""
        self._gear = gear
        self._tables: dict[int, Any] = {}
        self._derived: dict[int, Any] = {}
        self.put_networks([])
        self._show()

    def _show(self) -> None:
        plan = self._gear.plan
        plan.services, plan.service_count = self.services, len(self.services)
        plan.backends, plan.backend_count = self.backends, len(self.backends)

    def put_networks(self, networks: Sequence[tuple[int, int]]) -> None:
        """The networks of clients: address and mask."""
        self._networks = ffi.new("nm_network[]", list(networks) or 1)
        self._gear.plan.networks, self._gear.plan.network_count = self._networks, len(networks)

    def put_service(self, number: int, service: PlannedService) -> None:
        """A service in place of what had its number: its count of flows stays, and whose turn it is."""
        self.services = _with_room(self.services, number)
        self._show()
        row = self.services[number]
        address, row.port = service.endpoint
        row.address[0 : len(address)] = address
        row.family, row.flags, row.hash_port = IPV4, service.flags, service.with_port
        row.round_robin, row.may_hold_clients = service.in_turn, service.is_held
        derived = self._derived[number] = _numbers(service.derived)
        row.derived, row.derived_len = derived, len(derived)
        self.set_table(number, service.table, needs_python=service.needs_python)

    def put_backend(self, number: int, service_id: int, endpoint: Endpoint, load: Any = ffi.NULL) -> None:
        """Put a backend of a service under a number that was free.

        ``load`` counts its connections in all engines (ConnectionCounts; the caller keeps it alive); with NULL only
        those of this gear are counted.
        """
        self.backends = _with_room(self.backends, number)
        self._show()
        address, port = endpoint
        self.backends[number] = {"port": port, "service_id": service_id, "total_flows": load}
        self.backends[number].address[0 : len(address)] = address

    def set_mark(self, number: int, mark: int) -> None:
        """The mark by which the kernel translates a backend's packets; 0: it does not, we do."""
        self.backends[number].mark = mark

    def clear_service(self, number: int) -> None:
        """The number of a service without flows is free."""
        self.services[number] = {}
        self._tables.pop(number, None)
        self._derived.pop(number, None)

    def clear_backend(self, number: int) -> None:
        """The number of a backend without flows, which stands in no table, is free."""
        self.backends[number] = {}

    def set_table(self, number: int, table: "array[int]", *, needs_python: bool) -> None:
        """From now on a service's new connections go by this table of numbers of backends, 16 bits each."""
        row, fresh = self.services[number], _numbers(table)
        row.table, row.table_len, row.needs_python = fresh, len(table), needs_python
        row.next_entry %= max(1, len(table))
        self._tables[number] = fresh

    def suspect(self, service_id: int, client: bytes, by: int) -> None:
        """Count the client (address bytes) of a service, by 1 or -1, among those for which Python chooses."""
        at = lib.nm_plan_suspect(ffi.addressof(self._gear, "plan"), service_id, IPV4, client)
        at[0] += by


def _numbers(table: "array[int]") -> Any:
    """For C, which points into it."""
    fresh = ffi.new("uint16_t[]", len(table))
    ffi.memmove(fresh, table, len(table) * table.itemsize)
    return fresh


def _with_room(rows: Any, number: int) -> Any:
    """An array with a row of this number, and what was in the old one."""
    if number < len(rows):
        return rows
    larger = ffi.new(ffi.typeof(rows), 2 * number)
    ffi.memmove(larger, rows, ffi.sizeof(rows))
    return larger
