"""The services and backends of an engine, each with a number, and how new connections are spread over them.

The table holds the services of the rules, and removed services that still have connections and get no new ones. Each
flow's row holds the numbers of its service and its backend. A number is used again once no flow has it. A service is
identified by its endpoint, and a backend by its endpoint within the service: a reload that changes anything else about
them leaves their connections where they are.
"""

from collections.abc import Iterable, Iterator, Mapping
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
"""Limit on a service's backends that only another host's records name, not the rules: wrong records must not fill the
tables."""


class BackendCounts(TypedDict):
    """A backend's connections in an engine."""

    service: str
    """The service's name in the rules."""
    name: str
    """The backend's name in the rules."""
    address: str
    """The backend's address and port."""
    flows: int
    """Its open connections."""
    connections: int
    """Connections that it has accepted since natmirror started."""
    refused_syns: int
    """Clients' SYNs that it has answered with a RST."""
    unanswered_syns: int
    """Clients' SYNs that it has not answered in time."""
    full_syns: int
    """New connections of the service that came while it had as many as its ``max-connections`` allows."""
    max_connections: int | None
    """The limit on its connections; null for none."""
    removed: bool
    """Whether the rules no longer name it."""


class ServiceTable:
    """Services and backends of the rules, for the flows of a gear."""

    def __init__(self, rules: Rules, gear: Gear, connection_counts: ConnectionCounts) -> None:
        self._connection_counts = connection_counts
        self._plan = Plan(gear.handle)
        self._tables = ServiceTables(self._plan)
        self._services: list[Service] = []  # by number; a free number still has its last service
        self._backends: list[Backend] = []
        self._free_services: list[int] = []
        self._free_backends: list[int] = []
        self._at: dict[Endpoint, ServiceEntry] = {}
        self._services_of: dict[Endpoint, list[Service]] = {}
        self.clients = ClientNetworks(())
        """The client networks."""
        self.unlisted_backends = 0
        """The number of backends that were added, since the start, for connections that another host reported."""
        self.suspect = self._plan.suspect
        """Plan.suspect()."""
        self.put_mirrors = self._plan.put_mirrors
        """Plan.put_mirrors()."""
        self.reload(rules)

    # Finding

    def at(self, endpoint: Endpoint) -> Service | None:
        entry = self._at.get(endpoint)
        return None if entry is None else entry.service

    def service(self, number: int) -> Service:
        return self._services[number]

    def backend(self, number: int) -> Backend:
        return self._backends[number]

    def service_named(self, name: str) -> Service:
        """Return the service with a name, a listed one before a removed one. Raise ValueError if there is none."""
        if named := self.services_named(name):
            return named[0]
        raise ValueError(f"there is no service {name}")

    def services_named(self, name: str) -> list[Service]:
        """Return the services with a name: the listed one first, then removed ones."""
        entries = sorted(self._at.values(), key=lambda entry: entry.is_removed)
        return [entry.service for entry in entries if entry.service.name == name]

    def number(self, service: Service) -> int:
        return self._entry(service).number

    def backend_number(self, service: Service, endpoint: Endpoint) -> int:
        """Return the number of a service's backend at an endpoint."""
        return self._entry(service).members[endpoint].number

    def backend_named(self, service: str, backend: str) -> tuple[Service, Backend]:
        """Return a backend by its service's and its own name. Raise ValueError if there is none."""
        for entry, member in self._all():
            if (entry.service.name, member.backend.name) == (service, backend):
                return entry.service, member.backend
        raise ValueError(f"there is no backend {backend} in {service}")

    def backend_at(self, service: Service, endpoint: Endpoint) -> Backend:
        return self._entry(service).members[endpoint].backend

    def reported_backend(self, service: Service, endpoint: Endpoint) -> Backend | None:
        """Return the backend of a connection that another host reports; None if the service cannot have one there. An
        unlisted backend, which earlier rules or that host's rules may name, is added as a removed one."""
        entry = self._entry(service)
        if endpoint not in entry.members and not self._add_unlisted(entry, endpoint):
            return None
        return entry.members[endpoint].backend

    def _add_unlisted(self, entry: ServiceEntry, endpoint: Endpoint) -> bool:
        pool, (address, port) = entry.service.pool, endpoint
        if pool is None or not port or endpoint in self._at or len(entry.members) >= len(pool.members) + MAX_UNLISTED:
            return False
        self._add_member(entry, Backend(show(endpoint), IPv4Address(address), port))
        entry.members[endpoint].share, entry.members[endpoint].is_removed = 0.0, True
        self._services_of.setdefault(endpoint, []).append(entry.service)
        self.unlisted_backends += 1
        return True

    def all(self) -> list[Service]:
        """Return the services of the rules, then the removed ones."""
        return [entry.service for entry in self._at.values()]

    def members(self, service: Service) -> list[PoolMember]:
        """Return the backends of a service's pool, the sorry server and removed backends included."""
        return list(self._entry(service).members.values())

    def services_of(self, backend: Endpoint) -> list[Service]:
        """Return the services that a backend belongs to. If there are several, a reply without a flow is ambiguous."""
        return self._services_of.get(backend, [])

    def is_removed(self, service: Service) -> bool:
        """Return whether the rules no longer name a service."""
        return self._entry(service).is_removed

    def _entry(self, service: Service) -> ServiceEntry:
        return self._at[endpoint_of(service)]

    def _all(self) -> Iterator[tuple[ServiceEntry, PoolMember]]:
        return ((entry, member) for entry in self._at.values() for member in entry.members.values())

    # Choosing

    def derived_backend(self, service: Service, client: Endpoint) -> Backend:
        """Return the derived backend of a client: Maglev's choice over the whole pool, whatever the pool's
        scheduler."""
        return self.maglev(service).derive(client)

    def maglev(self, service: Service) -> Maglev:
        """Return the table of a service with a pool that gives the derived backends, whatever its scheduler."""
        maglev = self._entry(service).maglev
        assert maglev is not None, "a service with a pool"
        return maglev

    def derived_endpoint(self, service: Service, client: Endpoint) -> Endpoint:
        """Return where a client's packet goes that has no flow: to its derived backend, or to the service itself."""
        return endpoint_of(service if service.pool is None else self.derived_backend(service, client))

    def candidates(self, service: Service, pool: Pool) -> tuple[list[Backend], list[Backend]]:
        """Return the backends that accept new connections, and those that have reached their limit."""
        entry = self._entry(service)
        full = [backend for backend in pool.backends if self._is_full(entry, backend)]
        shares = entry.shares(pool)
        return [backend for backend, share in shares.items() if share and backend not in full], full

    def scheduler(self, service: Service) -> Scheduler:
        scheduler = self._entry(service).scheduler
        assert scheduler is not None, "a service with a pool"
        return scheduler

    def set_share(self, service: Service, backend: Backend, share: float, weight: int | None) -> None:
        """Set a backend's share: the fraction, 0 to 1, of its normal part of new connections; and its weight, or None
        for that of the rules."""
        entry = self._entry(service)
        member = entry.member_of(backend)
        if (member.share, member.weight) == (share, weight):
            return  # a reload sets all shares again, and computing a table delays packets by some milliseconds
        member.share, member.weight = share, weight
        pool, scheduler = service.pool, entry.scheduler
        assert pool is not None and scheduler is not None, "a backend is in a pool"
        scheduler.set_shares(entry.shares(pool), entry.weights(pool))
        self._tables.put_table(entry, pool, scheduler)

    def set_marks(self, marks: Mapping[tuple[Endpoint, Endpoint], int]) -> None:
        """Set the mark for each pair of a service and one of its backends. Without a mark, natmirror rewrites the
        packets."""
        self._tables.marks = marks
        for entry, member in self._all():
            self._tables.put_mark(entry, member)

    def _is_full(self, entry: ServiceEntry, backend: Backend) -> bool:
        most = backend.max_connections
        return most is not None and entry.connections_of(backend) >= most

    # Counting

    def names(self) -> list[str]:
        """Return the name of each service, by its number. A free number still has its last service's name."""
        return [service.name for service in self._services]

    def listed(self) -> dict[str, int]:
        """Return the number of each service that the rules name, by its name."""
        return {entry.service.name: entry.number for entry in self._at.values() if not entry.is_removed}

    def numbered(self) -> list[tuple[int, Service]]:
        """Return each service with its number."""
        return [(entry.number, entry.service) for entry in self._at.values()]

    def flow_count(self) -> int:
        """Return the number of open connections, without direct ones of clients to backends."""
        return sum(row.flows - row.closed for row in self._plan.services)

    def count_connection(self, number: int) -> None:
        """Count a connection that the backend with this number accepted."""
        self._plan.backends[number].connections += 1

    def count_failed_syn(self, service: Service, backend: Backend, *, is_refused: bool) -> None:
        """Count a SYN that a backend has refused or left unanswered, unless the backend is forgotten."""
        member = self._entry(service).members.get(endpoint_of(backend))
        if member is None:
            return
        if is_refused:
            member.refused_syns += 1
        else:
            member.unanswered_syns += 1

    def count_full(self, service: Service, full: Iterable[Backend]) -> None:
        """Count a new connection that these backends cannot get, because they have reached their limit."""
        for backend in full:
            self._entry(service).member_of(backend).full_syns += 1

    def accepted(self, service: Service, backend: Backend) -> int:
        """Return the number of connections of a service that a backend has accepted; 0 for a forgotten backend."""
        member = self._entry(service).members.get(endpoint_of(backend))
        return 0 if member is None else self._plan.backends[member.number].connections

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
                    "flows": row.flows - row.closed,
                    "connections": row.connections,
                    "refused_syns": member.refused_syns,
                    "unanswered_syns": member.unanswered_syns,
                    "full_syns": member.full_syns,
                    "max_connections": member.backend.max_connections,
                    "removed": member.is_removed,
                }
            )
        return shown

    # Changing

    def reload(self, rules: Rules) -> None:
        """Apply these rules. Services and backends that they no longer name stay while they have flows."""
        wanted = {endpoint_of(service): service for service in rules.services}
        for endpoint, known in self._at.items():
            if endpoint not in wanted and not known.is_removed:
                self._remove(known)
        for endpoint, service in wanted.items():
            entry = self._at.get(endpoint)
            if entry is None or entry.is_removed or entry.service != service:
                self._at[endpoint] = self._update(entry or self._new_entry(service), service)
        # In the order of the rules, which is the order of reports.
        self._at = {endpoint: self._at[endpoint] for endpoint in dict.fromkeys((*wanted, *self._at))}
        self.clients = ClientNetworks(rules.switches)
        self._plan.put_networks(self.clients.masked)
        self.prune()

    def prune(self) -> list[Kept]:
        """Forget removed services and backends without flows; return the removed ones that stay."""
        kept: list[Kept] = []
        for service_endpoint, entry in list(self._at.items()):
            if entry.is_removed and not self._flows_of(entry):
                del self._at[service_endpoint]
                self._free_services.append(entry.number)
                self._plan.clear_service(entry.number)
            for endpoint, member in list(entry.members.items()):
                # A removed service keeps all of its backends: a connection that is picked up may be with any of them.
                owner = entry if entry.is_removed else member
                if not member.is_removed:
                    continue
                if self._flows_of(owner):
                    kept.append((entry.service, member.backend))
                else:
                    del entry.members[endpoint]
                    self._free_backends.append(member.number)
                    self._plan.clear_backend(member.number)
            if entry.is_removed and service_endpoint in self._at:
                kept.append((entry.service, None))
        self._services_of = {}
        for entry, member in self._all():
            self._services_of.setdefault(endpoint_of(member.backend), []).append(entry.service)
        return kept

    def _flows_of(self, owner: ServiceEntry | PoolMember) -> int:
        rows = self._plan.services if isinstance(owner, ServiceEntry) else self._plan.backends
        return rows[owner.number].flows

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
            entry.scheduler.set_shares(entry.shares(pool), entry.weights(pool))
        self._put(entry)
        return entry

    def _update_members(self, entry: ServiceEntry, pool: Pool) -> None:
        before, entry.members = entry.members, {}
        for backend in pool.members:
            endpoint = endpoint_of(backend)
            member = before.pop(endpoint, None)
            if member is None:
                self._add_member(entry, backend)
                continue
            if member.is_removed:
                member.is_removed, member.share, member.weight = False, 1.0, None
            member.backend = self._backends[member.number] = backend
            entry.members[endpoint] = member
        for endpoint, member in before.items():
            member.is_removed, member.share = True, 0.0
            entry.members[endpoint] = member

    def _add_member(self, entry: ServiceEntry, backend: Backend) -> None:
        number = self._free_backends.pop() if self._free_backends else len(self._backends)
        endpoint = endpoint_of(backend)
        count = self._connection_counts.of(endpoint_of(entry.service), endpoint)
        self._backends[number : number + 1] = [backend]
        entry.members[endpoint] = PoolMember(number, backend, count)
        self._tables.put_member(entry, entry.members[endpoint])

    def _remove(self, entry: ServiceEntry) -> None:
        """Mark a service as removed: new connections get a RST, as from a host that does not listen on the port."""
        pool, entry.is_removed = entry.service.pool, True
        for member in entry.members.values():
            member.is_removed, member.share = True, 0.0
        if pool is not None:
            pool = replace(pool, sorry=None, when_none=WhenNone.REFUSE)
        entry.service = replace(entry.service, pool=pool, mirrors=(), per_client=None)
        self._put(entry)

    def _put(self, entry: ServiceEntry) -> None:
        self._services[entry.number] = entry.service
        self._tables.put_service(entry)
