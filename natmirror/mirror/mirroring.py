"""Between production and the legs: each mirrored flow's byte stream, given to a leg for each of its mirrors."""

from collections.abc import Callable, Iterable
from typing import Any

from natmirror.actions import LegEnded
from natmirror.fastpath import GAPPED, MIRRORED, NO_FLOW, READ, REPLY_GAPPED, WAITING, Gear, Memory
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.faults import Work
from natmirror.mirror.guard import Guard
from natmirror.mirror.ledger import (
    MID_CONNECTION,
    OWN_BACKEND,
    REMOVED,
    Ledger,
    MirroredFlow,
    MirroredStream,
    StreamCopy,
)
from natmirror.mirror.legs import HANDED_OVER, Legs
from natmirror.mirror.report import gone_flow, shown_copy, shown_session
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.read_queue import Kind, ReadQueue
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.mirror.timers import AT_ONCE, Timers
from natmirror.net import seq
from natmirror.net.packet import RST, SYN, Endpoint, Segment, endpoint_of, show
from natmirror.rules import Service
from natmirror.tcp import tracker
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import FlowRecord, LegRecord, endpoint
from natmirror.tcp.leg_states import HOLE, NO_ANSWER, NO_RECORD
from natmirror.tcp.reassembler import Reassembler
from natmirror.tcp.tracker import HALF_ACK, HALF_FIN, State, is_taken

_LATE = 1 << 16  # bytes by which a backend's packet that arrives late may understate the room


class Mirroring:
    """The streams of all flows with mirrors, and the legs that carry them."""

    def __init__(
        self,
        gear: Gear,
        memory: Memory,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        shadowing: MasterSessions,
        reading: ReadQueue,
        guard: Guard,
        *,
        shares_state: bool,
    ) -> None:
        """``shares_state``: other hosts share records of their legs; connections picked up here may have such legs."""
        self.budget = memory
        """What waits for its turn takes from here."""
        self._picked_up_absent = NO_RECORD if shares_state else MID_CONNECTION
        self._guard = guard
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._shadowing = shadowing
        self._reading = reading
        self._gear = gear
        self.taps: dict[MirroredFlow, MirroredStream] = {}
        """Each mirrored flow's, from its handshake on."""
        self.holding = Backpressure(timers, legs, self.taps.get)
        """Whose clients are held back."""
        self._events: list[LegEnded] = []

    def take_events(self) -> list[LegEnded]:
        """The legs that have ended since the last call."""
        events, self._events = self._events, []
        return events + self._shadowing.take_events()

    # What production does

    def open(self, flow: MirroredFlow, backend: Endpoint, now: float) -> None:
        """The client's handshake is complete: call each mirror, but one that is the connection's own backend or does
        not want this client."""
        if flow.picked_up or not flow.service.mirrors:
            return
        first = seq.add(flow.row.iss, 1)
        max_waiting = max(mirror.buffer for mirror in flow.service.mirrors)
        tap = MirroredStream(flow, Reassembler(flow.row, "orig", first, max_waiting, self.budget), self)
        self.taps[flow] = tap
        for mirror in flow.service.copies:
            strand = StreamCopy(mirror, tap)
            tap.strands = (*tap.strands, strand)
            strand.absent = OWN_BACKEND if endpoint_of(mirror) == backend else why_not_mirrored(mirror, flow.client[0])
            if strand.absent is None:
                self._open_leg(strand, flow.row.iss, now)
        if tap.alive():
            flow.row.flags |= MIRRORED
        if self._is_wanted_by_masters(flow, backend):
            tap.replies = Reassembler(flow.row, "reply", flow.row.orig.ack, max_waiting, self.budget)
            flow.row.flags |= READ
        flow.row.account = self._ledger.account(tap)
        self._guard.run(Work.THROTTLE, flow, self.holding.hold, tap)
        if flow.syn_data:
            taken = seq.diff(flow.row.reply.ack, first)  # a backend may have left a SYN's data alone (RFC 7413 §4.2.2)
            self._feed(tap, first, flow.syn_data[: max(taken, 0)], now)

    def picked_up(self, flow: MirroredFlow, backend: Endpoint | None) -> MirroredStream:
        """A connection was met in its middle: no copy can begin there, but its bytes count as lost; a session can."""
        max_waiting = max(mirror.buffer for mirror in flow.service.mirrors)
        tap = MirroredStream(flow, Reassembler(flow.row, "orig", None, max_waiting, self.budget), self)
        tap.strands = tuple(StreamCopy(mirror, tap, absent=self._picked_up_absent) for mirror in flow.service.copies)
        self.taps[flow] = tap
        if self._is_wanted_by_masters(flow, backend):
            tap.replies = Reassembler(flow.row, "reply", None, max_waiting, self.budget)
            flow.row.flags |= READ | GAPPED | REPLY_GAPPED
        flow.row.account = self._ledger.account(tap)
        return tap

    def _is_wanted_by_masters(self, flow: MirroredFlow, backend: Endpoint | None) -> bool:
        """Whether some master wants a session for a new connection; a fault there costs no copy."""
        try:
            return self._shadowing.opened(flow, backend)
        except Exception as error:
            self._guard.failed(Work.SESSION, flow, error)
            return False

    def untracked(self, service: Service, count: int) -> None:
        """The flow table was full when a client sent ``count`` bytes: they count as lost."""
        self._ledger.untracked(service, count)

    def feed(self, flow: MirroredFlow, segment: Segment, now: float) -> None:
        """A segment of the client's with a right checksum, which the tracker has seen before."""
        tap = self.taps.get(flow)
        if tap is None or segment.flags & (SYN | RST) or not is_taken(flow.row.reply, segment, loose=flow.picked_up):
            return
        if not tap.reassembler.is_placed:
            tap.reassembler.place(segment.seq)
        self._feed(tap, segment.seq, segment.payload, now)

    def unread(self, flow: MirroredFlow) -> None:
        """Nobody reads the flow any more."""
        tap, row = self.taps.get(flow), flow.row
        row.flags &= ~(READ | REPLY_GAPPED)
        if tap is None or tap.replies is None:
            return
        tap.replies.clear()
        if not tap.alive():
            row.flags &= ~(WAITING | GAPPED)
            tap.reassembler.clear()

    def feed_replies(self, flow: MirroredFlow, segment: Segment) -> None:
        """The same for a segment of the backend's, where somebody reads it."""
        tap = self.taps.get(flow)
        if tap is None or tap.replies is None or segment.flags & (SYN | RST):
            return
        row, replies = flow.row, tap.replies
        if not row.flags & READ or not is_taken(row.orig, segment, loose=flow.picked_up):
            return
        if not replies.is_placed:
            replies.place(segment.seq)
        edge = seq.latest(row.orig.edge, row.orig.ack)
        if flow.picked_up:  # nobody knows how wide its window is
            edge = seq.latest(edge, seq.add(segment.seq, segment.payload_len))
        self._read_reply(tap, replies.push(segment.seq, segment.payload, edge), edge)

    def _read_reply(self, tap: MirroredStream, data: bytes, edge: int) -> None:
        """The backend's next bytes in order go to who reads them."""
        row, replies = tap.flow.row, tap.replies
        if replies is None:
            return
        if data:
            self._reading.add(Kind.REPLY, row.id, data)
        rest = replies.ready_len(edge)
        if not rest and row.orig.flags & HALF_ACK and seq.lt(replies.next, row.orig.ack):
            self._reading.add(Kind.REPLY_LOST, row.id)
            if data := replies.restart(row.orig.ack, edge):
                self._reading.add(Kind.REPLY, row.id, data)
            rest = replies.ready_len(edge)
        if rest:
            self._timers.set(("rest", tap.flow), AT_ONCE)
        row.flags = row.flags & ~REPLY_GAPPED | (REPLY_GAPPED if replies.waiting_bytes else 0)

    def end_removed(self, leg_ids: Iterable[int]) -> None:
        """End those of the legs with these numbers whose mirrors the rules do not name any more."""
        for holder in map(self._legs.holder, leg_ids):
            if isinstance(holder, MasterSession):
                self._shadowing.end_if_removed(holder)
            elif isinstance(holder, StreamCopy) and holder.leg is not None and not self._ledger.has(holder):
                self._legs.settle(holder, holder.leg, holder.leg.abort(REMOVED))

    def window_moved(self, flow: MirroredFlow, now: float) -> None:
        """The backend has spoken, and may take now what waited for its window."""
        if (tap := self.taps.get(flow)) is not None:
            self._feed(tap, tap.reassembler.next, b"", now)

    def give_rest(self, flow: MirroredFlow, now: float) -> None:
        """What was in order, and too much for one call: the next of it."""
        tap = self.taps.get(flow)
        if tap is None:
            return
        self._feed(tap, tap.reassembler.next, b"", now)
        if tap.replies is not None and flow.row.flags & READ:
            edge = seq.latest(flow.row.orig.edge, flow.row.orig.ack)
            self._read_reply(tap, tap.replies.push(tap.replies.next, b"", edge), edge)

    def _feed(self, tap: MirroredStream, at: int, payload: bytes, now: float) -> None:
        """Bytes of the client's from number ``at`` on: what is in order goes to the legs."""
        row, reassembler = tap.flow.row, tap.reassembler
        is_read = bool(row.flags & READ)
        if tap.finished or not (tap.alive() or is_read):
            return
        self.rouse(tap.flow, now)
        if tap.is_adopted and row.reply.flags & HALF_ACK:
            self._end_astray(tap)
        fin_seq = seq.add(row.orig.end, -1) if row.orig.flags & HALF_FIN else None
        if fin_seq is not None:
            payload = payload[: max(seq.diff(fin_seq, at), 0)]  # nothing follows a FIN
        edge = seq.latest(row.reply.edge, row.reply.ack)
        if tap.flow.picked_up:  # nobody knows how wide its window is
            edge = seq.latest(edge, seq.add(at, len(payload)))
        data = reassembler.push(at, payload, edge)
        row.flags &= ~(WAITING | GAPPED)
        row.flags |= (WAITING if reassembler.blocked else 0) | (GAPPED if reassembler.waiting_bytes else 0)
        was_draining = tap.is_draining
        self._give(tap, data, edge, now)
        if fin_seq is not None and tap.is_adopted:
            self._leave_behind(tap, fin_seq)
        if tap.is_asking or tap.is_draining:
            return
        acked = fin_seq if fin_seq is not None and row.reply.ack == row.orig.end else row.reply.ack
        is_told = row.reply.flags & HALF_ACK or tap.is_adopted
        if is_told and seq.lt(reassembler.next, acked) and self._lose(tap, acked, edge, now):
            return
        if fin_seq is not None and seq.le(fin_seq, reassembler.next):
            tap.finished = True
            self._each(tap, lambda leg: leg.finish(now))
            if is_read:
                self._reading.add(Kind.FINISHED, row.id)
        if was_draining and tap.flow_over and not tap.is_draining:
            self._end_late(tap, now)
            if tap.replies is not None:
                self._reading.add(Kind.RESET if row.state == State.RESET else Kind.FINISHED, row.id)

    def _give(self, tap: MirroredStream, data: bytes, edge: int, now: float) -> None:
        """The client's next bytes in order: to its legs, and to who reads them. Where more follow at once, a leg has
        room for all of them, or for nothing."""
        rest = tap.reassembler.ready_len(edge)
        wanted = 0 if tap.is_draining else len(data) + rest if rest else None
        tap.is_draining = rest > 0
        if rest:
            self._timers.set(("rest", tap.flow), AT_ONCE)
        if not data:
            return
        start = seq.add(tap.reassembler.next, -len(data))
        self._each(tap, lambda leg: leg.write(_missing_part(leg, data, start), now, wanted=wanted))
        if tap.flow.row.flags & READ:
            self._reading.add(Kind.ORIG, tap.flow.row.id, data)

    def _lose(self, tap: MirroredStream, acked: int, edge: int, now: float) -> bool:
        """The backend has bytes before number ``acked`` that never passed here, or found no room, so the client will
        not send them again. Whether a mirror is to be asked first if it has them from elsewhere."""
        reassembler = tap.reassembler
        lacking = [(strand, leg) for strand, leg in tap.alive() if seq.lt(leg.end, acked)]
        resumed = [(strand, leg, leg.resumption) for strand, leg in lacking if leg.resumption is not None]
        asked = [(strand, leg) for strand, leg, resumption in resumed if resumption.ask_again(now)]
        for strand, leg in asked:
            self._legs.settle(strand, leg, [])
        if asked:
            tap.is_asking = True
            return True
        for strand, leg in lacking:
            self._legs.settle(strand, leg, leg.abort(reassembler.left_out or leg.hole_reason))
        self._skip(tap, acked, edge, now)
        return False

    def _skip(self, tap: MirroredStream, to: int, edge: int, now: float) -> None:
        """Nobody waits any more for the client's bytes before a number."""
        row = tap.flow.row
        is_read = row.flags & READ
        if is_read:
            self._reading.add(Kind.ORIG_LOST, row.id)
        if is_read or tap.alive():
            self._give(tap, tap.reassembler.restart(to, edge), edge, now)
            row.flags &= ~(WAITING | GAPPED)
            row.flags |= GAPPED if tap.reassembler.waiting_bytes else 0

    # Another host's connections

    def adopt(self, flow: MirroredFlow, record: FlowRecord, now: float) -> None:
        """Another host's connection may go on here, and so may its legs: they wait for rouse()."""
        legs = _legs_by_place(record)
        tracker.begin_adopted(flow.row, record.iss, record.client_nxt, record.client_una, record.backend_scale)
        backend = None if record.backend is None else endpoint(record.backend)
        tap = self.picked_up(flow, backend)
        for strand in tap.strands:
            leg = legs.get((strand.mirror.name, endpoint_of(strand.mirror)))
            absent = (
                OWN_BACKEND
                if endpoint_of(strand.mirror) == backend
                else why_not_mirrored(strand.mirror, flow.client[0])
            )
            strand.absent = absent or strand.absent
            if leg is not None and absent is None:
                self._adopt_leg(strand, leg, now)
        flow.row.account = self._ledger.account(tap)
        if tap.alive():
            flow.row.flags |= MIRRORED
            self._link(tap)
            tap.is_adopted = tap.is_asking = True
            self._wait(tap, record)

    def _adopt_leg(self, strand: StreamCopy, record: LegRecord, now: float) -> None:
        made = self._legs.adopt(strand, record, strand.tap.flow.client, now)
        if isinstance(made, str):
            strand.absent = made
            return
        strand.leg, strand.absent = made, None
        made.row.flow_id = strand.tap.flow.row.id
        made.row.mirror_id = self._ledger.number(strand)

    def _wait(self, tap: MirroredStream, record: FlowRecord) -> None:
        """The client's stream may go on from the first number that a mirror may lack. Its bytes count once it does."""
        una = [leg.una for _, leg in tap.alive()]
        tap.reassembler.place(min(una, key=lambda number: seq.diff(number, record.client_nxt)))
        tap.waits_from = record.client_nxt

    def renew(self, flow: MirroredFlow, record: FlowRecord) -> bool:
        """A later record of a connection that waits; False where it has other legs now."""
        tap, legs = self.taps[flow], _legs_by_place(record)
        pairs = [(leg, legs.pop((strand.mirror.name, leg.mirror), None)) for strand, leg in tap.alive()]
        if legs or any(later is None or later.local_end != leg.local for leg, later in pairs):
            return False
        for leg, later in pairs:
            if leg.resumption is not None and later is not None:
                leg.resumption.renew(later)
        tracker.begin_adopted(flow.row, record.iss, record.client_nxt, record.client_una, record.backend_scale)
        self._wait(tap, record)
        return True

    def waits(self, flow: MirroredFlow) -> bool:
        """Whether another host still has a connection, as far as is known, and its legs with it."""
        tap = self.taps.get(flow)
        return tap is not None and tap.waits_from is not None

    def rouse(self, flow: MirroredFlow, now: float) -> None:
        """A connection that waits is this host's from now on: its mirrors are asked how far they have come."""
        tap = self.taps.get(flow)
        if tap is None or tap.waits_from is None:
            return
        first = tap.reassembler.next
        flow.row.orig.bytes += seq.diff(tap.waits_from, first)
        tap.waits_from = None
        for strand in tap.strands:
            leg = strand.leg
            if leg is not None and leg.resumption is not None:
                leg.row.acked_bytes += seq.diff(leg.resumption.recorded_una, first)
                self._ledger.of(strand).adopted += 1
                leg.resumption.take_over(now)
                leg.schedule()

    def _note_roused(self, strand: StreamCopy, leg: Leg) -> None:
        """A leg may have heard from its mirror, and so has the connection become this host's."""
        resumption = leg.resumption
        if strand.tap.waits_from is not None and resumption is not None and not resumption.is_standby:
            self.rouse(strand.tap.flow, resumption.taken_over_at)

    def _end_astray(self, tap: MirroredStream) -> None:
        """End legs that seem to have bytes for which the backend has offered no room: the client cannot have sent them.
        So their record was of an older leg between the same ends, whose numbers lie near."""
        row = tap.flow.row
        room = max(seq.diff(row.reply.edge, row.reply.ack), 0)
        for strand, leg in tap.alive():
            ahead = seq.diff(leg.end, row.reply.ack)
            if leg.resumption is not None and not leg.awaits_answer and ahead > room + _LATE:
                wrong = min(ahead, leg.row.acked_bytes, row.orig.bytes)
                leg.row.acked_bytes -= wrong
                if row.orig.end == leg.end:
                    row.orig.end = row.reply.ack
                    row.orig.bytes -= wrong
                self._legs.settle(strand, leg, leg.abort(NO_RECORD))

    def _follow(self, strand: StreamCopy) -> None:
        """After a leg of another host's has moved: its mirror may have more than the client has sent through us."""
        tap, leg, row = strand.tap, strand.leg, strand.tap.flow.row
        if tap.final_bytes is not None or leg is None:
            return
        self._note_roused(strand, leg)
        if tap.waits_from is not None:
            return
        if not row.orig.flags & HALF_FIN:
            tracker.told(row.orig, leg.end)
        else:
            self._leave_behind(tap, seq.add(row.orig.end, -1))
        living = [leg for _, leg in tap.alive()]
        if any(leg.awaits_answer for leg in living):
            return
        if tap.is_asking or (living and all(seq.lt(tap.reassembler.next, leg.end) for leg in living)):
            self._timers.set(("heard", tap.flow), AT_ONCE)

    def _leave_behind(self, tap: MirroredStream, fin: int) -> None:
        """The client's stream ends before number ``fin``: tell legs that another host has brought further."""
        for strand, leg in tap.alive():
            if leg.resumption is not None and seq.lt(fin, leg.end):
                self._legs.settle(strand, leg, leg.finished_elsewhere(fin))

    def heard(self, flow: MirroredFlow, now: float) -> None:
        """All mirrors have said how far they have come: from there on the client's stream goes on."""
        tap, row = self.taps.get(flow), flow.row
        if tap is None:
            return
        tap.is_asking = any(leg.awaits_answer for _, leg in tap.alive())
        if tap.is_asking:
            return
        at = tap.reassembler.next
        ahead = min((max(seq.diff(leg.end, at), 0) for _, leg in tap.alive()), default=0)
        if ahead:
            self._skip(tap, seq.add(at, ahead), seq.latest(row.reply.ack, row.orig.end), now)
        self._feed(tap, tap.reassembler.next, b"", now)
        for strand, leg in tap.alive():
            if not leg.awaits_answer and not strand.is_resumed:
                strand.is_resumed = True
                self._ledger.of(strand).resumed += 1
        if tap.flow_over and not tap.is_asking and not tap.is_draining:
            self._end_late(tap, now)

    def _end_late(self, tap: MirroredStream, now: float) -> None:
        """Production's connection was over before the legs could be told: now they are."""
        if tap.flow.row.state == State.RESET:
            self._each(tap, lambda leg: leg.reset(now))
        elif not tap.finished:
            self._each(tap, lambda leg: leg.abort(leg.hole_reason))

    def flow_reset(self, flow: MirroredFlow, now: float) -> None:
        """Production's connection was reset."""
        self.window_moved(flow, now)
        self._flow_over(flow, now, lambda leg: leg.reset(now))
        if (tap := self.taps.get(flow)) is not None and tap.replies is not None and not tap.is_draining:
            self._reading.add(Kind.RESET, flow.row.id)

    def flow_closed(self, flow: MirroredFlow, now: float) -> None:
        """Production's connection has closed in order: the backend has everything, so whoever lacks something has a
        hole."""
        self.window_moved(flow, now)
        tap = self.taps.get(flow)
        complete = tap is not None and tap.finished
        self._flow_over(flow, now, lambda leg: leg.finish(now) if complete else leg.abort(HOLE))
        if tap is not None and tap.replies is not None and not tap.is_draining:
            self._reading.add(Kind.FINISHED, flow.row.id)

    def forget(self, flow: MirroredFlow) -> None:
        """The flow stays in the table, and begins anew there."""
        self._forget(flow, goes_on=True)
        self._gear.legs.link(flow.row, [])
        flow.row.flags &= ~(MIRRORED | READ | WAITING | GAPPED | REPLY_GAPPED)

    def handed_over(self, flow: MirroredFlow) -> None:
        """Another host passes the connection from here on: no leg of ours gets the rest of it."""
        if (tap := self.taps.get(flow)) is not None:
            self._each(tap, lambda leg: leg.abort(HANDED_OVER))

    def flow_forgotten(self, flow: MirroredFlow) -> None:
        """The flow leaves the table, and its numbers with it; legs that were not told of its end are cut."""
        self._forget(flow, goes_on=False)

    def _forget(self, flow: MirroredFlow, *, goes_on: bool) -> None:
        self.holding.release(flow)
        tap = self.taps.get(flow)
        if tap is None:
            return
        self._each(tap, lambda leg: leg.abandon(NO_ANSWER) if leg.awaits_answer else [])
        if not tap.flow_over or tap.is_draining:
            self._each(tap, lambda leg: leg.abort("flow-expired"))
        self._timers.set(("heard", flow), None)
        self._timers.set(("rest", flow), None)
        self._shadowing.forgotten(flow, goes_on=goes_on)
        tap.reassembler.clear()
        if tap.replies is not None:
            tap.replies.clear()
        tap.final_bytes = tap.client_bytes
        for _, leg in tap.alive():
            leg.row.flow_id, leg.row.client_bytes = NO_FLOW, tap.final_bytes
        del self.taps[flow]  # not before: legs that nobody finds would outlive the numbers of their flow
        for strand in tap.strands:
            self._ledger.flow_forgotten(strand)
        tap.strands = ()  # no circle is left for a collector of garbage

    def _open_leg(self, strand: StreamCopy, iss: int, now: float) -> None:
        made = self._legs.make(strand, strand.tap.flow.client, iss, now)
        if isinstance(made, str):
            strand.absent = made
            return
        strand.leg = made
        self._ledger.of(strand).opened += 1
        made.row.flow_id = strand.tap.flow.row.id
        made.row.mirror_id = self._ledger.number(strand)
        self._link(strand.tap)
        self._legs.settle(strand, made, made.open(now))

    def _flow_over(self, flow: MirroredFlow, now: float, do: Callable[[Leg], list[bytes]]) -> None:
        tap = self.taps.get(flow)
        if tap is None or tap.flow_over:
            return
        tap.flow_over = True

        def end(leg: Leg) -> list[bytes]:
            leg.client_gone(now)
            # Else when the mirrors have been heard, or have got the rest
            return [] if tap.is_asking or tap.is_draining else do(leg)

        self._each(tap, end)

    # Housekeeping

    def _each(self, tap: MirroredStream, do: Callable[[Leg], list[bytes]]) -> None:
        for strand, leg in tap.alive():
            self._legs.settle(strand, leg, do(leg))

    def _link(self, tap: MirroredStream) -> None:
        """Tell the C gear which legs the flow has."""
        if tap.final_bytes is None:
            self._gear.legs.link(tap.flow.row, [leg.row for _, leg in tap.alive()])

    def leg_ended(self, strand: StreamCopy, leg: Leg, reason: str) -> None:
        """A strand's leg is over."""
        self._link(strand.tap)  # first: its row in C is gone
        self._note_roused(strand, leg)
        self._write_off(strand, leg, reason)

    def leg_moved(self, strand: StreamCopy) -> None:
        """A strand's leg has done something."""
        if strand.mirror.throttles:
            self._guard.run(Work.THROTTLE, strand.tap.flow, self.holding.hold, strand.tap)
        if strand.tap.is_adopted:
            self._follow(strand)

    def _write_off(self, strand: StreamCopy, leg: Leg, reason: str) -> None:
        tap = strand.tap
        service, mirror = tap.flow.service.name, strand.mirror.name
        if tap.waits_from is None:  # else it was another host's all the time
            self._ledger.leg_ended(strand, leg, reason)
            event = LegEnded(show(tap.flow.client), service, mirror, reason, tap.client_bytes, leg.acked_bytes)
            self._events.append(event)
        if tap.final_bytes is None and len(tap.strands) == len(tap.flow.service.copies):
            tap.flow.row.account = self._ledger.account(tap)
        if tap.final_bytes is None and not tap.alive():
            tap.flow.row.flags &= ~MIRRORED
            if not tap.flow.row.flags & READ:
                tap.flow.row.flags &= ~(WAITING | GAPPED)
                tap.reassembler.clear()

    # Reporting

    def legs_of(self, flow: MirroredFlow, now: float) -> list[dict[str, Any]]:
        """The flow's legs as plain values."""
        tap = self.taps.get(flow)
        strands = () if tap is None else tap.strands
        return [shown_copy(strand, strand.leg, now) for strand in strands if strand.leg is not None] + [
            shown_session(shadow, now) for shadow in self._shadowing.shadows_of(flow.row.id)
        ]

    def lingering(self, now: float) -> list[dict[str, Any]]:
        """The legs that have outlived their flow, each as a flow that is gone, with its leg."""
        found = []
        for holder, leg in self._legs.holders():
            if isinstance(holder, StreamCopy) and holder.tap.final_bytes is not None:
                found.append(gone_flow(holder.service_name, holder.tap.flow.client, shown_copy(holder, leg, now)))
            elif isinstance(holder, MasterSession) and holder.connection.is_forgotten:
                found.append(gone_flow(holder.service_name, holder.connection.client, shown_session(holder, now)))
        return found

    def mirrors(self, now: float) -> list[dict[str, Any]]:
        """Each mirror's ledger as plain values, living legs included."""
        shown, sums = self._ledger.show(self._gear, now), self._shadowing.sums()
        for entry in shown:
            entry["sessions"] = sums.get((entry["service"], entry["name"]), {})
        return shown

    def memory(self) -> dict[str, int]:
        """Bytes that are held back for mirrors, and how many may be."""
        return {"used_bytes": self.budget.used, "limit_bytes": self.budget.limit}


def _legs_by_place(record: FlowRecord) -> dict[tuple[str, Endpoint], LegRecord]:
    """By the mirror's name and its end: one that has moved in the rules is another."""
    return {(leg.mirror, leg.mirror_end): leg for leg in record.legs}


def _missing_part(leg: Leg, data: bytes, start: int) -> bytes:
    """Of the client's bytes from number ``start`` on, those that a mirror does not have from another host."""
    return data if leg.resumption is None else leg.resumption.missing_part(data, start)
