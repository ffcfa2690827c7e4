"""Shows an engine as values for JSON: its counters, flows, decisions and legs. shown.py declares their fields."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from natmirror.engine.counters import Counters, EngineCounter
from natmirror.engine.flow_notes import FlowNote, GoneNote
from natmirror.engine.shown import Counts, SwitchDecisions
from natmirror.fastpath import FlowRow, Gear
from natmirror.fastpath.flow_flags import is_direct
from natmirror.fastpath.flow_states import State
from natmirror.fastpath.row_copies import copy_of_flow
from natmirror.mirror.faults import Faults
from natmirror.mirror.report import MirrorReport
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.mirror.sessions.statement_queue import StatementQueue
from natmirror.mirror.shown import MirrorEntry
from natmirror.nat.client_limits import client_limits
from natmirror.nat.flow import Flow
from natmirror.nat.flows import Nat
from natmirror.nat.services import ServiceTable
from natmirror.nat.traffic import ServiceTraffic, traffic
from natmirror.net.endpoint import show
from natmirror.openflow.decisions import By, Decisions

_COUNTED_IN_C = (
    EngineCounter.PACKETS_DECIDED_IN_C,
    EngineCounter.BAD_CHECKSUM_PACKETS,
    EngineCounter.MIRROR_PACKETS,
    EngineCounter.PACKETS_WITHOUT_FLOW,
    EngineCounter.FLOWS_OPENED,
    EngineCounter.FLOWS_EVICTED,
    EngineCounter.DIRECT_CONNECTIONS,
)
"""The counters that C increments too."""


IsWanted = Callable[[str, str | None, State], bool]
"""Whether flows of this service, backend and state are wanted."""


@dataclass(frozen=True, slots=True)
class KeptDecisions:
    """What an engine keeps of a switch's decisions: any thread may show it."""

    client: str
    service: str
    decisions: Decisions

    def show(self, now: float) -> SwitchDecisions:
        """Return the decisions as values for JSON."""
        sides = self.decisions.plain(now)
        return {
            "client": self.client,
            "service": self.service,
            "backend": sides[By.BACKEND],
            "master": sides[By.MASTER],
        }


class EngineReport:
    """The report of one engine, the one with the number ``thread``. ``now`` as in Engine."""

    def __init__(
        self,
        thread: int,
        gear: Gear,
        services: ServiceTable,
        nat: Nat,
        sessions: MasterSessions,
        mirrors: MirrorReport,
        faults: Faults,
        statements: StatementQueue,
        counters: Counters,
    ) -> None:
        self._thread = thread
        self._gear = gear
        self._services = services
        self._nat = nat
        self._sessions = sessions
        self._mirrors = mirrors
        self._faults = faults
        self._statements = statements
        self._counters = counters

    def counts(self, now: float) -> Counts:
        """Return the engine's counters without those of services and mirrors."""
        counters = {name: self._counters.counters[name] for name in EngineCounter}
        counters[EngineCounter.FLOWS_EVICTED] += self._nat.evicted
        counters[EngineCounter.VERDICT_MESSAGES_LEFT_OUT] += self._statements.left_out
        for name in _COUNTED_IN_C:
            counters[name] += getattr(self._gear.counters, name)
        return {
            "counters": counters,
            "drops": dict(sorted((self._counters.drops + self._gear.drops()).items())),
            "packets_decided_in_python": {reason: count for reason, count in self._gear.punts().items() if count},
            "packets_over_limit": {reason: count for reason, count in self._gear.over_limit().items() if count},
            "flows": self._services.flow_count(),
            "pinned_flows": self._nat.table.announced(),
            "backends": self._services.backends(),
            "client_limits": [*client_limits(self._services.numbered(), self._gear.clients, now)],
            "mirror_memory": self._mirrors.memory(),
            "faults": self._faults.show(self._thread),
            "answers_not_kept": dict(sorted(self._sessions.directory.not_kept.items())),
        }

    def services(self) -> list[ServiceTraffic]:
        """Return the traffic of services."""
        return traffic(self._services.numbered(), self._gear)

    def mirrors(self, now: float) -> list[MirrorEntry]:
        """Return the counters of mirrors."""
        return self._mirrors.mirrors(self._services.names(), now)

    def flows(self, now: float, ids: Iterable[int] | None = None, is_wanted: IsWanted | None = None) -> list[FlowNote]:
        """Note the flows with these numbers, or all, each with its legs. Leave out numbers without a flow, direct
        connections, and flows of whose service, backend and state ``is_wanted`` returns False."""
        rows = self._nat.rows(self._nat.table.ids() if ids is None else ids)
        if is_wanted is not None:
            rows = (row for row in rows if is_wanted(*self._names(row, self._nat.kept(row)), State(row.state)))
        return [self.flow(row, now) for row in rows if not is_direct(row)]

    def decisions(self, ids: Iterable[int]) -> list[KeptDecisions]:
        """Return the orders of backend and masters for the switches behind the flows with these numbers."""
        kept = ((flow, self._sessions.decisions_of(flow.row.id)) for flow in self._nat.by_ids(ids))
        return [
            KeptDecisions(show(flow.client), flow.service.name, one.copy()) for flow, one in kept if one is not None
        ]

    def lingering(self, now: float, leg_ids: Iterable[int] | None = None) -> list[GoneNote]:
        """Note the legs with these numbers, or all, that have outlived their flow."""
        return [GoneNote(now, *found) for found in self._mirrors.lingering(leg_ids)]

    def flow(self, row: FlowRow, now: float) -> FlowNote:
        """Note a flow with its legs."""
        kept = self._nat.kept(row)  # without it, there are no legs, and to make it takes as long as the rest
        legs = [] if kept is None else self._mirrors.legs_of(kept)
        return FlowNote(now, *self._names(row, kept), copy_of_flow(row), legs)

    def _names(self, row: FlowRow, kept: Flow | None) -> tuple[str, str | None]:
        """Return the names of a flow's service and backend."""
        service, backend = self._nat.ends_of(row) if kept is None else (kept.service, kept.backend)
        return service.name, None if backend is None else backend.name
