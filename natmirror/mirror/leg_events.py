"""What follows from a leg's move or end: the one place where events of legs are applied.

Theory. Legs know nothing of streams, sessions and accounts: what a method of Legs does to a leg, it returns as a
LegEvent, and whoever has called it gives that to apply(). From here the copies, the ledger and the sessions are told,
always in the same order: first the tables in C, then the accounts, then those who wait for the leg.

A leg stays in ``Legs.living`` until its end was applied here, and leaves it before anybody is told: so whatever fails,
an owner is told of an end once.
"""

from contextlib import suppress

from natmirror.actions import LegEnded
from natmirror.fastpath import GAPPED, MIRRORED, READ, WAITING
from natmirror.mirror.adoption import Adoption
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.copies import StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.faults import Work
from natmirror.mirror.guard import Guard
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import LegEvent, LegOwner, Legs
from natmirror.mirror.sessions.calls import Calls
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.net.endpoint import Endpoint, show
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg


class LegEvents:
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

    def apply(self, event: LegEvent) -> None:
        """Tell everything that depends on a leg what has happened to it."""
        owner, leg, reason = event.owner, event.leg, event.end_reason
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

    def end(self, owner: LegOwner, leg: Leg, reason: str) -> None:
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
            self.end(*older, "port-reused")

    def cut(self, owner: LegOwner, leg: Leg, reason: str) -> None:
        """End a leg whatever state a fault of ours has left it in; never raises."""
        event = self._legs.cut(owner, leg, reason)
        if event is not None:
            with suppress(Exception):
                self.apply(event)

    def take_ended(self) -> list[LegEnded]:
        """Return the legs that have ended since the last call."""
        ended = self._ended_copies + self._ended_sessions
        self._ended_copies, self._ended_sessions = [], []
        return ended

    def _copy_ended(self, copy: StreamCopy, leg: Leg, reason: str) -> None:
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
            flow.row.account = self._ledger.account(stream)
        if not stream.alive():
            flow.row.flags &= ~MIRRORED
            if not flow.row.flags & READ:
                flow.row.flags &= ~(WAITING | GAPPED)
                stream.reassembler.clear()
