"""Says which mirrors get a connection's bytes, and why the others do not: of a connection that is open, and of one to
come."""

from collections.abc import Iterator

from natmirror.fastpath import NEVER
from natmirror.fastpath.flow_states import State
from natmirror.mirror.copies import MirroredFlow, StreamCopy
from natmirror.mirror.faults import Work
from natmirror.mirror.leg_notes import session_wait
from natmirror.mirror.parts import MirrorParts
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.shown import CopyEntry, CopyWait, ForeseenCopy
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import EndReason
from natmirror.rules import Mirror, Reconnect, Service


class MirrorExplanation:
    """Reads the state of one engine's mirroring; changes nothing."""

    def __init__(self, parts: MirrorParts) -> None:
        self._faults = parts.faults
        self._legs = parts.legs
        self._reconnection = parts.reconnection
        self._sessions = parts.sessions
        self._streams = parts.streams

    def foresee(self, service: Service, client: bytes, backend: Endpoint | None) -> list[ForeseenCopy]:
        """Return for each mirror of a service whether it would get a client's new connection with a backend."""
        return [
            {
                "mirror": mirror.name,
                "reason": EndReason.MIRRORING_OFF
                if self._is_off(mirror)
                else why_not_mirrored(mirror, client, backend),
            }
            for mirror in service.mirrors
        ]

    def _is_off(self, mirror: Mirror) -> bool:
        off = self._faults.off
        return Work.COPY in off or (mirror.speaks_openflow and Work.SESSION in off)

    def copies_of(self, flow: MirroredFlow, now: float) -> list[CopyEntry]:
        """Return for each mirror of an open flow whether it gets the flow's bytes, or why not."""
        stream = self._streams.get(flow)
        known = {} if stream is None else {copy.mirror.name: self._copy(copy, now) for copy in stream.copies}
        known |= {master.mirror.name: _session(master, now) for master in self._sessions.masters_of(flow.row.id)}
        return [*known.values(), *(entry for entry in self._others(flow) if entry["mirror"] not in known)]

    def _copy(self, copy: StreamCopy, now: float) -> CopyEntry:
        leg, begins_at = copy.leg, self._reconnection.begins_at(copy)
        return {
            "mirror": copy.mirror.name,
            "copied": leg is not None and leg.ended is None,
            "from_middle": copy.has_begun_again,
            "reason": copy.why_ended,
            "ended_as": copy.ended_as if copy.waits else None,
            "begins_again": copy.waits,
            "begins_in_seconds": round(max(0.0, begins_at - now), 3) if copy.waits and begins_at != NEVER else None,
            "client_waits": leg is not None and leg.ended is None and leg.client_waits,
        }

    def _others(self, flow: MirroredFlow) -> Iterator[CopyEntry]:
        """Yield the mirrors for which nothing has begun: the handshake is not complete, or the flow is older."""
        for mirror in flow.service.mirrors:
            wait = CopyWait.HANDSHAKE if flow.row.state < State.ESTABLISHED else None
            yield {
                "mirror": mirror.name,
                "copied": False,
                "from_middle": False,
                "reason": wait or (None if mirror.speaks_openflow else EndReason.MIRROR_ADDED),
                "ended_as": None,
                "begins_again": wait is not None,
                "begins_in_seconds": None,
                "client_waits": False,
            }


def _session(master: MasterSession, now: float) -> CopyEntry:
    reason = None if master.has_leg else master.why_without_leg or session_wait(master)
    waits = reason is EndReason.RECONNECTING
    return {
        "mirror": master.mirror.name,
        "copied": master.has_leg,
        "from_middle": master.connection.is_picked_up,
        "reason": reason,
        "ended_as": None,
        "begins_again": master.why_absent is None and (waits or master.mirror.reconnect is Reconnect.NEXT_MESSAGE),
        "begins_in_seconds": round(max(0.0, master.tried_at + master.pause - now), 3) if waits else None,
        "client_waits": False,
    }
