"""The consequences of a leg's move or end: the one place where the outcomes of legs are applied.

Theory. Legs know nothing of streams, sessions and the ledger. A method of Legs returns what happened to a leg as a
LegOutcome, and its caller passes that to apply(). This updates copies, ledger and sessions, always in the same order:
first the tables in C, then the ledger, then the streams and throttles that depend on the leg.

A leg stays in ``Legs.living`` until its end is applied here, and is removed from it before its owner is informed: so an
end is applied once, even if a step fails.
"""

from contextlib import suppress

from natmirror.actions import LegEnded
from natmirror.fastpath.flow_flags import clear_orig_waiting, has_reader, stop_feeding_legs
from natmirror.mirror.adoption import Adoption
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.copies import MirroredFlow, StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.faults import Work
from natmirror.mirror.guard import Guard
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import LegOutcome, LegOwner, Legs
from natmirror.mirror.reconnection import Reconnection
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.open_sessions import OpenSessions
from natmirror.net.endpoint import Endpoint, show
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_states import LegState

_OPENING = (LegState.SYN_SENT, LegState.RESUMING)


class LegOutcomes:
    """Applies the outcomes of legs."""

    def __init__(
        self,
        legs: Legs,
        ledger: Ledger,
        guard: Guard,
        backpressure: Backpressure,
        adoption: Adoption,
        reconnection: Reconnection,
        open_sessions: OpenSessions,
    ) -> None:
        self._legs = legs
        self._ledger = ledger
        self._guard = guard
        self._backpressure = backpressure
        self._adoption = adoption
        self._reconnection = reconnection
        self._open_sessions = open_sessions
        self._ended_copies: list[LegEnded] = []
        self._ended_sessions: list[LegEnded] = []

    def apply(self, outcome: LegOutcome) -> None:
        """Update everything that depends on the leg."""
        owner, leg, reason = outcome.owner, outcome.leg, outcome.end_reason
        if reason is not None:
            try:
                self._legs.note_last_number(leg)
            finally:  # otherwise its owner would never be informed of its end
                del self._legs.living[leg.row.id]
                if isinstance(owner, StreamCopy):
                    self._copy_ended(owner, leg, reason)
                elif isinstance(owner, MasterSession):
                    self._ended_sessions.append(self._open_sessions.leg_ended(owner, leg, reason))
        if isinstance(owner, StreamCopy):
            if owner.opened_at is None and leg.ended is None and leg.state not in _OPENING:
                self._reconnection.leg_opened(owner)
            if owner.mirror.throttles:
                self._guard.run(Work.THROTTLE, owner.stream.flow, self._backpressure.update, owner.stream)
            if owner.stream.is_adopted:
                for following in self._adoption.leg_moved(owner, leg):
                    self.apply(following)

    def end(self, owner: LegOwner, leg: Leg, reason: EndReason) -> None:
        """End a leg with a RST on behalf of another connection. An exception is raised to that connection's work, but
        only after the leg has ended and its owner is informed."""
        try:
            self.apply(self._legs.collect(owner, leg, leg.abort(reason)))
        except Exception:
            self.cut(owner, leg, reason)
            raise

    def end_left_over(self, mirror: Mirror, client: Endpoint) -> None:
        """Make room for a leg of a new connection: an ended connection from the same port may have left its own."""
        older = self._legs.left_over(mirror, client)
        if older is not None:
            self.end(*older, EndReason.PORT_REUSED)

    def cut(self, owner: LegOwner, leg: Leg, reason: EndReason) -> None:
        """End a leg in whatever state a fault has left it; never raises."""
        outcome = self._legs.cut(owner, leg, reason)
        if outcome is not None:
            with suppress(Exception):
                self.apply(outcome)

    def note_refused(self, flow: MirroredFlow, mirror: Mirror, reason: EndReason, count: int) -> None:
        """Report that a mirror gets nothing of a connection, whose client has sent ``count`` bytes so far."""
        self._ended_copies.append(LegEnded(show(flow.client), flow.service.name, mirror.name, reason, count, 0))

    def take_ended(self) -> list[LegEnded]:
        """Return the legs that ended since the last call."""
        ended = self._ended_copies + self._ended_sessions
        self._ended_copies, self._ended_sessions = [], []
        return ended

    def _copy_ended(self, copy: StreamCopy, leg: Leg, reason: EndReason) -> None:
        stream, flow = copy.stream, copy.stream.flow
        if stream.state is not StreamState.FORGOTTEN:
            self._legs.link(flow.row, [one for _, one in stream.alive()])  # first: the leg's row in C was removed
        self._adoption.note_activated(copy, leg)
        # Another host carried a standby leg's traffic, so it does not count here.
        if stream.state is not StreamState.STANDBY:
            self._ledger.leg_ended(copy, leg, reason)
            count, acked = stream.client_bytes - copy.before, leg.acked_bytes
            names = show(flow.client), flow.service.name, copy.mirror.name
            self._ended_copies.append(LegEnded(*names, reason, count, acked, stream.ended_by))
            self._reconnection.leg_ended(copy, reason)
        if stream.state is StreamState.FORGOTTEN:
            return
        if stream.has_all_copies:
            self._reconnection.follow(stream)
        if not stream.alive():
            stop_feeding_legs(flow.row)
            if not has_reader(flow.row):
                clear_orig_waiting(flow.row)
                stream.clear()
