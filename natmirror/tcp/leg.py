"""A leg: our TCP connection to a mirror in the client's name, made of synthesised packets.

Theory. A leg is the active side of a TCP connection (RFC 9293). It sends the client's byte stream and discards what it
receives. Inside, a leg of raw bytes has the client's own sequence numbers, so that the two streams compare directly. On
the wire its numbers are shifted by an offset (initial_numbers.py): a mirror that knew the numbers of production's
connection could reset it. This file says what a segment does in each state of leg_states.py; the two halves, sender.py
and receiver.py, keep the numbers.

A leg does no I/O and reads no clock: segments and times go in, packets come out.
"""

from collections.abc import Callable, Iterable
from typing import Self

from natmirror.fastpath import LEG_ACK_DELAY, NEVER, NO_HOLDER, LegTable
from natmirror.fastpath.leg_flags import set_accepted, set_steady, uses_sack
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, RST, SYN, Segment
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp import leg_deadlines, leg_packets, retransmit_timer
from natmirror.tcp.client_window import slack_of
from natmirror.tcp.leg_numbers import LegNumbers
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.leg_states import ENDS, TRANSITIONS, LegEvent, LegState
from natmirror.tcp.path_mtu import Path, set_segment_size, widen
from natmirror.tcp.resumption import FirstAnswer, Resumption
from natmirror.tcp.sender import Piece

_UNKNOWN_PATH = Path()
_DEFAULT_MSS = 536  # RFC 9293 §3.7.1, for a peer that offers none


class Leg(LegNumbers):
    """One connection to one mirror.

    ``local`` is our end: the client's endpoint, or one of this host. Methods that take ``now`` (seconds) return the
    packets to send. A packet may hold more than ``segment_len`` bytes of data: the kernel cuts it into segments.
    ``ended`` is None until the leg ends, then the reason of its end; an ended leg ignores all calls.

    Its numbers lie in ``row``, which is in the table of legs until the leg ends.
    """

    __slots__ = ("_listener", "_path", "_table")

    def __init__(
        self,
        table: LegTable,
        local: Endpoint,
        settings: Mirror,
        *,
        iss: int,
        offset: int,
        path: Path = _UNKNOWN_PATH,
        holder: int = NO_HOLDER,
        listener: Callable[[bytes], None] | None = None,
    ) -> None:
        """``iss`` is the client's initial sequence number. On the wire each number is ``offset`` higher. ``path`` is
        the path to the mirror. The leg takes memory for the client ``holder``.

        ``listener`` gets the mirror's data in order, and empty data at its end. Without a listener the data is
        discarded.
        """
        super().__init__(table, local, settings, iss, offset, holder)
        self.row.max_buffer = settings.buffer + (2 * slack_of(settings.buffer) if settings.throttles else 0)
        self.row.stall_timeout = settings.stall_timeout
        self.row.idle_timeout = NEVER if settings.idle_timeout is None else settings.idle_timeout
        self._table = table
        self._path = path
        self._listener = listener

    @classmethod
    def from_record(
        cls,
        table: LegTable,
        settings: Mirror,
        record: LegRecord,
        *,
        path: Path = _UNKNOWN_PATH,
        holder: int = NO_HOLDER,
    ) -> Self:
        """Return a leg from another host's record. It sends nothing before ``resumption.activate()``."""
        iss = seq.add(record.snd_una, -1)
        leg = cls(table, record.local_end, settings, iss=iss, offset=record.offset, path=path, holder=holder)
        leg.state = LegState.RESUMING
        leg.resumption = Resumption(leg.sender, record, path)
        return leg

    # The client's side

    def open(self, now: float) -> list[bytes]:
        row = self.row
        row.progress_at = row.heard_at = now
        row.snd_nxt = row.snd_max = seq.add(row.snd_una, 1)
        retransmit_timer.start(row, now, row.snd_max)
        return [leg_packets.syn(self)]

    def write(self, data: bytes, now: float, *, wanted: int | None = None) -> list[bytes]:
        """Take the next bytes of the client's stream. A full buffer ends the leg, unless the mirror has acknowledged
        all bytes so far: then it is not behind, however many bytes come at once.

        ``wanted`` is for a caller that splits bytes which came at once into several pieces: the number of all these
        bytes with the first piece, and 0 with the others. The buffer needs room for all of them.
        """
        if self.ended is not None or not data:
            return []
        self.sender.reclaim()
        row = self.row
        wanted = len(data) if wanted is None else wanted
        if wanted and row.buffered and row.buffered + wanted > row.max_buffer:
            return self.abort(EndReason.BUFFER_FULL)
        if not self.sender.write(data, now):
            return self.abort(EndReason.MEMORY_FULL)
        row.heard_at = row.written_at = now
        return self._output(now)

    def finish(self, now: float) -> list[bytes]:
        """Send a FIN after the last byte, because the client has closed its side."""
        self.sender.reclaim()
        self.sender.is_finishing = not self.is_resetting
        return self._output(now) if self.ended is None else []

    def reset(self, now: float) -> list[bytes]:
        """Send a RST once the last byte is acknowledged, because the client's connection was reset: first the mirror
        gets all bytes that the backend got."""
        self.sender.reclaim()
        self.is_resetting = True
        self.sender.is_finishing = False
        return self._output(now) if self.ended is None else []

    def note_foreign_fin(self, fin: int) -> list[bytes]:
        """Close without a FIN of ours: the mirror has acknowledged the client's FIN, number ``fin``, which the other
        host has sent. If it has acknowledged even more, the record is wrong, and the leg ends."""
        self.row.acked_bytes -= min(seq.diff(self.end, fin), self.row.acked_bytes)
        if self.end != seq.add(fin, 1):
            return self.abort(EndReason.NO_RECORD)
        self.sender.note_foreign_fin()
        self._step(LegEvent.FIN_SENT)
        self._step(LegEvent.FIN_ACKED)
        return []

    def client_gone(self, now: float) -> None:
        """Limit the leg's life from now on, because the client's connection has ended."""
        if self.client_gone_at is None:
            self.client_gone_at = now

    # ICMP errors

    def unreachable(self, about: int) -> list[bytes]:
        """Take an ICMP error: the segment with number ``about`` on the wire cannot be delivered.

        It ends the leg only during the handshake; for an established connection it is a soft error (RFC 5927 §5.2).
        """
        if self.state is LegState.SYN_SENT and self.inward(about) == self.row.snd_una:
            return self.abort(EndReason.UNREACHABLE)
        return []

    def note_path_mtu(self, mtu: int, about: int) -> None:
        """Take a router's report that the segment with number ``about`` on the wire exceeds the path's MTU, in bytes:
        path_mtu.py says when it narrows the leg."""
        if self.ended is None:
            self.sender.note_path_mtu(mtu, self.inward(about))

    # Time

    def next_timer(self) -> float | None:
        """Return the time at which handle_timer() is due, or None."""
        due = NEVER if self.ended is not None else leg_deadlines.next_due(self)
        return None if due == NEVER else due

    def schedule(self) -> None:
        """Set the leg's deadline in the table, and whether the C gear may handle the leg until then: it may if only
        data and acknowledgements are expected. Call this after each change."""
        if self.ended is not None:
            return
        row = self.row
        set_steady(row, self._suits_c_gear() and self.receiver.is_steady and self.sender.is_steady)
        self._table.set_due(row, leg_deadlines.next_due(self))

    def _suits_c_gear(self) -> bool:
        if self.state is not LegState.ESTABLISHED or self.client_gone_at is not None or self.settings.throttles:
            return False
        return self.resumption is None or (self.resumption.is_in_step and not self.resumption.awaits_answer)

    def handle_timer(self, now: float) -> list[bytes]:
        """Do what is due: send, retransmit, probe a window or the mirror's position, or end the leg."""
        if self.ended is not None:
            return []
        out = self._handle_due(now)
        if self.resumption is not None and self.ended is None and now >= self.resumption.probe_at:
            out += leg_packets.data(self, [self.resumption.probe(now)])
        return out

    def _handle_due(self, now: float) -> list[bytes]:
        sender, row = self.sender, self.row
        sender.reclaim()
        at, reason = leg_deadlines.deadline(self)
        if now >= at:
            return self.abort(reason)
        if now >= sender.probe_at:
            return leg_packets.data(self, [sender.probe(now)])
        if now >= row.widen_at:
            widen(row)
        if now < row.rto_at:
            if now >= row.more_at:
                return self._output(now)
            return [leg_packets.ack(self)] if now >= row.ack_at else []
        if self.state is LegState.SYN_SENT:
            return self._retransmit_syn(now)
        return leg_packets.data(self, sender.time_out(now))

    # Receiving

    def receive(self, segment: Segment, now: float) -> list[bytes]:
        """Take a segment of the mirror whose checksum is right (RFC 9293 §3.10.7)."""
        if self.ended is not None:
            return []
        segment = self.inner(segment)
        self.sender.reclaim()
        resumption = self.resumption
        if resumption is not None:
            resumption.activate(now)
            if self.state is LegState.RESUMING:
                return self._receive_resuming(resumption, segment, now)
            if segment.flags & (ACK | SYN | RST) == ACK and self.receiver.is_in_window(segment):
                resumption.take_ack(segment.ack, now, is_open=self.is_open)
        if self.state is LegState.SYN_SENT:
            return self._receive_syn_sent(segment, now)
        return self._receive_synchronized(segment, now)

    def _receive_syn_sent(self, segment: Segment, now: float) -> list[bytes]:
        """Take a segment in SYN_SENT (RFC 9293 §3.10.7.3)."""
        acceptable = bool(segment.flags & ACK) and segment.ack == self.row.snd_max
        if segment.flags & RST:
            if acceptable:
                self._step(LegEvent.RST, EndReason.REFUSED)
            return []
        if segment.flags & ACK and not acceptable:
            # The mirror still has an older connection with these endpoints. The RST clears it, and the SYN follows at
            # once (RFC 9293 §3.5.1, half-open connection discovery).
            return [leg_packets.packet(self, segment.ack, RST, ack=0), *self._repeat_syn(now)]
        if not segment.flags & SYN or not acceptable:
            return []
        self.row.scale = segment.window_scale() or 0
        self.receiver.start(segment.seq)
        set_segment_size(self.row, segment.mss() or _DEFAULT_MSS, self._path)
        # The window is never scaled on a SYN (RFC 7323 §2.2)
        self.sender.start(segment.ack, segment.window, sack=segment.sack_permitted(), now=now)
        self._step(LegEvent.SYN_ACK)
        return self._output(now) or [leg_packets.ack(self)]

    def _receive_resuming(self, resumption: Resumption, segment: Segment, now: float) -> list[bytes]:
        """Take the answer to a probe. RFC 9293 has no such state: see resumption.py."""
        if segment.flags & RST:
            return self._receive_reset(segment, now)
        answer = resumption.take_answer(segment, now)
        if answer is FirstAnswer.CONTRADICTED:
            return self.abort(EndReason.NO_RECORD)
        if answer is FirstAnswer.IGNORED:
            return []
        self._step(LegEvent.ANSWERED)
        return self._receive_synchronized(segment, now)

    def _receive_synchronized(self, segment: Segment, now: float) -> list[bytes]:
        """Take a segment in any later state, with the checks of RFC 9293 §3.10.7.4 in their order."""
        if segment.flags & RST:
            return self._receive_reset(segment, now)
        if segment.flags & SYN:
            return leg_packets.challenge(self, now)  # RFC 5961 §4.2
        if not self.receiver.is_in_window(segment):  # old duplicates, and keep-alives
            return [leg_packets.ack(self)] if segment.seq_len else leg_packets.challenge(self, now)
        if not segment.flags & ACK:
            return []
        if not self.sender.is_acceptable(segment.ack):
            return leg_packets.challenge(self, now)  # RFC 5961 §5.2
        out = self._take_ack(segment, now)
        if self.ended is None and segment.seq_len:
            out += self._take_data(segment, now)
        return out

    def _receive_reset(self, segment: Segment, now: float) -> list[bytes]:
        """Take a RST in any state but SYN_SENT (RFC 5961 §3.2)."""
        if segment.seq == self.row.rcv_nxt:
            self._step(LegEvent.RST, EndReason.MIRROR_RESET)
            return []
        return leg_packets.challenge(self, now) if self.receiver.is_in_window(segment) else []

    def _take_ack(self, segment: Segment, now: float) -> list[bytes]:
        sender, row = self.sender, self.row
        was_acked = sender.is_fin_acked
        pieces = sender.take_ack(
            segment.ack,
            segment.window << row.scale,
            self.inner_blocks(segment) if uses_sack(row) else (),
            bare=segment.seq_len == 0,
            now=now,
        )
        out = self._sent(pieces)
        if sender.is_fin_acked and not was_acked:
            self._step(LegEvent.FIN_ACKED)
        return out

    def _take_data(self, segment: Segment, now: float) -> list[bytes]:
        """Count and acknowledge the mirror's data and FIN; a listener gets the data."""
        receiver, row = self.receiver, self.row
        row.heard_at = now
        was_finished = receiver.is_finished
        is_in_order = segment.seq == row.rcv_nxt and receiver.is_steady
        fresh = receiver.take(segment, keeps_order=self._listener is not None)
        if self._listener is not None and fresh:
            self._listener(fresh)
        if receiver.is_finished and not was_finished:
            self._step(LegEvent.FIN_RECEIVED)
            if self._listener is not None:
                self._listener(b"")
        # A segment that fills a gap or leaves one is acknowledged at once (RFC 5681 §4.2), and so is every second
        # segment in order. The acknowledgement of others goes with our next packet, or after LEG_ACK_DELAY (RFC 9293
        # §3.8.6.3).
        row = self.row  # another one if the leg has ended
        may_wait = is_in_order and receiver.is_steady and segment.payload_len <= row.mss
        if not may_wait or row.ack_at != NEVER:
            return [leg_packets.ack(self)]
        row.ack_at = now + LEG_ACK_DELAY
        return []

    # Sending

    def _output(self, now: float) -> list[bytes]:
        """Send what the windows allow, unless the mirror has yet to answer."""
        if self.state is LegState.SYN_SENT or self.state is LegState.RESUMING:
            return []
        return self._sent(self.sender.output(now))

    def _sent(self, pieces: Iterable[Piece]) -> list[bytes]:
        """Return the packets of the sender's pieces. If a FIN is among them, the state changes; if the client was reset
        and every byte is acknowledged, a RST ends the leg."""
        out = leg_packets.data(self, pieces)
        if self.sender.is_fin_sent:
            self._step(LegEvent.FIN_SENT)
        if self.is_resetting and not self.row.buffered and self.ended is None:
            out += self.abort(EndReason.CLIENT_RESET)
        return out

    def _retransmit_syn(self, now: float) -> list[bytes]:
        """Send the SYN again, because the retransmission timer has expired (RFC 6298 §5.4-5.6)."""
        retransmit_timer.back_off(self.row, now)
        self.row.timeouts += 1
        self.row.retransmits += 1
        return [leg_packets.syn(self)]

    def _repeat_syn(self, now: float) -> list[bytes]:
        """Send the SYN again without waiting for the timer, at most once in CHALLENGE_INTERVAL."""
        if now - self.challenged_at < leg_packets.CHALLENGE_INTERVAL:
            return []
        self.challenged_at = now
        self.row.retransmits += 1
        retransmit_timer.forget_sample(self.row)
        retransmit_timer.restart(self.row, now)
        return [leg_packets.syn(self)]

    # Ending

    def abort(self, reason: EndReason) -> list[bytes]:
        """End the leg at once with a RST (RFC 9293 §3.10.5), or without one if leg_states.ENDS says so."""
        is_standby = self.resumption is not None and self.resumption.is_standby  # then the other host has the leg
        if is_standby or ENDS.get(reason) is LegEvent.ABANDON:
            return self.abandon(reason)
        if self.ended is not None:
            return []
        state = self.state
        self._step(LegEvent.ABORT, reason)
        return [leg_packets.reset(self, state)]

    def abandon(self, reason: EndReason) -> list[bytes]:
        """End the leg at once without a packet: its endpoints are needed, or the other host has the leg."""
        if self.ended is None:
            self._step(LegEvent.ABANDON, reason)
        return []

    def _step(self, event: LegEvent, reason: EndReason = EndReason.CLOSED) -> None:
        """Change the state as leg_states.TRANSITIONS says. No other method changes it, except cut() after a fault."""
        following = TRANSITIONS.get((self.state, event))
        if following is LegState.CLOSED:
            self._end(reason)
        elif following is LegState.ESTABLISHED:
            set_accepted(self.row)
        if following is not None:
            self.state = following

    def _end(self, reason: EndReason) -> None:
        self.ended = reason
        self.row = self.receiver.row = self._table.retire(self.row)
        self.sender.retire(self.row)

    def cut(self, reason: EndReason) -> None:
        """Remove the leg from the table, even if a fault has left its parts inconsistent."""
        self.state, self.ended = LegState.CLOSED, reason
        self.row = self.sender.row = self.receiver.row = self._table.retire(self.row)
