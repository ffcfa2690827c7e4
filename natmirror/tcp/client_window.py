"""Throttles a client for mirrors that are slower than its backend, by the window that the client sees.

Theory. A backend's acknowledgement offers the right edge of its receive window, ack + (window << scale). We cut that
edge to ``hold``, the number up to which the slowest throttling leg has room: its snd_una plus its buffer. An edge that
the client has seen never moves back (RFC 9293 §3.8.6 strongly discourages shrinking the window). Rounding down to the
window's scale would move it back a little with each acknowledgement, so we round up where necessary: an edge may lie up
to slack_of() bytes past ``hold``. Once that slack is used up, after thousands of acknowledgements without progress of
the mirror or with a scale above nine, the edge moves back by less than one unit, which RFC 7323 §2.4 expects.
"""

from natmirror.net import seq
from natmirror.net.packet import ACK, OPT_NOP, OPT_TIMESTAMPS, RST, SYN, Segment

_MIN_SLACK, _SLACK_SHARE = 0x10000, 4
_UPDATE_SHARE, _UPDATE_MAX = 4, 0x10000  # send a window update for a quarter of the buffer, or 64 KiB
_SEGMENT_LEN = 0x2400  # a jumbo frame's; a sender waits if it has room for less (RFC 9293 §3.8.6.2.1)


def slack_of(buffer: int) -> int:
    """Return the number of bytes by which the window that a client sees may exceed a leg's ``buffer``."""
    return max(_MIN_SLACK, buffer // _SLACK_SHARE)


class ClientWindow:
    """The window that one flow's client sees. ``hold`` only moves forwards."""

    def __init__(self, hold: int, buffer: int) -> None:
        self.hold = hold
        self.shown = hold
        """The right edge that the client has seen; ``hold`` before the first one."""
        self._slack = slack_of(buffer)
        self._worth_an_update = min(buffer // _UPDATE_SHARE, _UPDATE_MAX)
        self._has_shown = False
        self._timestamps = b""

    def window(self, segment: Segment, scale: int) -> int:
        """Return the window field for the client in a segment of its backend, whose windows are shifted by
        ``scale``."""
        if not segment.flags & ACK or segment.flags & RST:
            return segment.window
        self._timestamps = segment.options().get(OPT_TIMESTAMPS, self._timestamps)
        return self.cut(segment.ack, segment.window, 0 if segment.flags & SYN else scale)

    def cut(self, ack: int, window: int, scale: int) -> int:
        """Return the window field for an acknowledgement of ``ack``, in place of the backend's ``window``."""
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
        """Return whether the client, which has sent up to ``end``, waits for our window although its backend has
        offered more, up to ``edge``."""
        return self._has_shown and seq.lt(self.shown, edge) and seq.diff(self.shown, end) < _SEGMENT_LEN

    def is_update_due(self, end: int, edge: int) -> bool:
        """Return whether the room exceeds the window that the client has seen by so much that a window update is due
        (RFC 9293 §3.8.6.2.2).

        An update is also due if the whole window of the backend fits, however small it is: no larger one will follow.
        """
        reachable = self.hold if seq.lt(self.hold, edge) else edge
        room = seq.diff(reachable, self.shown)
        if room <= 0 or not self._has_shown:
            return False
        return room >= self._worth_an_update or (reachable == edge and self.is_used_up(end, edge))

    def options(self) -> bytes:
        """Return the options of an acknowledgement that we synthesise: the backend's latest timestamps, if the
        connection uses them (RFC 7323 §3.2)."""
        if len(self._timestamps) != 8:
            return b""
        return bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + self._timestamps
