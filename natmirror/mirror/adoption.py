"""Continues the copies that another host has begun.

Theory. Another host's record of a connection has the position of its client and, for each leg, the position of its
mirror. The stream stands by until this host passes the connection's packets; meanwhile later records replace the first
one. Then the stream is activated: each leg asks its mirror for its position (tcp/resumption.py). A mirror may have
bytes from the first host that have not passed here: its leg need not send these. When all mirrors have answered, the
client's stream continues from the lowest of their positions.

The methods that move legs are generators: the caller applies each outcome that they yield before they continue.
"""

from collections.abc import Iterator

from natmirror.fastpath.flow_flags import is_finished, set_orig_waiting, start_feeding_legs
from natmirror.mirror.copies import MirroredFlow, MirroredStream, StreamCopy
from natmirror.mirror.copy_states import IS_ASKING, StreamEvent, StreamState
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import LegOutcome, Legs
from natmirror.mirror.reconnection import Reconnection
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.timers import AT_ONCE, TimerKind, Timers
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.reasons import EndReason
from natmirror.tcp import tracker
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import FlowRecord, LegRecord

_LATE = 1 << 16  # bytes by which the window known here may be too small, if a packet of the backend is late


class Adoption:
    """The streams of one engine that other hosts have begun."""

    def __init__(
        self,
        timers: Timers,
        legs: Legs,
        ledger: Ledger,
        reconnection: Reconnection,
        streams: dict[MirroredFlow, MirroredStream],
    ) -> None:
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._reconnection = reconnection
        self._streams = streams
        self._lacking: dict[MirroredFlow, None] = {}

    # While another host passes the packets

    def begin(self, stream: MirroredStream, record: FlowRecord, backend: Endpoint | None, now: float) -> None:
        """Give a picked up stream the legs of another host's record. The legs stand by until activate()."""
        row, legs = stream.flow.row, _legs_by_place(record)
        for copy in stream.copies:
            leg = legs.get((copy.mirror.name, endpoint_of(copy.mirror)))
            why_absent = why_not_mirrored(copy.mirror, stream.flow.client[0], backend)
            copy.why_absent = why_absent or copy.why_absent
            if leg is not None and why_absent is None:
                self._begin_leg(copy, leg, now)
        if stream.alive():
            start_feeding_legs(row)
            self._legs.link(row, [leg for _, leg in stream.alive()])
            stream.is_adopted = True
            stream.move(StreamEvent.ADOPTED)
            self._stand_by(stream, record)
        self._reconnection.follow(stream)

    def _begin_leg(self, copy: StreamCopy, record: LegRecord, now: float) -> None:
        made = self._legs.adopt(copy, record, copy.stream.flow.client, now)
        if isinstance(made, EndReason):
            copy.why_absent = made
            return
        copy.leg, copy.why_absent = made, None
        made.row.flow_id = copy.stream.flow.row.id
        made.row.mirror_id = self._ledger.mirror_id(copy)

    def _stand_by(self, stream: MirroredStream, record: FlowRecord) -> None:
        """Set the number at which the client's stream continues: the lowest one that a mirror may lack. The bytes from
        there on are counted when the stream is activated."""
        una = [leg.una for _, leg in stream.alive()]
        stream.standby_first = min(una, key=lambda number: seq.diff(number, record.client_nxt))
        if stream.flow.passed_to is not None and seq.le(stream.flow.passed_to, stream.standby_first):
            stream.flow.passed_to = None
        stream.reassembler.place(stream.standby_first)
        stream.standby_from = record.client_nxt
        set_orig_waiting(stream.flow.row, past_window=False, has_gap=True)  # the client's first data activates

    def renew(self, flow: MirroredFlow, record: FlowRecord) -> bool:
        """Update a standby connection from a later record. Return False where the record has other legs."""
        stream, legs = self._streams[flow], _legs_by_place(record)
        matches = [(leg, legs.pop((copy.mirror.name, leg.mirror_endpoint), None)) for copy, leg in stream.alive()]
        if legs or any(later is None or later.local_end != leg.local_endpoint for leg, later in matches):
            return False
        for leg, later in matches:
            if leg.resumption is not None and later is not None:
                leg.resumption.renew(later)
        tracker.begin_adopted(flow.row, record)
        self._stand_by(stream, record)
        return True

    def is_standby(self, flow: MirroredFlow) -> bool:
        """Return whether a connection is standby: as far as this host knows, another one passes it and has its legs."""
        stream = self._streams.get(flow)
        return stream is not None and stream.state is StreamState.STANDBY

    # Once this host passes them

    def activate(self, flow: MirroredFlow, now: float) -> None:
        """Activate a standby connection: this host passes it from now on, and asks its mirrors for their positions."""
        stream = self._streams.get(flow)
        if stream is not None and stream.state is StreamState.STANDBY:
            self._activate(stream, now)
            self._reconnection.follow(stream)

    def _activate(self, stream: MirroredStream, now: float) -> None:
        """Activate a standby connection; the caller has its copies followed."""
        first = stream.standby_first  # the reassembler may be further, if the client's bytes were given up meanwhile
        stream.flow.row.orig.bytes += seq.diff(stream.standby_from, first)
        stream.move(StreamEvent.ACTIVATED)
        for copy in stream.copies:
            leg = copy.leg
            if leg is not None and leg.resumption is not None:
                leg.row.acked_bytes += seq.diff(leg.resumption.recorded_una, first)
                tracker.infer_sent(stream.flow.row, leg.resumption.recorded_una)
                self._ledger.totals_of(copy).adopted += 1
                leg.resumption.activate(now)
                leg.schedule()

    def note_activated(self, copy: StreamCopy, leg: Leg) -> bool:
        """Activate the connection if its leg was activated by a segment of its mirror, and return whether it was:
        Reconnection.follow() has to come afterwards, once the leg's end counts if that segment has ended it."""
        stream, resumption = copy.stream, leg.resumption
        if stream.state is not StreamState.STANDBY or resumption is None or resumption.is_standby:
            return False
        self._activate(stream, resumption.activated_at)
        return True

    def leg_moved(self, copy: StreamCopy, leg: Leg) -> Iterator[LegOutcome]:
        """Follow a move of an adopted leg, or its end: its mirror may have bytes of the client that did not pass
        here."""
        stream, row = copy.stream, copy.stream.flow.row
        if stream.state is StreamState.FORGOTTEN:
            return
        if self.note_activated(copy, leg):
            self._reconnection.follow(stream)
        if stream.state is StreamState.STANDBY:
            return
        fin = seq.add(row.orig.end, -1) if is_finished(row.orig) else None
        if leg.ended is not EndReason.NO_RECORD:  # else its mirror's position is not this connection's
            tracker.infer_sent(row, fin if fin is not None and seq.lt(fin, leg.end) else leg.end)
        if fin is not None:
            yield from self.end_past_fin(stream, fin)
        living = [leg for _, leg in stream.alive()]
        if any(leg.awaits_answer for leg in living):
            return
        if stream.state in IS_ASKING or (living and all(seq.lt(stream.reassembler.next, leg.end) for leg in living)):
            self._timers.set((TimerKind.POSITIONS_KNOWN, stream.flow), AT_ONCE)

    def note_lacking(self, flow: MirroredFlow) -> None:
        """Note that a connection lacks bytes that the other host may hold, for take_lacking()."""
        self._lacking[flow] = None

    def take_lacking(self) -> list[MirroredFlow]:
        """Return the connections that were found to lack bytes since the last call."""
        lacking, self._lacking = self._lacking, {}
        return [flow for flow in lacking if flow in self._streams]

    def end_past_fin(self, stream: MirroredStream, fin: int) -> Iterator[LegOutcome]:
        """Finish the legs that another host has carried past number ``fin``, where the client's stream ends."""
        for copy, leg in stream.alive():
            if leg.resumption is not None and seq.lt(fin, leg.end):
                yield self._legs.collect(copy, leg, leg.note_foreign_fin(fin))

    def end_stale(self, stream: MirroredStream) -> Iterator[LegOutcome]:
        """End the legs whose mirrors seem to have bytes beyond the backend's window: the client cannot have sent these.
        The record of such a leg was of an older leg between the same endpoints, whose numbers lie near."""
        row = stream.flow.row
        room = max(seq.diff(row.reply.edge, row.reply.ack), 0)
        for copy, leg in stream.alive():
            ahead = seq.diff(leg.end, row.reply.ack)
            if leg.resumption is not None and not leg.awaits_answer and ahead > room + _LATE:
                wrong = min(ahead, leg.row.acked_bytes, row.orig.bytes)
                leg.row.acked_bytes -= wrong
                row.proven = row.reply.ack
                if row.orig.end == leg.end:
                    row.orig.end = row.reply.ack
                    row.orig.bytes -= wrong
                    for other in stream.copies:
                        self._ledger.bytes_corrected(other)
                yield self._legs.collect(copy, leg, leg.abort(EndReason.NO_RECORD))

    def note_resumed(self, stream: MirroredStream) -> None:
        """Count the legs that have continued since their mirrors answered."""
        for copy, leg in stream.alive():
            if not leg.awaits_answer and not copy.is_resumed:
                copy.is_resumed = True
                self._ledger.totals_of(copy).resumed += 1


def _legs_by_place(record: FlowRecord) -> dict[tuple[str, Endpoint], LegRecord]:
    """Return the record's legs by the mirror's name and endpoint. A mirror whose endpoint differs counts as another
    mirror."""
    return {(leg.mirror, leg.mirror_end): leg for leg in record.legs}
