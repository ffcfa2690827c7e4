"""A client with timestamps, and a backend that takes exactly what a real TCP receiver takes.

The backend's checks are those of Linux: the sum, a signature for which there is no key, PAWS (RFC 7323 §5.3), the
window (RFC 9293 §3.10.7.4), RST and SYN (RFC 5961 §3 and §4), the acknowledgement (RFC 5961 §5), which its header
prediction leaves out. Receivers differ in the bytes that they keep where segments overlap: see Overlap.
"""

from enum import StrEnum
from typing import Any

from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, FIN, OPT_NOP, OPT_TIMESTAMPS, PSH, RST, SYN, URG, Segment
from tests.helpers.simulator import Peer, World

_PAWS_TOLERANCE = 1  # as in Linux
_PAWS_WRAP = 2147  # seconds: TCP_PAWS_WRAP, as in Linux since 6.7
_MD5 = 19
_DELAYED_SEGMENTS = 2  # an acknowledgement covers at most so many (RFC 9293 §3.8.6.3)


class Overlap(StrEnum):
    """Which bytes a receiver keeps where segments that wait for earlier data overlap."""

    FIRST = "first"
    """Those that came first."""
    LAST = "last"
    """Those that came last."""
    LINUX = "linux"
    """A segment replaces those that it covers whole; elsewhere the one that begins first counts."""


class OutOfOrder:
    """The segments that wait for earlier data, by their offset in the stream."""

    def __init__(self, overlap: Overlap) -> None:
        self._overlap = overlap
        self._pieces: list[tuple[int, bytes]] = []  # in order

    def add(self, at: int, data: bytes) -> None:
        """Add a segment that waits."""
        if self._overlap is Overlap.LINUX:
            self._add_as_linux(at, data)
        elif self._overlap is Overlap.LAST:
            self._cut(at, at + len(data))
            self._pieces = sorted([*self._pieces, (at, data)])
        else:
            new = OutOfOrder(Overlap.LAST)
            new.add(at, data)
            for piece in self._pieces:
                new.add(*piece)
            self._pieces = new._pieces

    def take(self, at: int, data: bytes) -> bytes:
        """Return the bytes that are in order now that ``data`` has come, which begins at the next offset, ``at``."""
        if self._overlap is Overlap.FIRST:
            self.add(at, data)
            data = b""
        else:
            self._cut(0, at + len(data))
        while self._pieces and self._pieces[0][0] <= at + len(data):
            begin, piece = self._pieces.pop(0)
            data += piece[at + len(data) - begin :] if begin + len(piece) > at + len(data) else b""
        return data

    def _cut(self, begin: int, end: int) -> None:
        """Remove the bytes between two offsets."""
        left = []
        for at, data in self._pieces:
            parts = (at, data[: max(begin - at, 0)]), (max(at, end), data[max(end - at, 0) :])
            left += [part for part in parts if part[1]] if at < end and begin < at + len(data) else [(at, data)]
        self._pieces = left

    def _add_as_linux(self, at: int, data: bytes) -> None:
        """Add a segment as tcp_data_queue_ofo() does."""
        end = at + len(data)
        if any(begin <= at and end <= begin + len(piece) for begin, piece in self._pieces):
            return
        self._pieces = sorted(
            [(begin, piece) for begin, piece in self._pieces if not (at <= begin and begin + len(piece) <= end)]
            + [(at, data)]
        )


class Stamped(Peer):
    """A Peer with timestamps, whose clock ticks each millisecond."""

    def __init__(self, world: World, *ends: Any, first_stamp: int, **options: Any) -> None:
        super().__init__(world, *ends, **options)
        self._first_stamp = first_stamp
        self._ts_recent: int | None = None
        self._ts_recent_at = 0  # whole seconds
        self.uses_stamps = self._opened
        self.pauses_after = 0
        """After how many bytes it sends nothing new; 0: never."""

    @property
    def stamp(self) -> int:
        """Its TSval now, never 0: Linux takes such a TS.Recent for none, so that nothing is old."""
        return (self._first_stamp + int(self._world.now * 1000)) & 0xFFFF_FFFF or 1

    def open(self) -> None:
        self.uses_stamps = True
        super().open()

    def receive(self, one: Segment) -> None:
        stamps = one.timestamps()
        if one.flags & SYN:
            self.uses_stamps = stamps is not None
        if stamps is not None and self.uses_stamps:
            self._ts_recent = stamps[0]
        super().receive(one)

    def resume(self) -> None:
        """Send the rest of the stream."""
        self.pauses_after = 0
        self._push()

    def _push(self) -> bool:
        window = self._window
        if self.pauses_after:
            self._window = min(window, seq.diff(seq.add(self._iss, 1 + self.pauses_after), self._una))
        is_sent = super()._push()
        self._window = window
        return is_sent

    def stamps(self) -> bytes:
        """Return its timestamps option as it would send it now; nothing where the connection has none."""
        return stamps_option(self.stamp, self._ts_recent or 0) if self.uses_stamps else b""

    def _options(self, flags: int, payload: bytes) -> bytes:
        return self.stamps() + super()._options(flags, payload)


def stamps_option(value: int, echo: int) -> bytes:
    """Return a timestamps option."""
    numbers = value.to_bytes(4, "big") + echo.to_bytes(4, "big")
    return bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + numbers


class Receiver(Stamped):
    """A backend that takes what a real receiver takes, in ``received``."""

    def __init__(self, world: World, here: Endpoint, there: Endpoint, iss: int, **options: Any) -> None:
        """``overlap``: which bytes it keeps. ``ack_delay``: for how many seconds it delays acknowledgements.
        ``exceeds_window``: whether it takes the whole of a segment that begins within its window, as Linux does.
        ``predicts``: whether it takes the data that is next before it reads the acknowledgement, as Linux does."""
        self._queue = OutOfOrder(options.pop("overlap"))
        self._ack_delay = options.pop("ack_delay")
        self._exceeds_window = options.pop("exceeds_window")
        self._predicts = options.pop("predicts")
        super().__init__(world, here, there, iss, **options)
        self._max_window = 0
        self._acked = 0  # the next number, as it was in the last acknowledgement
        self._unacked_segments = 0
        self._ack_timer = 0
        self._taken = 0  # bytes in order, also those that were left out of ``received``
        self._urgent: int | None = None  # the number of the last urgent byte
        self._fins: set[int] = set()  # the numbers of FINs that wait for earlier data, or have come

    def receive(self, one: Segment) -> None:
        if self.reset or not one.checksum_ok():
            return
        if self._rcv_nxt is None:
            if one.flags & (SYN | ACK | RST) == SYN and _MD5 not in one.options():
                self._open(one)
            return
        reason = self._why_refused(one)
        if reason is None:
            self._take(one)
        elif not one.flags & RST:
            self._acknowledge()

    def _open(self, syn: Segment) -> None:
        """Answer the client's SYN; take no data from it, which only TCP Fast Open does (RFC 7413)."""
        stamps = syn.timestamps()
        self.uses_stamps = stamps is not None
        self._ts_recent = None if stamps is None else stamps[0]
        self._ts_recent_at = int(self._world.now)
        self._take_syn(syn)
        self._note_acked()

    def _why_refused(self, one: Segment) -> str | None:
        """Return why the segment is refused, or None."""
        assert self._rcv_nxt is not None
        if _MD5 in one.options():
            return "signed, but no key is known"  # RFC 2385 §2
        stamps = one.timestamps()
        is_checked = self.uses_stamps and not one.flags & RST and not self._is_disordered_ack(one)
        if stamps is not None and is_checked and self._is_older(stamps[0], _PAWS_TOLERANCE):
            return "old timestamp"
        end = seq.add(one.seq, one.seq_len)
        if seq.lt(end, self._acked) or seq.lt(self._edge, one.seq):
            return "outside of the window"
        if one.flags & RST:
            self.reset = one.seq == self._rcv_nxt
            return "a reset"
        if one.flags & SYN:
            return "a SYN"
        if not one.flags & ACK:
            return "no acknowledgement"
        if seq.lt(self._max, one.ack):
            return "acknowledges what was never sent"
        if seq.lt(one.ack, seq.add(self._una, -self._max_window)) and not self._is_predicted(one):
            return "old acknowledgement"
        if self._una == self._iss and one.ack == self._iss:
            return "before the handshake"
        return None

    def _is_older(self, value: int, tolerance: int) -> bool:
        """Return whether a timestamp lies below TS.Recent (tcp_paws_check())."""
        assert self._ts_recent is not None
        is_forgotten = int(self._world.now) >= self._ts_recent_at + _PAWS_WRAP or self._ts_recent == 0
        return not is_forgotten and seq.diff(self._ts_recent, value) > tolerance

    def _is_disordered_ack(self, one: Segment) -> bool:
        """Return whether the segment is a bare acknowledgement that repeats another, so that Linux takes it with an old
        timestamp (tcp_disordered_ack()). How old that may be is left out."""
        is_bare = one.flags & ACK and not one.seq_len and one.seq == self._rcv_nxt
        is_repeated = one.ack == self._una and one.window << self._their_scale_now <= self._window
        return bool(is_bare and is_repeated)

    def _is_predicted(self, one: Segment) -> bool:
        """Return whether the segment brings just the data that is next, with the window as it was. Linux appends it at
        once (tcp_rcv_established())."""
        is_plain = one.flags & ~PSH == ACK and one.window << self._their_scale_now == self._window
        return self._predicts and is_plain and one.seq == self._rcv_nxt and not self._queue._pieces

    @property
    def _edge(self) -> int:
        """The right edge of the window that it has offered."""
        return seq.add(self._acked, self.room)

    def _take(self, one: Segment) -> None:
        stamps = one.timestamps()
        is_next = stamps is not None and self.uses_stamps and seq.le(one.seq, self._acked)
        if stamps is not None and is_next and not self._is_older(stamps[0], 0):
            self._ts_recent, self._ts_recent_at = stamps[0], int(self._world.now)
        self._max_window = max(self._max_window, one.window << self._their_scale_now)
        if seq.lt(self._una, one.ack):
            self._una = one.ack
            self._arm()
        if one.ack == self._una:
            self._window = one.window << self._their_scale_now
        in_order = self._take_bytes(one)
        if self._push():
            self._note_acked()
        elif one.seq_len:
            self._unacked_segments += 1
            if in_order and self._ack_delay and self._unacked_segments < _DELAYED_SEGMENTS:
                self._delay_acknowledgement()
            else:
                self._acknowledge()

    @property
    def _their_scale_now(self) -> int:
        return self._their_scale if self._scaled else 0

    def _take_bytes(self, one: Segment) -> bool:
        """Take the segment's data and FIN; return whether they are in order and nothing waits."""
        assert self._rcv_nxt is not None
        payload, at = one.payload, seq.diff(one.seq, self._rcv_nxt)
        if one.flags & URG:
            self._note_urgent(seq.add(one.seq, _urgent_pointer(one) - 1))
        if one.flags & FIN:
            self._fins.add(seq.add(one.seq, len(payload)))
        if self.closed_by_peer or at + len(payload) < 0 or (payload and at >= seq.diff(self._edge, self._rcv_nxt)):
            return False
        if not self._exceeds_window:
            payload = payload[: max(seq.diff(self._edge, one.seq), 0)]
        if at > 0:
            if payload:
                self._queue.add(self._taken + at, payload)
        elif len(payload) + at > 0:
            new = self._queue.take(self._taken, payload[-at:])
            urgent = len(new) if self._urgent is None else seq.diff(self._urgent, self._rcv_nxt)
            self.received += new[:urgent] + new[urgent + 1 :] if 0 <= urgent < len(new) else new
            self._taken += len(new)
            self._rcv_nxt = seq.add(self._rcv_nxt, len(new))
        if self._rcv_nxt in self._fins:
            self._rcv_nxt = seq.add(self._rcv_nxt, 1)
            self.closed_by_peer = True
        return at <= 0 and not self._queue._pieces and not one.flags & FIN

    def _note_urgent(self, number: int) -> None:
        """Note an urgent byte, which the application gets apart from the stream (tcp_check_urg())."""
        assert self._rcv_nxt is not None
        if seq.le(self._rcv_nxt, number):
            self._urgent = number

    # Acknowledgements

    def _acknowledge(self) -> None:
        self._emit(self._max, ACK)
        self._note_acked()

    def _note_acked(self) -> None:
        if self._rcv_nxt is not None:
            self._acked = self._rcv_nxt
        self._unacked_segments = 0
        self._ack_timer += 1

    def _delay_acknowledgement(self) -> None:
        timer = self._ack_timer
        self._world.later(self._ack_delay, lambda: self._acknowledge() if timer == self._ack_timer else None)


def _urgent_pointer(one: Segment) -> int:
    """Return a segment's urgent pointer. Linux takes 0 for 1, the byte at the segment's number."""
    at = one.ip_len + 18
    return int.from_bytes(one.raw[at : at + 2], "big") or 1
