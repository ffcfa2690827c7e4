"""The sending half of a leg: it buffers the client's bytes that the mirror has not acknowledged, and decides when to
send them.

Theory. ``snd_una`` <= ``snd_nxt`` <= ``snd_max``: the first unacknowledged number, the next one to send, and one past
the highest that was ever sent. After a timeout ``snd_nxt`` falls back to ``snd_una``, and all bytes from there count as
lost, except those that the mirror has reported in selective acknowledgements. The bytes from ``buffer_seq`` on are
buffered. All these numbers lie in the leg's row, and the C gear moves them by the same rules while ``is_steady``.
"""

from collections.abc import Iterable

from natmirror.fastpath import LEG_MAX_SEGMENTS, NEVER, RTO_MAX, LegRow, LegTable
from natmirror.fastpath.leg_flags import is_steady, set_sack, set_steady, uses_sack
from natmirror.net import seq
from natmirror.net.packet import ACK, FIN, MAX_PACKET_LEN, PSH
from natmirror.tcp import retransmit_timer
from natmirror.tcp.congestion import Congestion
from natmirror.tcp.leg_counts import in_flight
from natmirror.tcp.path_mtu import narrow, path_mss
from natmirror.tcp.sack import Scoreboard

Piece = tuple[int, int, bytes]
"""A packet to send: sequence number, flags, data. The kernel cuts data that does not fit into one segment."""

_MAX_DATA_LEN = MAX_PACKET_LEN - 40
_MAX_RESENT = 32  # packets that one call sends again; each costs Python as much time as a large one


class Sender:
    """One stream to a mirror. Methods that take ``now`` (seconds) return the packets to send."""

    __slots__ = (
        *("_congestion", "_probe_interval", "_report", "_scoreboard", "_table"),
        *("is_finishing", "probe_at", "row"),
    )

    def __init__(self, table: LegTable, row: LegRow, iss: int) -> None:
        self.row = row
        row.snd_una = row.snd_nxt = row.snd_max = iss
        row.buffer_seq = seq.add(iss, 1)
        retransmit_timer.reset(row)
        self.probe_at = NEVER
        self.is_finishing = False
        """Whether the stream is complete: a FIN follows the last byte."""
        self._table = table
        self._congestion = Congestion(row)
        self._scoreboard = Scoreboard(iss)
        self._probe_interval = 0.0
        self._report: tuple[int, int] | None = None  # a router's: the number that it quotes, the segment size in bytes

    # The stream

    @property
    def in_flight(self) -> int:
        """The number of sequence numbers that were sent and not acknowledged."""
        return in_flight(self.row)

    @property
    def has_outstanding(self) -> bool:
        """Whether the mirror has bytes or a FIN left to acknowledge."""
        return bool(self.row.buffered) or self.row.snd_una != self.row.snd_max

    @property
    def is_steady(self) -> bool:
        """Whether no loss, window probe or FIN is pending."""
        row = self.row
        is_idle = self.probe_at == NEVER and not self.is_finishing and not self._scoreboard
        return is_idle and self._congestion.is_steady and row.window > 0 and row.snd_nxt == row.snd_max

    @property
    def is_fin_sent(self) -> bool:
        """Whether a FIN was ever sent."""
        return seq.lt(self.end, self.row.snd_max)

    @property
    def is_fin_acked(self) -> bool:
        """Whether the mirror has acknowledged everything, including the FIN."""
        return self.is_fin_sent and self.row.snd_una == self.row.snd_max

    @property
    def acceptable_seq(self) -> int:
        """The sequence number of a segment without data, as in Linux: the next one, or the window's edge if the window
        has shrunk below it, because the mirror would refuse a segment outside its window."""
        edge = seq.add(self.row.snd_una, self.row.window)
        return self.row.snd_max if seq.le(self.row.snd_max, edge) else edge

    @property
    def end(self) -> int:
        """One past the last byte that was written."""
        return seq.add(self.row.buffer_seq, self.row.buffered)

    def write(self, data: bytes, now: float) -> bool:
        """Take the next bytes of the stream; return False if there is no memory for them."""
        if not self.has_outstanding:
            self.row.progress_at = now
        return self._table.append(self.row, data, now)

    def reclaim(self) -> None:
        """Take the leg back from the C gear, which handles a leg only while it loses nothing."""
        if is_steady(self.row):
            set_steady(self.row, False)
            self._scoreboard.forget_resent(self.row.snd_una)

    def retire(self, row: LegRow) -> None:
        """Stop all timers, because the leg has ended; ``row`` is a copy of its row in the table."""
        self.row = self._congestion.row = row
        retransmit_timer.stop(self.row)
        self.probe_at = NEVER

    # The mirror's side

    def start(self, ack: int, window: int, *, sack: bool, now: float) -> None:
        """Begin to send: the SYN is acknowledged. ``window`` is the window field of the SYN-ACK, in bytes."""
        row = self.row
        row.snd_una = ack
        row.window = row.max_window = window
        set_sack(row, sack)
        self._congestion.start()
        self._take_sample(ack, now)
        retransmit_timer.stop(row)
        row.progress_at = row.sent_at = now

    def is_acceptable(self, ack: int) -> bool:
        """Return whether an acknowledgement number is plausible (RFC 5961 §5.2)."""
        return seq.le(ack, self.row.snd_max) and seq.diff(self.row.snd_una, ack) <= self.row.max_window

    def take_ack(
        self, ack: int, window: int, blocks: Iterable[tuple[int, int]], *, bare: bool, now: float
    ) -> list[Piece]:
        """Take an acceptable acknowledgement; ``bare``: its segment has no data and no FIN."""
        row = self.row
        acked = seq.diff(ack, row.snd_una)
        if acked < 0:
            return []  # an old duplicate, and so is its window
        flight = self.in_flight
        if acked:
            self._advance(ack, now)
        has_sack = uses_sack(row)
        is_new = self._scoreboard.take(blocks if has_sack else (), row.snd_una, row.snd_max, row.mss)
        if acked:
            resend = self._congestion.new_ack(acked, ack, flight)
        else:
            duplicate = is_new if has_sack else bare and flight > 0 and window == row.window  # RFC 6675 §2; 5681 §2
            lost = self._scoreboard.is_lost(row.snd_una)
            resend = duplicate and self._congestion.duplicate_ack(flight, row.snd_max, lost=lost)
        row.window = window
        row.max_window = max(row.max_window, window)
        if window:
            self.probe_at = NEVER
        out = [self._resend_first(now)] if resend and self.has_outstanding else []
        return out + self.output(now)

    def skip(self, ack: int, now: float) -> None:
        """Skip to number ``ack``, with nothing in flight: the mirror has everything before it from the other host."""
        row = self.row
        row.acked_bytes += seq.diff(ack, row.snd_una)
        self._table.drop(row, min(seq.diff(ack, row.buffer_seq), row.buffered), ack)
        row.buffer_seq = row.snd_una = row.snd_nxt = row.snd_max = ack
        row.progress_at = row.sent_at = now
        retransmit_timer.forget_sample(row)
        retransmit_timer.stop(row)
        self._scoreboard.forget()
        self._scoreboard.forget_resent(ack)
        self._congestion.start()

    def note_foreign_fin(self) -> None:
        """Count the last acknowledged number as the FIN, which the other host has sent."""
        self.row.buffer_seq = seq.add(self.row.snd_una, -1)
        self.is_finishing = True

    def note_path_mtu(self, mtu: int, number: int) -> None:
        """Note a router's report that the segment with this number exceeds the path's MTU, in bytes. Of several
        reports, keep the one about the first segment, because the timer's expiry confirms no other."""
        size = path_mss(mtu)
        if not self._is_in_flight(number) or size >= self.row.mss:
            return
        if self._report is None or not self._is_in_flight(self._report[0]) or seq.le(number, self._report[0]):
            self._report = number, size

    def _is_in_flight(self, number: int) -> bool:
        return seq.le(self.row.snd_una, number) and seq.lt(number, self.row.snd_max)

    # Sending

    def output(self, now: float) -> list[Piece]:
        """Send what the mirror's window and the congestion window allow (RFC 9293 §3.8.6.2): lost bytes first, then new
        ones, then the FIN. Nagle's algorithm is not used, so that the client's pauses are kept. If one call cannot send
        all of it, the rest is due at ``row.more_at``."""
        row = self.row
        row.more_at = NEVER
        if row.buffered and not self.in_flight and now - row.sent_at > row.rto:
            self._congestion.idle()
        pipe = self._scoreboard.pipe(row.snd_una, row.snd_nxt)
        out = self._resend_lost(pipe, now) if self._congestion.is_recovering else []
        if row.more_at != NEVER:
            return out
        pipe += sum(len(data) for _, _, data in out)
        end = self.end
        limit = seq.add(row.snd_una, row.window)
        allowed = LEG_MAX_SEGMENTS * row.mss
        while True:
            again = seq.lt(row.snd_nxt, row.snd_max)
            gap = None
            if again:
                row.snd_nxt, gap = self._scoreboard.skip(row.snd_nxt)
                again = seq.lt(row.snd_nxt, row.snd_max)
            left = seq.diff(end, row.snd_nxt)
            room = min(seq.diff(limit, row.snd_nxt), self._congestion.window - pipe)
            size = min(left, room)
            if size <= 0:
                break
            if allowed < row.mss or (again and len(out) >= _MAX_RESENT):
                row.more_at = now
                break
            if size == left <= allowed and not again:
                size = _part_of(left)
            else:
                size = min(size, allowed, row.mss if again else _MAX_DATA_LEN, left if gap is None else gap)
                if size < left and size != gap:
                    if size < row.mss and self.in_flight > 0:
                        break  # RFC 9293 §3.8.6.2.1 avoids silly windows
                    if size > row.mss:
                        size -= size % row.mss
            out.append(self._next(size, now))
            pipe += size
            allowed -= size
        if not out and self._congestion.is_recovering:
            out += self._resend_lost(pipe, now, likely=True)
        if left <= 0:
            out += self._output_fin(end, now)
        elif not row.window and not self.in_flight and self.probe_at == NEVER:
            self._probe_interval = row.rto
            self.probe_at = now + self._probe_interval
        return out

    def time_out(self, now: float) -> list[Piece]:
        """Count all bytes in flight as lost, because the retransmission timer has expired (RFC 6298 §5.4-5.7). If the
        first of them is the segment that a router reported, narrow the leg (path_mtu.py)."""
        if self._report is not None and self._report[0] == self.row.snd_una:
            narrow(self.row, self._report[1], now)
            self._report = None
        retransmit_timer.back_off(self.row, now)
        self.row.timeouts += 1
        self._congestion.timeout(self.in_flight, self.row.snd_max)
        self._scoreboard.forget()
        self._fall_back()
        out = self.output(now)
        if not out and self.has_outstanding:
            out.append(self._resend_first(now))  # the window has closed meanwhile
        return out

    def probe(self, now: float) -> Piece:
        """Return a window probe. As in Linux its number lies below the window, which makes any TCP answer (RFC 9293
        §3.8.6.1)."""
        self._probe_interval = min(self._probe_interval * 2, RTO_MAX)
        self.probe_at = now + self._probe_interval
        return seq.add(self.row.snd_una, -1), ACK, b""

    def _resend_lost(self, pipe: int, now: float, *, likely: bool = False) -> list[Piece]:
        """Send again what the scoreboard counts as lost, or as ``likely`` lost, as far as the congestion window allows
        (RFC 6675 §5, step C)."""
        out: list[Piece] = []
        while pipe + self.row.mss <= self._congestion.window:
            hole = self._scoreboard.next_hole(self.row.snd_una, self.row.mss, likely=likely)
            if hole is None:
                break
            if len(out) >= _MAX_RESENT:
                self.row.more_at = NEVER if likely else now  # likely losses wait for the next acknowledgement
                break
            out.append(self._resend(*hole, now))
            pipe += hole[1]
        return out

    def _next(self, size: int, now: float) -> Piece:
        """Send the next ``size`` bytes, which may have been sent before."""
        row = self.row
        at = row.snd_nxt
        row.snd_nxt = seq.add(at, size)
        if seq.lt(row.snd_max, row.snd_nxt):
            row.sent_bytes += seq.diff(row.snd_nxt, seq.latest(at, row.snd_max))
        again = seq.lt(at, row.snd_max)
        row.snd_max = seq.latest(row.snd_max, row.snd_nxt)
        if again:
            return self._resend(at, size, now)
        retransmit_timer.start(row, now, row.snd_nxt)
        return self._piece(at, size, now)

    def _resend_first(self, now: float) -> Piece:
        """Send the first unacknowledged segment again: data, or the FIN."""
        row = self.row
        _, gap = self._scoreboard.skip(row.snd_una)
        sent = min(row.buffered, seq.diff(row.snd_max, row.snd_una))
        size = min(row.mss, sent, sent if gap is None else gap)
        retransmit_timer.restart(row, now)
        if size:
            return self._resend(row.snd_una, size, now)
        self._note_resent(now)
        return row.snd_una, FIN | ACK, b""

    def _resend(self, at: int, size: int, now: float) -> Piece:
        self._note_resent(now)
        self._scoreboard.note_resent(seq.add(at, size))
        return self._piece(at, size, now)

    def _note_resent(self, now: float) -> None:
        self.row.retransmits += 1
        retransmit_timer.forget_sample(self.row)
        if self.row.rto_at == NEVER:
            retransmit_timer.restart(self.row, now)

    def _piece(self, at: int, size: int, now: float) -> Piece:
        self.row.sent_at = now
        offset = seq.diff(at, self.row.buffer_seq)
        push = PSH if offset + size == self.row.buffered else 0
        return at, ACK | push, self._table.copy(self.row, offset, size)

    def _output_fin(self, end: int, now: float) -> list[Piece]:
        """Send the FIN, if the stream has ended and all data was sent."""
        row = self.row
        if not self.is_finishing or row.snd_nxt != end:
            return []
        if self.is_fin_sent:
            self._note_resent(now)
        elif not self.has_outstanding:
            row.progress_at = now
        row.snd_nxt = seq.add(end, 1)
        row.snd_max = seq.latest(row.snd_max, row.snd_nxt)
        if row.rto_at == NEVER:
            retransmit_timer.restart(row, now)
        return [(end, FIN | ACK, b"")]

    # Numbers

    def _advance(self, ack: int, now: float) -> None:
        """Note that everything before ``ack`` is acknowledged (RFC 9293 §3.10.7.4, fifth check)."""
        row = self.row
        row.snd_una = ack
        if seq.lt(row.snd_nxt, ack):
            row.snd_nxt = ack  # after a timeout: the mirror had more bytes than assumed
        data = min(seq.diff(ack, row.buffer_seq), row.buffered)
        self._table.note_lag(row, now)
        self._table.drop(row, data, ack)
        row.acked_bytes += data
        row.progress_at = now
        self._take_sample(ack, now)
        if self.in_flight:
            retransmit_timer.restart(row, now)
        else:
            retransmit_timer.stop(row)

    def _take_sample(self, ack: int, now: float) -> None:
        round_trip = retransmit_timer.acknowledged(self.row, ack, now)
        if round_trip is not None:
            self._table.note_round_trip(self.row, round_trip)

    def _fall_back(self) -> None:
        """Begin again with the first unacknowledged byte."""
        self.row.snd_nxt = self.row.snd_una
        self._scoreboard.forget_resent(self.row.snd_una)


def _part_of(left: int) -> int:
    """Return the length of the next packet of ``left`` bytes that all leave now: in as few packets as possible, none of
    them a remnant that costs as much as a large one."""
    packets = -(-left // _MAX_DATA_LEN)
    return -(-left // packets)
