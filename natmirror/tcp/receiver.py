"""The receiving half of a leg: what the mirror sends is acknowledged, counted and thrown away (RFC 9293 §3.10.7.4).

Only numbers are kept of it: what came ahead of its turn needs not come again.
"""

from natmirror.fastpath import LEG_WINDOW, LegRow
from natmirror.net import seq
from natmirror.net.packet import FIN, OPT_NOP, OPT_SACK, RST, SYN, Segment
from natmirror.net.ranges import Ranges

SCALE = 7
"""The shift of the window that a leg offers (LEG_WINDOW): wide, and never closed, for all that is received is consumed
at once."""

_MAX_BLOCKS = 4  # what fits into a header without other options (RFC 2018 §3)


class Receiver:
    """How far the mirror's own stream has come: ``row.rcv_nxt`` and ``row.consumed_bytes`` of the leg's row."""

    __slots__ = ("_ahead", "_fin", "_latest", "row")

    def __init__(self, row: LegRow) -> None:
        self.row = row
        self._ahead = Ranges()
        self._latest = 0  # within the range that came last, which is reported first (RFC 2018 §4)
        self._fin: int | None = None

    def start(self, irs: int) -> None:
        """Begin with the mirror's initial number."""
        self.row.rcv_nxt = seq.add(irs, 1)

    @property
    def is_steady(self) -> bool:
        """Whether nothing waits, and the mirror's stream has not ended."""
        return not self._ahead and self._fin is None

    @property
    def finished(self) -> bool:
        """Whether the mirror's FIN and all before it have come."""
        return self._fin is not None and self.row.rcv_nxt == seq.add(self._fin, 1)

    def is_in_window(self, segment: Segment) -> bool:
        """Return whether a segment is acceptable by the test of RFC 9293 §3.4."""
        window = LEG_WINDOW << SCALE
        first = seq.diff(segment.seq, self.row.rcv_nxt)
        last = first + max(segment.seq_len, 1) - 1
        return 0 <= first < window or (segment.seq_len > 0 and 0 <= last < window)

    def take(self, segment: Segment, *, keeps_order: bool = False) -> bytes:
        """Take the data and FIN of an acceptable segment, in its turn or ahead of it.

        With ``keeps_order`` the bytes themselves count: return those that are new, and leave out what comes ahead of
        its turn, which the mirror has to send again.
        """
        if self.finished or segment.flags & (SYN | RST):
            return b""
        if keeps_order and seq.lt(self.row.rcv_nxt, segment.seq):
            return b""
        end = seq.add(segment.seq, segment.payload_len)
        if segment.flags & FIN and self._fin is None:
            self._fin = end
        start = seq.latest(segment.seq, self.row.rcv_nxt)
        if self._ahead.add(start, end):
            self._latest = start
        at, _ = self._ahead.gap(self.row.rcv_nxt)
        self.row.consumed_bytes += seq.diff(at, self.row.rcv_nxt)
        self.row.rcv_nxt = at
        self._ahead.cut(at)
        is_fresh = keeps_order and seq.lt(start, at)
        fresh = segment.payload[seq.diff(start, segment.seq) :] if is_fresh else b""
        if self._fin == self.row.rcv_nxt:
            self.row.rcv_nxt = seq.add(self.row.rcv_nxt, 1)
        return fresh

    def sack_option(self) -> bytes:
        """Return the option that reports what came ahead of its turn; empty where nothing has (RFC 2018 §3, §4)."""
        blocks = [one for one in self._ahead if seq.le(one[0], self._latest) and seq.lt(self._latest, one[1])]
        blocks += [one for one in self._ahead if one not in blocks]
        blocks = blocks[:_MAX_BLOCKS]
        if not blocks:
            return b""
        numbers = b"".join(number.to_bytes(4, "big") for block in blocks for number in block)
        return bytes((OPT_NOP, OPT_NOP, OPT_SACK, 2 + len(numbers))) + numbers
