"""What is different about a leg that another host has begun, and that goes on here.

Theory. What was sent to the mirror, and what of it has arrived, only the mirror knows now. A right acknowledgement is
met with silence, but one whose number lies below the window is answered with an acknowledgement of what is expected
instead (RFC 9293 §3.10.7.4): such a probe is sent until something comes. The answer's acknowledgement is where the leg
goes on; its own number is where the mirror's stream does, whatever of that never came here: it is thrown away anyhow.

Meanwhile the client's bytes are kept that come. Other copies that the first host has sent may still be under way, or
lie at the mirror behind a gap; so an acknowledgement past all that was sent here is believed for a while: those bytes
need not be sent any more. And where bytes are missing that the client will not send again, the mirror is asked once
more, a second later, before that ends the leg.

The way of such a leg: on standby (the other host has it, renew() takes later records), active (probes are sent,
RESUMING), answered (an ordinary leg, but for acknowledgements of the other host's bytes). leg.py asks this object at
those places only where it differs from a leg of our own.
"""

from enum import Enum, auto

from natmirror.fastpath import LEG_WINDOW, NEVER, RTO_MAX
from natmirror.fastpath.leg_flags import set_sack
from natmirror.net import seq
from natmirror.net.packet import ACK, SYN, Segment
from natmirror.reasons import EndReason
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.path_mtu import limit_mss
from natmirror.tcp.receiver import SCALE
from natmirror.tcp.sender import Piece, Sender

_PROBE_INTERVAL = 1.0  # RFC 6298 §2.1, and more than the half second in which Linux answers one probe only
_MAX_BEHIND = LEG_WINDOW << SCALE  # how far behind the record an older segment of the mirror's may be
_MAX_AHEAD = 1 << 30  # and how far ahead of it a leg
_SETTLING = 60.0  # seconds after which no TCP sends a byte again (RFC 6298 §2.5)


class FirstAnswer(Enum):
    """What the first segments of a mirror's say to a leg that is RESUMING."""

    TAKEN = auto()
    """It has said how far it has come: the leg goes on there."""
    IGNORED = auto()
    """Older than the record, or no acknowledgement."""
    CONTRADICTED = auto()
    """It has said more than once that the record is not of this connection."""


class Resumption:
    """A leg from another host's record, which knows neither what went before nor what the mirror has of that."""

    __slots__ = (
        *("_asked_again", "_interval", "_path_mtu", "_probes", "_sender", "asking_since", "awaits_answer"),
        *("is_in_step", "probe_at", "recorded_una", "activated_at"),
    )

    def __init__(self, sender: Sender, record: LegRecord, path_mtu: int) -> None:
        """``sender`` is the leg's, whose row gets the record's numbers; ``path_mtu`` as for any leg."""
        self.is_in_step = False
        """Whether the client's stream, as far as it was written, ends where the leg does."""
        self.awaits_answer = True
        """Whether the mirror has still to say how far it has come."""
        self.activated_at = NEVER
        """When it became this host's."""
        self.asking_since = NEVER
        """When the mirror was asked first, of the times that it was asked in a row."""
        self.probe_at = NEVER
        """When the next probe is due."""
        self._sender = sender
        self._path_mtu = path_mtu
        self._asked_again = False
        self._probes = 0
        self._interval = _PROBE_INTERVAL
        self.renew(record)

    @property
    def is_standby(self) -> bool:
        """Whether another host still has the leg, as far as is known."""
        return self.activated_at == NEVER

    @property
    def hole_reason(self) -> EndReason:
        """Why the leg ends where bytes are missing."""
        return EndReason.HOLE if self.is_in_step else EndReason.TAKEOVER_HOLE

    # What the engine says

    def renew(self, record: LegRecord) -> None:
        """Take the numbers of a record, the first one or, on standby, a later one."""
        row = self._sender.row
        self.recorded_una = record.snd_una
        row.buffer_seq = row.snd_una = row.snd_nxt = row.snd_max = record.snd_una
        row.seq_offset = record.offset
        row.rcv_nxt = record.rcv_nxt
        row.scale = record.scale
        row.mss = limit_mss(record.mss, self._path_mtu)
        set_sack(row, record.sack)

    def activate(self, now: float) -> None:
        """Make the leg this host's from now on: its mirror is to be asked."""
        if self.is_standby:
            row = self._sender.row
            self.activated_at = self.asking_since = self.probe_at = now
            row.progress_at = row.heard_at = now

    def missing_part(self, data: bytes, start: int) -> bytes:
        """Return those of the client's bytes from number ``start`` on that the mirror does not have from elsewhere."""
        skip = max(seq.diff(self._sender.end, start), 0)
        self.is_in_step = skip <= len(data)
        return data[skip:]

    def ask_again(self, now: float) -> bool:
        """Ask the mirror for bytes that are missing here and will not come any more; False where it was asked."""
        if self._asked_again:
            return False
        self._asked_again = self.awaits_answer = True
        self.asking_since = now
        self._probes = 0
        self._interval = _PROBE_INTERVAL
        self.probe_at = now + self._interval
        return True

    # What the leg asks

    def probe(self, now: float) -> Piece:
        """Give the probe that is due, and set the time of the next."""
        self._probes += 1
        self.probe_at = now + self._interval
        self._interval = min(2 * self._interval, RTO_MAX)
        return seq.add(self._sender.row.snd_una, -1), ACK, b""

    def take_answer(self, segment: Segment, now: float) -> FirstAnswer:
        """Go on where an answer to a probe says; ``segment`` is no RST."""
        row = self._sender.row
        if segment.flags & (ACK | SYN) != ACK:
            return FirstAnswer.IGNORED
        ahead, acked = seq.diff(segment.seq, row.rcv_nxt), seq.diff(segment.ack, row.snd_una)
        if acked < 0 or not -_MAX_BEHIND <= ahead <= _MAX_AHEAD or acked > _MAX_AHEAD:
            # Older than the record, or another connection. A mirror that says so a second time means it.
            return FirstAnswer.CONTRADICTED if self._probes > 1 else FirstAnswer.IGNORED
        if ahead < 0 and not segment.seq_len:
            return FirstAnswer.IGNORED  # older than the record
        if ahead > 0:
            row.rcv_nxt = segment.seq
        self._skip(segment.ack, now)
        row.window = row.max_window = segment.window << row.scale
        self._note_answer()
        return FirstAnswer.TAKEN

    def take_ack(self, ack: int, now: float, *, is_open: bool) -> None:
        """Take an acknowledgement in the window, before the sender does: it may be of bytes that another host has sent,
        while the leg ``is_open``, with the client there and no FIN sent."""
        if is_open and now < self.activated_at + _SETTLING and seq.lt(self._sender.row.snd_max, ack):
            self._skip(ack, now)
        if self._probes and seq.le(self._sender.row.snd_una, ack):
            self._note_answer()

    def _note_answer(self) -> None:
        self.awaits_answer = False
        self.probe_at = NEVER

    def _skip(self, ack: int, now: float) -> None:
        self._sender.reclaim()
        self.is_in_step = self.is_in_step and seq.le(ack, self._sender.end)
        self._sender.skip(ack, now)
