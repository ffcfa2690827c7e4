"""The congestion window of a leg: slow start and congestion avoidance (RFC 5681), recovery by NewReno (RFC 6582) or,
where the mirror sends selective acknowledgements, by these (RFC 6675).

Its numbers lie in the leg's row, where the C gear keeps the same rules for a leg that loses nothing.
"""

from natmirror.fastpath import INITIAL_SEGMENTS, MAX_CWND, SLOW_START_SEGMENTS, LegRow
from natmirror.fastpath.leg_flags import uses_sack
from natmirror.net import seq

_DUPLICATE_ACKS = 3  # RFC 5681 §3.2
_LIMITED_TRANSMIT_ACKS = 2  # RFC 3042 §2


class Congestion:
    """How much may be in flight: ``window``, in bytes. Its methods take what has happened, and return when to
    retransmit."""

    __slots__ = ("_recover", "_timeout_recover", "row")

    def __init__(self, row: LegRow) -> None:
        self.row = row
        row.ssthresh = MAX_CWND
        self._recover: int | None = None  # while recovering: the highest number sent when the loss was seen
        self._timeout_recover: int | None = None  # duplicates up to here follow a timeout, not another loss

    def start(self) -> None:
        """Begin with the initial window: the connection is established, or nothing is known of its path any more."""
        self.row.duplicates = 0
        self._recover = self._timeout_recover = None
        self.row.cwnd = INITIAL_SEGMENTS * self.row.mss

    @property
    def window(self) -> int:
        """Bytes that may be in the network."""
        row = self.row
        if uses_sack(row) or self._recover is not None:
            return row.cwnd
        return row.cwnd + min(row.duplicates, _LIMITED_TRANSMIT_ACKS) * row.mss

    @property
    def recovering(self) -> bool:
        """Whether losses are being mended since duplicate acknowledgements told of them."""
        return self._recover is not None

    @property
    def is_steady(self) -> bool:
        """Whether nothing was lost lately."""
        return self._recover is None and self._timeout_recover is None and not self.row.duplicates

    def new_ack(self, acked: int, ack: int, flight: int) -> bool:
        """Take an acknowledgement of ``acked`` new bytes, up to number ``ack``, of ``flight`` in flight; return whether
        to retransmit the first segment after them."""
        row = self.row
        row.duplicates = 0
        if self._recover is not None:
            if not seq.lt(ack, self._recover):
                left = flight - acked
                row.cwnd = row.ssthresh if uses_sack(row) else min(row.ssthresh, max(left, row.mss) + row.mss)
                self._recover = None
                return False
            if uses_sack(row):
                return False
            # RFC 6582 §3.2, step 3: a partial acknowledgement; the window is deflated by what arrived
            row.cwnd = max(row.cwnd - acked + (row.mss if acked >= row.mss else 0), row.mss)
            return True
        if self._timeout_recover is not None and not seq.lt(ack, self._timeout_recover):
            self._timeout_recover = None
        self._grow(acked, flight)
        return False

    def duplicate_ack(self, in_flight: int, highest: int, *, lost: bool = False) -> bool:
        """Take a duplicate acknowledgement; return whether to retransmit the first segment. ``highest`` is one past the
        last number sent; ``lost`` is what the scoreboard says of the first segment."""
        row = self.row
        if self._recover is not None:
            if not uses_sack(row):
                row.cwnd = min(row.cwnd + row.mss, MAX_CWND)
            return False
        row.duplicates += 1
        if self._timeout_recover is not None or not (lost or row.duplicates >= _DUPLICATE_ACKS):
            return False
        row.ssthresh = max(in_flight // 2, 2 * row.mss)
        row.cwnd = row.ssthresh + (0 if uses_sack(row) else _DUPLICATE_ACKS * row.mss)
        self._recover = highest
        return True

    def timeout(self, in_flight: int, highest: int) -> None:
        """Begin again with one segment: the retransmission timer has expired (RFC 5681 §3.1, equation 4; RFC 6582
        §4)."""
        row = self.row
        if self._timeout_recover is None:
            row.ssthresh = max(in_flight // 2, 2 * row.mss)
        row.cwnd = row.mss
        row.duplicates = 0
        self._recover = None
        self._timeout_recover = highest

    def idle(self) -> None:
        """Fall back to the initial window: nothing was sent for longer than a retransmission timeout (RFC 5681
        §4.1)."""
        self.row.cwnd = min(self.row.cwnd, INITIAL_SEGMENTS * self.row.mss)

    def _grow(self, acked: int, flight: int) -> None:
        row = self.row
        if row.cwnd < row.ssthresh:
            if 2 * flight >= row.cwnd:  # only what is used may grow (RFC 7661 §4.1; the bound is Linux's)
                row.cwnd += min(acked, SLOW_START_SEGMENTS * row.mss)  # RFC 5681 §3.1, equation 2
        elif flight + row.mss >= row.cwnd:
            row.cwnd_acked += acked
            if row.cwnd_acked >= row.cwnd:
                row.cwnd_acked -= row.cwnd
                row.cwnd += row.mss  # a segment for each window acknowledged
        row.cwnd = min(row.cwnd, MAX_CWND)
