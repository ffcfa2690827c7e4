"""Mirroring as production calls it: each call is guarded, so that a fault in mirroring costs copies and no packet.

Production computes its verdict first, then calls here; no function here raises. A fault ends the copies and sessions
of its flow, and ``Faults`` reports it. Each method has the name of the method that it guards, in Mirroring,
Backpressure, Adoption or Legs; see there.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from natmirror.fastpath.flow_flags import set_mptcp
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
from natmirror.openflow.tables.statistics import Bodies
from natmirror.reasons import EndedBy, EndReason
from natmirror.rules import Service
from natmirror.tcp.acceptance import has_new_data
from natmirror.tcp.leg_record import FlowRecord

_T = TypeVar("_T")

_END_SLICE = 32  # flows for which work that was switched off is ended, between two batches of packets


class GuardedMirroring:
    """The door between production and mirroring."""

    def __init__(self, parts: MirrorParts, is_known: Callable[[MirroredFlow], bool]) -> None:
        """``is_known`` says whether a flow is still in the table."""
        self.streams = parts.streams
        """The stream of each mirrored flow, from its handshake on."""
        self._mirroring = parts.mirroring
        self._adoption = parts.adoption
        self._reconnection = parts.reconnection
        self._rule_changes = parts.rule_changes
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
        self._faults.on_change = self._on_work_changed

    def set_time(self, now: float) -> None:
        """Set the time of this call of the engine."""
        self._faults.now = self._legs.now = now

    # What production does

    def open(self, flow: MirroredFlow, backend: Endpoint, now: float) -> None:
        self._guard.run(Work.COPY, flow, self._mirroring.open, flow, backend, now)

    def picked_up(self, flow: MirroredFlow, backend: Endpoint | None) -> None:
        self._guard.run(Work.COPY, flow, self._mirroring.picked_up, flow, backend)

    def showed_mptcp(self, flow: MirroredFlow, segment: Segment, *, from_client: bool) -> None:
        """End the flow's copies and sessions, and open none: data that is new to its receiver, which takes it, has an
        MPTCP option."""
        if has_new_data(flow.row, segment, from_client=from_client):
            set_mptcp(flow.row)
            self._end_open(flow, EndReason.MPTCP)

    def became_ambiguous(self, flow: MirroredFlow) -> None:
        """End the flow's copies and sessions: it is unknown which of its SYNs the backend has taken."""
        self._end_open(flow, EndReason.AMBIGUOUS)

    def _end_open(self, flow: MirroredFlow, reason: EndReason) -> None:
        if flow in self.streams:
            self._guard.run(Work.COPY, flow, self._teardown.end, Work.COPY, flow, reason)

    def feed(self, flow: MirroredFlow, segment: Segment, now: float) -> None:
        self._guard.run(Work.COPY, flow, self._mirroring.feed, flow, segment, now)

    def feed_replies(self, flow: MirroredFlow, segment: Segment) -> None:
        self._guard.run(Work.SESSION, flow, self._mirroring.feed_replies, flow, segment)

    def acknowledged(self, flow: MirroredFlow, now: float) -> None:
        self._guard.run(Work.COPY, flow, self._mirroring.acknowledged, flow, now)

    def accepted(self, flow: MirroredFlow) -> None:
        self._guard.run(Work.THROTTLE, flow, self._backpressure.accepted, flow)

    def throttled_window(self, flow: MirroredFlow, segment: Segment) -> int:
        """Return the window for the client; the backend's own window if Backpressure fails."""
        window = self._guard.run(Work.THROTTLE, flow, self._backpressure.throttled_window, flow, segment)
        return segment.window if window is None else max(0, min(window, segment.window))

    def flow_reset(self, flow: MirroredFlow, now: float, by: EndedBy | None = None) -> None:
        reset = partial(self._mirroring.flow_reset, by=by)
        self._guard.run(Work.COPY, flow, reset, flow, now)

    def flow_closed(self, flow: MirroredFlow, now: float) -> None:
        self._guard.run(Work.COPY, flow, self._mirroring.flow_closed, flow, now)

    def release_flow(self, flow: MirroredFlow) -> None:
        self._guard.run(Work.COPY, flow, self._mirroring.release_flow, flow)

    def is_copied(self, flow: MirroredFlow) -> bool:
        """Return whether the end of the flow would end a copy or a session for good."""
        stream = self.streams.get(flow)
        return stream is not None and bool(self._guard.run(Work.COPY, flow, stream.needs_flow))

    def flow_forgotten(self, flow: MirroredFlow) -> None:
        """End the flow's stream. Mirroring keeps nothing of the flow, even where this fails."""
        try:
            self._mirroring.flow_forgotten(flow)
        except Exception as error:
            self._guard.failed(Work.COPY, flow, error)
            self._try(Work.COPY, self._teardown.drop, flow)

    def unanswered(self, flow: MirroredFlow, count: int) -> None:
        self._guard.run(Work.COPY, flow, self._mirroring.unanswered, flow, count)

    def untracked(self, service: Service, count: int) -> None:
        self._try(Work.COPY, self._mirroring.untracked, service, count)

    # Another host's connections

    def adopt(self, flow: MirroredFlow, record: FlowRecord, now: float) -> None:
        self._guard.run(Work.TAKEOVER, flow, self._mirroring.adopt, flow, record, now)

    def renew(self, flow: MirroredFlow, record: FlowRecord) -> bool:
        return bool(self._guard.run(Work.TAKEOVER, flow, self._adoption.renew, flow, record))

    def activate(self, flow: MirroredFlow, now: float) -> None:
        if self._adoption.is_standby(flow):
            self._guard.run(Work.TAKEOVER, flow, self._adoption.activate, flow, now)

    def is_standby(self, flow: MirroredFlow) -> bool:
        return self._adoption.is_standby(flow)

    def take_lacking(self) -> list[MirroredFlow]:
        return self._try(Work.TAKEOVER, self._adoption.take_lacking) or []

    def forget(self, flow: MirroredFlow) -> None:
        try:
            self._mirroring.forget(flow)
        except Exception as error:
            self._guard.failed(Work.TAKEOVER, flow, error)

    def release(self) -> None:
        """Release all flows to the other host: their legs end here without a packet, and continue there."""
        for stream in self.streams.values():
            stream.is_released = True
            if any(copy.waits for copy in stream.copies):
                self._try(Work.COPY, self._reconnection.give_up, stream, EndReason.RELEASED)
        self._each_leg(self._legs.abandon, EndReason.RELEASED)
        self._try(Work.TAKEOVER, self._sessions.release)

    # Legs

    def end_between(self, mirror: Endpoint, local: Endpoint) -> None:
        self._with_leg(partial(self._legs.owner_between, mirror, local), self._legs.end_between, mirror, local)

    def has_leg(self, mirror: Endpoint, local: Endpoint, *, otherwise: bool) -> bool:
        """Return whether there is a leg between the two endpoints; ``otherwise`` if the search fails."""
        return bool(self._try(Work.COPY, self._legs.has, mirror, local, otherwise=otherwise))

    def from_mirror(self, segment: Segment, now: float) -> None:
        """Take a segment of a mirror with Legs.receive()."""
        ends = (segment.src, segment.sport), (segment.dst, segment.dport)
        self._with_leg(partial(self._legs.owner_between, *ends), self._legs.receive, segment, now)

    def icmp_error(self, error: IcmpError) -> None:
        find = partial(self._legs.owner_between, error.inner_dst, error.inner_src)
        self._with_leg(find, self._legs.icmp_error, error)

    def handle_leg_timer(self, leg_id: int, now: float) -> None:
        """Handle the timer of a leg whose deadline has come."""
        self._with_leg(partial(self._legs.owner, leg_id), self._legs.handle_timer, leg_id, now)

    def end_removed(self, leg_ids: Iterable[int]) -> None:
        for leg_id in leg_ids:
            self._with_leg(partial(self._legs.owner, leg_id), self._mirroring.end_removed, [leg_id])

    def follow_rules(self, flow: MirroredFlow, service: Service, backend: Endpoint | None) -> None:
        self._guard.run(Work.COPY, flow, self._rule_changes.follow, flow, service, backend)
        self._guard.run(Work.SESSION, flow, self._rule_changes.follow_sessions, flow, service, backend)

    def judge(self, flow: MirroredFlow) -> None:
        """Have a flow's connection judged by a process that has just begun."""
        self._guard.run(Work.VERDICT, flow, self._sessions.judge, flow)

    def take_statistics(self, session: int, question: int, bodies: Bodies | None, now: float) -> None:
        """Take the answer to a master's question about its own rules; see MasterSessions.answered()."""
        self._try(Work.SESSION, self._sessions.answered, session, question, bodies, now)

    def close(self) -> None:
        """End all legs."""
        self._each_leg(self._legs.abort, EndReason.STOPPED)

    def _each_leg(self, do: Callable[[int, EndReason], LegOutcome | None], reason: EndReason) -> None:
        for leg_id in self._try(Work.COPY, self._legs.ids) or []:
            self._with_leg(partial(self._legs.owner, leg_id), do, leg_id, reason)

    def _with_leg(
        self, find: Callable[[], LegOwner | None], do: Callable[..., LegOutcome | None], *arguments: object
    ) -> None:
        """Call ``do`` for a leg, and apply the outcome. If that raises, end all copies and sessions of the flow."""
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
        """Call ``do``, whose work concerns no single connection, and return its result; ``otherwise`` if it raises."""
        try:
            return do(*arguments)
        except Exception as error:
            self._faults.note(work, None, error)
            return otherwise

    # Time

    def read_sessions(self, now: float, is_spent: Callable[[], bool] | None) -> None:
        """Serve the OpenFlow sessions. If reading the queue itself fails, switch all sessions off at once, because it
        is unknown which bytes were lost."""
        try:
            self._sessions.read(now, is_spent)
        except Exception as error:
            self._faults.note(Work.SESSION, None, error)
            self._faults.switch_off(Work.SESSION)
            self._sessions.discard()

    def next_work_at(self) -> float | None:
        """Return when read_sessions() has something to do; None where it has not."""
        try:
            return self._sessions.next_work_at()
        except Exception as error:
            self._faults.note(Work.SESSION, None, error)
            return None

    def handle_timer(self, kind: TimerKind, of: Any, now: float) -> None:
        """Handle a timer that is not a leg's; TimerKind says what ``of`` is."""
        if kind is TimerKind.WRITE_REST:
            self._guard.run(Work.COPY, of, self._mirroring.write_rest, of, now)
        elif kind is TimerKind.LAST_ACKNOWLEDGEMENTS:
            self._guard.run(Work.COPY, of, self._mirroring.no_more_acknowledgements, of, now)
        elif kind is TimerKind.RECONNECT:
            self._guard.run(Work.COPY, of, self._mirroring.waited, of)
        elif kind is TimerKind.WINDOW_UPDATE:
            self._guard.run(Work.THROTTLE, of, self._backpressure.send_window_update, of)
        elif kind is TimerKind.POSITIONS_KNOWN:
            self._guard.run(Work.COPY, of, self._mirroring.positions_known, of, now)
        elif kind is TimerKind.QUESTION_TIMEOUT:
            self._with_leg(lambda: of, self._sessions.handle_timer, of, now)
        elif kind is TimerKind.END_DISABLED:
            self._end_disabled(of)
        else:
            self._faults.expire()

    def _on_work_changed(self) -> None:
        """Begin to end work that was switched off, and set the timer that switches it on again."""
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
