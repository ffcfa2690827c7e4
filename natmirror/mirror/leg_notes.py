"""A note of a leg or session: what a packet thread keeps of it in a microsecond or two, for any thread to show later as
values for JSON, which takes longer."""

from typing import NamedTuple

from natmirror.fastpath.row_copies import copy_of_leg, leg_in
from natmirror.mirror.copies import StreamCopy
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.shown import PHASES, LegEntry, LegPhase, SessionWait
from natmirror.net.endpoint import Endpoint, show
from natmirror.openflow.shown import SessionEntry
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_counts import LegCopy
from natmirror.tcp.leg_states import LegState


class LegNote(NamedTuple):
    """A leg, or a copy or session without one, as it was at one moment."""

    mirror: str
    state: LegState | None
    """The state of an open leg."""
    reason: EndReason | SessionWait | None
    """Why the leg has ended, or why there is none."""
    local: Endpoint | None
    """The leg's own end; None without a leg."""
    row: bytes
    """A copy of the leg's row; empty without a leg."""
    client_bytes: int
    lag_bytes: int
    session: SessionEntry | None
    messages_missed: int

    def show(self, now: float) -> LegEntry:
        """Return the leg as values for JSON. ``now`` is the time of the note, as in Engine."""
        if self.local is None:
            return _without_leg(self.mirror, self.reason, self.messages_missed)
        leg = LegCopy(leg_in(self.row))
        return {
            "mirror": self.mirror,
            "state": LegPhase.ENDED if self.state is None else PHASES[self.state],
            "reason": self.reason,
            "address": show(self.local),
            "client_bytes": self.client_bytes,
            "sent_bytes": leg.sent_bytes,
            "acked_bytes": leg.acked_bytes,
            "in_flight_bytes": 0 if self.state is None else leg.in_flight_bytes,
            "lag_bytes": self.lag_bytes,
            "lag_seconds": round(leg.lag_seconds(now), 3),
            "consumed_bytes": leg.consumed_bytes,
            "retransmits": leg.retransmits,
            "timeouts": leg.timeouts,
            "rtt_seconds": leg.rtt_seconds,
            "session": self.session,
            "messages_missed": self.messages_missed,
        }


def note_copy(copy: StreamCopy, leg: Leg) -> LegNote:
    """Note a leg that carries its client's bytes."""
    client_bytes = copy.stream.client_bytes - copy.before
    lag_bytes = client_bytes - leg.acked_bytes if leg.ended is None else 0
    return _note(copy.mirror, leg, client_bytes, lag_bytes, None, 0)


def note_session(master: MasterSession) -> LegNote:
    """Note a session with its leg, or without one."""
    leg, session, missed = master.leg, master.session, master.messages_missed
    if leg is None:
        why = master.why_without_leg
        reason = session_wait(master) if why is None or why is EndReason.RECONNECTING else why
        return note_without_leg(master.mirror, reason, missed)
    shown = None if session is None else session.shown()
    return _note(master.mirror, leg, leg.row.client_bytes, leg.lag_bytes, shown, missed)


def note_without_leg(mirror: Mirror, reason: EndReason | SessionWait, messages_missed: int = 0) -> LegNote:
    """Note a copy or session that has no leg, for this reason."""
    return LegNote(mirror.name, None, reason, None, b"", 0, 0, None, messages_missed)


def session_wait(master: MasterSession) -> SessionWait:
    """Return what a session waits for that has not begun yet."""
    return SessionWait.FEATURES if master.connection.is_picked_up else SessionWait.HELLOS


def _note(
    mirror: Mirror, leg: Leg, client_bytes: int, lag_bytes: int, session: SessionEntry | None, missed: int
) -> LegNote:
    state, row = None if leg.ended is not None else leg.state, copy_of_leg(leg.row)
    return LegNote(mirror.name, state, leg.ended, leg.local_endpoint, row, client_bytes, lag_bytes, session, missed)


def _without_leg(mirror: str, reason: EndReason | SessionWait | None, messages_missed: int) -> LegEntry:
    return {
        "mirror": mirror,
        "state": LegPhase.NONE,
        "reason": reason,
        "address": None,
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
        "messages_missed": messages_missed,
    }
