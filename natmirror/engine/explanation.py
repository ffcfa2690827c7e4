"""Explains what an engine does with a client's connections: those that it has, and one that may come.

It asks the functions that decide, and changes nothing.
"""

from natmirror.engine.explained import (
    ClientUseEntry,
    ConnectionEntry,
    FailureEntry,
    FailureKind,
    MirrorEnds,
    NewConnectionEntry,
    Obstacle,
    PoolMemberEntry,
)
from natmirror.engine.report import EngineReport
from natmirror.fastpath.flow_flags import (
    is_ambiguous,
    is_direct,
    is_killed,
    is_mptcp,
    is_picked_up,
    is_pinned,
    is_throttled,
    is_unconfirmed,
)
from natmirror.fastpath.flow_states import IS_OPEN, State
from natmirror.mirror.explanation import MirrorExplanation
from natmirror.mirror.shown import ForeseenCopy
from natmirror.nat.client_flows import ids_of
from natmirror.nat.failed_attempts import AVOID_TIMEOUT, Failure
from natmirror.nat.flow import Flow
from natmirror.nat.flows import Nat
from natmirror.nat.new_connections import Choice, NewConnections, Opening
from natmirror.nat.service_tables import PoolMember
from natmirror.nat.services import ServiceTable
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.reasons import EndReason
from natmirror.rules import Balance, HashInput, Mirror, Pool, Service


class EngineExplanation:
    """Explains one engine. ``now`` as in Engine."""

    def __init__(
        self,
        services: ServiceTable,
        nat: Nat,
        new_connections: NewConnections,
        report: EngineReport,
        mirrors: MirrorExplanation,
    ) -> None:
        self._services = services
        self._nat = nat
        self._new_connections = new_connections
        self._report = report
        self._mirrors = mirrors

    def foresee(self, address: bytes, port: int | None, name: str | None, now: float) -> list[NewConnectionEntry]:
        """Return what would become of a client's new connection to each service of the rules, or to the one with this
        name."""
        listed = (service for service in self._services.all() if not self._services.is_removed(service))
        client = address, port or 0
        return [self._foresee(one, client, now, port is not None) for one in listed if name in (None, one.name)]

    def _foresee(self, service: Service, client: Endpoint, now: float, knows_port: bool) -> NewConnectionEntry:
        choice, opening = self._new_connections.foresee(service, client, now)
        pool, backend = service.pool, choice.backend
        is_maglev = pool is not None and pool.balance is Balance.MAGLEV
        is_hashed = is_maglev and (knows_port or pool is None or pool.hash is HashInput.ADDRESS)
        needs_port = is_maglev and not is_hashed and opening is Opening.TO_BACKEND
        members = [] if pool is None else [one for one in self._services.members(service) if not one.is_removed]
        is_sorry = backend is not None and pool is not None and backend == pool.sorry
        return {
            "service": service.name,
            "address": show(endpoint_of(service)),
            "opening": opening,
            "per_client": self._use(service, client, now),
            "backend": None if backend is None or (needs_port and not is_sorry) else backend.name,
            "needs_port": needs_port and not is_sorry,
            "balance": None if pool is None else pool.balance,
            "slot": self._services.maglev(service).slot_of(client) if is_hashed else None,
            "first_choice": self._services.derived_backend(service, client).name if is_hashed else None,
            "has_tried_all": choice.has_tried_all,
            "pool": [self._member(service, client, one, choice, now, is_hashed) for one in members],
            "copies": self._foreseen_copies(service, client, choice, opening),
            "mirrors": [_ends_of(mirror) for mirror in service.mirrors],
        }

    def _use(self, service: Service, client: Endpoint, now: float) -> ClientUseEntry | None:
        use, limits = self._new_connections.use_of(service, client, now), service.per_client
        if use is None or limits is None:
            return None
        return {
            "connections": use.connections,
            "max_connections": limits.max_connections,
            "new_connections": None if limits.new_connections is None else str(limits.new_connections),
            "new_connections_left": use.tokens,
        }

    def _member(
        self, service: Service, client: Endpoint, member: PoolMember, choice: Choice, now: float, is_hashed: bool
    ) -> PoolMemberEntry:
        backend = member.backend
        failure = next((one for one in choice.failures if one.backend == backend), None)
        lends_slot = is_hashed and backend != choice.backend and self._lends_slot(service, client, member)
        obstacles = {
            Obstacle.CLOSED: not member.share,
            Obstacle.FULL: backend in choice.full,
            Obstacle.FAILED: failure is not None and not choice.has_tried_all,
            Obstacle.SLOW_START: 0 < member.share < 1 and lends_slot,
            Obstacle.WEIGHTS: member.share == 1 and lends_slot,
        }
        return {
            "backend": backend.name,
            "address": show(endpoint_of(backend)),
            "weight": backend.weight if member.weight is None else member.weight,
            "share": member.share,
            "connections": member.connection_count[0],
            "max_connections": backend.max_connections,
            "obstacles": [obstacle for obstacle, is_one in obstacles.items() if is_one],
            "failure": None if failure is None else _failure(failure, now),
        }

    def _lends_slot(self, service: Service, client: Endpoint, member: PoolMember) -> bool:
        """Return whether the client's slot is this backend's, and another one has it for this one's share or weight."""
        maglev = self._services.maglev(service)
        return maglev.derive(client) == member.backend and maglev.gives_slot_away(client)

    def _foreseen_copies(
        self, service: Service, client: Endpoint, choice: Choice, opening: Opening
    ) -> list[ForeseenCopy]:
        if opening is Opening.NO_ROOM:
            return [{"mirror": mirror.name, "reason": EndReason.FLOW_TABLE_FULL} for mirror in service.mirrors]
        if opening not in (Opening.TO_BACKEND, Opening.WATCHED):
            return []
        return self._mirrors.foresee(service, client[0], endpoint_of(choice.backend or service))

    # Connections

    def ids_of(self, client: Endpoint) -> list[int]:
        """Return the numbers of the connections of a client's address and port."""
        return ids_of(self._nat.table, self._services, client)

    def connections(self, ids: list[int], now: float) -> list[ConnectionEntry]:
        """Return the connections with these numbers; leave out numbers without one."""
        return [self._connection(flow, now) for flow in self._nat.by_ids(ids)]

    def _connection(self, flow: Flow, now: float) -> ConnectionEntry:
        row, pool = flow.row, flow.service.pool
        is_plain = not is_direct(row)
        shown = self._report.flow(row, now).show()
        return {
            **shown,
            "backend": shown["backend"] if is_plain else self._direct_backend(flow),
            "direct": not is_plain,
            "is_open": row.state in IS_OPEN and not is_killed(row),
            "is_over": row.state >= State.TIME_WAIT,
            "pinned": is_plain and is_pinned(row),
            "derived_backend": self._derived(flow.service, pool, flow.client) if is_plain else None,
            "picked_up": is_picked_up(row),
            "unconfirmed": is_unconfirmed(row),
            "reset_by_natmirror": is_killed(row),
            "ambiguous": is_ambiguous(row),
            "mptcp": is_mptcp(row),
            "throttled": is_throttled(row),
            "copies": self._mirrors.copies_of(flow, now) if is_plain and row.state < State.TIME_WAIT else [],
        }

    def _direct_backend(self, flow: Flow) -> str | None:
        """Return the backend of a direct connection, whose row has only the endpoint."""
        there = bytes(flow.row.backend[0:4]), flow.row.backend_port
        members = (member.backend for member in self._services.members(flow.service))
        return next((backend.name for backend in members if endpoint_of(backend) == there), None)

    def _derived(self, service: Service, pool: Pool | None, client: Endpoint) -> str | None:
        return None if pool is None else self._services.derived_backend(service, client).name


def _failure(failure: Failure, now: float) -> FailureEntry:
    return {
        "kind": FailureKind.REFUSED if failure.accepted is None else FailureKind.UNANSWERED,
        "failed_seconds": round(now - failure.at, 3),
        "avoided_seconds": round(failure.at + AVOID_TIMEOUT - now, 3),
    }


def _ends_of(mirror: Mirror) -> MirrorEnds:
    source = None if mirror.source is None else str(mirror.source)
    return {"mirror": mirror.name, "address": show(endpoint_of(mirror)), "source": source}
