"""What a leg consists of, and the numbers that can be read of it."""

from natmirror.fastpath import NEVER, LegTable
from natmirror.fastpath.leg_flags import uses_sack
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import Segment
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp import retransmit_timer
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.receiver import Receiver
from natmirror.tcp.resumption import Resumption
from natmirror.tcp.sender import Sender

_LONG_AGO = -NEVER  # one object for all legs, each of which is to be small


class LegNumbers:
    """The ends of a leg, its two halves, and the numbers that they keep in ``row``; leg.py moves them.

    The numbers inside are the client's; on the wire they are shifted by ``row.seq_offset``. Only outward(), inward(),
    inner() and inner_blocks() know of that; in C, emit() and decide_mirror_packet().
    """

    __slots__ = (
        *("challenged_at", "client_gone_at", "client_waits", "ended", "is_resetting", "local", "mirror"),
        *("receiver", "resumption", "row", "sender", "settings", "state"),
    )

    def __init__(self, table: LegTable, local: Endpoint, settings: Mirror, iss: int, offset: int) -> None:
        self.local = local
        self.mirror = endpoint_of(settings)
        self.settings = settings
        self.state = LegState.SYN_SENT
        self.ended: EndReason | None = None
        """Why it has ended; None while it lives."""
        self.row = table.insert(self.mirror, local)
        self.row.seq_offset = offset
        self.sender = Sender(table, self.row, iss)
        self.receiver = Receiver(self.row)
        self.resumption: Resumption | None = None
        """What is different because another host has begun the leg; None for a leg of our own."""
        self.client_waits = False
        """The client has used up the window that it is shown because of this leg."""
        self.client_gone_at: float | None = None
        """When production's connection was over."""
        self.is_resetting = False
        """The client was reset: a RST follows the last byte."""
        self.challenged_at = _LONG_AGO

    # Positions

    @property
    def una(self) -> int:
        """The first number that the mirror has not acknowledged."""
        return self.row.snd_una

    @property
    def end(self) -> int:
        """One past the last byte of the client's that was written."""
        return self.sender.end

    @property
    def last_on_the_wire(self) -> int:
        """One past the highest number that the mirror was ever sent."""
        return self.outward(self.row.snd_max)

    def outward(self, number: int) -> int:
        """Return a number of the leg's as it is on the wire."""
        return seq.add(number, self.row.seq_offset)

    def inward(self, number: int) -> int:
        """Return a number on the wire as the leg's own."""
        return seq.add(number, -self.row.seq_offset)

    def inner(self, segment: Segment) -> Segment:
        """Return a segment of the mirror's with its acknowledgement number turned into the leg's own."""
        return segment.with_ack(seq.add(segment.ack, -self.row.seq_offset))

    def inner_blocks(self, segment: Segment) -> list[tuple[int, int]]:
        """Return the selective acknowledgements of a segment of the mirror's, in the leg's own numbers."""
        return [(self.inward(start), self.inward(end)) for start, end in segment.sack_blocks()]

    # What both ends have agreed on

    @property
    def segment_len(self) -> int:
        """The most data that a segment of the leg's takes, in bytes."""
        return self.row.mss

    @property
    def speaks_sack(self) -> bool:
        """Whether both ends speak of selective acknowledgements."""
        return uses_sack(self.row)

    @property
    def is_open(self) -> bool:
        """Whether the client's stream goes on."""
        return self.state in (LegState.ESTABLISHED, LegState.CLOSE_WAIT) and self.client_gone_at is None

    # Another host's part in it

    @property
    def awaits_answer(self) -> bool:
        """Whether the mirror has still to say how far it has come."""
        return self.resumption is not None and self.resumption.awaits_answer

    @property
    def hole_reason(self) -> EndReason:
        """Why the leg ends where bytes are missing that the client will not send again."""
        return EndReason.HOLE if self.resumption is None else self.resumption.hole_reason

    # Sums and times

    @property
    def lag_bytes(self) -> int:
        """Bytes of the client's stream that the mirror has not acknowledged."""
        return self.row.buffered

    @property
    def in_flight_bytes(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return self.sender.in_flight if self.ended is None else 0

    @property
    def sent_bytes(self) -> int:
        """Bytes of the stream that were sent, each counted once."""
        return self.row.sent_bytes

    @property
    def acked_bytes(self) -> int:
        """Bytes of the stream that the mirror has acknowledged."""
        return self.row.acked_bytes

    @property
    def consumed_bytes(self) -> int:
        """Bytes of the mirror's own that were acknowledged and thrown away."""
        return self.row.consumed_bytes

    @property
    def retransmits(self) -> int:
        """Segments sent again."""
        return self.row.retransmits

    @property
    def timeouts(self) -> int:
        """How often the retransmission timer ran out."""
        return self.row.timeouts

    @property
    def rtt_seconds(self) -> float | None:
        """The smoothed round-trip time to the mirror; None before the first sample."""
        return retransmit_timer.smoothed(self.row)

    def lag_seconds(self, now: float) -> float:
        """Return the age of the oldest byte that the mirror has not acknowledged; 0 where there is none."""
        return self.sender.age(now)
