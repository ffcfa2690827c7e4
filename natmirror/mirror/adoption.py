"""Going on with copies that another host has begun.

Theory. Another host's record says of a connection how far its client had come, and of each leg how far its mirror had.
Until this host passes the connection's packets, the stream stands by: later records take the place of the first one.
Then it becomes active: each mirror is asked how far it has come (tcp/resumption.py), and what it has
from the first host beyond what has passed here need not come again. When all have answered, the client's stream goes on
from the nearest of these positions.

The methods that move legs are generators: they yield each event before they go on, so that it is applied in between.
"""

from collections.abc import Iterator

from natmirror.fastpath.flow_flags import is_finished, start_feeding_legs
from natmirror.mirror.copies import MirroredFlow, MirroredStream, StreamCopy
from natmirror.mirror.copy_states import IS_ASKING, StreamEvent, StreamState
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.legs import LegOutcome, Legs
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.timers import AT_ONCE, TimerKind, Timers
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.reasons import EndReason
from natmirror.tcp import tracker
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_record import FlowRecord, LegRecord

_LATE = 1 << 16  # bytes by which a backend's packet that arrives late may understate the room


class Adoption:
    """The part of all streams that other hosts have begun."""

    def __init__(self, timers: Timers, legs: Legs, ledger: Ledger, streams: dict[MirroredFlow, MirroredStream]) -> None:
        self._timers = timers
        self._legs = legs
        self._ledger = ledger
        self._streams = streams

    # Before this host passes the packets

    def begin(self, stream: MirroredStream, record: FlowRecord, backend: Endpoint | None, now: float) -> None:
        """Give a stream that was just picked up the legs of another host's record. They stand by until activate()."""
        row, legs = stream.flow.row, _legs_by_place(record)
        for copy in stream.copies:
            leg = legs.get((copy.mirror.name, endpoint_of(copy.mirror)))
            is_own = endpoint_of(copy.mirror) == backend
            why_absent = EndReason.MIRROR_IS_BACKEND if is_own else why_not_mirrored(copy.mirror, stream.flow.client[0])
            copy.why_absent = why_absent or copy.why_absent
            if leg is not None and why_absent is None:
                self._begin_leg(copy, leg, now)
        row.account = self._ledger.account_number(stream)
        if stream.alive():
            start_feeding_legs(row)
            self._legs.link(row, [leg for _, leg in stream.alive()])
            stream.is_adopted = True
            stream.move(StreamEvent.ADOPTED)
            self._stand_by(stream, record)

    def _begin_leg(self, copy: StreamCopy, record: LegRecord, now: float) -> None:
        made = self._legs.adopt(copy, record, copy.stream.flow.client, now)
        if isinstance(made, EndReason):
            copy.why_absent = made
            return
        copy.leg, copy.why_absent = made, None
        made.row.flow_id = copy.stream.flow.row.id
        made.row.mirror_id = self._ledger.mirror_id(copy)

    def _stand_by(self, stream: MirroredStream, record: FlowRecord) -> None:
        """The client's stream may go on from the first number that a mirror may lack. Its bytes count once it does."""
        una = [leg.una for _, leg in stream.alive()]
        stream.reassembler.place(min(una, key=lambda number: seq.diff(number, record.client_nxt)))
        stream.standby_from = record.client_nxt

    def renew(self, flow: MirroredFlow, record: FlowRecord) -> bool:
        """Take a later record of a connection that stands by; False where it has other legs now."""
        stream, legs = self._streams[flow], _legs_by_place(record)
        pairs = [(leg, legs.pop((copy.mirror.name, leg.mirror), None)) for copy, leg in stream.alive()]
        if legs or any(later is None or later.local_end != leg.local for leg, later in pairs):
            return False
        for leg, later in pairs:
            if leg.resumption is not None and later is not None:
                leg.resumption.renew(later)
        tracker.begin_adopted(flow.row, record.iss, record.client_nxt, record.client_una, record.backend_scale)
        self._stand_by(stream, record)
        return True

    def is_standby(self, flow: MirroredFlow) -> bool:
        """Return whether another host still passes a connection, as far as is known, and has its legs."""
        stream = self._streams.get(flow)
        return stream is not None and stream.state is StreamState.STANDBY

    # From when it does

    def activate(self, flow: MirroredFlow, now: float) -> None:
        """Make a connection that stands by this host's from now on: its mirrors are asked how far they have come."""
        stream = self._streams.get(flow)
        if stream is None or stream.state is not StreamState.STANDBY:
            return
        first = stream.reassembler.next
        flow.row.orig.bytes += seq.diff(stream.standby_from, first)
        stream.move(StreamEvent.ACTIVATED)
        for copy in stream.copies:
            leg = copy.leg
            if leg is not None and leg.resumption is not None:
                leg.row.acked_bytes += seq.diff(leg.resumption.recorded_una, first)
                self._ledger.totals_of(copy).adopted += 1
                leg.resumption.activate(now)
                leg.schedule()

    def note_activated(self, copy: StreamCopy, leg: Leg) -> None:
        """A leg may have heard from its mirror, and so has the connection become this host's."""
        resumption = leg.resumption
        if copy.stream.state is StreamState.STANDBY and resumption is not None and not resumption.is_standby:
            self.activate(copy.stream.flow, resumption.activated_at)

    def leg_moved(self, copy: StreamCopy) -> Iterator[LegOutcome]:
        """After a leg of another host's has moved: its mirror may have more than the client has sent through us."""
        stream, leg, row = copy.stream, copy.leg, copy.stream.flow.row
        if stream.state is StreamState.GONE or leg is None:
            return
        self.note_activated(copy, leg)
        if stream.state is StreamState.STANDBY:
            return
        if not is_finished(row.orig):
            tracker.infer_sent(row.orig, leg.end)
        else:
            yield from self.end_past_fin(stream, seq.add(row.orig.end, -1))
        living = [leg for _, leg in stream.alive()]
        if any(leg.awaits_answer for leg in living):
            return
        if stream.state in IS_ASKING or (living and all(seq.lt(stream.reassembler.next, leg.end) for leg in living)):
            self._timers.set((TimerKind.POSITIONS_KNOWN, stream.flow), AT_ONCE)

    def end_past_fin(self, stream: MirroredStream, fin: int) -> Iterator[LegOutcome]:
        """Finish legs that another host has brought past number ``fin``, before which the client's stream ends."""
        for copy, leg in stream.alive():
            if leg.resumption is not None and seq.lt(fin, leg.end):
                yield self._legs.settle(copy, leg, leg.finished_elsewhere(fin))

    def end_stale(self, stream: MirroredStream) -> Iterator[LegOutcome]:
        """End legs that seem to have bytes for which the backend has offered no room: the client cannot have sent them.
        So their record was of an older leg between the same ends, whose numbers lie near."""
        row = stream.flow.row
        room = max(seq.diff(row.reply.edge, row.reply.ack), 0)
        for copy, leg in stream.alive():
            ahead = seq.diff(leg.end, row.reply.ack)
            if leg.resumption is not None and not leg.awaits_answer and ahead > room + _LATE:
                wrong = min(ahead, leg.row.acked_bytes, row.orig.bytes)
                leg.row.acked_bytes -= wrong
                if row.orig.end == leg.end:
                    row.orig.end = row.reply.ack
                    row.orig.bytes -= wrong
                yield self._legs.settle(copy, leg, leg.abort(EndReason.NO_RECORD))

    def note_resumed(self, stream: MirroredStream) -> None:
        """Count the legs whose mirrors have answered, and that have gone on."""
        for copy, leg in stream.alive():
            if not leg.awaits_answer and not copy.is_resumed:
                copy.is_resumed = True
                self._ledger.totals_of(copy).resumed += 1


def _legs_by_place(record: FlowRecord) -> dict[tuple[str, Endpoint], LegRecord]:
    """By the mirror's name and its end: one that has moved in the rules is another."""
    return {(leg.mirror, leg.mirror_end): leg for leg in record.legs}
