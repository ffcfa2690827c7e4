"""Shows legs, sessions and mirrors as values for JSON; shown.py declares their fields."""

from collections.abc import Iterable, Sequence

from natmirror.fastpath.flow_states import FlowState
from natmirror.mirror.copies import MirroredFlow, StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.ledger import add_connections
from natmirror.mirror.parts import MirrorParts
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.totals import no_sessions
from natmirror.mirror.shown import PHASES, FlowEntry, LegEntry, LegPhase, MirrorEntry, MirrorMemory, SessionWait
from natmirror.net.endpoint import Endpoint, show
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_states import LegState


class MirrorReport:
    """Reads legs, ledger and sessions; changes nothing."""

    def __init__(self, parts: MirrorParts) -> None:
        self._gear = parts.gear
        self._memory = parts.gear.memory
        self._legs = parts.legs
        self._ledger = parts.ledger
        self._sessions = parts.sessions
        self._streams = parts.streams

    def legs_of(self, flow: MirroredFlow, now: float) -> list[LegEntry]:
        """Return the flow's legs and sessions."""
        stream = self._streams.get(flow)
        copies = () if stream is None else stream.copies
        shown = [shown_copy(copy, copy.leg, now) for copy in copies if copy.leg is not None]
        shown += [_without_leg(copy.mirror, EndReason.RECONNECTING) for copy in copies if copy.waits]
        return shown + [shown_session(master, now) for master in self._sessions.masters_of(flow.row.id)]

    def lingering(self, now: float, leg_ids: Iterable[int] | None = None) -> list[FlowEntry]:
        """Return the legs with these numbers, or all, that have outlived their flow, each below a flow whose state is
        ``gone``."""
        found = []
        for owner, leg in self._legs.owners(leg_ids):
            if isinstance(owner, StreamCopy) and owner.stream.state is StreamState.FORGOTTEN:
                found.append(gone_flow(owner.service_name, owner.stream.flow.client, shown_copy(owner, leg, now)))
            elif isinstance(owner, MasterSession) and owner.connection.is_forgotten:
                found.append(gone_flow(owner.service_name, owner.connection.client, shown_session(owner, now)))
        return found

    def mirrors(self, services: Sequence[str], now: float) -> list[MirrorEntry]:
        """Return the sums of each mirror, including its open legs. ``services`` names each service, by its number."""
        shown, sums = self._ledger.show(self._gear, services, now), self._sessions.sums()
        for entry in shown:
            key = (entry["service"], entry["name"])
            if key in sums or self._ledger.has_sessions(*key):
                entry["sessions"] = sums.get(key) or no_sessions()
        entries = {(entry["service"], entry["name"]): entry for entry in shown}
        for (service, mirror, reason), count in self._sessions.without_leg().items():
            if self._ledger.has_sessions(service, mirror):
                add_connections(entries[service, mirror], reason, count)
        return shown

    def memory(self) -> MirrorMemory:
        """Return the use and the limit of the memory budget."""
        memory = self._memory
        return {
            "used_bytes": memory.used,
            "limit_bytes": memory.limit,
            "client_limit_bytes": memory.client_limit,
            "largest_client_bytes": memory.most_used,
        }


def gone_flow(service: str, client: Endpoint, leg: LegEntry) -> FlowEntry:
    """Return a flow in state ``gone``, with the leg that has outlived it."""
    return {
        "service": service,
        "client": show(client),
        "backend": None,
        "state": FlowState.GONE,
        "idle_seconds": None,
        "guest": False,
        "mirrored": True,
        "client_bytes": leg["client_bytes"],
        "backend_bytes": None,
        "legs": [leg],
    }


def shown_copy(copy: StreamCopy, leg: Leg, now: float) -> LegEntry:
    """Return a leg that carries its client's bytes."""
    missing = copy.missing_bytes if leg.ended is None else 0
    return _leg(copy.mirror, leg, copy.stream.client_bytes - copy.before, missing, now)


def shown_session(master: MasterSession, now: float) -> LegEntry:
    """Return a session with its leg, or without one."""
    leg, session = master.leg, master.session
    if leg is None:
        why = master.why_without_leg
        reason = session_wait(master) if why is None or why is EndReason.RECONNECTING else why
        return _without_leg(master.mirror, reason) | {"messages_missed": master.messages_missed}
    shown = _leg(master.mirror, leg, int(leg.row.client_bytes), leg.lag_bytes, now)
    shown["session"] = None if session is None else session.shown()
    shown["messages_missed"] = master.messages_missed
    return shown


def session_wait(master: MasterSession) -> SessionWait:
    """Return what a session waits for that has not begun yet."""
    return SessionWait.FEATURES if master.connection.is_picked_up else SessionWait.HELLOS


def _without_leg(mirror: Mirror, reason: EndReason | SessionWait) -> LegEntry:
    return {
        "mirror": mirror.name,
        "state": LegPhase.NONE,
        "reason": reason,
        "client_bytes": 0,
        "sent_bytes": 0,
        "acked_bytes": 0,
        "in_flight_bytes": 0,
        "lag_bytes": 0,
        "lag_seconds": 0.0,
        "consumed_bytes": 0,
        "retransmits": 0,
        "timeouts": 0,
        "rtt_seconds": None,
        "session": None,
        "messages_missed": 0,
    }


def _leg(mirror: Mirror, leg: Leg, client_bytes: int, lag_bytes: int, now: float) -> LegEntry:
    return {
        "mirror": mirror.name,
        "state": LegPhase.ENDED if leg.ended is not None else PHASES[LegState(leg.state)],
        "reason": leg.ended,
        "client_bytes": client_bytes,
        "sent_bytes": leg.sent_bytes,
        "acked_bytes": leg.acked_bytes,
        "in_flight_bytes": leg.in_flight_bytes,
        "lag_bytes": lag_bytes,
        "lag_seconds": round(leg.lag_seconds(now), 3),
        "consumed_bytes": leg.consumed_bytes,
        "retransmits": leg.retransmits,
        "timeouts": leg.timeouts,
        "rtt_seconds": leg.rtt_seconds,
        "session": None,
        "messages_missed": 0,
    }
