"""The congestion window of a leg: slow start and congestion avoidance (RFC 5681), and recovery by selective
acknowledgements if the mirror sends them (RFC 6675), or else by NewReno (RFC 6582).

Its numbers lie in the leg's row. The C gear applies the same rules to them while the leg loses nothing.
"""

from natmirror.fastpath import INITIAL_SEGMENTS, MAX_CWND, SLOW_START_SEGMENTS, LegRow
from natmirror.fastpath.leg_flags import uses_sack
from natmirror.net import seq

_DUPLICATE_ACKS = 3  # RFC 5681 §3.2
_LIMITED_TRANSMIT_ACKS = 2  # RFC 3042 §2


class Congestion:
    """The congestion window of one leg, in bytes. The sender reports events; the answers say when to retransmit."""

    __slots__ = ("_recover", "_timeout_recover", "row")

    def __init__(self, row: LegRow) -> None:
        self.row = row
        row.ssthresh = MAX_CWND
        self._recover: int | None = None  # during recovery: the highest number sent when the loss was noticed
        self._timeout_recover: int | None = None  # duplicates up to this number follow a timeout and show no new loss

    def start(self) -> None:
        """Begin with the initial window, when the connection is established or its path is no longer known."""
        self.row.duplicates = 0
        self._recover = self._timeout_recover = None
        self.row.cwnd = INITIAL_SEGMENTS * self.row.mss

    @property
    def window(self) -> int:
        """The number of bytes that may be in the network."""
        row = self.row
        if uses_sack(row) or self._recover is not None:
            return row.cwnd
        return row.cwnd + min(row.duplicates, _LIMITED_TRANSMIT_ACKS) * row.mss

    @property
    def is_recovering(self) -> bool:
        """Whether lost bytes, which duplicate acknowledgements have shown, are being sent again."""
        return self._recover is not None

    @property
    def is_steady(self) -> bool:
        """Whether no loss is being recovered or suspected."""
        return self._recover is None and self._timeout_recover is None and not self.row.duplicates

    def new_ack(self, acked: int, ack: int, flight: int) -> bool:
        """Take an acknowledgement of ``acked`` new bytes, up to number ``ack``, when ``flight`` bytes were in flight.
        Return whether to retransmit the first segment after them."""
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
            # RFC 6582 §3.2, step 3: a partial acknowledgement deflates the window by the bytes that arrived.
            row.cwnd = max(row.cwnd - acked + (row.mss if acked >= row.mss else 0), row.mss)
            return True
        if self._timeout_recover is not None and not seq.lt(ack, self._timeout_recover):
            self._timeout_recover = None
        self._grow(acked, flight)
        return False

    def duplicate_ack(self, in_flight: int, highest: int, *, lost: bool = False) -> bool:
        """Take a duplicate acknowledgement; return whether to retransmit the first segment. ``highest`` is one past the
        last number sent; ``lost``: the scoreboard counts the first segment as lost."""
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
        """Start again with one segment, because the retransmission timer has expired (RFC 5681 §3.1, equation 4; RFC
        6582 §4)."""
        row = self.row
        if self._timeout_recover is None:
            row.ssthresh = max(in_flight // 2, 2 * row.mss)
        row.cwnd = row.mss
        row.duplicates = 0
        self._recover = None
        self._timeout_recover = highest

    def idle(self) -> None:
        """Fall back to the initial window after a pause longer than the retransmission timeout (RFC 5681 §4.1)."""
        self.row.cwnd = min(self.row.cwnd, INITIAL_SEGMENTS * self.row.mss)

    def _grow(self, acked: int, flight: int) -> None:
        row = self.row
        if row.cwnd < row.ssthresh:
            if 2 * flight >= row.cwnd:  # only a window that is used may grow (RFC 7661 §4.1; the bound is Linux's)
                row.cwnd += min(acked, SLOW_START_SEGMENTS * row.mss)  # RFC 5681 §3.1, equation 2
        elif flight + row.mss >= row.cwnd:
            row.cwnd_acked += acked
            if row.cwnd_acked >= row.cwnd:
                row.cwnd_acked -= row.cwnd
                row.cwnd += row.mss  # one segment for each acknowledged window
        row.cwnd = min(row.cwnd, MAX_CWND)
