"""Mirroring's report, as values for JSON: legs, legs that have outlived their flows, and each mirror's sums."""

from typing import Any

from natmirror.mirror.copies import MirroredFlow, StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.parts import MirrorParts
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.net.endpoint import Endpoint, show
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_states import LegState


class MirrorReport:
    """Reads legs, ledger and sessions; changes nothing."""

    def __init__(self, parts: MirrorParts) -> None:
        self._gear = parts.gear
        self._memory = parts.memory
        self._legs = parts.legs
        self._ledger = parts.ledger
        self._sessions = parts.sessions
        self._streams = parts.streams

    def legs_of(self, flow: MirroredFlow, now: float) -> list[dict[str, Any]]:
        stream = self._streams.get(flow)
        copies = () if stream is None else stream.copies
        return [shown_copy(copy, copy.leg, now) for copy in copies if copy.leg is not None] + [
            shown_session(master, now) for master in self._sessions.masters_of(flow.row.id)
        ]

    def lingering(self, now: float) -> list[dict[str, Any]]:
        """Return the legs that have outlived their flows, each as a flow in state ``gone`` with its leg."""
        found = []
        for owner, leg in self._legs.owners():
            if isinstance(owner, StreamCopy) and owner.stream.state is StreamState.FORGOTTEN:
                found.append(gone_flow(owner.service_name, owner.stream.flow.client, shown_copy(owner, leg, now)))
            elif isinstance(owner, MasterSession) and owner.connection.is_forgotten:
                found.append(gone_flow(owner.service_name, owner.connection.client, shown_session(owner, now)))
        return found

    def mirrors(self, now: float) -> list[dict[str, Any]]:
        """Return each mirror's sums, with those of living legs."""
        shown, sums = self._ledger.show(self._gear, now), self._sessions.sums()
        for entry in shown:
            entry["sessions"] = sums.get((entry["service"], entry["name"]), {})
        return shown

    def memory(self) -> dict[str, int]:
        """Return the bytes buffered for mirrors, and their limit."""
        return {"used_bytes": self._memory.used, "limit_bytes": self._memory.limit}


def gone_flow(service: str, client: Endpoint, leg: dict[str, Any]) -> dict[str, Any]:
    """Return a flow in state ``gone``, with the leg that has outlived it."""
    return {
        "service": service,
        "client": show(client),
        "backend": None,
        "state": "gone",
        "client_bytes": leg["client_bytes"],
        "legs": [leg],
    }


def shown_copy(copy: StreamCopy, leg: Leg, now: float) -> dict[str, Any]:
    """Return a leg that carries its client's bytes."""
    missing = copy.missing_bytes if leg.ended is None else 0
    return _leg(copy.mirror, leg, copy.stream.client_bytes, missing, now)


def shown_session(master: MasterSession, now: float) -> dict[str, Any]:
    """Return a session, with its leg where it has one."""
    leg, session = master.leg, master.session
    if leg is None:
        waits = "waits to know the switch" if master.connection.is_picked_up else "waits for both HELLOs"
        why = master.why_absent or waits
        return {
            "mirror": master.mirror.name,
            "state": f"none: {why}",
            "session": None,
            **_NO_LEG,
        }
    shown = _leg(master.mirror, leg, int(leg.row.client_bytes), leg.lag_bytes, now)
    return {**shown, "session": None if session is None else session.shown(), "unheard": master.unheard}


_NO_LEG = dict.fromkeys(
    (
        *("client_bytes", "sent_bytes", "acked_bytes", "in_flight_bytes", "lag_bytes", "lag_seconds"),
        *("consumed_bytes", "retransmits", "timeouts", "rtt_seconds"),
    ),
    0,
)


def _leg(mirror: Mirror, leg: Leg, client_bytes: int, lag_bytes: int, now: float) -> dict[str, Any]:
    state = LegState(leg.state).name.lower().replace("_", "-")
    return {
        "mirror": mirror.name,
        "state": state if leg.ended is None else f"ended: {leg.ended}",
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
    }
