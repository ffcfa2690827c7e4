"""Continues a leg that another host has begun.

Theory. Only the mirror knows how many of the first host's bytes have arrived. A TCP does not answer a correct
acknowledgement, but it answers a segment whose number lies below its window with the number that it expects (RFC 9293
§3.10.7.4). natmirror sends such a probe until an answer comes. The leg continues at the answer's acknowledgement
number, and the mirror's own stream at its sequence number; bytes of that stream that never came here do not matter,
because a leg discards them.

Meanwhile the client's new bytes are buffered. Copies that the first host sent may still be in the network, or lie at
the mirror behind a gap. So for a while an acknowledgement of more than was sent here is accepted, and those bytes are
not sent again. If bytes are missing that the client will not send again, the mirror is asked once more, a second later,
before that ends the leg.

Such a leg is first on standby: the other host has it, and renew() takes later records. Then it is active: it sends
probes, in state RESUMING. After the answer it is an ordinary leg, except for acknowledgements of the other host's
bytes. leg.py calls this object only where such a leg differs from others.
"""

from enum import Enum, auto

from natmirror.fastpath import LEG_WINDOW, NEVER, RTO_MAX
from natmirror.fastpath.leg_flags import set_sack
from natmirror.net import seq
from natmirror.net.packet import ACK, SYN, Segment
from natmirror.reasons import EndReason
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.path_mtu import Path, set_segment_size
from natmirror.tcp.receiver import SCALE
from natmirror.tcp.sender import Piece, Sender

_PROBE_INTERVAL = 1.0  # RFC 6298 §2.1; Linux answers only one probe in half a second
_MAX_BEHIND = LEG_WINDOW << SCALE  # the distance by which an old segment of the mirror may lie below the record
_MAX_AHEAD = 1 << 30  # the distance by which the leg may have advanced since the record
_SETTLING = 60.0  # seconds, after which no TCP sends a byte again (RFC 6298 §2.5)


class FirstAnswer(Enum):
    """The meaning of a mirror's segment for a leg that is RESUMING."""

    TAKEN = auto()
    """It shows the mirror's position, at which the leg continues."""
    IGNORED = auto()
    """It is older than the record, or no acknowledgement."""
    CONTRADICTED = auto()
    """It shows, for the second time, that the record is of another connection."""


class Resumption:
    """The part of a leg that only a leg from another host's record has."""

    __slots__ = (
        *("_asked_again", "_interval", "_path", "_probes", "_sender", "asking_since", "awaits_answer"),
        *("is_in_step", "probe_at", "recorded_una", "activated_at"),
    )

    def __init__(self, sender: Sender, record: LegRecord, path: Path) -> None:
        """The row of ``sender``, the leg's, gets the record's numbers; ``path`` is that of any leg."""
        self.is_in_step = False
        """Whether the leg ends at the last of the client's bytes that passed here; False while the mirror has more."""
        self.awaits_answer = True
        """Whether the mirror has yet to answer which bytes it has."""
        self.activated_at = NEVER
        """The time when the leg became active here; NEVER on standby."""
        self.asking_since = NEVER
        """The time when the present round of probes began."""
        self.probe_at = NEVER
        """The time when the next probe is due, or NEVER."""
        self._sender = sender
        self._path = path
        self._asked_again = False
        self._probes = 0
        self._interval = _PROBE_INTERVAL
        self.renew(record)

    @property
    def is_standby(self) -> bool:
        """Whether the other host still has the leg."""
        return self.activated_at == NEVER

    @property
    def hole_reason(self) -> EndReason:
        """The end reason for missing bytes."""
        return EndReason.HOLE if self.is_in_step else EndReason.TAKEOVER_HOLE

    # Called by mirroring

    def renew(self, record: LegRecord) -> None:
        """Take the numbers of a record: the first one, or a later one on standby."""
        row = self._sender.row
        self.recorded_una = record.snd_una
        row.buffer_seq = row.snd_una = row.snd_nxt = row.snd_max = record.snd_una
        row.seq_offset = record.offset
        row.rcv_nxt = record.rcv_nxt
        row.scale = record.scale
        set_segment_size(row, record.mss, self._path)
        set_sack(row, record.sack)

    def activate(self, now: float) -> None:
        """Make the leg active: its first probe is due."""
        if self.is_standby:
            row = self._sender.row
            self.activated_at = self.asking_since = self.probe_at = now
            row.progress_at = row.heard_at = now

    def missing_part(self, data: bytes, start: int) -> bytes:
        """Return the part of the client's bytes, which begin at number ``start``, that the mirror does not have yet."""
        skip = max(seq.diff(self._sender.end, start), 0)
        self.is_in_step = skip <= len(data)
        return data[skip:]

    def ask_again(self, now: float) -> bool:
        """Probe the mirror again, because the client will not send missing bytes again. Return False if that was
        done before."""
        if self._asked_again:
            return False
        self._asked_again = self.awaits_answer = True
        self.asking_since = now
        self._probes = 0
        self._interval = _PROBE_INTERVAL
        self.probe_at = now + self._interval
        return True

    # Called by the leg

    def probe(self, now: float) -> Piece:
        """Return the probe that is due, and set the time of the next one."""
        self._probes += 1
        self.probe_at = now + self._interval
        self._interval = min(2 * self._interval, RTO_MAX)
        return seq.add(self._sender.row.snd_una, -1), ACK, b""

    def take_answer(self, segment: Segment, now: float) -> FirstAnswer:
        """Take the answer to a probe, and continue at its numbers; ``segment`` is no RST."""
        row = self._sender.row
        if segment.flags & (ACK | SYN) != ACK:
            return FirstAnswer.IGNORED
        ahead, acked = seq.diff(segment.seq, row.rcv_nxt), seq.diff(segment.ack, row.snd_una)
        if acked < 0 or not -_MAX_BEHIND <= ahead <= _MAX_AHEAD or acked > _MAX_AHEAD:
            # It is older than the record, or of another connection. After a second probe it cannot be an old segment.
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
        """Take an acknowledgement inside the window, before the sender does. While the leg ``is_open``, i.e. the client
        has not gone and no FIN was sent, it may acknowledge bytes that the other host has sent."""
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
