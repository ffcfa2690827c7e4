"""Says what a restart, a stop and a move to the other host would do to a connection, and to all of them together:
docs/interruptions.md as code."""

from collections import Counter
from dataclasses import dataclass

from natmirror.engine.explained import ConnectionEntry
from natmirror.ha.member import PairMember
from natmirror.replication.synchroniser import SyncState
from natmirror.rules import Mirror, Reconnect, Rules, Service
from natmirror.runtime.explained import ConnectionFate, CopyFate, OutcomeEntry
from natmirror.runtime.shared_state import SharedState
from natmirror.runtime.shown import CostEntry, CostsEntry, RunSums


@dataclass(frozen=True, slots=True)
class Situation:
    """What a connection's fate depends on besides itself."""

    keeps_rules: bool
    """Whether a stop leaves the iptables rules in place."""
    is_in_pair: bool
    is_active: bool
    """Whether production passes this host."""
    shared_state: SyncState
    """Whether the other host, or the next run on this one, gets the bindings and copies of this one."""

    @property
    def shares_state(self) -> bool:
        return self.shared_state is SyncState.COMPLETE

    def restart(self, connection: ConnectionEntry, service: Service | None) -> OutcomeEntry:
        """Return what a restart would do. In a pair the active host stops only once the other one has taken over."""
        if not self.is_active:
            return _untouched(connection)
        if self.is_in_pair:
            return self.move(connection, service)
        fate = _lasts(connection, is_shared=self.shares_state, is_reset=not self.keeps_rules)
        return {"connection": fate, "copies": self._copies(connection, service)}

    def stop(self, connection: ConnectionEntry, service: Service | None) -> OutcomeEntry:
        """Return what a stop would do."""
        if self.is_in_pair or not self.is_active:
            return self.restart(connection, service)
        fate = ConnectionFate.WAITS if self.keeps_rules else ConnectionFate.RESET
        if connection["direct"] and not self.keeps_rules:
            fate = ConnectionFate.GOES_ON
        if _is_watched(connection):
            fate = ConnectionFate.NOT_TOUCHED
        return {"connection": fate, "copies": dict.fromkeys(_copied(connection), CopyFate.ENDS)}

    def move(self, connection: ConnectionEntry, service: Service | None) -> OutcomeEntry:
        """Return what it would do if the other host took over."""
        if not self.is_active:
            return _untouched(connection)
        fate = _lasts(connection, is_shared=self.shares_state, is_reset=False)
        return {"connection": fate, "copies": self._copies(connection, service)}

    def costs(self, sums: RunSums, rules: Rules) -> CostsEntry:
        """Return what a restart and a move would cost all connections and copies together."""
        move = self._cost(sums, rules, sums["pinned_flows"])
        keeps = self.keeps_rules or self.is_in_pair
        every = sum(backend["flows"] for backend in sums["backends"])
        return {
            "restart": move if keeps else self._cost(sums, rules, every),
            "move": move if self.is_in_pair else None,
        }

    def _cost(self, sums: RunSums, rules: Rules, connections: int) -> CostEntry:
        """Return the cost of an interruption that these connections may not survive without shared state."""
        mirrors = {(service.name, mirror.name): mirror for service in rules.services for mirror in service.mirrors}
        legs: Counter[CopyFate] = Counter()
        for shown in sums["mirrors"] if self.is_active else ():
            legs[self._copy(mirrors.get((shown["service"], shown["name"])))] += shown["legs"]
        return {
            "connections": connections if self.is_active and not self.shares_state else 0,
            "copies_ended": legs[CopyFate.ENDS],
            "copies_begun_again": legs[CopyFate.BEGINS_AGAIN],
        }

    def _copies(self, connection: ConnectionEntry, service: Service | None) -> dict[str, CopyFate]:
        mirrors = {} if service is None else {mirror.name: mirror for mirror in service.mirrors}
        return {name: self._copy(mirrors.get(name)) for name in _copied(connection)}

    def _copy(self, mirror: Mirror | None) -> CopyFate:
        if mirror is not None and self.shares_state and not mirror.speaks_openflow:
            return CopyFate.GOES_ON
        is_again = mirror is not None and mirror.reconnect is not Reconnect.NEVER
        return CopyFate.BEGINS_AGAIN if is_again else CopyFate.ENDS


def _lasts(connection: ConnectionEntry, *, is_shared: bool, is_reset: bool) -> ConnectionFate:
    """Return what becomes of a connection whose flow is lost here. ``is_shared``: its pinned binding is not;
    ``is_reset``: this host's kernel gets its packets for a while."""
    if connection["direct"]:
        return ConnectionFate.LOST
    if _is_watched(connection):
        return ConnectionFate.NOT_TOUCHED
    if is_reset:
        return ConnectionFate.RESET
    if not connection["is_open"]:
        return ConnectionFate.BEGINS_ANEW
    if connection["pinned"] and not is_shared:
        return ConnectionFate.GOES_ON_IF_BACKEND_SPEAKS
    return ConnectionFate.GOES_ON


def _untouched(connection: ConnectionEntry) -> OutcomeEntry:
    return {"connection": ConnectionFate.GOES_ON, "copies": dict.fromkeys(_copied(connection), CopyFate.GOES_ON)}


def _is_watched(connection: ConnectionEntry) -> bool:
    return connection["backend"] is None


def _copied(connection: ConnectionEntry) -> list[str]:
    """Return the mirrors that the connection has a copy or a session for, or waits for one."""
    return [copy["mirror"] for copy in connection["copies"] if copy["copied"] or copy["begins_again"]]


def situation_of(member: PairMember, shared: SharedState | None, *, keeps_rules: bool) -> Situation:
    """Return the situation of a run now; from any thread."""
    state = SyncState.OFF if shared is None else shared.show()["state"]
    return Situation(keeps_rules, member.is_in_pair, member.is_active, state)
