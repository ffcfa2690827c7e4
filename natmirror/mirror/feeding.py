"""The way of a client's bytes from its segments to its legs and sessions.

Theory. The reassembler puts the bytes in order. Then, unless the rules say ``release: seen``, they are held until the
backend acknowledges them (fastpath/held_bytes.h), because only then is it certain that the backend has exactly these
bytes: natmirror cannot know all reasons for which a receiver refuses a segment. An acknowledgement releases them to the
legs and the sessions, all that it covers together. Two versions of a byte that is not acknowledged yet make it unknown
which one the backend has: then the copies end as ``ambiguous``.

An acknowledgement of bytes that did not pass here makes a hole, at once, and what comes with their numbers later is
left out: it is too late for the backend, so it may be anything. Reordering does not end a copy by this. The tracker
ignores an acknowledgement beyond what was sent, so one that overtakes its bytes, for example in a capture, counts only
if later bytes have overtaken them too. In a flow that was picked up the tracker cannot know what was sent: there the
bytes may still come unless later ones wait for them, and a hole ends copies when the client sends next. While mirrors
of another host's connection are asked, nothing counts as missing.
"""

from collections.abc import Callable, Iterable

from natmirror.fastpath import MAX_RELEASE_LEN
from natmirror.fastpath.flow_flags import (
    clear_revoked,
    clear_skipped,
    has_reader,
    holds,
    is_ack_known,
    is_fin_acked,
    is_finished,
    is_revoked,
    is_skipped,
    is_unseen,
    knows_window,
    set_orig_waiting,
)
from natmirror.fastpath.flow_states import State
from natmirror.mirror.adoption import Adoption
from natmirror.mirror.copies import MirroredStream
from natmirror.mirror.copy_states import HAS_END, IS_ASKING, StreamEvent
from natmirror.mirror.leg_outcomes import LegOutcomes
from natmirror.mirror.legs import LegOutcome, Legs
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.timers import AT_ONCE, TimerKind, Timers
from natmirror.net import seq
from natmirror.reasons import EndReason
from natmirror.tcp.leg import Leg

_EVERYTHING = 1 << 30  # bytes: all that can wait behind a gap


class Feeding:
    """Gives the bytes of streams to their legs and sessions."""

    def __init__(
        self, timers: Timers, legs: Legs, adoption: Adoption, outcomes: LegOutcomes, read_queue: ReadQueue
    ) -> None:
        self._timers = timers
        self._legs = legs
        self._adoption = adoption
        self._outcomes = outcomes
        self._read_queue = read_queue

    def feed(self, stream: MirroredStream, at: int, payload: bytes, now: float, *, came_first: bool = False) -> None:
        """Take the client's bytes from number ``at`` on; give the legs and sessions those that may be released.
        ``came_first``: they passed here before their acknowledgement."""
        ended_later = stream.has_ended and stream.ends_later
        self._take_segment(stream, at, payload, now, came_first=came_first)
        if ended_later and not stream.ends_later and stream.state not in IS_ASKING:
            self.end_late(stream, now)

    def _take_segment(self, stream: MirroredStream, at: int, payload: bytes, now: float, *, came_first: bool) -> None:
        row, reassembler = stream.flow.row, stream.reassembler
        if is_revoked(row.orig):
            clear_revoked(row.orig)
            self.give_up(stream, EndReason.AMBIGUOUS)
        if is_skipped(row) or is_unseen(row):
            reason = EndReason.OVER_LIMIT if is_skipped(row) else EndReason.UNSEEN
            clear_skipped(row)
            self.give_up(stream, reason)
        if stream.state in HAS_END or not (stream.alive() or has_reader(row)):
            return
        if stream.is_adopted:
            self._adoption.activate(stream.flow, now)
            if is_ack_known(row.reply):
                self.apply_all(self._adoption.end_stale(stream))
        fin_seq = seq.add(row.orig.end, -1) if is_finished(row.orig) else None
        if fin_seq is not None:
            payload = payload[: max(seq.diff(fin_seq, at), 0)]  # nothing follows a FIN
        edge = self._edge(stream, seq.add(at, len(payload)))
        if payload and not came_first:
            at, payload = self._without_acked(stream, at, payload)
        data = reassembler.push(at, payload, edge) if payload or reassembler.waiting_bytes else b""
        has_passed_fin = fin_seq is not None and not stream.is_adopted and seq.lt(fin_seq, reassembler.next)
        if reassembler.contradiction is not None or has_passed_fin:
            self.give_up(stream, reassembler.contradiction or EndReason.AMBIGUOUS)
            if has_passed_fin and not self._is_fin_held(stream):
                self._finish(stream, now)
            return
        set_orig_waiting(row, past_window=reassembler.is_blocked, has_gap=reassembler.has_gap)
        if not self._take(stream, data, edge, now):
            return
        if fin_seq is not None and stream.is_adopted:
            self.apply_all(self._adoption.end_past_fin(stream, fin_seq))
        if stream.state in IS_ASKING or stream.has_rest:
            return
        acked = self._acked(stream, fin_seq)
        if acked is not None and seq.lt(reassembler.next, acked) and self._handle_gap(stream, acked, edge, now):
            return
        if fin_seq is not None and reassembler.next == fin_seq and not self._is_fin_held(stream):
            self._finish(stream, now)
        if not row.held_len:
            stream.awaits_last = False

    def _finish(self, stream: MirroredStream, now: float) -> None:
        """End the stream: its FIN has come after the last byte."""
        stream.move(StreamEvent.FIN)
        self.each_leg(stream, lambda leg: leg.finish(now))
        if has_reader(stream.flow.row):
            self._read_queue.add(ReadEvent.FINISHED, stream.flow.row.id)

    def _edge(self, stream: MirroredStream, end: int) -> int:
        """Return the number up to which bytes may be taken in order now; a segment of the client ends at ``end``. Bytes
        that legs get at once have to lie in the backend's window. Held ones wait for their acknowledgement anyway."""
        row = stream.flow.row
        if holds(row):
            return seq.add(stream.reassembler.next, _EVERYTHING)
        edge = seq.latest(row.reply.edge, row.reply.ack)
        return edge if knows_window(row) else seq.latest(edge, end)

    def _acked(self, stream: MirroredStream, fin_seq: int | None) -> int | None:
        """Return the number up to which the backend has acknowledged the client's bytes, without its FIN; None if it is
        unknown."""
        row = stream.flow.row
        if not is_ack_known(row.reply) and not stream.is_adopted:
            return None
        return fin_seq if fin_seq is not None and row.reply.ack == row.orig.end else int(row.reply.ack)

    def _without_acked(self, stream: MirroredStream, at: int, payload: bytes) -> tuple[int, bytes]:
        """Return a segment's data, which begins at number ``at``, without acknowledged bytes. Another version of those
        that passed here changes nothing, though they may not be released yet; the others are a hole."""
        acked = self._acked(stream, None)
        if acked is None:
            return at, payload
        if stream.state in IS_ASKING or (stream.flow.is_picked_up and not stream.reassembler.has_gap):
            acked = acked if seq.lt(acked, stream.reassembler.next) else stream.reassembler.next
        skip = min(max(seq.diff(acked, at), 0), len(payload))
        return seq.add(at, skip), payload[skip:]

    def _is_fin_held(self, stream: MirroredStream) -> bool:
        """Return whether the client's FIN still waits for its acknowledgement."""
        row = stream.flow.row
        return holds(row) and not is_fin_acked(row)

    def _take(self, stream: MirroredStream, data: bytes, edge: int, now: float) -> bool:
        """Take the client's next bytes in order, and release what may be released. Return False if that has ended all
        copies, because there is no room."""
        row, reassembler = stream.flow.row, stream.reassembler
        start = seq.add(reassembler.next, -len(data))
        if data and not self._hold(stream, data):
            return False
        rest = reassembler.ready_len(edge) if reassembler.waiting_bytes else 0
        if holds(row):
            start = seq.add(reassembler.next, -row.held_len)
            count = self._freed_len(stream)
            data = b""
            if count and reassembler.held is not None:
                data = reassembler.held.copy(0, min(count, MAX_RELEASE_LEN))
            rest += count - len(data)
            self._free(stream, len(data))
            self._write(stream, data, start, rest, now)
        else:
            self._write(stream, data, start, rest, now)
            self._free(stream, self._freed_len(stream))
        return True

    def _hold(self, stream: MirroredStream, data: bytes) -> bool:
        """Hold the client's next bytes. Legs without room for them end; return False if all copies have to end."""
        row, held = stream.flow.row, stream.reassembler.held
        if held is None:
            return True
        if holds(row):
            for copy, leg in stream.alive():
                waiting = leg.row.buffered + len(held)
                if waiting and waiting + len(data) > leg.row.max_buffer:
                    self._outcomes.apply(self._legs.collect(copy, leg, leg.abort(EndReason.BUFFER_FULL)))
            if not stream.alive() and not has_reader(row):
                return False
        if held.append(data):
            return True
        is_full = len(held) + len(data) > row.max_held
        self.give_up(stream, EndReason.BUFFER_FULL if is_full else EndReason.MEMORY_FULL)
        return False

    def _freed_len(self, stream: MirroredStream) -> int:
        """Return how many of the held bytes are acknowledged."""
        row = stream.flow.row
        acked = self._acked(stream, None) if row.held_len else None
        if acked is None:
            return 0
        return max(0, min(row.held_len, row.held_len + seq.diff(acked, stream.reassembler.next)))

    def _free(self, stream: MirroredStream, count: int) -> None:
        if count and stream.reassembler.held is not None:
            stream.reassembler.held.drop(count)

    def _write(self, stream: MirroredStream, data: bytes, start: int, rest: int, now: float) -> None:
        """Write the client's next bytes, from number ``start`` on, to its legs and to the sessions' queue. If ``rest``
        more bytes may be written already, a leg needs room for all of them, and otherwise ends."""
        wanted = 0 if stream.has_rest else len(data) + rest if rest else None
        stream.has_rest = rest > 0
        if rest:
            self._timers.set((TimerKind.WRITE_REST, stream.flow), AT_ONCE)
        if not data:
            return
        self.each_leg(stream, lambda leg: leg.write(_missing_part(leg, data, start), now, wanted=wanted))
        if has_reader(stream.flow.row):
            self._read_queue.add(ReadEvent.ORIG, stream.flow.row.id, data, stream.flow.row.held.holder)

    # Bytes that the legs cannot get

    def give_up(self, stream: MirroredStream, reason: EndReason) -> None:
        """End all legs, and inform the sessions: the client's next bytes are unknown, or there is no room for them. A
        session that begins again gets no byte of which a version has been seen."""
        row, reassembler = stream.flow.row, stream.reassembler
        self.each_leg(stream, lambda leg: leg.abort(reason))
        if has_reader(row) and reassembler.is_placed:
            reassembler.start_anew(seq.add(row.orig.end, -1) if is_finished(row.orig) else row.orig.end)
        stream.clear()
        set_orig_waiting(row, past_window=False, has_gap=False)
        if has_reader(row):
            is_ambiguous = reason is EndReason.AMBIGUOUS
            self._read_queue.add(ReadEvent.ORIG_AMBIGUOUS if is_ambiguous else ReadEvent.ORIG_LOST, row.id)

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
            self._adoption.note_lacking(stream.flow)
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
            self._take(stream, stream.reassembler.restart(to, edge), edge, now)
            set_orig_waiting(row, past_window=False, has_gap=stream.reassembler.has_gap)

    # Another host's connections

    def positions_known(self, stream: MirroredStream, now: float) -> None:
        """Continue the client's stream at its mirrors' positions, if all mirrors have answered."""
        row, reassembler = stream.flow.row, stream.reassembler
        if any(leg.awaits_answer for _, leg in stream.alive()):
            return
        if stream.state in IS_ASKING:
            stream.move(StreamEvent.ANSWERED)
        ahead = min((max(seq.diff(leg.end, reassembler.next), 0) for _, leg in stream.alive()), default=0)
        if ahead:
            if reassembler.held is not None:  # the mirrors have these bytes too
                reassembler.held.clear()
            edge = seq.latest(row.reply.ack, row.orig.end)
            self._skip(stream, seq.add(reassembler.next, ahead), edge, now)
        self.feed(stream, reassembler.next, b"", now)
        self._adoption.note_resumed(stream)
        if stream.has_ended and stream.state not in IS_ASKING and not stream.ends_later:
            self.end_late(stream, now)

    # The end

    def end_late(self, stream: MirroredStream, now: float) -> None:
        """End the legs of a connection that ended while its stream still waited for bytes, acknowledgements or
        answers."""
        row = stream.flow.row
        stream.awaits_last = False
        self._timers.set((TimerKind.LAST_ACKNOWLEDGEMENTS, stream.flow), None)
        if row.state == State.RESET:
            self.each_leg(stream, lambda leg: leg.reset(now))
        elif stream.state not in HAS_END:
            self.each_leg(stream, lambda leg: leg.abort(leg.hole_reason))
        if stream.replies is not None:
            self._read_queue.add(ReadEvent.RESET if row.state == State.RESET else ReadEvent.FINISHED, row.id)

    def each_leg(self, stream: MirroredStream, do: Callable[[Leg], list[bytes]]) -> None:
        """Call a leg's method for each living leg of the stream, and apply the outcomes."""
        for copy, leg in stream.alive():
            self._outcomes.apply(self._legs.collect(copy, leg, do(leg)))

    def apply_all(self, outcomes: Iterable[LegOutcome]) -> None:
        """Apply the outcomes of legs, each before the next leg moves."""
        for outcome in outcomes:
            self._outcomes.apply(outcome)


def _missing_part(leg: Leg, data: bytes, start: int) -> bytes:
    """Return the client's bytes from number ``start`` on, without those that the mirror has from another host."""
    return data if leg.resumption is None else leg.resumption.missing_part(data, start)
