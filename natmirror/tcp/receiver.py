"""The receiving half of a leg: it acknowledges, counts and discards the mirror's data (RFC 9293 §3.10.7.4).

It keeps only the sequence numbers of out-of-order data, so that the mirror need not send that data again.
"""

from natmirror.fastpath import LEG_WINDOW, LegRow
from natmirror.net import seq
from natmirror.net.packet import FIN, OPT_NOP, OPT_SACK, RST, SYN, Segment
from natmirror.net.ranges import Ranges

SCALE = 7
"""The shift of the window that a leg offers, LEG_WINDOW. The window is wide and never closes, because received data is
discarded at once."""

_MAX_BLOCKS = 4  # so many fit into a header without other options (RFC 2018 §3)


class Receiver:
    """The position in the mirror's own stream: ``rcv_nxt`` and ``consumed_bytes`` in the leg's row."""

    __slots__ = ("_ahead", "_fin", "_latest", "row")

    def __init__(self, row: LegRow) -> None:
        self.row = row
        self._ahead = Ranges()
        self._latest = 0  # a number in the range that arrived last, which is reported first (RFC 2018 §4)
        self._fin: int | None = None

    def start(self, irs: int) -> None:
        """Begin with the mirror's initial sequence number."""
        self.row.rcv_nxt = seq.add(irs, 1)

    @property
    def is_steady(self) -> bool:
        """Whether there is no out-of-order data, and the mirror has sent no FIN."""
        return not self._ahead and self._fin is None

    @property
    def is_finished(self) -> bool:
        """Whether the mirror's FIN and all data before it have arrived."""
        return self._fin is not None and self.row.rcv_nxt == seq.add(self._fin, 1)

    def is_in_window(self, segment: Segment) -> bool:
        """Return whether a segment is acceptable by the test of RFC 9293 §3.4."""
        window = LEG_WINDOW << SCALE
        first = seq.diff(segment.seq, self.row.rcv_nxt)
        last = first + max(segment.seq_len, 1) - 1
        return 0 <= first < window or (segment.seq_len > 0 and 0 <= last < window)

    def take(self, segment: Segment, *, keeps_order: bool = False) -> bytes:
        """Take the data and FIN of an acceptable segment, in order or not.

        With ``keeps_order`` the bytes themselves matter: return the new ones, and ignore an out-of-order segment, which
        the mirror has to send again.
        """
        if self.is_finished or segment.flags & (SYN | RST):
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
        has_new = keeps_order and seq.lt(start, at)
        new = segment.payload[seq.diff(start, segment.seq) :] if has_new else b""
        if self._fin == self.row.rcv_nxt:
            self.row.rcv_nxt = seq.add(self.row.rcv_nxt, 1)
        return new

    def sack_option(self) -> bytes:
        """Return the SACK option, which reports out-of-order data; empty if there is none (RFC 2018 §3, §4)."""
        blocks = [one for one in self._ahead if seq.le(one[0], self._latest) and seq.lt(self._latest, one[1])]
        blocks += [one for one in self._ahead if one not in blocks]
        blocks = blocks[:_MAX_BLOCKS]
        if not blocks:
            return b""
        numbers = b"".join(number.to_bytes(4, "big") for block in blocks for number in block)
        return bytes((OPT_NOP, OPT_NOP, OPT_SACK, 2 + len(numbers))) + numbers
