"""What the C gear knows of services: their rows, and the lookup tables by which it gives clients their backends.

services.py keeps the entries; here they are written into the gear's plan.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from natmirror.fastpath import Array, Plan, PlannedService
from natmirror.nat.schedulers import LeastConnections, Maglev, Priority, RoundRobin, Scheduler
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.rules import Backend, Balance, HashInput, Pool, Service


@dataclass(slots=True, eq=False)
class PoolMember:
    """A backend of a service's pool."""

    number: int
    backend: Backend
    load_row: Array[int]
    """One number: how many connections it has now, in all threads."""
    share: float = 1.0
    is_removed: bool = False


@dataclass(slots=True, eq=False)
class ServiceEntry:
    """A service, its backends, and who chooses among them."""

    number: int
    service: Service
    members: dict[Endpoint, PoolMember] = field(default_factory=dict)
    """The pool in the order of the rules, then the sorry backend, then those that were removed."""
    scheduler: Scheduler | None = None
    maglev: Maglev | None = None
    is_removed: bool = False

    def of(self, backend: Backend) -> PoolMember:
        """Return a backend's member."""
        return self.members[endpoint_of(backend)]

    def load(self, backend: Backend) -> int:
        """Return how many connections a backend has now, in all threads."""
        return self.of(backend).load_row[0]

    def shares(self, pool: Pool) -> dict[Backend, float]:
        """Return the shares of the pool's backends, without those that were removed."""
        return {backend: self.of(backend).share for backend in pool.backends}


class _Turn:
    """Whose turn it is, kept where the C gear keeps it."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._number = number

    @property
    def turn(self) -> int:
        return int(self._plan.services[self._number].next_entry)

    @turn.setter
    def turn(self, turn: int) -> None:
        self._plan.services[self._number].next_entry = turn


class ServiceTables:
    """Writes entries into a plan, and makes the schedulers that fill their tables."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.marks: Mapping[tuple[Endpoint, Endpoint], int] = {}
        """The marks by which the kernel translates, of services and their backends."""

    def put_service(self, entry: ServiceEntry) -> None:
        """Write a service, with the tables of its pool."""
        service, pool, scheduler = entry.service, entry.service.pool, entry.scheduler
        here = endpoint_of(service)
        if pool is None or scheduler is None or entry.maglev is None:
            planned = PlannedService(
                here, is_watched=True, is_mirrored=bool(service.mirrors), needs_python=entry.is_removed
            )
        else:
            table = derived = array("H")
            if not entry.is_removed:
                whole = entry.maglev.whole
                derived = _numbered(entry, pool, whole)
                table = derived if scheduler.table is whole else _numbered(entry, pool, scheduler.table)
            planned = PlannedService(
                here,
                table,
                derived,
                is_mirrored=bool(service.mirrors),
                round_robin=pool.balance is Balance.ROUND_ROBIN,
                with_port=pool.hash is HashInput.ADDRESS_PORT,
                may_throttle=service.throttles,
                needs_python=entry.is_removed or _needs_python(pool, scheduler),
            )
        self._plan.put_service(entry.number, planned)

    def put_table(self, entry: ServiceEntry, pool: Pool, scheduler: Scheduler) -> None:
        """Write the scheduler's table: the shares of the pool's backends have changed."""
        table = _numbered(entry, pool, scheduler.table)
        self._plan.set_table(entry.number, table, needs_python=_needs_python(pool, scheduler))

    def put_member(self, entry: ServiceEntry, member: PoolMember) -> None:
        """Write a backend."""
        self._plan.put_backend(member.number, entry.number, endpoint_of(member.backend), member.load_row)
        self.put_mark(entry, member)

    def put_mark(self, entry: ServiceEntry, member: PoolMember) -> None:
        """Write a backend's mark."""
        ends = endpoint_of(entry.service), endpoint_of(member.backend)
        self._plan.set_mark(member.number, self.marks.get(ends, 0))

    def new_scheduler(self, entry: ServiceEntry, pool: Pool) -> Scheduler:
        """Return a scheduler of the pool's kind."""
        match pool.balance:
            case Balance.MAGLEV:
                assert entry.maglev is not None, "a service with a pool"
                return entry.maglev
            case Balance.ROUND_ROBIN:
                return RoundRobin(pool, _Turn(self._plan, entry.number))
            case Balance.LEAST_CONNECTIONS:
                return LeastConnections(pool, entry.load)
            case Balance.PRIORITY:
                return Priority(pool)


def _numbered(entry: ServiceEntry, pool: Pool, table: "array[int]") -> "array[int]":
    """Return a table of places in a pool in numbers of backends."""
    numbers = [entry.of(backend).number for backend in pool.backends]
    return array("H", map(numbers.__getitem__, table))


def _needs_python(pool: Pool, scheduler: Scheduler) -> bool:
    """Return whether the load counts for the choice, or there is nothing to choose."""
    has_limits = any(backend.max_connections for backend in pool.backends)
    return pool.balance is Balance.LEAST_CONNECTIONS or has_limits or not scheduler.table
