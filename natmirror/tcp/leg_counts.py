"""The counts and times of a leg, which its row has: the leg's own row, or a copy of it that any thread may read."""

from natmirror.fastpath.rows import LegRow
from natmirror.net import seq
from natmirror.tcp import retransmit_timer


def in_flight(row: LegRow) -> int:
    """Return the number of sequence numbers that were sent and not acknowledged."""
    return seq.diff(row.snd_nxt, row.snd_una)


class LegCounts:
    """Reads ``row``. LegNumbers is one, with the leg's own row; LegCopy has a copy."""

    __slots__ = ()

    row: LegRow

    @property
    def in_flight_bytes(self) -> int:
        """The number of sequence numbers that an open leg has sent and that were not acknowledged."""
        return in_flight(self.row)

    @property
    def lag_bytes(self) -> int:
        """Bytes of the client's stream that the mirror has not acknowledged."""
        return self.row.buffered

    @property
    def sent_bytes(self) -> int:
        """Bytes of the client's stream that were sent, each counted once."""
        return self.row.sent_bytes

    @property
    def acked_bytes(self) -> int:
        """Bytes of the client's stream that the mirror has acknowledged."""
        return self.row.acked_bytes

    @property
    def consumed_bytes(self) -> int:
        """Bytes from the mirror that were acknowledged and discarded."""
        return self.row.consumed_bytes

    @property
    def retransmits(self) -> int:
        """The number of segments that were sent again."""
        return self.row.retransmits

    @property
    def timeouts(self) -> int:
        """The number of times that the retransmission timer expired."""
        return self.row.timeouts

    @property
    def rtt_seconds(self) -> float | None:
        """The smoothed round-trip time to the mirror; None before the first sample."""
        return retransmit_timer.smoothed(self.row)

    def lag_seconds(self, now: float) -> float:
        """Return the age of the oldest byte that the mirror has not acknowledged, in seconds, or up to an eighth more;
        0 if there is none."""
        return now - self.row.mark_at[0] if self.row.mark_count else 0.0


class LegCopy(LegCounts):
    """The counts in a copy of a leg's row."""

    __slots__ = ("row",)

    def __init__(self, row: LegRow) -> None:
        self.row = row
