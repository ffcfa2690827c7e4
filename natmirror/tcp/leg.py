"""A leg: the TCP connection that we hold with a mirror in the client's name, built from synthesised packets.

Theory. The leg is the active side of an ordinary TCP connection (RFC 9293) whose application is the client's byte
stream and which throws away what it receives. Inside, a leg of the client's own bytes has the client's sequence
numbers, so that both streams are compared as they are. On the wire its numbers are shifted by an offset
(initial_numbers.py): a mirror must not learn where production's connection stands, or it could reset it. Here is what a
segment means in each state of leg_states.py; the two halves, sender.py and receiver.py, keep the numbers.

The leg does no I/O and knows no clock: segments and times go in, packets come out.
"""

from collections.abc import Callable, Iterable
from typing import Self

from natmirror.fastpath import LEG_ACK_DELAY, NEVER, LegTable
from natmirror.fastpath.leg_flags import set_steady, uses_sack
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
from natmirror.tcp.path_mtu import MTU, limit_mss, path_mss
from natmirror.tcp.resumption import FirstAnswer, Resumption
from natmirror.tcp.sender import Piece

_DEFAULT_MSS = 536  # RFC 9293 §3.7.1, where the peer names none


class Leg(LegNumbers):
    """One connection to one mirror.

    ``local`` is where it comes from: the client's endpoint, or one of ours. Every method that takes ``now`` (seconds)
    gives the packets to send, which may hold more data than ``segment_len`` bytes: they are cut on their way.
    ``ended`` is None while the leg lives, then the reason of its end; an ended leg takes and gives nothing any more.

    Its numbers lie in ``row``, in the table of legs, until it has ended.
    """

    __slots__ = ("_listener", "_path_mtu", "_table")

    def __init__(
        self,
        table: LegTable,
        local: Endpoint,
        settings: Mirror,
        *,
        iss: int,
        offset: int,
        path_mtu: int = MTU,
        listener: Callable[[bytes], None] | None = None,
    ) -> None:
        """``iss`` is the client's own. On the wire to the mirror each number lies ``offset`` after the leg's own; the
        path takes packets of at most ``path_mtu`` bytes, as far as is known.

        ``listener`` is given what the mirror sends, in order, and nothing at its end; without one it is thrown away.
        """
        super().__init__(table, local, settings, iss, offset)
        self.row.max_buffer = settings.buffer + (2 * slack_of(settings.buffer) if settings.throttles else 0)
        self.row.stall_timeout = settings.stall_timeout
        self.row.idle_timeout = NEVER if settings.idle_timeout is None else settings.idle_timeout
        self._table = table
        self._path_mtu = path_mtu
        self._listener = listener

    @classmethod
    def from_record(cls, table: LegTable, settings: Mirror, record: LegRecord, *, path_mtu: int = MTU) -> Self:
        """Return another host's leg. It does nothing before ``resumption.activate()``."""
        iss = seq.add(record.snd_una, -1)
        leg = cls(table, record.local_end, settings, iss=iss, offset=record.offset, path_mtu=path_mtu)
        leg.state = LegState.RESUMING
        leg.resumption = Resumption(leg.sender, record, path_mtu)
        return leg

    # What the client does

    def open(self, now: float) -> list[bytes]:
        """Send the SYN."""
        row = self.row
        row.progress_at = row.heard_at = now
        row.snd_nxt = row.snd_max = seq.add(row.snd_una, 1)
        retransmit_timer.start(row, now, row.snd_max)
        return [leg_packets.syn(self)]

    def write(self, data: bytes, now: float, *, wanted: int | None = None) -> list[bytes]:
        """Take the next bytes of the client's stream; a full buffer ends the leg.

        A mirror that has everything so far is not behind, however much comes at once. ``wanted``: bytes that room is
        needed for, where what comes at once is written in pieces: all of them with the first piece, 0 with others.
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
        """Send a FIN after the last byte: the client has closed its side."""
        self.sender.reclaim()
        self.sender.finishing = not self.is_resetting
        return self._output(now) if self.ended is None else []

    def reset(self, now: float) -> list[bytes]:
        """Send a RST once the last byte is acknowledged: the connection was reset, and the mirror gets what the backend
        got."""
        self.sender.reclaim()
        self.is_resetting = True
        self.sender.finishing = False
        return self._output(now) if self.ended is None else []

    def finished_elsewhere(self, fin: int) -> list[bytes]:
        """Close without a FIN of ours: the client's stream ends before number ``fin``, and the mirror has acknowledged
        more, so another host has sent it the FIN."""
        self.row.acked_bytes -= seq.diff(self.end, fin)
        if self.end != seq.add(fin, 1):
            return self.abort(EndReason.NO_RECORD)
        self.sender.finished_elsewhere()
        self._step(LegEvent.FIN_SENT)
        self._step(LegEvent.FIN_ACKED)
        return []

    def client_gone(self, now: float) -> None:
        """Bound the leg's life from now on: production's connection is over."""
        if self.client_gone_at is None:
            self.client_gone_at = now

    # What the network says

    def unreachable(self, about: int) -> list[bytes]:
        """A router or host says that the segment with number ``about`` on the wire cannot be delivered.

        Heeded while connecting only (RFC 5927 §5.2: a soft error for a connection that stands).
        """
        if self.state is LegState.SYN_SENT and self.inward(about) == self.row.snd_una:
            return self.abort(EndReason.UNREACHABLE)
        return []

    def path_mtu(self, mtu: int, about: int, now: float) -> list[bytes]:
        """A router's fragmentation-needed for the segment with number ``about`` on the wire (RFC 1191, checks of RFC
        5927 §7)."""
        if self.ended is not None:
            return []
        self.sender.reclaim()
        return self._output(now) if self.sender.shrink(path_mss(mtu), self.inward(about)) else []

    # Time

    def next_timer(self) -> float | None:
        """Return when handle_timer() is due, or None."""
        due = NEVER if self.ended is not None else leg_deadlines.next_due(self)
        return None if due == NEVER else due

    def schedule(self) -> None:
        """Tell the table when the leg is due, and whether the C gear may move it until then: where nothing but data and
        acknowledgements is to come. To be called after each move."""
        if self.ended is not None:
            return
        row = self.row
        set_steady(row, self._is_at_rest() and self.receiver.is_steady and self.sender.is_steady)
        self._table.set_due(row, leg_deadlines.next_due(self))

    def _is_at_rest(self) -> bool:
        if self.state is not LegState.ESTABLISHED or self.client_gone_at is not None or self.settings.throttles:
            return False
        return self.resumption is None or (self.resumption.is_in_step and not self.resumption.awaits_answer)

    def handle_timer(self, now: float) -> list[bytes]:
        """Do what is due: go on sending, retransmit, probe a closed window, ask for an answer, or give up."""
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
        if now < row.rto_at:
            if now >= row.more_at:
                return self._output(now)
            return [leg_packets.ack(self)] if now >= row.ack_at else []
        if self.state is LegState.SYN_SENT:
            return self._resend_syn(now)
        return leg_packets.data(self, sender.time_out(now))

    # Receiving

    def receive(self, segment: Segment, now: float) -> list[bytes]:
        """Take a segment of the mirror's with a right checksum (RFC 9293 §3.10.7)."""
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
        """RFC 9293 §3.10.7.3."""
        acceptable = bool(segment.flags & ACK) and segment.ack == self.row.snd_max
        if segment.flags & RST:
            if acceptable:
                self._step(LegEvent.RST, EndReason.REFUSED)
            return []
        if segment.flags & ACK and not acceptable:
            # An older connection of these ports still stands at the mirror. The RST clears it, and the SYN follows at
            # once (RFC 9293 §3.5.1, half-open connection discovery).
            return [leg_packets.packet(self, segment.ack, RST, ack=0), *self._call_again(now)]
        if not segment.flags & SYN or not acceptable:
            return []
        self.row.scale = segment.window_scale() or 0
        self.receiver.start(segment.seq)
        mss = limit_mss(segment.mss() or _DEFAULT_MSS, self._path_mtu)
        # The window is never scaled on a SYN (RFC 7323 §2.2)
        self.sender.start(segment.ack, segment.window, mss, sack=segment.sack_permitted(), now=now)
        self._step(LegEvent.SYN_ACK)
        return self._output(now) or [leg_packets.ack(self)]

    def _receive_resuming(self, resumption: Resumption, segment: Segment, now: float) -> list[bytes]:
        """Not of RFC 9293: the answer to a probe, see resumption.py."""
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
        """RFC 9293 §3.10.7.4, in its order of checks."""
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
        was_acked = sender.fin_acked
        pieces = sender.take_ack(
            segment.ack,
            segment.window << row.scale,
            self.inner_blocks(segment) if uses_sack(row) else (),
            bare=segment.seq_len == 0,
            now=now,
        )
        out = self._sent(pieces)
        if sender.fin_acked and not was_acked:
            self._step(LegEvent.FIN_ACKED)
        return out

    def _take_data(self, segment: Segment, now: float) -> list[bytes]:
        """The mirror's data and FIN: counted, for the listener where there is one, and acknowledged."""
        receiver, row = self.receiver, self.row
        row.heard_at = now
        was_finished = receiver.finished
        in_turn = segment.seq == row.rcv_nxt and receiver.is_steady
        fresh = receiver.take(segment, keeps_order=self._listener is not None)
        if self._listener is not None and fresh:
            self._listener(fresh)
        if receiver.finished and not was_finished:
            self._step(LegEvent.FIN_RECEIVED)
            if self._listener is not None:
                self._listener(b"")
        # What fills a gap, or makes one, is acknowledged at once (RFC 5681 §4.2), and so is each second segment in its
        # turn; a first one with the next packet or after a moment (RFC 9293 §3.8.6.3).
        row = self.row  # it may have ended
        may_wait = in_turn and receiver.is_steady and segment.payload_len <= row.mss
        if not may_wait or row.ack_at != NEVER:
            return [leg_packets.ack(self)]
        row.ack_at = now + LEG_ACK_DELAY
        return []

    # Sending

    def _output(self, now: float) -> list[bytes]:
        """Send what may be sent, once the mirror has answered."""
        if self.state is LegState.SYN_SENT or self.state is LegState.RESUMING:
            return []
        return self._sent(self.sender.output(now))

    def _sent(self, pieces: Iterable[Piece]) -> list[bytes]:
        """The packets of what the sender gave, and what follows from it: the FIN's state, or the RST that ends the
        leg when the client was reset."""
        out = leg_packets.data(self, pieces)
        if self.sender.fin_sent:
            self._step(LegEvent.FIN_SENT)
        if self.is_resetting and not self.row.buffered and self.ended is None:
            out += self.abort(EndReason.CLIENT_RESET)
        return out

    def _resend_syn(self, now: float) -> list[bytes]:
        """RFC 6298 §5.4-5.6."""
        retransmit_timer.back_off(self.row, now)
        self.row.timeouts += 1
        self.row.retransmits += 1
        return [leg_packets.syn(self)]

    def _call_again(self, now: float) -> list[bytes]:
        """The SYN once more, without waiting for the timer; not often, whatever the mirror sends."""
        if now - self.challenged_at < leg_packets.CHALLENGE_INTERVAL:
            return []
        self.challenged_at = now
        self.row.retransmits += 1
        retransmit_timer.forget_sample(self.row)
        retransmit_timer.restart(self.row, now)
        return [leg_packets.syn(self)]

    # Ending

    def abort(self, reason: EndReason) -> list[bytes]:
        """End the leg at once with a RST (RFC 9293 §3.10.5), unless leg_states.ENDS has the reason as ABANDON."""
        is_standby = self.resumption is not None and self.resumption.is_standby  # then another host has the leg
        if is_standby or ENDS.get(reason) is LegEvent.ABANDON:
            return self.abandon(reason)
        if self.ended is not None:
            return []
        state = self.state
        self._step(LegEvent.ABORT, reason)
        return [leg_packets.reset(self, state)]

    def abandon(self, reason: EndReason) -> list[bytes]:
        """End the leg at once without a packet: its ends belong to another connection, or another host has it."""
        if self.ended is None:
            self._step(LegEvent.ABANDON, reason)
        return []

    def _step(self, event: LegEvent, reason: EndReason = EndReason.CLOSED) -> None:
        """Move the state as leg_states.TRANSITIONS says; nothing else moves it, but cut() where this has failed."""
        following = TRANSITIONS.get((self.state, event))
        if following is LegState.CLOSED:
            self._end(reason)
        if following is not None:
            self.state = following

    def _end(self, reason: EndReason) -> None:
        self.ended = reason
        self.row = self.receiver.row = self._table.retire(self.row)
        self.sender.retire(self.row)

    def cut(self, reason: EndReason) -> None:
        """Take the leg out of the table, whatever else is wrong with it."""
        self.state, self.ended = LegState.CLOSED, reason
        self.row = self.sender.row = self.receiver.row = self._table.retire(self.row)
