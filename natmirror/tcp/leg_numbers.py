"""The parts of a leg, and the numbers that other modules read."""

from natmirror.fastpath import NEVER, LegTable
from natmirror.fastpath.leg_flags import uses_sack
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import Segment
from natmirror.reasons import EndReason
from natmirror.rules import Mirror
from natmirror.tcp.leg_counts import LegCounts
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.receiver import Receiver
from natmirror.tcp.resumption import Resumption
from natmirror.tcp.sender import Sender

_LONG_AGO = -NEVER  # one object for all legs, each of which is to be small


class LegNumbers(LegCounts):
    """A leg's endpoints, its two halves, and their numbers in ``row``; leg.py changes them.

    Inside, a leg has the client's sequence numbers; on the wire they are shifted by ``row.seq_offset``. Only outward(),
    inward(), inner() and inner_blocks() apply the shift, and in C emit() and decide_mirror_packet().
    """

    __slots__ = (
        *("challenged_at", "client_gone_at", "client_waits", "ended", "is_resetting", "local_endpoint"),
        *("mirror_endpoint", "receiver", "resumption", "row", "sender", "settings", "state"),
    )

    def __init__(self, table: LegTable, local: Endpoint, settings: Mirror, iss: int, offset: int, holder: int) -> None:
        self.local_endpoint = local
        self.mirror_endpoint = endpoint_of(settings)
        self.settings = settings
        self.state = LegState.SYN_SENT
        self.ended: EndReason | None = None
        """The reason of its end; None before."""
        self.row = table.insert(self.mirror_endpoint, local, holder)
        self.row.seq_offset = offset
        self.sender = Sender(table, self.row, iss)
        self.receiver = Receiver(self.row)
        self.resumption: Resumption | None = None
        """The state of a leg from another host; None for a leg of our own."""
        self.client_waits = False
        """Whether the client waits for room in the window that natmirror has narrowed because of this leg."""
        self.client_gone_at: float | None = None
        """The time when production's connection ended; None before that."""
        self.is_resetting = False
        """Whether the client's connection was reset: a RST follows the last byte."""
        self.challenged_at = _LONG_AGO

    # Positions

    @property
    def una(self) -> int:
        """The first number that the mirror has not acknowledged (SND.UNA)."""
        return self.row.snd_una

    @property
    def end(self) -> int:
        """One past the last byte that was written."""
        return self.sender.end

    @property
    def last_on_the_wire(self) -> int:
        """One past the highest number that was ever sent, as on the wire."""
        return self.outward(self.row.snd_max)

    def outward(self, number: int) -> int:
        """Return one of the leg's numbers as on the wire."""
        return seq.add(number, self.row.seq_offset)

    def inward(self, number: int) -> int:
        """Return a number on the wire as one of the leg's."""
        return seq.add(number, -self.row.seq_offset)

    def inner(self, segment: Segment) -> Segment:
        """Return a segment of the mirror with its acknowledgement number as one of the leg's."""
        return segment.with_ack(seq.add(segment.ack, -self.row.seq_offset))

    def inner_blocks(self, segment: Segment) -> list[tuple[int, int]]:
        """Return the selective acknowledgements in a segment of the mirror, in the leg's numbers."""
        return [(self.inward(start), self.inward(end)) for start, end in segment.sack_blocks()]

    # Negotiated in the handshake

    @property
    def segment_len(self) -> int:
        """The most data in one segment, in bytes."""
        return self.row.mss

    @property
    def uses_sack(self) -> bool:
        """Whether both ends have offered selective acknowledgements."""
        return uses_sack(self.row)

    @property
    def is_open(self) -> bool:
        """Whether the client's stream may continue."""
        return self.state in (LegState.ESTABLISHED, LegState.CLOSE_WAIT) and self.client_gone_at is None

    # For a leg from another host

    @property
    def awaits_answer(self) -> bool:
        """Whether the mirror has yet to answer which bytes it has."""
        return self.resumption is not None and self.resumption.awaits_answer

    @property
    def hole_reason(self) -> EndReason:
        """The end reason for bytes that are missing and that the client will not send again."""
        return EndReason.HOLE if self.resumption is None else self.resumption.hole_reason
