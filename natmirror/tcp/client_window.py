"""Holding a client back for mirrors that are slower than its backend, by the window that it is shown.

Theory. A backend's acknowledgement offers its receive window's right edge, ack + (window << scale). Here it is cut to
``hold``, the number up to which the slowest throttling leg has room: its snd_una plus its buffer. What the client has
been shown is not taken back (RFC 9293 §3.8.6: "shrinking the window" is strongly discouraged), though rounding to the
client's scale would take back a little with each acknowledgement; so edges are rounded up where they have to be, and
may lie up to slack_of() past ``hold``. Where even that is used up, which takes thousands of acknowledgements without
any progress of the mirror's, or a scale above nine, less than one unit is taken back, as RFC 7323 §2.4 expects.
"""

from natmirror.net import seq
from natmirror.net.packet import ACK, OPT_NOP, OPT_TIMESTAMPS, RST, SYN, Segment

_MIN_SLACK, _SLACK_SHARE = 0x10000, 4
_UPDATE_SHARE, _UPDATE_MAX = 4, 0x10000  # room that is worth a packet: a quarter of the buffer, at most 64 KiB
_SEGMENT_LEN = 0x2400  # a jumbo frame's: a sender with room for less than a segment waits (RFC 9293 §3.8.6.2.1)


def slack_of(buffer: int) -> int:
    """Return how far past a leg's ``buffer`` a client may be shown a window, in bytes."""
    return max(_MIN_SLACK, buffer // _SLACK_SHARE)


class ClientWindow:
    """The window that one flow's client is shown. ``hold`` moves forwards only."""

    def __init__(self, hold: int, buffer: int) -> None:
        self.hold = hold
        self.shown = hold
        """The right edge that the client has been shown; ``hold`` as long as it was shown none."""
        self._slack = slack_of(buffer)
        self._worth_an_update = min(buffer // _UPDATE_SHARE, _UPDATE_MAX)
        self._has_shown = False
        self._timestamps = b""

    def window(self, segment: Segment, scale: int) -> int:
        """Return the window field that the client is to see in a segment of its backend's, whose windows are scaled by
        ``scale``."""
        if not segment.flags & ACK or segment.flags & RST:
            return segment.window
        self._timestamps = segment.options().get(OPT_TIMESTAMPS, self._timestamps)
        return self.cut(segment.ack, segment.window, 0 if segment.flags & SYN else scale)

    def cut(self, ack: int, window: int, scale: int) -> int:
        """Return the window field to show with an acknowledgement of ``ack``, in place of ``window``."""
        if seq.lt(self.hold, seq.add(ack, window << scale)):
            room = seq.diff(self.hold, ack) >> scale
            if self._has_shown and seq.lt(seq.add(ack, room << scale), self.shown):
                room = -(-seq.diff(self.shown, ack) >> scale)
            most = seq.diff(seq.add(self.hold, self._slack), ack) >> scale
            window = max(0, min(room, most, window))
        edge = seq.add(ack, window << scale)
        self.shown = seq.latest(self.shown, edge) if self._has_shown else edge
        self._has_shown = True
        return window

    def is_used_up(self, end: int, edge: int) -> bool:
        """Return whether the client, which has sent up to ``end``, waits for us and not for its backend, which has
        offered up to ``edge``."""
        return self._has_shown and seq.lt(self.shown, edge) and seq.diff(self.shown, end) < _SEGMENT_LEN

    def is_update_due(self, end: int, edge: int) -> bool:
        """Return whether there is so much more room than the client knows of that a window update is due (RFC 9293
        §3.8.6.2.2).

        To a client that waits, all that its backend has offered is worth a packet: there is no more to come.
        """
        reachable = self.hold if seq.lt(self.hold, edge) else edge
        room = seq.diff(reachable, self.shown)
        if room <= 0 or not self._has_shown:
            return False
        return room >= self._worth_an_update or (reachable == edge and self.is_used_up(end, edge))

    def options(self) -> bytes:
        """Return the options of a synthesised acknowledgement: the backend's latest timestamps, where the connection
        uses them (RFC 7323 §3.2)."""
        if len(self._timestamps) != 8:
            return b""
        return bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + self._timestamps
