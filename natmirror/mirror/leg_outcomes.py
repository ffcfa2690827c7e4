"""What follows from a leg's move or end: the one place where events of legs are applied.

Theory. Legs know nothing of streams, sessions and accounts: what a method of Legs does to a leg, it returns as a
LegOutcome, and its caller gives that to apply(). Here copies, ledger and sessions are brought up to date, always in the
same order: first the tables in C, then the accounts, then what waits for the leg.

A leg stays in ``Legs.living`` until its end is applied here, and leaves it before its owner learns of it: so whatever
fails, an end is applied once.
"""

from contextlib import suppress

from natmirror.actions import LegEnded
from natmirror.fastpath.flow_flags import clear_orig_waiting, has_reader, stop_feeding_legs
from natmirror.mirror.adoption import Adoption
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.copies import StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.faults import Work
from natmirror.mirror.guard import Guard
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import LegOutcome, LegOwner, Legs
from natmirror.mirror.sessions.calls import Calls
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.net.endpoint import Endpoint, show
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg


class LegOutcomes:
    """Applies what has happened to legs."""

    def __init__(
        self, legs: Legs, ledger: Ledger, guard: Guard, backpressure: Backpressure, adoption: Adoption, calls: Calls
    ) -> None:
        self._legs = legs
        self._ledger = ledger
        self._guard = guard
        self._backpressure = backpressure
        self._adoption = adoption
        self._calls = calls
        self._ended_copies: list[LegEnded] = []
        self._ended_sessions: list[LegEnded] = []

    def apply(self, outcome: LegOutcome) -> None:
        """Bring everything up to date that depends on a leg."""
        owner, leg, reason = outcome.owner, outcome.leg, outcome.end_reason
        if reason is not None:
            try:
                self._legs.number_used(leg)
            finally:  # or its owner would never learn of its end
                del self._legs.living[leg.row.id]
                if isinstance(owner, StreamCopy):
                    self._copy_ended(owner, leg, reason)
                elif isinstance(owner, MasterSession):
                    self._ended_sessions.append(self._calls.leg_ended(owner, leg, reason))
        if isinstance(owner, StreamCopy):
            if owner.mirror.throttles:
                self._guard.run(Work.THROTTLE, owner.stream.flow, self._backpressure.hold, owner.stream)
            if owner.stream.is_adopted:
                for following in self._adoption.leg_moved(owner):
                    self.apply(following)

    def end(self, owner: LegOwner, leg: Leg, reason: EndReason) -> None:
        """End a leg with a RST on behalf of another connection: what raises there counts for that one, but the leg is
        over, and its owner knows it."""
        try:
            self.apply(self._legs.settle(owner, leg, leg.abort(reason)))
        except Exception:
            self.cut(owner, leg, reason)
            raise

    def end_left_over(self, mirror: Mirror, client: Endpoint) -> None:
        """Make room for a leg of a new connection: one from the same port that is over may have left its own there."""
        older = self._legs.left_over(mirror, client)
        if older is not None:
            self.end(*older, EndReason.PORT_REUSED)

    def cut(self, owner: LegOwner, leg: Leg, reason: EndReason) -> None:
        """End a leg whatever state a fault of ours has left it in; never raises."""
        outcome = self._legs.cut(owner, leg, reason)
        if outcome is not None:
            with suppress(Exception):
                self.apply(outcome)

    def take_ended(self) -> list[LegEnded]:
        """Return the legs that have ended since the last call."""
        ended = self._ended_copies + self._ended_sessions
        self._ended_copies, self._ended_sessions = [], []
        return ended

    def _copy_ended(self, copy: StreamCopy, leg: Leg, reason: EndReason) -> None:
        stream, flow = copy.stream, copy.stream.flow
        if stream.state is not StreamState.GONE:
            self._legs.link(flow.row, [one for _, one in stream.alive()])  # first: the leg's row in C is gone
        self._adoption.note_activated(copy, leg)
        if stream.state is not StreamState.STANDBY:  # else it was another host's all the time
            self._ledger.leg_ended(copy, leg, reason)
            count, acked = stream.client_bytes, leg.acked_bytes
            event = LegEnded(show(flow.client), flow.service.name, copy.mirror.name, reason, count, acked)
            self._ended_copies.append(event)
        if stream.state is StreamState.GONE:
            return
        if len(stream.copies) == len(flow.service.copies):
            flow.row.account = self._ledger.account_number(stream)
        if not stream.alive():
            stop_feeding_legs(flow.row)
            if not has_reader(flow.row):
                clear_orig_waiting(flow.row)
                stream.reassembler.clear()
