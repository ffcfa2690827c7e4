"""The step between production and the legs: it gives the byte stream of each mirrored flow to one leg per mirror."""

from collections.abc import Callable, Iterable

from natmirror.fastpath import NO_FLOW, Memory
from natmirror.fastpath.flow_flags import (
    add_reader,
    clear_mirroring,
    has_reader,
    is_ack_known,
    is_finished,
    knows_window,
    set_orig_waiting,
    start_feeding_legs,
)
from natmirror.fastpath.flow_states import State
from natmirror.mirror.adoption import Adoption
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.copies import MirroredFlow, MirroredStream, StreamCopy
from natmirror.mirror.copy_states import HAS_END, IS_ASKING, StreamEvent
from natmirror.mirror.faults import Work
from natmirror.mirror.guard import Guard
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import LegOutcome, Legs
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.sessions.replies import Replies
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.mirror.timers import AT_ONCE, TimerKind, Timers
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of, parse_endpoint
from natmirror.net.packet import RST, SYN, Segment
from natmirror.reasons import EndReason
from natmirror.rules import Service
from natmirror.tcp import tracker
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import FlowRecord
from natmirror.tcp.reassembler import Reassembler
from natmirror.tcp.tracker import is_taken


class Mirroring:
    """The streams of an engine's mirrored flows."""

    def __init__(
        self,
        memory: Memory,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        backpressure: Backpressure,
        adoption: Adoption,
        outcomes: LegOutcomes,
        sessions: MasterSessions,
        read_queue: ReadQueue,
        guard: Guard,
        streams: dict[MirroredFlow, MirroredStream],
        *,
        shares_state: bool,
    ) -> None:
        """``shares_state``: hosts share records of legs, so that a connection picked up here may have legs from another
        host."""
        self.budget = memory
        """The limit on the memory of bytes that wait to be copied."""
        self._why_absent_from_picked_up = EndReason.NO_RECORD if shares_state else EndReason.PICKED_UP
        self._guard = guard
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._backpressure = backpressure
        self._adoption = adoption
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
        first = seq.add(flow.row.iss, 1)
        max_waiting = max(mirror.buffer for mirror in flow.service.mirrors)
        stream = MirroredStream(flow, Reassembler(flow.row, "orig", first, max_waiting, self.budget))
        self.streams[flow] = stream
        for mirror in flow.service.copies:
            copy = StreamCopy(mirror, stream)
            stream.copies = (*stream.copies, copy)
            copy.why_absent = (
                EndReason.MIRROR_IS_BACKEND
                if endpoint_of(mirror) == backend
                else why_not_mirrored(mirror, flow.client[0])
            )
            if copy.why_absent is None:
                self._open_leg(copy, flow.row.iss, now)
        if stream.alive():
            start_feeding_legs(flow.row)
        if self._is_wanted_by_masters(flow, backend):
            stream.replies = Reassembler(flow.row, "reply", flow.row.orig.ack, max_waiting, self.budget)
            add_reader(flow.row)
        flow.row.account = self._ledger.account_number(stream)
        self._guard.run(Work.THROTTLE, flow, self._backpressure.update, stream)
        if flow.syn_data:
            taken = seq.diff(flow.row.reply.ack, first)  # a backend may ignore a SYN's data (RFC 7413 §4.2.2)
            self._feed(stream, first, flow.syn_data[: max(taken, 0)], now)

    def picked_up(self, flow: MirroredFlow, backend: Endpoint | None) -> MirroredStream:
        """Begin the stream of a flow that was picked up. Sessions can begin in mid-stream; copies cannot."""
        max_waiting = max(mirror.buffer for mirror in flow.service.mirrors)
        stream = MirroredStream(flow, Reassembler(flow.row, "orig", None, max_waiting, self.budget))
        stream.copies = tuple(
            StreamCopy(mirror, stream, why_absent=self._why_absent_from_picked_up) for mirror in flow.service.copies
        )
        self.streams[flow] = stream
        if self._is_wanted_by_masters(flow, backend):
            stream.replies = Reassembler(flow.row, "reply", None, max_waiting, self.budget)
            add_reader(flow.row, is_late=True)
        flow.row.account = self._ledger.account_number(stream)
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
        self._ledger.untracked(service, count)

    def feed(self, flow: MirroredFlow, segment: Segment, now: float) -> None:
        """Copy a segment of the client. Its checksum is right, and the tracker has processed it."""
        stream = self.streams.get(flow)
        if stream is None or segment.flags & (SYN | RST) or not is_taken(flow.row, segment, from_client=True):
            return
        if not stream.reassembler.is_placed:
            stream.reassembler.place(segment.seq)
        self._feed(stream, segment.seq, segment.payload, now)

    def feed_replies(self, flow: MirroredFlow, segment: Segment) -> None:
        """Take a segment of the backend, for masters that have a session; as for feed()."""
        stream = self.streams.get(flow)
        if stream is not None and stream.replies is not None and not segment.flags & (SYN | RST):
            self._replies.feed(stream, segment)

    def end_removed(self, leg_ids: Iterable[int]) -> None:
        """End each leg, of those with these numbers, whose mirror is no longer in the rules."""
        for owner in map(self._legs.owner, leg_ids):
            if isinstance(owner, MasterSession):
                self._sessions.end_if_removed(owner)
            elif isinstance(owner, StreamCopy) and owner.leg is not None and not self._ledger.is_current(owner):
                self._outcomes.apply(self._legs.collect(owner, owner.leg, owner.leg.abort(EndReason.MIRROR_REMOVED)))

    def window_moved(self, flow: MirroredFlow, now: float) -> None:
        """Copy the bytes that waited for the backend's window, after a segment of the backend."""
        if (stream := self.streams.get(flow)) is not None:
            self._feed(stream, stream.reassembler.next, b"", now)

    def write_rest(self, flow: MirroredFlow, now: float) -> None:
        """Copy the next bytes of a stream that had more in order than one call writes."""
        stream = self.streams.get(flow)
        if stream is None:
            return
        self._feed(stream, stream.reassembler.next, b"", now)
        self._replies.read_rest(stream)

    def _feed(self, stream: MirroredStream, at: int, payload: bytes, now: float) -> None:
        """Take the client's bytes from number ``at`` on, and give the legs those that are in order."""
        row, reassembler = stream.flow.row, stream.reassembler
        is_read = has_reader(row)
        if stream.state in HAS_END or not (stream.alive() or is_read):
            return
        if stream.is_adopted:
            self._adoption.activate(stream.flow, now)
            if is_ack_known(row.reply):
                self._apply_all(self._adoption.end_stale(stream))
        fin_seq = seq.add(row.orig.end, -1) if is_finished(row.orig) else None
        if fin_seq is not None:
            payload = payload[: max(seq.diff(fin_seq, at), 0)]  # nothing follows a FIN
        edge = seq.latest(row.reply.edge, row.reply.ack)
        if not knows_window(row):
            edge = seq.latest(edge, seq.add(at, len(payload)))
        data = reassembler.push(at, payload, edge)
        set_orig_waiting(row, past_window=reassembler.is_blocked, has_gap=reassembler.waiting_bytes > 0)
        had_rest = stream.has_rest
        self._write(stream, data, edge, now)
        if fin_seq is not None and stream.is_adopted:
            self._apply_all(self._adoption.end_past_fin(stream, fin_seq))
        if stream.state in IS_ASKING or stream.has_rest:
            return
        acked = fin_seq if fin_seq is not None and row.reply.ack == row.orig.end else row.reply.ack
        knows_ack = is_ack_known(row.reply) or stream.is_adopted
        if knows_ack and seq.lt(reassembler.next, acked) and self._handle_gap(stream, acked, edge, now):
            return
        if fin_seq is not None and seq.le(fin_seq, reassembler.next):
            stream.move(StreamEvent.FIN)
            self._each_leg(stream, lambda leg: leg.finish(now))
            if is_read:
                self._read_queue.add(ReadEvent.FINISHED, row.id)
        if had_rest and stream.has_ended and not stream.has_rest:
            self._end_deferred(stream, now)
            if stream.replies is not None:
                self._read_queue.add(ReadEvent.RESET if row.state == State.RESET else ReadEvent.FINISHED, row.id)

    def _write(self, stream: MirroredStream, data: bytes, edge: int, now: float) -> None:
        """Write the client's next bytes in order to its legs and to the sessions' queue. If more bytes are in order
        already, a leg needs room for all of them, and otherwise ends."""
        rest = stream.reassembler.ready_len(edge)
        wanted = 0 if stream.has_rest else len(data) + rest if rest else None
        stream.has_rest = rest > 0
        if rest:
            self._timers.set((TimerKind.WRITE_REST, stream.flow), AT_ONCE)
        if not data:
            return
        start = seq.add(stream.reassembler.next, -len(data))
        self._each_leg(stream, lambda leg: leg.write(_missing_part(leg, data, start), now, wanted=wanted))
        if has_reader(stream.flow.row):
            self._read_queue.add(ReadEvent.ORIG, stream.flow.row.id, data)

    def _handle_gap(self, stream: MirroredStream, acked: int, edge: int, now: float) -> bool:
        """Handle a gap before number ``acked``: the backend has these bytes, but they did not pass here or found no
        room, and the client will not send them again. Return whether mirrors are first asked if they have them from
        another host."""
        reassembler = stream.reassembler
        lacking = [(copy, leg) for copy, leg in stream.alive() if seq.lt(leg.end, acked)]
        resumed = [(copy, leg, leg.resumption) for copy, leg in lacking if leg.resumption is not None]
        asked = [(copy, leg) for copy, leg, resumption in resumed if resumption.ask_again(now)]
        for copy, leg in asked:
            self._outcomes.apply(self._legs.collect(copy, leg, []))
        if asked:
            stream.move(StreamEvent.ASKED)
            return True
        for copy, leg in lacking:
            self._outcomes.apply(self._legs.collect(copy, leg, leg.abort(reassembler.left_out or leg.hole_reason)))
        self._skip(stream, acked, edge, now)
        return False

    def _skip(self, stream: MirroredStream, to: int, edge: int, now: float) -> None:
        """Continue at the number ``to``, without the client's bytes before it."""
        row = stream.flow.row
        is_read = has_reader(row)
        if is_read:
            self._read_queue.add(ReadEvent.ORIG_LOST, row.id)
        if is_read or stream.alive():
            self._write(stream, stream.reassembler.restart(to, edge), edge, now)
            set_orig_waiting(row, past_window=False, has_gap=stream.reassembler.waiting_bytes > 0)

    # Another host's connections

    def adopt(self, flow: MirroredFlow, record: FlowRecord, now: float) -> None:
        """Begin the stream of another host's connection: its legs stand by until Adoption.activate()."""
        tracker.begin_adopted(flow.row, record)
        backend = None if record.backend is None else parse_endpoint(record.backend)
        self._adoption.begin(self.picked_up(flow, backend), record, backend, now)

    def positions_known(self, flow: MirroredFlow, now: float) -> None:
        """Continue the client's stream at its mirrors' positions, if all mirrors have answered."""
        stream, row = self.streams.get(flow), flow.row
        if stream is None:
            return
        if any(leg.awaits_answer for _, leg in stream.alive()):
            return
        if stream.state in IS_ASKING:
            stream.move(StreamEvent.ANSWERED)
        at = stream.reassembler.next
        ahead = min((max(seq.diff(leg.end, at), 0) for _, leg in stream.alive()), default=0)
        if ahead:
            self._skip(stream, seq.add(at, ahead), seq.latest(row.reply.ack, row.orig.end), now)
        self._feed(stream, stream.reassembler.next, b"", now)
        self._adoption.note_resumed(stream)
        if stream.has_ended and stream.state not in IS_ASKING and not stream.has_rest:
            self._end_deferred(stream, now)

    def _end_deferred(self, stream: MirroredStream, now: float) -> None:
        """End the legs of a connection that ended while its stream still waited for bytes or answers."""
        if stream.flow.row.state == State.RESET:
            self._each_leg(stream, lambda leg: leg.reset(now))
        elif stream.state not in HAS_END:
            self._each_leg(stream, lambda leg: leg.abort(leg.hole_reason))

    def flow_reset(self, flow: MirroredFlow, now: float) -> None:
        """Reset the legs of a connection that was reset."""
        self.window_moved(flow, now)
        self._end_flow(flow, now, lambda leg: leg.reset(now))
        if (stream := self.streams.get(flow)) is not None and stream.replies is not None and not stream.has_rest:
            self._read_queue.add(ReadEvent.RESET, flow.row.id)

    def flow_closed(self, flow: MirroredFlow, now: float) -> None:
        """Close the legs of a connection that has closed. Its backend has all bytes, so a copy without some of them has
        a hole."""
        self.window_moved(flow, now)
        stream = self.streams.get(flow)
        complete = stream is not None and stream.state in HAS_END
        self._end_flow(flow, now, lambda leg: leg.finish(now) if complete else leg.abort(EndReason.HOLE))
        if stream is not None and stream.replies is not None and not stream.has_rest:
            self._read_queue.add(ReadEvent.FINISHED, flow.row.id)

    def forget(self, flow: MirroredFlow) -> None:
        """End the stream of a flow that stays in the table and whose connection begins again."""
        self._forget(flow, continues=True)
        self._legs.link(flow.row, [])
        clear_mirroring(flow.row)

    def release_flow(self, flow: MirroredFlow) -> None:
        """End the legs of a connection whose further packets pass another host."""
        if (stream := self.streams.get(flow)) is not None:
            self._each_leg(stream, lambda leg: leg.abort(EndReason.RELEASED))

    def flow_forgotten(self, flow: MirroredFlow) -> None:
        """End the stream of a flow that leaves the table. Legs that have got the stream's end stay open until they have
        delivered it; others are reset."""
        self._forget(flow, continues=False)

    def _forget(self, flow: MirroredFlow, *, continues: bool) -> None:
        self._backpressure.remove(flow)
        stream = self.streams.get(flow)
        if stream is None:
            return
        self._each_leg(stream, lambda leg: leg.abandon(EndReason.RESUME_TIMEOUT) if leg.awaits_answer else [])
        if not stream.has_ended or stream.has_rest:
            self._each_leg(stream, lambda leg: leg.abort(EndReason.FLOW_EXPIRED))
        self._timers.set((TimerKind.POSITIONS_KNOWN, flow), None)
        self._timers.set((TimerKind.WRITE_REST, flow), None)
        self._sessions.forgotten(flow, continues=continues)
        stream.reassembler.clear()
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
        stream, client = copy.stream, copy.stream.flow.client
        self._outcomes.end_left_over(copy.mirror, client)
        made = self._legs.make(copy, client, iss, now)
        if isinstance(made, EndReason):
            copy.why_absent = made
            return
        copy.leg = made
        self._ledger.totals_of(copy).opened += 1
        made.row.flow_id = stream.flow.row.id
        made.row.mirror_id = self._ledger.mirror_id(copy)
        self._legs.link(stream.flow.row, [leg for _, leg in stream.alive()])
        self._outcomes.apply(self._legs.collect(copy, made, made.open(now)))

    def _end_flow(self, flow: MirroredFlow, now: float, do: Callable[[Leg], list[bytes]]) -> None:
        stream = self.streams.get(flow)
        if stream is None or stream.has_ended:
            return
        stream.move(StreamEvent.ENDED)

        def end(leg: Leg) -> list[bytes]:
            leg.client_gone(now)
            # If mirrors have not answered, or bytes are still to be written, _end_deferred() ends the leg later.
            return [] if stream.state in IS_ASKING or stream.has_rest else do(leg)

        self._each_leg(stream, end)

    # Housekeeping

    def _each_leg(self, stream: MirroredStream, do: Callable[[Leg], list[bytes]]) -> None:
        for copy, leg in stream.alive():
            self._outcomes.apply(self._legs.collect(copy, leg, do(leg)))

    def _apply_all(self, outcomes: Iterable[LegOutcome]) -> None:
        for outcome in outcomes:
            self._outcomes.apply(outcome)


def _missing_part(leg: Leg, data: bytes, start: int) -> bytes:
    """Return the client's bytes from number ``start`` on, without those that the mirror has from another host."""
    return data if leg.resumption is None else leg.resumption.missing_part(data, start)
