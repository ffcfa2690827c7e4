"""The sending half of a leg: the client's bytes that the mirror has not acknowledged, and when to send which of them.

Theory. ``snd_una`` <= ``snd_nxt`` <= ``snd_max``: the first number not acknowledged, the next to be sent, and one past
the highest ever sent. After a timeout ``snd_nxt`` falls back on ``snd_una`` and all counts as lost; what the mirror
tells that it holds is left out on the way. ``_buffer`` holds the bytes from ``_buffer_seq`` on.
"""

from collections import deque
from collections.abc import Iterable

from natmirror import seq
from natmirror.congestion import Congestion
from natmirror.memory import Memory
from natmirror.packet import ACK, FIN, PSH
from natmirror.rtt import RetransmitTimer
from natmirror.sack import Scoreboard

Piece = tuple[int, int, bytes]
"""A segment to be sent: sequence number, flags, data."""

_AGE_GRANULARITY = 0.01


class Sender:
    """One stream's way to a mirror. Methods that take ``now`` (seconds) give the segments to send."""

    def __init__(self, iss: int, memory: Memory) -> None:
        self.snd_una = iss
        self.snd_nxt = iss
        self.snd_max = iss
        self.mss = 0
        self.sack = False
        self.timer = RetransmitTimer()
        self.probe_at: float | None = None
        self.progress_at = 0.0
        """When something was acknowledged last, or nothing was outstanding."""
        self.sent_bytes = 0
        self.acked_bytes = 0
        self.retransmits = 0
        self.timeouts = 0
        self.finishing = False
        """The stream is complete: a FIN follows the last byte."""
        self._memory = memory
        self._buffer = bytearray()
        self._buffer_seq = seq.add(iss, 1)
        self._written: deque[tuple[int, float]] = deque()  # numbers, and since when bytes before them have been here
        self._window = 0
        self._max_window = 0
        self._congestion = Congestion()
        self._scoreboard = Scoreboard(iss)
        self._probe_interval = 0.0
        self._sent_at = 0.0

    # The stream

    @property
    def buffered_bytes(self) -> int:
        """Bytes that the mirror has not acknowledged."""
        return len(self._buffer)

    @property
    def in_flight(self) -> int:
        """Sequence numbers that are sent and not acknowledged."""
        return seq.diff(self.snd_nxt, self.snd_una)

    @property
    def outstanding(self) -> bool:
        """Whether the mirror still has something to acknowledge."""
        return bool(self._buffer) or self.snd_una != self.snd_max

    @property
    def fin_sent(self) -> bool:
        """Whether a FIN was ever sent."""
        return seq.lt(self._end, self.snd_max)

    @property
    def fin_acked(self) -> bool:
        """Whether everything is acknowledged, the FIN included."""
        return self.fin_sent and self.snd_una == self.snd_max

    @property
    def acceptable_seq(self) -> int:
        """The number for a segment without data: the next one, or where that lies past a window that has shrunk, the
        window's edge, or the mirror would refuse it (as Linux does)."""
        edge = seq.add(self.snd_una, self._window)
        return self.snd_max if seq.le(self.snd_max, edge) else edge

    @property
    def _end(self) -> int:
        """One past the last byte that was written."""
        return seq.add(self._buffer_seq, len(self._buffer))

    def age(self, now: float) -> float:
        """Seconds that the oldest byte not acknowledged has been here; 0 where there is none."""
        return now - self._written[0][1] if self._written else 0.0

    def write(self, data: bytes, now: float) -> bool:
        """Take the next bytes of the stream; False where there is no memory for them."""
        if not self._memory.take(len(data)):
            return False
        if not self.outstanding:
            self.progress_at = now
        self._buffer += data
        since = now
        if self._written and now - self._written[-1][1] < _AGE_GRANULARITY:
            since = self._written.pop()[1]
        self._written.append((self._end, since))
        return True

    def clear(self) -> None:
        """The leg is over: let everything go."""
        self._memory.give(len(self._buffer))
        self._buffer = bytearray()
        self._written.clear()
        self._scoreboard.forget()
        self.timer.stop()
        self.probe_at = None

    # The mirror's side

    def start(self, ack: int, window: int, mss: int, *, sack: bool, now: float) -> None:
        """The SYN is acknowledged; ``window`` as the SYN-ACK told it."""
        self.snd_una = ack
        self._window = self._max_window = window
        self.mss = mss
        self.sack = sack
        self._congestion.start(mss, sack=sack)
        self.timer.acknowledged(ack, now)
        self.timer.stop()
        self.progress_at = self._sent_at = now

    def is_acceptable(self, ack: int) -> bool:
        """Whether an acknowledgement number can be the mirror's (RFC 5961 §5.2)."""
        return seq.le(ack, self.snd_max) and seq.diff(self.snd_una, ack) <= self._max_window

    def take_ack(
        self, ack: int, window: int, blocks: Iterable[tuple[int, int]], *, bare: bool, now: float
    ) -> list[Piece]:
        """An acceptable acknowledgement; ``bare`` where it came without data or FIN."""
        acked = seq.diff(ack, self.snd_una)
        if acked < 0:
            return []  # an old duplicate; its window is old as well
        flight = self.in_flight
        if acked:
            self._advance(ack, now)
        news = self._scoreboard.take(blocks if self.sack else (), self.snd_una, self.snd_max, self.mss)
        if acked:
            resend = self._congestion.new_ack(acked, ack, flight)
        else:
            duplicate = news if self.sack else bare and flight > 0 and window == self._window  # RFC 6675 §2; 5681 §2
            lost = self._scoreboard.is_lost(self.snd_una)
            resend = duplicate and self._congestion.duplicate_ack(flight, self.snd_max, lost=lost)
        self._window = window
        self._max_window = max(self._max_window, window)
        if window:
            self.probe_at = None
        out = [self._resend_first(now)] if resend and self.outstanding else []
        return out + self.output(now)

    def shrink(self, mss: int, about: int) -> bool:
        """The way takes segments of at most ``mss`` bytes, as somebody says of the one with number ``about``; whether
        that is news, and all is to be sent again."""
        in_flight = seq.le(self.snd_una, about) and seq.lt(about, self.snd_max)
        if not in_flight or mss >= self.mss:
            return False
        self.mss = self._congestion.mss = mss
        self._fall_back()
        return True

    # Sending

    def output(self, now: float) -> list[Piece]:
        """What the mirror's window and the congestion window allow (RFC 9293 §3.8.6.2, without Nagle: the client's own
        pauses are kept), lost bytes first, then what ends the stream."""
        if self._buffer and not self.in_flight and now - self._sent_at > self.timer.interval:
            self._congestion.idle()
        pipe = self._scoreboard.pipe(self.snd_una, self.snd_nxt)
        out = self._mend(pipe, now) if self._congestion.recovering else []
        pipe += sum(len(data) for _, _, data in out)
        end = self._end
        limit = seq.add(self.snd_una, self._window)
        while True:
            gap = None
            if seq.lt(self.snd_nxt, self.snd_max):
                self.snd_nxt, gap = self._scoreboard.skip(self.snd_nxt)
            left = seq.diff(end, self.snd_nxt)
            room = min(seq.diff(limit, self.snd_nxt), self._congestion.window - pipe)
            size = min(left, room, self.mss, left if gap is None else gap)
            if size <= 0 or (size < self.mss and size < left and size != gap and self.in_flight > 0):
                break  # RFC 9293 §3.8.6.2.1: no silly windows
            out.append(self._next(size, now))
            pipe += size
        if not out and self._congestion.recovering:
            out += self._mend(pipe, now, likely=True)
        if left <= 0:
            out += self._output_fin(end, now)
        elif not self._window and not self.in_flight and self.probe_at is None:
            self._probe_interval = self.timer.interval
            self.probe_at = now + self._probe_interval
        return out

    def time_out(self, now: float) -> list[Piece]:
        """The retransmission timer has run out (RFC 6298 §5.4-5.7): all that is in flight counts as lost."""
        self.timer.back_off(now)
        self.timeouts += 1
        self._congestion.timeout(self.in_flight, self.snd_max)
        self._scoreboard.forget()
        self._fall_back()
        out = self.output(now)
        if not out and self.outstanding:
            out.append(self._resend_first(now))  # into a window that has closed over it
        return out

    def probe(self, now: float) -> Piece:
        """Ask for the window with a number below it, which any TCP answers (RFC 9293 §3.8.6.1; as Linux probes)."""
        self._probe_interval = min(self._probe_interval * 2, RetransmitTimer.MAX)
        self.probe_at = now + self._probe_interval
        return seq.add(self.snd_una, -1), ACK, b""

    def _mend(self, pipe: int, now: float, *, likely: bool = False) -> list[Piece]:
        """What the scoreboard says is lost, or ``likely`` is, as far as the congestion window goes (RFC 6675 §5, step
        C)."""
        out: list[Piece] = []
        while pipe + self.mss <= self._congestion.window:
            hole = self._scoreboard.next_hole(self.snd_una, self.mss, likely=likely)
            if hole is None:
                break
            out.append(self._resend(*hole, now))
            pipe += hole[1]
        return out

    def _next(self, size: int, now: float) -> Piece:
        """The segment with the next ``size`` bytes."""
        at = self.snd_nxt
        self.snd_nxt = seq.add(at, size)
        if seq.lt(self.snd_max, self.snd_nxt):
            self.sent_bytes += seq.diff(self.snd_nxt, seq.latest(at, self.snd_max))
        again = seq.lt(at, self.snd_max)
        self.snd_max = seq.latest(self.snd_max, self.snd_nxt)
        if again:
            return self._resend(at, size, now)
        self.timer.start(now, self.snd_nxt)
        return self._piece(at, size, now)

    def _resend_first(self, now: float) -> Piece:
        """Send the first unacknowledged segment again: data, or the FIN."""
        _, gap = self._scoreboard.skip(self.snd_una)
        sent = min(len(self._buffer), seq.diff(self.snd_max, self.snd_una))
        size = min(self.mss, sent, sent if gap is None else gap)
        self.timer.restart(now)
        if size:
            return self._resend(self.snd_una, size, now)
        self._note_resent(now)
        return self.snd_una, FIN | ACK, b""

    def _resend(self, at: int, size: int, now: float) -> Piece:
        self._note_resent(now)
        self._scoreboard.note_resent(seq.add(at, size))
        return self._piece(at, size, now)

    def _note_resent(self, now: float) -> None:
        self.retransmits += 1
        self.timer.forget_sample()
        if self.timer.due_at is None:
            self.timer.restart(now)

    def _piece(self, at: int, size: int, now: float) -> Piece:
        self._sent_at = now
        offset = seq.diff(at, self._buffer_seq)
        push = PSH if offset + size == len(self._buffer) else 0
        return at, ACK | push, bytes(self._buffer[offset : offset + size])

    def _output_fin(self, end: int, now: float) -> list[Piece]:
        """All data is out: send the FIN, if the stream has ended."""
        if not self.finishing or self.snd_nxt != end:
            return []
        if self.fin_sent:
            self._note_resent(now)
        elif not self.outstanding:
            self.progress_at = now
        self.snd_nxt = seq.add(end, 1)
        self.snd_max = seq.latest(self.snd_max, self.snd_nxt)
        if self.timer.due_at is None:
            self.timer.restart(now)
        return [(end, FIN | ACK, b"")]

    # Numbers

    def _advance(self, ack: int, now: float) -> None:
        """New data is acknowledged (RFC 9293 §3.10.7.4, fifth check)."""
        self.snd_una = ack
        if seq.lt(self.snd_nxt, ack):
            self.snd_nxt = ack  # the mirror held more than we had fallen back to
        data = min(seq.diff(ack, self._buffer_seq), len(self._buffer))
        del self._buffer[:data]
        self._memory.give(data)
        self._buffer_seq = seq.add(self._buffer_seq, data)
        self.acked_bytes += data
        while self._written and seq.le(self._written[0][0], ack):
            self._written.popleft()
        self.progress_at = now
        self.timer.acknowledged(ack, now)
        if self.in_flight:
            self.timer.restart(now)
        else:
            self.timer.stop()

    def _fall_back(self) -> None:
        """Send everything from the first unacknowledged byte on again, as the windows allow."""
        self.snd_nxt = self.snd_una
        self._scoreboard.nothing_resent(self.snd_una)
