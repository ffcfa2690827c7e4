"""The plan: clients' networks, services and backends, from which the C gear opens flows."""

from array import array
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import TypeVar

from natmirror._ffi import ffi, lib
from natmirror.fastpath.constants import IPV4
from natmirror.fastpath.flow_flags import LIMITED, SERVICE_MIRRORED, STRIPS_MPTCP, WATCHED
from natmirror.fastpath.rows import Array, BackendRow, GearRow, ServiceRow
from natmirror.net.endpoint import Endpoint

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What each client may have of a service. 0: no limit."""

    max_connections: int = 0
    rate: float = 0.0
    """New connections a second."""
    burst: int = 0
    """New connections at once."""


@dataclass(frozen=True, slots=True)
class PlannedService:
    """How C opens new connections to a service."""

    endpoint: Endpoint
    table: "array[int]" = field(default_factory=lambda: array("H"))
    """Numbers of backends: each new connection gets one of them. Empty for a service without a pool."""
    derived: "array[int]" = field(default_factory=lambda: array("H"))
    """The table that any host computes from the rules alone. Flows with another backend than this gives are pinned.
    Empty: all flows are pinned."""
    is_watched: bool = False
    """It has no pool: its packets are read, never rewritten."""
    is_mirrored: bool = False
    """It has mirrors: Python decides the handshakes and ends of its flows."""
    strips_mptcp: bool = False
    """MP_CAPABLE is stripped from its clients' SYNs and its backends' SYN-ACKs."""
    round_robin: bool = False
    """Take the table's entries in turn, else the one that the client's hash gives."""
    with_port: bool = False
    """The hash covers the client's port, too."""
    may_throttle: bool = False
    """Mirrors may throttle its clients."""
    needs_python: bool = False
    """Python chooses the backend of each new connection, or refuses it."""
    limits: ClientLimits | None = None
    """The limits of each client, if there are any: then its connections are counted."""


class Plan:
    """The services and backends of one gear, in C's memory, under numbers from 0 on that the caller gives them.

    The gear points into the plan: keep it as long as the gear is in use.
    """

    def __init__(self, gear: GearRow) -> None:
        self.services: Array[ServiceRow] = ffi.new("nm_service[]", 1)
        """Services by number; put_service() may move them."""
        self.backends: Array[BackendRow] = ffi.new("nm_backend[]", 1)
        """Backends by number; put_backend() may move them."""
        self._gear = gear
        self._tables: dict[int, Array[int]] = {}
        self._derived: dict[int, Array[int]] = {}
        self.put_networks([])
        self.put_mirrors([])
        self._show()

    def _show(self) -> None:
        plan = self._gear.plan
        plan.services, plan.service_count = self.services, len(self.services)
        plan.backends, plan.backend_count = self.backends, len(self.backends)

    def put_networks(self, networks: Sequence[tuple[int, int]]) -> None:
        """Set the networks of clients: address and mask of each."""
        self._networks = ffi.new("nm_network[]", list(networks) or 1)
        self._gear.plan.networks, self._gear.plan.network_count = self._networks, len(networks)

    def put_mirrors(self, mirrors: Sequence[Endpoint]) -> None:
        """Set the mirrors whose packets reach no client."""
        self._mirrors = ffi.new("nm_mirror[]", [(list(address), port) for address, port in mirrors] or 1)
        self._gear.plan.mirrors, self._gear.plan.mirror_count = self._mirrors, len(mirrors)

    def put_service(self, number: int, service: PlannedService) -> None:
        """Put a service under this number, in place of its former state; keep its count of flows and its next entry."""
        self.services = _with_room(self.services, number)
        self._show()
        row = self.services[number]
        address, row.port = service.endpoint
        row.address[0 : len(address)] = address
        row.family, row.hash_port = IPV4, service.with_port
        row.flags = (
            (WATCHED if service.is_watched else 0)
            | (SERVICE_MIRRORED if service.is_mirrored else 0)
            | (STRIPS_MPTCP if service.strips_mptcp else 0)
            | (LIMITED if service.limits else 0)
        )
        limits = service.limits or ClientLimits()
        row.limits.max_connections, row.limits.rate, row.limits.burst = astuple(limits)
        row.round_robin, row.may_throttle = service.round_robin, service.may_throttle
        derived = self._derived[number] = _numbers(service.derived)
        row.derived, row.derived_len = derived, len(derived)
        self.set_table(number, service.table, needs_python=service.needs_python)

    def put_backend(self, number: int, service_id: int, endpoint: Endpoint, count: Array[int] | None = None) -> None:
        """Put a backend of a service under a free number.

        ``count`` (ConnectionCounts) counts its open connections in all engines; the caller keeps it alive. Without it,
        only this gear's own connections are counted.
        """
        self.backends = _with_room(self.backends, number)
        self._show()
        address, port = endpoint
        fields = {"port": port, "service_id": service_id, "total_open": ffi.NULL if count is None else count}
        self.backends[number] = fields
        self.backends[number].address[0 : len(address)] = address

    def set_mark(self, number: int, mark: int) -> None:
        """Set the mark by which the kernel translates a backend's packets; with 0, natmirror translates them."""
        self.backends[number].mark = mark

    def clear_service(self, number: int) -> None:
        """Free the number of a service that has no flows."""
        self.services[number] = ffi.new("nm_service *")[0]  # assigning {} would change no field
        self._tables.pop(number, None)
        self._derived.pop(number, None)

    def clear_backend(self, number: int) -> None:
        """Free the number of a backend that has no flows and is in no table."""
        self.backends[number] = ffi.new("nm_backend *")[0]

    def set_table(self, number: int, table: "array[int]", *, needs_python: bool) -> None:
        """Open a service's new connections by this table of backends' numbers (16 bits each) from now on."""
        row, fresh = self.services[number], _numbers(table)
        row.table, row.table_len, row.needs_python = fresh, len(table), needs_python
        row.next_entry %= max(1, len(table))
        self._tables[number] = fresh

    def suspect(self, service_id: int, client: bytes, by: int) -> None:
        """Add ``by``, 1 or -1, to the count of reasons for which Python chooses the backend of a service's client."""
        at = lib.nm_plan_suspect(ffi.addressof(self._gear, "plan"), service_id, IPV4, client)
        at[0] += by


def _numbers(table: "array[int]") -> Array[int]:
    """Return a copy that C may point into."""
    fresh: Array[int] = ffi.new("uint16_t[]", len(table))
    ffi.memmove(fresh, table, len(table) * table.itemsize)
    return fresh


def _with_room(rows: Array[T], number: int) -> Array[T]:
    """Return ``rows``, or a longer copy of them that has this number."""
    if number < len(rows):
        return rows
    larger: Array[T] = ffi.new(ffi.typeof(rows), 2 * number)
    ffi.memmove(larger, rows, ffi.sizeof(rows))
    return larger
