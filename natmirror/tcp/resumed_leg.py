"""A leg that another host has begun, and that goes on here.

Theory. What was sent to the mirror, and what of it has arrived, only the mirror knows now. A right acknowledgement is
met with silence, but one whose number lies below the window is answered with an acknowledgement of what is expected
instead (RFC 9293 §3.10.7.4): such a probe is sent until something comes. The answer's acknowledgement is where the leg
goes on; its own number is where the mirror's stream does, whatever of that never came here: it is thrown away anyhow.

Meanwhile the client's bytes are kept that come. Other copies that the first host has sent may still be under way, or
lie at the mirror behind a gap; so an acknowledgement past all that was sent here is believed for a while: nobody has to
send those bytes any more. And where bytes are missing that the client will not send again, the mirror is asked once
more, a second later, before that ends the leg.
"""

from natmirror.fastpath import NEVER, SACK, LegTable
from natmirror.net import seq
from natmirror.net.packet import ACK, RST, SYN, Segment
from natmirror.rules import Mirror
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_base import MTU
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.leg_states import LegEvent, LegState
from natmirror.tcp.receiver import SCALE, WINDOW
from natmirror.tcp.retransmit_timer import RetransmitTimer

NO_ANSWER = "no-answer"
HOLE = "takeover-hole"
NO_RECORD = "no-record"
"""Why a leg ends here that another host has begun, and of which there is no record, or one of an older leg only."""

_PROBE_INTERVAL = 1.0  # RFC 6298 §2.1, and more than the half second in which Linux answers one probe only
_WINDOW = WINDOW << SCALE  # so far behind an older segment of the mirror's may be
_FARTHEST = 1 << 30  # and so far ahead of its record a leg
_SETTLING = 60.0  # seconds: nobody sends a byte again later than that (RFC 6298 §2.5)


class ResumedLeg(Leg):
    """A leg from another host's record, which knows neither what went before nor what the mirror has of that."""

    __slots__ = (
        *("_asked_again", "_asking_since", "_interval", "_probe_at", "_probes"),
        *("in_step", "is_asking", "roused_at", "told_una"),
    )

    def __init__(self, table: LegTable, settings: Mirror, record: LegRecord, *, path_mtu: int = MTU) -> None:
        """``path_mtu`` as for any leg. It does nothing before rouse()."""
        iss = seq.add(record.snd_una, -1)
        super().__init__(table, record.local_end, settings, iss=iss, offset=record.offset, path_mtu=path_mtu)
        self.state = LegState.RESUMING
        self.in_step = False
        """Whether the client's stream, as far as it was written, ends where the leg does."""
        self.is_asking = True
        """Whether the mirror has still to say how far it has come."""
        self.roused_at = NEVER
        """Since when it is this host's."""
        self._asked_again = False
        self._asking_since = self._probe_at = NEVER
        self._probes = 0
        self._interval = _PROBE_INTERVAL
        self.renew(record)

    @property
    def is_waiting(self) -> bool:
        """Whether another host still has the leg, as far as is known."""
        return self.roused_at == NEVER

    # What the engine asks of it

    def renew(self, record: LegRecord) -> None:
        """While it waits: a later record."""
        row = self.row
        self.told_una = record.snd_una
        row.buffer_seq = row.snd_una = row.snd_nxt = row.snd_max = record.snd_una
        row.seq_offset = record.offset
        row.rcv_nxt = record.rcv_nxt
        row.scale = record.scale
        row.mss = self._limit_mss(record.mss)
        row.flags = row.flags & ~SACK | (SACK if record.sack else 0)

    def rouse(self, now: float) -> None:
        """The leg is this host's from now on: the mirror is to be asked."""
        if self.is_waiting:
            self.roused_at = self._asking_since = self._probe_at = now
            self.row.progress_at = self.row.heard_at = now

    def unheard_of(self, data: bytes, start: int) -> bytes:
        """Of the client's bytes from number ``start`` on, those that the mirror does not have from elsewhere."""
        skip = max(seq.diff(self.end, start), 0)
        self.in_step = skip <= len(data)
        return data[skip:]

    def ask_again(self, now: float) -> bool:
        """Bytes are missing that will not come any more; whether the mirror is to be asked whether it has them."""
        if self._asked_again or self.ended is not None:
            return False
        self._asked_again = self.is_asking = True
        self._asking_since = now
        self._probes = 0
        self._interval = _PROBE_INTERVAL
        self._probe_at = now + self._interval
        return True

    def past(self, fin: int) -> list[bytes]:
        """The client's stream ends before number ``fin``, and what the mirror has acknowledged does not: the first host
        has sent it the FIN."""
        self.row.acked_bytes -= seq.diff(self.end, fin)
        if self.end != seq.add(fin, 1):
            return self.abort(NO_RECORD)
        self._sender.finished_elsewhere()
        self._step(LegEvent.FIN_SENT)
        self._step(LegEvent.FIN_ACKED)
        return []

    @property
    def hole_reason(self) -> str:
        """Why the leg ends where bytes are missing."""
        return super().hole_reason if self.in_step else HOLE

    # Time

    def next_timer(self) -> float | None:
        """When handle_timer() is due, or None."""
        when = super().next_timer()
        if self.ended is not None or not self.is_asking or self.is_waiting:
            return when
        return self._probe_at if when is None else min(when, self._probe_at)

    def handle_timer(self, now: float) -> list[bytes]:
        """Do what is due: a leg's usual affairs, or another probe."""
        out = super().handle_timer(now)
        if self.ended is None and self.is_asking and now >= self._probe_at:
            out += self._probe(now)
        return out

    def _deadline(self) -> tuple[float | None, str]:
        at, reason = super()._deadline()
        if not self.is_asking:
            return at, reason
        until = self._asking_since + self._settings.connect_timeout
        is_limited = self._gone_at is not None and at is not None
        return min((until, NO_ANSWER), (at, reason)) if is_limited else (until, NO_ANSWER)

    def _probe(self, now: float) -> list[bytes]:
        self._probes += 1
        self._probe_at = now + self._interval
        self._interval = min(2 * self._interval, RetransmitTimer.MAX)
        return [self._packet(seq.add(self.row.snd_una, -1), ACK)]

    # Receiving

    def _receive(self, segment: Segment, now: float) -> list[bytes]:
        self.rouse(now)
        if self.state is LegState.RESUMING:
            return self._receive_resuming(segment, now)
        if segment.flags & (ACK | SYN | RST) == ACK and self._receiver.is_in_window(segment):
            if self._is_elsewheres(segment.ack, now):
                self._skip(segment.ack, now)
            if self._probes and seq.le(self.row.snd_una, segment.ack):
                self.is_asking = False
        return super()._receive(segment, now)

    def _receive_resuming(self, segment: Segment, now: float) -> list[bytes]:
        row = self.row
        if segment.flags & RST:
            if segment.seq == row.rcv_nxt:
                self._step(LegEvent.RESET, "mirror-reset")
                return []
            return self._challenge(now) if self._receiver.is_in_window(segment) else []
        if segment.flags & (ACK | SYN) != ACK:
            return []
        ahead, acked = seq.diff(segment.seq, row.rcv_nxt), seq.diff(segment.ack, row.snd_una)
        if acked < 0 or not -_WINDOW <= ahead <= _FARTHEST or acked > _FARTHEST:
            # Older than the record, or another connection. A mirror that says so a second time means it.
            return self.abort(NO_RECORD) if self._probes > 1 else []
        if ahead < 0 and not segment.seq_len:
            return []  # older than the record
        if ahead > 0:
            row.rcv_nxt = segment.seq
        self._skip(segment.ack, now)
        row.window = row.max_window = segment.window << row.scale
        self.is_asking = False
        self._step(LegEvent.ANSWERED)
        return super()._receive(segment, now)

    def _is_elsewheres(self, ack: int, now: float) -> bool:
        """Whether an acknowledgement is of what another host has sent."""
        still_open = self.state in (LegState.ESTABLISHED, LegState.CLOSE_WAIT) and self._gone_at is None
        settling = now < self.roused_at + _SETTLING
        return still_open and settling and seq.lt(self.row.snd_max, ack)

    def _skip(self, ack: int, now: float) -> None:
        self._sender.take_over()
        self.in_step = self.in_step and seq.le(ack, self.end)
        self._sender.skip(ack, now)

    # Where it differs

    def _abort(self, reason: str) -> list[bytes]:
        if reason != NO_ANSWER and not self.is_waiting:
            return super()._abort(reason)
        self._end(reason)  # nobody is there to hear a RST, or another host has the leg
        return []

    def _output(self, now: float) -> list[bytes]:
        return [] if self.state is LegState.RESUMING else super()._output(now)

    def _is_at_rest(self) -> bool:
        return self.in_step and not self.is_asking and super()._is_at_rest()
