"""Writes services and backends into the C gear's plan, with the tables from which it chooses clients' backends.

services.py keeps the entries that are written here.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from natmirror.fastpath import Array, ClientLimits, Plan, PlannedService, number_places
from natmirror.nat.schedulers import LeastConnections, Maglev, Priority, RoundRobin, Scheduler
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Backend, Balance, HashInput, PerClient, Pool, Service


@dataclass(slots=True, eq=False)
class PoolMember:
    """A backend of a service's pool."""

    number: int
    backend: Backend
    connection_count: Array[int]
    """The number of the backend's open connections, as an array of one that all threads share."""
    share: float = 1.0
    weight: int | None = None
    """The weight that a command has given it; None: that of the rules holds."""
    is_removed: bool = False
    refused_syns: int = 0
    unanswered_syns: int = 0
    full_syns: int = 0
    """New connections that came while it was full."""


@dataclass(slots=True, eq=False)
class ServiceEntry:
    """A service, its backends, and the scheduler that chooses among them."""

    number: int
    service: Service
    members: dict[Endpoint, PoolMember] = field(default_factory=dict)
    """The pool in the order of the rules, then the sorry backend, then the removed backends."""
    scheduler: Scheduler | None = None
    maglev: Maglev | None = None
    is_removed: bool = False

    def member_of(self, backend: Backend) -> PoolMember:
        return self.members[endpoint_of(backend)]

    def connections_of(self, backend: Backend) -> int:
        """Return the number of a backend's open connections in all threads."""
        return self.member_of(backend).connection_count[0]

    def shares(self, pool: Pool) -> dict[Backend, float]:
        """Return the share of each of the pool's backends; removed ones are not in the pool."""
        return {backend: self.member_of(backend).share for backend in pool.backends}

    def weights(self, pool: Pool) -> dict[Backend, int]:
        """Return the weights that commands have given to the pool's backends."""
        found = ((backend, self.member_of(backend).weight) for backend in pool.backends)
        return {backend: weight for backend, weight in found if weight is not None}


class _PlanPosition:
    """A service's position in its round-robin table. It lies in the plan, where the C gear moves it too."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._number = number

    @property
    def next_entry(self) -> int:
        return self._plan.services[self._number].next_entry

    @next_entry.setter
    def next_entry(self, entry: int) -> None:
        self._plan.services[self._number].next_entry = entry


class ServiceTables:
    """Writes entries into a plan, and creates the schedulers that fill their tables."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.marks: Mapping[tuple[Endpoint, Endpoint], int] = {}
        """The mark for each pair of a service and one of its backends. The kernel translates a marked packet."""

    def put_service(self, entry: ServiceEntry) -> None:
        """Write a service and the tables of its pool."""
        service, pool, scheduler = entry.service, entry.service.pool, entry.scheduler
        here = endpoint_of(service)
        if pool is None or scheduler is None or entry.maglev is None:
            planned = PlannedService(
                here, is_watched=True, is_mirrored=bool(service.mirrors), needs_python=entry.is_removed
            )
        else:
            table = derived = array("H")
            if not entry.is_removed:
                full = entry.maglev.full_table
                derived = _numbered(entry, pool, full)
                table = derived if scheduler.table is full else _numbered(entry, pool, scheduler.table)
            planned = PlannedService(
                here,
                table,
                derived,
                is_mirrored=bool(service.mirrors),
                strips_mptcp=service.strips_mptcp,
                round_robin=pool.balance is Balance.ROUND_ROBIN,
                with_port=pool.hash is HashInput.ADDRESS_PORT,
                may_throttle=service.throttles,
                needs_python=entry.is_removed or _needs_python(pool, scheduler),
                limits=_limits(service.per_client),
            )
        self._plan.put_service(entry.number, planned)

    def put_table(self, entry: ServiceEntry, pool: Pool, scheduler: Scheduler) -> None:
        """Write the scheduler's table after the pool's shares have changed."""
        table = _numbered(entry, pool, scheduler.table)
        self._plan.set_table(entry.number, table, needs_python=_needs_python(pool, scheduler))

    def put_member(self, entry: ServiceEntry, member: PoolMember) -> None:
        self._plan.put_backend(member.number, entry.number, endpoint_of(member.backend), member.connection_count)
        self.put_mark(entry, member)

    def put_mark(self, entry: ServiceEntry, member: PoolMember) -> None:
        ends = endpoint_of(entry.service), endpoint_of(member.backend)
        self._plan.set_mark(member.number, self.marks.get(ends, 0))

    def new_scheduler(self, entry: ServiceEntry, pool: Pool) -> Scheduler:
        """Return a scheduler for the pool, of the kind that its ``balance`` names."""
        match pool.balance:
            case Balance.MAGLEV:
                assert entry.maglev is not None, "a service with a pool"
                return entry.maglev
            case Balance.ROUND_ROBIN:
                return RoundRobin(pool, _PlanPosition(self._plan, entry.number))
            case Balance.LEAST_CONNECTIONS:
                return LeastConnections(pool, entry.connections_of)
            case Balance.PRIORITY:
                return Priority(pool)
            case _:
                assert_never(pool.balance)


def _numbered(entry: ServiceEntry, pool: Pool, table: "array[int]") -> "array[int]":
    """Return a table of indexes into a pool as a table of backends' numbers."""
    numbers = [entry.member_of(backend).number for backend in pool.backends]
    return number_places(table, numbers)


def _limits(per_client: PerClient | None) -> ClientLimits | None:
    if per_client is None:
        return None
    rate = per_client.new_connections
    return ClientLimits(
        max_connections=per_client.max_connections or 0,
        rate=rate.per_second if rate else 0.0,
        burst=rate.most if rate else 0,
    )


def _needs_python(pool: Pool, scheduler: Scheduler) -> bool:
    """Return whether only Python can choose a backend: the choice depends on the backends' connections, or the table is
    empty."""
    has_limits = any(backend.max_connections for backend in pool.backends)
    return pool.balance is Balance.LEAST_CONNECTIONS or has_limits or not scheduler.table
