"""The sending half of a leg: the client's bytes that the mirror has not acknowledged, and when to send which of them.

Theory. ``snd_una`` <= ``snd_nxt`` <= ``snd_max``: the first number not acknowledged, the next to be sent, and one past
the highest ever sent. After a timeout ``snd_nxt`` falls back to ``snd_una`` and all counts as lost; what the mirror has
reported in selective acknowledgements is left out when that is sent again. The bytes from ``buffer_seq`` on are held.
All these numbers lie in the leg's row, and while ``is_steady`` the C gear moves them by the same rules.
"""

from collections.abc import Iterable

from natmirror.fastpath import LEG_MAX_SEGMENTS, NEVER, RTO_MAX, LegRow, LegTable
from natmirror.fastpath.leg_flags import is_steady, set_sack, set_steady, uses_sack
from natmirror.net import seq
from natmirror.net.packet import ACK, FIN, MAX_PACKET_LEN, PSH
from natmirror.tcp import retransmit_timer
from natmirror.tcp.congestion import Congestion
from natmirror.tcp.sack import Scoreboard

Piece = tuple[int, int, bytes]
"""What is to be sent as one packet: sequence number, flags, data. More data than a segment takes is cut later."""

_MAX_DATA_LEN = MAX_PACKET_LEN - 40
_MAX_RESENT = 32  # packets that one call sends again at most: each costs Python as much as a large one does


class Sender:
    """One stream to a mirror. Methods that take ``now`` (seconds) return what to send."""

    __slots__ = (
        *("_congestion", "_probe_interval", "_scoreboard", "_table"),
        *("finishing", "probe_at", "row"),
    )

    def __init__(self, table: LegTable, row: LegRow, iss: int) -> None:
        self.row = row
        row.snd_una = row.snd_nxt = row.snd_max = iss
        row.buffer_seq = seq.add(iss, 1)
        retransmit_timer.reset(row)
        self.probe_at = NEVER
        self.finishing = False
        """The stream is complete: a FIN follows the last byte."""
        self._table = table
        self._congestion = Congestion(row)
        self._scoreboard = Scoreboard(iss)
        self._probe_interval = 0.0

    # The stream

    @property
    def in_flight(self) -> int:
        """Sequence numbers that are sent and not acknowledged."""
        return seq.diff(self.row.snd_nxt, self.row.snd_una)

    @property
    def outstanding(self) -> bool:
        """Whether the mirror still has something to acknowledge."""
        return bool(self.row.buffered) or self.row.snd_una != self.row.snd_max

    @property
    def is_steady(self) -> bool:
        """Whether nothing is lost, probed or ending."""
        row = self.row
        at_rest = self.probe_at == NEVER and not self.finishing and not self._scoreboard
        return at_rest and self._congestion.is_steady and row.window > 0 and row.snd_nxt == row.snd_max

    @property
    def fin_sent(self) -> bool:
        """Whether a FIN was ever sent."""
        return seq.lt(self.end, self.row.snd_max)

    @property
    def fin_acked(self) -> bool:
        """Whether everything is acknowledged, the FIN included."""
        return self.fin_sent and self.row.snd_una == self.row.snd_max

    @property
    def acceptable_seq(self) -> int:
        """The number for a segment without data: the next one, or where that lies past a window that has shrunk, the
        window's edge, or the mirror would refuse it (as Linux does)."""
        edge = seq.add(self.row.snd_una, self.row.window)
        return self.row.snd_max if seq.le(self.row.snd_max, edge) else edge

    @property
    def end(self) -> int:
        """One past the last byte that was written."""
        return seq.add(self.row.buffer_seq, self.row.buffered)

    def age(self, now: float) -> float:
        """Return for how many seconds the oldest byte not acknowledged has been here, or at most an eighth more; 0
        where there is none."""
        return now - self.row.mark_at[0] if self.row.mark_count else 0.0

    def write(self, data: bytes, now: float) -> bool:
        """Take the next bytes of the stream; return False where there is no memory for them."""
        if not self.outstanding:
            self.row.progress_at = now
        return self._table.append(self.row, data, now)

    def reclaim(self) -> None:
        """Take the leg back from the C gear, in whose hands nothing was lost."""
        if is_steady(self.row):
            set_steady(self.row, False)
            self._scoreboard.nothing_resent(self.row.snd_una)

    def retire(self, row: LegRow) -> None:
        """Stop all timers, at the leg's end; ``row`` is a copy of the row that it had in the table."""
        self.row = self._congestion.row = row
        retransmit_timer.stop(self.row)
        self.probe_at = NEVER

    # The mirror's side

    def start(self, ack: int, window: int, mss: int, *, sack: bool, now: float) -> None:
        """Begin to send: the SYN is acknowledged. ``window`` as it stands in the SYN-ACK."""
        row = self.row
        row.snd_una = ack
        row.window = row.max_window = window
        row.mss = mss
        set_sack(row, sack)
        self._congestion.start()
        retransmit_timer.acknowledged(row, ack, now)
        retransmit_timer.stop(row)
        row.progress_at = row.sent_at = now

    def is_acceptable(self, ack: int) -> bool:
        """Return whether an acknowledgement number can be the mirror's (RFC 5961 §5.2)."""
        return seq.le(ack, self.row.snd_max) and seq.diff(self.row.snd_una, ack) <= self.row.max_window

    def take_ack(
        self, ack: int, window: int, blocks: Iterable[tuple[int, int]], *, bare: bool, now: float
    ) -> list[Piece]:
        """Take an acceptable acknowledgement; ``bare`` where it came without data or FIN."""
        row = self.row
        acked = seq.diff(ack, row.snd_una)
        if acked < 0:
            return []  # an old duplicate; its window is old as well
        flight = self.in_flight
        if acked:
            self._advance(ack, now)
        speaks_sack = uses_sack(row)
        news = self._scoreboard.take(blocks if speaks_sack else (), row.snd_una, row.snd_max, row.mss)
        if acked:
            resend = self._congestion.new_ack(acked, ack, flight)
        else:
            duplicate = news if speaks_sack else bare and flight > 0 and window == row.window  # RFC 6675 §2; 5681 §2
            lost = self._scoreboard.is_lost(row.snd_una)
            resend = duplicate and self._congestion.duplicate_ack(flight, row.snd_max, lost=lost)
        row.window = window
        row.max_window = max(row.max_window, window)
        if window:
            self.probe_at = NEVER
        out = [self._resend_first(now)] if resend and self.outstanding else []
        return out + self.output(now)

    def skip(self, ack: int, now: float) -> None:
        """Go on with number ``ack``, with nothing in flight: the mirror has everything before it, from another host."""
        row = self.row
        row.acked_bytes += seq.diff(ack, row.snd_una)
        self._table.drop(row, min(seq.diff(ack, row.buffer_seq), row.buffered), ack)
        row.buffer_seq = row.snd_una = row.snd_nxt = row.snd_max = ack
        row.progress_at = row.sent_at = now
        retransmit_timer.forget_sample(row)
        retransmit_timer.stop(row)
        self._scoreboard.forget()
        self._scoreboard.nothing_resent(ack)
        self._congestion.start()

    def finished_elsewhere(self) -> None:
        """Count the last number that the mirror has acknowledged as the FIN, which another host has sent it."""
        self.row.buffer_seq = seq.add(self.row.snd_una, -1)
        self.finishing = True

    def shrink(self, mss: int, about: int) -> bool:
        """Send segments of at most ``mss`` bytes from now on, as a router says of the one with number ``about``; return
        whether that is less than before, and all has to be sent again."""
        in_flight = seq.le(self.row.snd_una, about) and seq.lt(about, self.row.snd_max)
        if not in_flight or mss >= self.row.mss:
            return False
        self.row.mss = mss
        self._fall_back()
        return True

    # Sending

    def output(self, now: float) -> list[Piece]:
        """Return what the mirror's window and the congestion window allow (RFC 9293 §3.8.6.2, without Nagle: the
        client's own pauses are kept), lost bytes first, then what ends the stream. Where that is too much for one call,
        the rest is due from ``row.more_at`` on."""
        row = self.row
        row.more_at = NEVER
        if row.buffered and not self.in_flight and now - row.sent_at > row.rto:
            self._congestion.idle()
        pipe = self._scoreboard.pipe(row.snd_una, row.snd_nxt)
        out = self._resend_lost(pipe, now) if self._congestion.recovering else []
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
            size = min(size, allowed, row.mss if again else _MAX_DATA_LEN, left if gap is None else gap)
            if size < left and size != gap:
                if size < row.mss and self.in_flight > 0:
                    break  # RFC 9293 §3.8.6.2.1: no silly windows
                if size > row.mss:
                    size -= size % row.mss
            out.append(self._next(size, now))
            pipe += size
            allowed -= size
        if not out and self._congestion.recovering:
            out += self._resend_lost(pipe, now, likely=True)
        if left <= 0:
            out += self._output_fin(end, now)
        elif not row.window and not self.in_flight and self.probe_at == NEVER:
            self._probe_interval = row.rto
            self.probe_at = now + self._probe_interval
        return out

    def time_out(self, now: float) -> list[Piece]:
        """Count all that is in flight as lost: the retransmission timer has expired (RFC 6298 §5.4-5.7)."""
        retransmit_timer.back_off(self.row, now)
        self.row.timeouts += 1
        self._congestion.timeout(self.in_flight, self.row.snd_max)
        self._scoreboard.forget()
        self._fall_back()
        out = self.output(now)
        if not out and self.outstanding:
            out.append(self._resend_first(now))  # into a window that has closed over it
        return out

    def probe(self, now: float) -> Piece:
        """Return a probe of the window, with a number below it, which any TCP answers (RFC 9293 §3.8.6.1; as Linux
        probes)."""
        self._probe_interval = min(self._probe_interval * 2, RTO_MAX)
        self.probe_at = now + self._probe_interval
        return seq.add(self.row.snd_una, -1), ACK, b""

    def _resend_lost(self, pipe: int, now: float, *, likely: bool = False) -> list[Piece]:
        """Send again what the scoreboard says is lost, or ``likely`` is, as far as the congestion window allows (RFC
        6675 §5, step C)."""
        out: list[Piece] = []
        while pipe + self.row.mss <= self._congestion.window:
            hole = self._scoreboard.next_hole(self.row.snd_una, self.row.mss, likely=likely)
            if hole is None:
                break
            if len(out) >= _MAX_RESENT:
                self.row.more_at = NEVER if likely else now  # what only may be lost is left to the next acknowledgement
                break
            out.append(self._resend(*hole, now))
            pipe += hole[1]
        return out

    def _next(self, size: int, now: float) -> Piece:
        """Send the next ``size`` bytes, for the first time or again."""
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
        """Send the FIN, if the stream has ended and all data is out."""
        row = self.row
        if not self.finishing or row.snd_nxt != end:
            return []
        if self.fin_sent:
            self._note_resent(now)
        elif not self.outstanding:
            row.progress_at = now
        row.snd_nxt = seq.add(end, 1)
        row.snd_max = seq.latest(row.snd_max, row.snd_nxt)
        if row.rto_at == NEVER:
            retransmit_timer.restart(row, now)
        return [(end, FIN | ACK, b"")]

    # Numbers

    def _advance(self, ack: int, now: float) -> None:
        """Take note that everything before ``ack`` is acknowledged (RFC 9293 §3.10.7.4, fifth check)."""
        row = self.row
        row.snd_una = ack
        if seq.lt(row.snd_nxt, ack):
            row.snd_nxt = ack  # the mirror held more than we had fallen back to
        data = min(seq.diff(ack, row.buffer_seq), row.buffered)
        self._table.drop(row, data, ack)
        row.acked_bytes += data
        row.progress_at = now
        retransmit_timer.acknowledged(row, ack, now)
        if self.in_flight:
            retransmit_timer.restart(row, now)
        else:
            retransmit_timer.stop(row)

    def _fall_back(self) -> None:
        """Send everything from the first unacknowledged byte on again, as the windows allow."""
        self.row.snd_nxt = self.row.snd_una
        self._scoreboard.nothing_resent(self.row.snd_una)
