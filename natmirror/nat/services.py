"""The services and backends that an engine knows, by their numbers, and how new connections are spread over them.

The table holds the services of the rules, and those that earlier rules had and that still have connections: these get
no new ones. Each flow's row holds the numbers of its service and backend; a number that no flow has any more is used
again. A service is identified by its address and port, a backend by the same within its service: whatever else changes,
connections stay.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypedDict

from natmirror.fastpath import ConnectionCounts, Gear, Plan, PlannedService
from natmirror.nat.schedulers import Maglev, Scheduler
from natmirror.nat.service_tables import PoolMember, ServiceEntry, ServiceTables
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.net.prefixes import ClientNetworks
from natmirror.rules import Backend, Pool, Rules, Service, WhenNone
from natmirror.rules.reload import Kept

MAX_UNLISTED = 64
"""Backends of a service that the rules do not name and that only connections of another host have: records of nonsense
may not fill our tables."""


class BackendCounts(TypedDict):
    """A backend's connections in an engine."""

    service: str
    """The service's name in the rules."""
    name: str
    """The backend's name in the rules."""
    address: str
    """The backend's address and port."""
    flows: int
    """Connections that it has now."""
    connections: int
    """Connections that it has accepted since the start."""
    removed: bool
    """Whether the rules do not name it any more."""


class ServiceTable:
    """Services and backends of the rules, for the flows of a gear."""

    def __init__(self, rules: Rules, gear: Gear, loads: ConnectionCounts) -> None:
        self._loads = loads
        self._plan = Plan(gear.handle)
        self._tables = ServiceTables(self._plan)
        self._services: list[Service] = []  # by number; where that is free, the last that had it
        self._backends: list[Backend] = []
        self._free_services: list[int] = []
        self._free_backends: list[int] = []
        self._at: dict[Endpoint, ServiceEntry] = {}
        self._services_of: dict[Endpoint, list[Service]] = {}
        self.clients = ClientNetworks(())
        """The networks that clients come from."""
        self.unlisted_backends = 0
        """How many backends have become known only by connections that another host reported, ever."""
        self.suspect = self._plan.suspect
        """See Plan."""
        self.reload(rules)

    # Finding

    def at(self, endpoint: Endpoint) -> Service | None:
        """Return the service at an endpoint, or None."""
        entry = self._at.get(endpoint)
        return None if entry is None else entry.service

    def service(self, number: int) -> Service:
        """Return the service with a number that a flow has."""
        return self._services[number]

    def backend(self, number: int) -> Backend:
        """Return the backend with a number that a flow has."""
        return self._backends[number]

    def service_named(self, name: str) -> Service:
        """Return a service by its name, one of the rules if there is one; ValueError where there is none."""
        if named := self.services_named(name):
            return named[0]
        raise ValueError(f"there is no service {name}")

    def services_named(self, name: str) -> list[Service]:
        """Return the services with a name, that of the rules first: removed ones may have it too."""
        entries = sorted(self._at.values(), key=lambda entry: entry.is_removed)
        return [entry.service for entry in entries if entry.service.name == name]

    def number(self, service: Service) -> int:
        """Return a service's number."""
        return self._entry(service).number

    def backend_number(self, service: Service, place: Endpoint) -> int:
        """Return the number of a service's backend at an endpoint."""
        return self._entry(service).members[place].number

    def backend_named(self, service: str, backend: str) -> tuple[Service, Backend]:
        """Return a backend by its service's and its own name; ValueError where there is none."""
        for entry, member in self._all():
            if (entry.service.name, member.backend.name) == (service, backend):
                return entry.service, member.backend
        raise ValueError(f"there is no backend {backend} in {service}")

    def backend_at(self, service: Service, place: Endpoint) -> Backend:
        """Return the backend of a service at an endpoint."""
        return self._entry(service).members[place].backend

    def backend_elsewhere(self, service: Service, place: Endpoint) -> Backend | None:
        """Return the backend at an endpoint that another host reports for a connection of a service; None where it
        cannot have one. Earlier rules, or those of that host, may name it: here it is treated like a removed one."""
        entry = self._entry(service)
        if place not in entry.members and not self._add_unlisted(entry, place):
            return None
        return entry.members[place].backend

    def _add_unlisted(self, entry: ServiceEntry, place: Endpoint) -> bool:
        pool, (address, port) = entry.service.pool, place
        if pool is None or not port or place in self._at or len(entry.members) >= len(pool.members) + MAX_UNLISTED:
            return False
        self._add_member(entry, Backend(show(place), IPv4Address(address), port))
        entry.members[place].share, entry.members[place].is_removed = 0.0, True
        self._services_of.setdefault(place, []).append(entry.service)
        self.unlisted_backends += 1
        return True

    def services_of(self, backend: Endpoint) -> list[Service]:
        """Return the services that a backend belongs to: more than one makes unbound replies ambiguous."""
        return self._services_of.get(backend, [])

    def is_removed(self, service: Service) -> bool:
        """Return whether the rules do not have a service any more."""
        return self._entry(service).is_removed

    def _entry(self, service: Service) -> ServiceEntry:
        return self._at[endpoint_of(service)]

    def _all(self) -> Iterator[tuple[ServiceEntry, PoolMember]]:
        return ((entry, member) for entry in self._at.values() for member in entry.members.values())

    # Choosing

    def derived_backend(self, service: Service, client: Endpoint) -> Backend:
        """Return the backend that Maglev gives for a client, whatever the pool's scheduler: it needs no state."""
        maglev = self._entry(service).maglev
        assert maglev is not None, "a service with a pool"
        return maglev.derive(client)

    def candidates(self, service: Service, pool: Pool) -> tuple[list[Backend], list[Backend]]:
        """Return the backends that take new connections, and those that have as many as they may."""
        entry = self._entry(service)
        full = [backend for backend in pool.backends if self._is_full(entry, backend)]
        shares = entry.shares(pool)
        return [backend for backend, share in shares.items() if share and backend not in full], full

    def scheduler(self, service: Service) -> Scheduler:
        """Return the scheduler that chooses among a pool's backends."""
        scheduler = self._entry(service).scheduler
        assert scheduler is not None, "a service with a pool"
        return scheduler

    def set_share(self, service: Service, backend: Backend, share: float) -> None:
        """Set how much of its part of the new connections a backend takes from now on: 0 none, 1 all."""
        entry = self._entry(service)
        if entry.of(backend).share == share:
            return  # a reload sets all of them again, and each table costs the packets some milliseconds
        entry.of(backend).share = share
        pool, scheduler = service.pool, entry.scheduler
        assert pool is not None and scheduler is not None, "a backend is in a pool"
        scheduler.open_for(entry.shares(pool))
        self._tables.put_table(entry, pool, scheduler)

    def set_marks(self, marks: Mapping[tuple[Endpoint, Endpoint], int]) -> None:
        """Set the marks by which the kernel translates, of services and their backends; without one we translate."""
        self._tables.marks = marks
        for entry, member in self._all():
            self._tables.put_mark(entry, member)

    def _is_full(self, entry: ServiceEntry, backend: Backend) -> bool:
        most = backend.max_connections
        return most is not None and entry.load(backend) >= most

    # Counting

    def flow_count(self) -> int:
        """Return how many connections there are, direct ones of clients to backends not counted."""
        return sum(row.flows for row in self._plan.services)

    def connected(self, number: int) -> None:
        """Count a connection that the backend with this number has accepted."""
        self._plan.backends[number].connections += 1

    def backends(self) -> list[BackendCounts]:
        """Return each backend with its connections."""
        shown: list[BackendCounts] = []
        for entry, member in self._all():
            row = self._plan.backends[member.number]
            shown.append(
                {
                    "service": entry.service.name,
                    "name": member.backend.name,
                    "address": show(endpoint_of(member.backend)),
                    "flows": row.flows,
                    "connections": row.connections,
                    "removed": member.is_removed,
                }
            )
        return shown

    # Changing

    def reload(self, rules: Rules) -> None:
        """Go by these rules from now on. Services and backends that are in them no more stay while they have flows."""
        wanted = {endpoint_of(service): service for service in rules.services}
        for endpoint, known in self._at.items():
            if endpoint not in wanted and not known.is_removed:
                self._remove(known)
        for endpoint, service in wanted.items():
            entry = self._at.get(endpoint)
            if entry is None or entry.is_removed or entry.service != service:
                self._at[endpoint] = self._update(entry or self._new_entry(service), service)
        # In the order of the rules: reports show them in it.
        self._at = {endpoint: self._at[endpoint] for endpoint in dict.fromkeys((*wanted, *self._at))}
        self.clients = ClientNetworks(rules.switches)
        self._plan.put_networks(self.clients.masked)
        self.prune()

    def prune(self) -> list[Kept]:
        """Forget what was removed from the rules and has no flows any more; return what stays of it."""
        kept: list[Kept] = []
        for endpoint, entry in list(self._at.items()):
            if entry.is_removed and not self._flows_of(entry):
                del self._at[endpoint]
                self._free_services.append(entry.number)
                self._plan.clear_service(entry.number)
            for place, member in list(entry.members.items()):
                # A service that was removed keeps all of its backends: a connection that is picked up may be any one's.
                with_flows = entry if entry.is_removed else member
                if not member.is_removed:
                    continue
                if self._flows_of(with_flows):
                    kept.append((entry.service, member.backend))
                else:
                    del entry.members[place]
                    self._free_backends.append(member.number)
                    self._plan.clear_backend(member.number)
            if entry.is_removed and endpoint in self._at:
                kept.append((entry.service, None))
        self._services_of = {}
        for entry, member in self._all():
            self._services_of.setdefault(endpoint_of(member.backend), []).append(entry.service)
        return kept

    def _flows_of(self, what: ServiceEntry | PoolMember) -> int:
        rows = self._plan.services if isinstance(what, ServiceEntry) else self._plan.backends
        return int(rows[what.number].flows)

    def _new_entry(self, service: Service) -> ServiceEntry:
        number = self._free_services.pop() if self._free_services else len(self._services)
        self._services[number : number + 1] = [service]
        self._plan.put_service(number, PlannedService(endpoint_of(service)))
        return ServiceEntry(number, service)

    def _update(self, entry: ServiceEntry, service: Service) -> ServiceEntry:
        """Bring an entry in line with its service in the rules."""
        pool = service.pool
        stays = entry.scheduler is not None and not entry.is_removed and entry.service.pool == pool
        entry.service, entry.is_removed = service, False
        if pool is not None and not stays:
            self._update_members(entry, pool)
            entry.maglev = Maglev(pool)
            entry.scheduler = self._tables.new_scheduler(entry, pool)
            entry.scheduler.open_for(entry.shares(pool))
        self._put(entry)
        return entry

    def _update_members(self, entry: ServiceEntry, pool: Pool) -> None:
        before, entry.members = entry.members, {}
        for backend in pool.members:
            place = endpoint_of(backend)
            member = before.pop(place, None)
            if member is None:
                self._add_member(entry, backend)
                continue
            if member.is_removed:
                member.is_removed, member.share = False, 1.0
            member.backend = self._backends[member.number] = backend
            entry.members[place] = member
        for place, member in before.items():
            member.is_removed, member.share = True, 0.0
            entry.members[place] = member

    def _add_member(self, entry: ServiceEntry, backend: Backend) -> None:
        number = self._free_backends.pop() if self._free_backends else len(self._backends)
        place = endpoint_of(backend)
        load = self._loads.of(endpoint_of(entry.service), place)
        self._backends[number : number + 1] = [backend]
        entry.members[place] = PoolMember(number, backend, load)
        self._tables.put_member(entry, entry.members[place])

    def _remove(self, entry: ServiceEntry) -> None:
        """Remove a service from the rules: new connections are refused, as by a host that has no such port."""
        pool, entry.is_removed = entry.service.pool, True
        for member in entry.members.values():
            member.is_removed, member.share = True, 0.0
        if pool is not None:
            pool = replace(pool, sorry=None, when_none=WhenNone.REFUSE)
        entry.service = replace(entry.service, pool=pool, mirrors=())
        self._put(entry)

    def _put(self, entry: ServiceEntry) -> None:
        self._services[entry.number] = entry.service
        self._tables.put_service(entry)
