"""The step between production and the legs: it gives the byte stream of each mirrored flow to one leg per mirror."""

from collections.abc import Callable, Iterable

from natmirror.fastpath import NO_FLOW, ClientMemory, FlowRow, HeldBytes
from natmirror.fastpath.flow_flags import (
    add_reader,
    clear_mirroring,
    has_reader,
    holds,
    is_fin_acked,
    is_revoked,
    is_service_mirrored,
    reconnects,
    set_holds,
    start_feeding_legs,
)
from natmirror.mirror.adoption import Adoption
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.copies import MirroredFlow, MirroredStream, StreamCopy
from natmirror.mirror.copy_states import HAS_END, IS_ASKING, StreamEvent
from natmirror.mirror.faults import Work
from natmirror.mirror.feeding import Feeding
from natmirror.mirror.guard import Guard
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import Legs
from natmirror.mirror.reconnection import Reconnection
from natmirror.mirror.sampling import why_flow_not_mirrored, why_not_mirrored
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.sessions.replies import Replies
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.mirror.timers import TimerKind, Timers
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, parse_endpoint
from natmirror.net.packet import FIN, URG, Segment
from natmirror.reasons import EndedBy, EndReason
from natmirror.rules import Release, Service
from natmirror.tcp import tracker
from natmirror.tcp.acceptance import has_new_data, is_urgent
from natmirror.tcp.breaks import note_data
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import FlowRecord
from natmirror.tcp.reassembler import Reassembler

_LAST_ACKNOWLEDGEMENTS = 1.0
"""Seconds after a client's RST in which acknowledgements of its bytes still arrive: they were sent before the RST came
to the backend."""


class Mirroring:
    """The streams of an engine's mirrored flows."""

    def __init__(
        self,
        memory: ClientMemory,
        hold: Callable[[FlowRow, int], HeldBytes],
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        backpressure: Backpressure,
        adoption: Adoption,
        reconnection: Reconnection,
        outcomes: LegOutcomes,
        sessions: MasterSessions,
        read_queue: ReadQueue,
        guard: Guard,
        streams: dict[MirroredFlow, MirroredStream],
        *,
        shares_state: bool,
    ) -> None:
        """``hold`` returns a flow's held bytes. ``shares_state``: hosts share records of legs, so that a connection
        picked up here may have legs from another host."""
        self._memory = memory
        self._why_absent_from_picked_up = EndReason.NO_RECORD if shares_state else EndReason.PICKED_UP
        self._hold = hold
        self._feeding = Feeding(timers, legs, adoption, outcomes, read_queue)
        self._guard = guard
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._backpressure = backpressure
        self._adoption = adoption
        self._reconnection = reconnection
        self._outcomes = outcomes
        self._sessions = sessions
        self._read_queue = read_queue
        self._replies = Replies(timers, read_queue)
        self.streams = streams
        """The stream of each mirrored flow, from its handshake on."""

    # What production does

    def open(self, flow: MirroredFlow, backend: Endpoint, now: float) -> None:
        """Begin the stream of a flow whose handshake is complete: open a leg to each mirror, except to one that is the
        connection's own backend or whose rules exclude this client."""
        if flow.is_picked_up or not flow.service.mirrors:
            return
        if flow in self.streams:  # of unanswered()
            self._forget(flow, continues=True)
        first = seq.add(flow.row.iss, 1)
        stream = self._begin(flow, first)
        for mirror in flow.service.copies:
            copy = stream.make_copy(mirror)
            copy.why_absent = why_flow_not_mirrored(mirror, flow, backend)
            if copy.why_absent is None:
                self._open_leg(copy, flow.row.iss, now)
        stream.has_all_copies = True
        if stream.alive():
            start_feeding_legs(flow.row)
        if self._is_wanted_by_masters(flow, backend):
            stream.replies = Reassembler(flow.row, "reply", flow.row.orig.ack, max_waiting(flow), self._memory)
            add_reader(flow.row)
        self._reconnection.follow(stream)
        self._guard.run(Work.THROTTLE, flow, self._backpressure.update, stream)
        taken = seq.diff(flow.row.reply.ack, first)  # a backend may ignore a SYN's data (RFC 7413 §4.2.2)
        if taken > 0:
            if flow.syn_data is None:
                stream.reassembler.left_out = EndReason.MEMORY_FULL
            self._feeding.feed(stream, first, (flow.syn_data or b"")[:taken], now, came_first=True)

    def picked_up(self, flow: MirroredFlow, backend: Endpoint | None) -> MirroredStream:
        """Begin the stream of a flow that was picked up. Sessions can begin in mid-stream; copies only at a break, if
        the rules let them."""
        stream = self._begin(flow, None)
        for mirror in flow.service.copies:
            left_out = why_not_mirrored(mirror, flow.client[0], backend)
            stream.make_copy(mirror, left_out or self._why_absent_from_picked_up)
        stream.has_all_copies = True
        if self._is_wanted_by_masters(flow, backend):
            stream.replies = Reassembler(flow.row, "reply", None, max_waiting(flow), self._memory)
            add_reader(flow.row, is_late=True)
        self._reconnection.follow(stream)
        return stream

    def begin_late(self, flow: MirroredFlow) -> MirroredStream:
        """Begin the stream of an open flow whose service has got its first mirrors by a reload, without copies."""
        return self._begin(flow, None)

    def _begin(self, flow: MirroredFlow, first: int | None) -> MirroredStream:
        """Return the stream of a flow, whose client's first byte has number ``first``, if that is known."""
        if flow.service.release is Release.ACKNOWLEDGED:
            set_holds(flow.row)
        flow.row.held.holder = self._memory.holder_of(flow.client[0])
        most = max_waiting(flow)
        stream = MirroredStream(
            flow, Reassembler(flow.row, "orig", first, most, self._memory, self._hold(flow.row, most))
        )
        self.streams[flow] = stream
        return stream

    def _is_wanted_by_masters(self, flow: MirroredFlow, backend: Endpoint | None) -> bool:
        """Return whether a master gets a session for a new connection; a fault there costs no copy."""
        try:
            return self._sessions.opened(flow, backend)
        except Exception as error:
            self._guard.failed(Work.SESSION, flow, error)
            return False

    def untracked(self, service: Service, count: int) -> None:
        """Count ``count`` bytes as lost: a client sent them while the flow table was full."""
        self._ledger.not_copied(service, count, EndReason.FLOW_TABLE_FULL)

    def unanswered(self, flow: MirroredFlow, count: int) -> None:
        """Count ``count`` bytes as lost: their client has its backend's SYN-ACK, but this host has not seen it."""
        reason = EndReason.NO_ACKNOWLEDGEMENTS
        if flow not in self.streams:
            stream = self._begin(flow, None)
            for mirror in flow.service.copies:
                stream.make_copy(mirror, reason)
            stream.has_all_copies = True
            flow.row.account = self._ledger.account_number(stream)
            self._sessions.refuse(flow, reason)
            for mirror in flow.service.mirrors:
                self._outcomes.note_refused(flow, mirror, reason, count)
        self._ledger.not_copied(flow.service, count, reason)

    def feed(self, flow: MirroredFlow, segment: Segment, now: float) -> None:
        """Copy a segment of the client. Its backend takes it, and the tracker has processed it."""
        stream = self.streams.get(flow)
        if stream is None:
            if is_service_mirrored(flow.row) and has_new_data(flow.row, segment, from_client=True):
                self._ledger.not_copied(flow.service, segment.payload_len, EndReason.NOT_FOLLOWED)
            return
        if segment.flags & FIN:
            stream.note_end(EndedBy.CLIENT)
        if not stream.reassembler.is_placed:
            stream.reassembler.place(segment.seq)
        if reconnects(flow.row):
            self._begin_again(stream, segment, now)
        if reconnects(flow.row):
            note_data(flow.row, segment)
        if segment.flags & URG and is_urgent(flow.row, segment):
            self._feeding.give_up(stream, EndReason.AMBIGUOUS)
            return
        payload, row = segment.payload, flow.row
        is_acked_fin = segment.flags & FIN and is_fin_acked(row)
        if payload or not holds(row) or is_revoked(row.orig) or is_acked_fin:  # else it is a FIN, to be acknowledged
            self._feeding.feed(stream, segment.seq, payload, now)

    def _begin_again(self, stream: MirroredStream, segment: Segment, now: float) -> None:
        """Begin the copies again that may begin with this segment of the client."""
        row, reassembler = stream.flow.row, stream.reassembler
        copies = self._reconnection.due(stream, segment)
        if not copies:
            return
        if not (stream.alive() or has_reader(row)):
            reassembler.place(segment.seq)
        elif not reassembler.is_placed or reassembler.next != segment.seq or row.held_len or reassembler.has_gap:
            return  # the other copies or sessions are not that far
        for copy in copies:
            self._open_again(copy, segment, now)
        if stream.alive():
            start_feeding_legs(row)
        self._reconnection.follow(stream)

    def _open_again(self, copy: StreamCopy, segment: Segment, now: float) -> None:
        client, row = copy.client, copy.stream.flow.row
        self._outcomes.end_left_over(copy.mirror, client)
        made = self._legs.make(copy, client, seq.add(segment.seq, -1), now)
        if isinstance(made, EndReason):
            self._reconnection.leg_refused(copy)
            return
        self._ledger.change_fate(copy, None, row.orig.bytes - segment.payload_len)
        self._reconnection.begins(copy)
        self._begin_leg(copy, made, now)

    def waited(self, flow: MirroredFlow) -> None:
        """Let a copy begin again that has waited long enough."""
        if (stream := self.streams.get(flow)) is not None:
            self._reconnection.follow(stream)

    def feed_replies(self, flow: MirroredFlow, segment: Segment) -> None:
        """Take a segment of the backend, for masters that have a session; as for feed()."""
        stream = self.streams.get(flow)
        if stream is not None and stream.replies is not None:
            self._replies.feed(stream, segment)

    def end_removed(self, leg_ids: Iterable[int]) -> None:
        """End each leg, of those with these numbers, whose mirror is paused or no longer in the rules."""
        for owner in map(self._legs.owner, leg_ids):
            if isinstance(owner, MasterSession):
                self._sessions.end_if_removed(owner)
            elif isinstance(owner, StreamCopy):
                self._end_if_removed(owner)

    def _end_if_removed(self, copy: StreamCopy) -> None:
        reason = self._ledger.why_ended_by_rules(copy)
        if reason is not None and copy.leg is not None:
            self._outcomes.apply(self._legs.collect(copy, copy.leg, copy.leg.abort(reason)))

    def acknowledged(self, flow: MirroredFlow, now: float) -> None:
        """Copy the bytes that the backend has acknowledged, or for which its window was too small before."""
        if (stream := self.streams.get(flow)) is not None:
            self._feeding.feed(stream, stream.reassembler.next, b"", now)

    def write_rest(self, flow: MirroredFlow, now: float) -> None:
        """Copy the next bytes of a stream that had more in order than one call writes."""
        stream = self.streams.get(flow)
        if stream is None:
            return
        self._feeding.feed(stream, stream.reassembler.next, b"", now)
        self._replies.read_rest(stream)

    # Another host's connections

    def adopt(self, flow: MirroredFlow, record: FlowRecord, now: float) -> None:
        """Begin the stream of another host's connection: its legs stand by until Adoption.activate()."""
        tracker.begin_adopted(flow.row, record)
        backend = None if record.backend is None else parse_endpoint(record.backend)
        self._adoption.begin(self.picked_up(flow, backend), record, backend, now)

    def positions_known(self, flow: MirroredFlow, now: float) -> None:
        """Continue the client's stream, if all its mirrors have reported their positions."""
        if (stream := self.streams.get(flow)) is not None:
            self._feeding.positions_known(stream, now)

    def flow_reset(self, flow: MirroredFlow, now: float, by: EndedBy | None = None) -> None:
        """Reset the legs of a connection that was reset, by one of its ends or (None) by natmirror. After a client's
        RST, the backend's acknowledgements of its last bytes may still be under way: the legs wait for them."""
        stream = self.streams.get(flow)
        if stream is not None and by is not None:
            stream.note_end(by)
        self.acknowledged(flow, now)
        if stream is None:
            return
        if by is EndedBy.CLIENT and holds(flow.row) and flow.row.held_len and not stream.has_ended:
            stream.awaits_last = True
            self._timers.set((TimerKind.LAST_ACKNOWLEDGEMENTS, flow), now + _LAST_ACKNOWLEDGEMENTS)
        self._end_flow(flow, now, lambda leg: leg.reset(now))
        if stream.replies is not None and not stream.ends_later:
            self._read_queue.add(ReadEvent.RESET, flow.row.id)

    def no_more_acknowledgements(self, flow: MirroredFlow, now: float) -> None:
        """End the legs of a connection that its client has reset: no acknowledgement is under way any more."""
        if (stream := self.streams.get(flow)) is not None:
            has_lost = flow.row.held_len > 0
            stream.clear()
            self._feeding.end_late(stream, now)
            if has_lost:  # a leg that still connects would get what the client sends after these bytes in their place
                self._feeding.each_leg(stream, lambda leg: leg.abort(EndReason.CLIENT_RESET))

    def flow_closed(self, flow: MirroredFlow, now: float) -> None:
        """Close the legs of a connection that has closed. Its backend has all bytes, so a copy without some of them has
        a hole."""
        self.acknowledged(flow, now)
        stream = self.streams.get(flow)
        complete = stream is not None and stream.state in HAS_END
        self._end_flow(flow, now, lambda leg: leg.finish(now) if complete else leg.abort(EndReason.HOLE))
        if stream is not None and stream.replies is not None and not stream.ends_later:
            self._read_queue.add(ReadEvent.FINISHED, flow.row.id)

    def forget(self, flow: MirroredFlow) -> None:
        """End the stream of a flow that stays in the table and whose connection begins again."""
        self._forget(flow, continues=True)
        self._legs.link(flow.row, [])
        clear_mirroring(flow.row)

    def release_flow(self, flow: MirroredFlow) -> None:
        """End the legs of a connection whose further packets pass another host."""
        if (stream := self.streams.get(flow)) is not None:
            self._feeding.each_leg(stream, lambda leg: leg.abort(EndReason.RELEASED))

    def flow_forgotten(self, flow: MirroredFlow) -> None:
        """End the stream of a flow that leaves the table. Legs that have got the stream's end stay open until they have
        delivered it; others are reset."""
        self._forget(flow, continues=False)

    def _forget(self, flow: MirroredFlow, *, continues: bool) -> None:
        self._backpressure.remove(flow)
        stream = self.streams.get(flow)
        if stream is None:
            return
        self._feeding.each_leg(stream, lambda leg: leg.abandon(EndReason.RESUME_TIMEOUT) if leg.awaits_answer else [])
        if not stream.has_ended or stream.ends_later:
            self._feeding.each_leg(stream, lambda leg: leg.abort(EndReason.FLOW_EXPIRED))
        self._timers.set((TimerKind.POSITIONS_KNOWN, flow), None)
        self._timers.set((TimerKind.WRITE_REST, flow), None)
        self._timers.set((TimerKind.LAST_ACKNOWLEDGEMENTS, flow), None)
        self._timers.set((TimerKind.RECONNECT, flow), None)
        self._sessions.forgotten(flow, continues=continues)
        stream.clear()
        if stream.replies is not None:
            stream.replies.clear()
        stream.final_bytes = stream.client_bytes
        stream.move(StreamEvent.FORGOTTEN)
        for _, leg in stream.alive():
            leg.row.flow_id, leg.row.client_bytes = NO_FLOW, stream.final_bytes
        del self.streams[flow]  # not earlier: legs that cannot be found would outlive their flow's number
        for copy in stream.copies:
            self._ledger.flow_forgotten(copy)
        stream.copies = ()  # breaks a reference cycle, which only the garbage collector would free

    def _open_leg(self, copy: StreamCopy, iss: int, now: float) -> None:
        client = copy.client
        self._outcomes.end_left_over(copy.mirror, client)
        made = self._legs.make(copy, client, iss, now)
        if isinstance(made, EndReason):
            copy.why_absent = made
            return
        self._begin_leg(copy, made, now)

    def _begin_leg(self, copy: StreamCopy, made: Leg, now: float) -> None:
        stream = copy.stream
        copy.leg = made
        self._ledger.totals_of(copy).opened += 1
        made.row.flow_id = stream.flow.row.id
        made.row.mirror_id = self._ledger.mirror_id(copy)
        made.row.before_bytes = copy.before
        self._legs.link(stream.flow.row, [leg for _, leg in stream.alive()])
        self._outcomes.apply(self._legs.collect(copy, made, made.open(now)))

    def _end_flow(self, flow: MirroredFlow, now: float, do: Callable[[Leg], list[bytes]]) -> None:
        stream = self.streams.get(flow)
        if stream is None or stream.has_ended:
            return
        stream.move(StreamEvent.ENDED)

        def end(leg: Leg) -> list[bytes]:
            leg.client_gone(now)
            # If mirrors have not answered, or bytes are still to be written, end_late() ends the leg later.
            return [] if stream.state in IS_ASKING or stream.ends_later else do(leg)

        self._feeding.each_leg(stream, end)


def max_waiting(flow: MirroredFlow) -> int:
    """Return how many bytes of the client may wait, in bytes: the largest buffer of a mirror."""
    return max(mirror.buffer for mirror in flow.service.mirrors)
