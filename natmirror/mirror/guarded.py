"""Mirroring as production calls it: each call is guarded, so that whatever fails in there costs copies and no packet.

Production's side computes its verdict first and then calls here; nothing here raises. A fault ends the copies and
sessions of the flow that it came up with, and is reported by ``Faults``.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from natmirror.mirror.copies import MirroredFlow, StreamCopy
from natmirror.mirror.faults import Work
from natmirror.mirror.legs import LegOutcome, LegOwner
from natmirror.mirror.parts import MirrorParts
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.teardown import Teardown
from natmirror.mirror.timers import AT_ONCE, TimerKind
from natmirror.net.endpoint import Endpoint, show
from natmirror.net.icmp import IcmpError
from natmirror.net.packet import Segment
from natmirror.reasons import EndReason
from natmirror.rules import Service
from natmirror.tcp.leg_record import FlowRecord

_T = TypeVar("_T")

_END_SLICE = 32  # flows whose work was switched off and that are ended between two batches of packets


class GuardedMirroring:
    """The door between production and mirroring."""

    def __init__(self, parts: MirrorParts, is_known: Callable[[MirroredFlow], bool]) -> None:
        """``is_known`` says whether a flow is still in the table."""
        self.streams = parts.streams
        """Each mirrored flow's, from its handshake on."""
        self._mirroring = parts.mirroring
        self._adoption = parts.adoption
        self._backpressure = parts.backpressure
        self._sessions = parts.sessions
        self._legs = parts.legs
        self._outcomes = parts.outcomes
        self._timers = parts.timers
        self._faults = parts.faults
        self._guard = parts.guard
        self._teardown = Teardown(parts, is_known)
        self._guard.end = self._teardown.end
        self._ending: dict[Work, list[MirroredFlow]] = {}
        self._faults.on_change = self._heed_change

    def begin(self, now: float) -> None:
        """Date what happens in this call of the engine."""
        self._faults.now = self._legs.now = now

    # What production does

    def open(self, flow: MirroredFlow, backend: Endpoint, now: float) -> None:
        """See Mirroring."""
        self._guard.run(Work.COPY, flow, self._mirroring.open, flow, backend, now)

    def picked_up(self, flow: MirroredFlow, backend: Endpoint | None) -> None:
        """See Mirroring."""
        self._guard.run(Work.COPY, flow, self._mirroring.picked_up, flow, backend)

    def feed(self, flow: MirroredFlow, segment: Segment, now: float) -> None:
        """See Mirroring."""
        self._guard.run(Work.COPY, flow, self._mirroring.feed, flow, segment, now)

    def feed_replies(self, flow: MirroredFlow, segment: Segment) -> None:
        """See Mirroring."""
        self._guard.run(Work.SESSION, flow, self._mirroring.feed_replies, flow, segment)

    def window_moved(self, flow: MirroredFlow, now: float) -> None:
        """See Mirroring."""
        self._guard.run(Work.COPY, flow, self._mirroring.window_moved, flow, now)

    def accepted(self, flow: MirroredFlow) -> None:
        """See Backpressure."""
        self._guard.run(Work.THROTTLE, flow, self._backpressure.accepted, flow)

    def throttled_window(self, flow: MirroredFlow, segment: Segment) -> int:
        """See Backpressure; the backend's own window where that fails."""
        window = self._guard.run(Work.THROTTLE, flow, self._backpressure.throttled_window, flow, segment)
        return segment.window if window is None else max(0, min(window, segment.window))

    def flow_reset(self, flow: MirroredFlow, now: float) -> None:
        """See Mirroring."""
        self._guard.run(Work.COPY, flow, self._mirroring.flow_reset, flow, now)

    def flow_closed(self, flow: MirroredFlow, now: float) -> None:
        """See Mirroring."""
        self._guard.run(Work.COPY, flow, self._mirroring.flow_closed, flow, now)

    def handed_over(self, flow: MirroredFlow) -> None:
        """See Mirroring."""
        self._guard.run(Work.COPY, flow, self._mirroring.handed_over, flow)

    def flow_forgotten(self, flow: MirroredFlow) -> None:
        """See Mirroring. Afterwards nothing knows of the flow, whatever has failed."""
        try:
            self._mirroring.flow_forgotten(flow)
        except Exception as error:
            self._guard.failed(Work.COPY, flow, error)
            self._try(Work.COPY, self._teardown.drop, flow)

    def untracked(self, service: Service, count: int) -> None:
        """See Mirroring."""
        self._try(Work.COPY, self._mirroring.untracked, service, count)

    # Another host's connections

    def adopt(self, flow: MirroredFlow, record: FlowRecord, now: float) -> None:
        """See Mirroring."""
        self._guard.run(Work.TAKEOVER, flow, self._mirroring.adopt, flow, record, now)

    def renew(self, flow: MirroredFlow, record: FlowRecord) -> bool:
        """See Adoption."""
        return bool(self._guard.run(Work.TAKEOVER, flow, self._adoption.renew, flow, record))

    def activate(self, flow: MirroredFlow, now: float) -> None:
        """See Adoption."""
        if self._adoption.is_standby(flow):
            self._guard.run(Work.TAKEOVER, flow, self._adoption.activate, flow, now)

    def is_standby(self, flow: MirroredFlow) -> bool:
        """See Mirroring."""
        return self._adoption.is_standby(flow)

    def forget(self, flow: MirroredFlow) -> None:
        """See Mirroring."""
        try:
            self._mirroring.forget(flow)
        except Exception as error:
            self._guard.failed(Work.TAKEOVER, flow, error)

    def leave(self) -> None:
        """Another host passes all flows: their legs end here without a word, and go on there."""
        for stream in self.streams.values():
            stream.is_handed_over = True
        self._each_leg(self._legs.abandon, EndReason.RELEASED)
        self._try(Work.TAKEOVER, self._sessions.leave)

    # Legs

    def make_way(self, mirror: Endpoint, local: Endpoint) -> None:
        """See Legs."""
        self._at_leg(partial(self._legs.owner_between, mirror, local), self._legs.make_way, mirror, local)

    def has_leg(self, mirror: Endpoint, local: Endpoint, *, otherwise: bool) -> bool:
        """Whether a leg stands between the two; ``otherwise`` where that cannot be told."""
        return bool(self._try(Work.COPY, self._legs.has, mirror, local, otherwise=otherwise))

    def from_mirror(self, segment: Segment, now: float) -> None:
        """See Legs.receive()."""
        ends = (segment.src, segment.sport), (segment.dst, segment.dport)
        self._at_leg(partial(self._legs.owner_between, *ends), self._legs.receive, segment, now)

    def icmp_error(self, error: IcmpError, now: float) -> None:
        """See Legs."""
        find = partial(self._legs.owner_between, error.inner_dst, error.inner_src)
        self._at_leg(find, self._legs.icmp_error, error, now)

    def leg_due(self, leg_id: int, now: float) -> None:
        """The deadline of a leg has come."""
        self._at_leg(partial(self._legs.owner, leg_id), self._legs.handle_timer, leg_id, now)

    def end_removed(self, leg_ids: Iterable[int]) -> None:
        """See Mirroring."""
        for leg_id in leg_ids:
            self._at_leg(partial(self._legs.owner, leg_id), self._mirroring.end_removed, [leg_id])

    def close(self) -> None:
        """End all legs."""
        self._each_leg(self._legs.abort, EndReason.STOPPED)

    def _each_leg(self, do: Callable[[int, EndReason], LegOutcome | None], reason: EndReason) -> None:
        for leg_id in self._try(Work.COPY, self._legs.ids) or []:
            self._at_leg(partial(self._legs.owner, leg_id), do, leg_id, reason)

    def _at_leg(
        self, find: Callable[[], LegOwner | None], do: Callable[..., LegOutcome | None], *arguments: object
    ) -> None:
        """Do something with a leg, and apply what comes of it; where that raises, everything ends that its flow has."""
        owner = None
        try:
            owner = find()
            outcome = do(*arguments)
            if outcome is not None:
                self._outcomes.apply(outcome)
        except Exception as error:
            work, client = Work.COPY, None
            if isinstance(owner, MasterSession):
                work, client = Work.SESSION, show(owner.connection.client)
            elif isinstance(owner, StreamCopy):
                client = show(owner.stream.flow.client)
            self._faults.note(work, client, error)
            if owner is not None:
                self._try(work, self._teardown.end_leg, owner, EndReason.INTERNAL_ERROR)

    def _try(self, work: Work, do: Callable[..., _T], *arguments: object, otherwise: _T | None = None) -> _T | None:
        """What belongs to no connection alone; ``otherwise`` where it raises."""
        try:
            return do(*arguments)
        except Exception as error:
            self._faults.note(work, None, error)
            return otherwise

    # Time

    def read_sessions(self, now: float, is_spent: Callable[[], bool] | None) -> None:
        """See MasterSessions.read(). If reading itself fails, it is unknown what was lost: sessions are switched off at
        once."""
        try:
            self._sessions.read(now, is_spent)
        except Exception as error:
            self._faults.note(Work.SESSION, None, error)
            self._faults.switch_off(Work.SESSION)
            self._sessions.discard()

    @property
    def has_more(self) -> bool:
        """Whether read_sessions() has more to do."""
        try:
            return self._sessions.has_more
        except Exception as error:
            self._faults.note(Work.SESSION, None, error)
            return False

    def timer(self, kind: TimerKind, of: Any, now: float) -> None:
        """A deadline has come that is none of a leg's; see TimerKind for what ``of`` is."""
        if kind is TimerKind.WRITE_REST:
            self._guard.run(Work.COPY, of, self._mirroring.write_rest, of, now)
        elif kind is TimerKind.WINDOW_UPDATE:
            self._guard.run(Work.THROTTLE, of, self._backpressure.tell_window, of)
        elif kind is TimerKind.POSITIONS_KNOWN:
            self._guard.run(Work.COPY, of, self._mirroring.positions_known, of, now)
        elif kind is TimerKind.SETTLE_SESSION:
            self._at_leg(lambda: of, self._sessions.handle_timer, of, now)
        elif kind is TimerKind.END_DISABLED:
            self._end_disabled(of)
        else:
            self._faults.expire()

    def _heed_change(self) -> None:
        """Begin to end what was switched off, and set the time when it comes on again."""
        self._timers.set((TimerKind.SWITCH_ON, None), self._faults.next_on())
        for work in self._faults.off.keys() - self._ending.keys():
            self._ending[work] = list(self.streams)
            self._timers.set((TimerKind.END_DISABLED, work), AT_ONCE)
        for work in self._ending.keys() - self._faults.off.keys():
            del self._ending[work]
            self._timers.set((TimerKind.END_DISABLED, work), None)

    def _end_disabled(self, work: Work) -> None:
        flows = self._ending.get(work, [])
        for _ in range(min(len(flows), _END_SLICE)):
            self._try(work, self._teardown.end, work, flows.pop(), EndReason.MIRRORING_OFF)
        if flows:
            self._timers.set((TimerKind.END_DISABLED, work), AT_ONCE)
