"""A leg: the TCP connection that we hold with a mirror in the client's name, built from synthesised packets.

Theory. The leg is the active side of an ordinary TCP connection (RFC 9293) whose application is the client's byte
stream and which throws away what it receives. It uses the client's own initial sequence number, so the client's data
has the same sequence numbers towards backend and mirror. ``_buffer`` holds what the mirror has not acknowledged, the
first byte being number ``_buffer_seq``; loss is recovered by a timer (RFC 6298) and by duplicate acknowledgements (RFC
5681, RFC 6582). Out-of-order data of the mirror is not kept: it is to be thrown away, the mirror sends it again.

The leg does no I/O and knows no clock: segments and times go in, packets come out.
"""

from collections import deque
from enum import IntEnum

from natmirror import seq
from natmirror.congestion import Congestion
from natmirror.packet import ACK, FIN, OPT_MSS, OPT_NOP, OPT_WINDOW_SCALE, PSH, RST, SYN, Endpoint, Segment, build
from natmirror.rtt import RetransmitTimer


class LegState(IntEnum):
    """The states of RFC 9293 §3.3.2 that an active opener passes; CLOSED is the end."""

    SYN_SENT = 0
    ESTABLISHED = 1
    FIN_WAIT_1 = 2
    FIN_WAIT_2 = 3
    CLOSE_WAIT = 4
    CLOSING = 5
    LAST_ACK = 6
    CLOSED = 7


class LegEvent(IntEnum):
    """What moves a leg from state to state."""

    SYN_ACK = 0
    FIN_SENT = 1
    FIN_ACKED = 2
    FIN_RECEIVED = 3


TRANSITIONS: dict[tuple[LegState, LegEvent], LegState] = {
    (LegState.SYN_SENT, LegEvent.SYN_ACK): LegState.ESTABLISHED,
    (LegState.ESTABLISHED, LegEvent.FIN_SENT): LegState.FIN_WAIT_1,
    (LegState.ESTABLISHED, LegEvent.FIN_RECEIVED): LegState.CLOSE_WAIT,
    (LegState.FIN_WAIT_1, LegEvent.FIN_ACKED): LegState.FIN_WAIT_2,
    (LegState.FIN_WAIT_1, LegEvent.FIN_RECEIVED): LegState.CLOSING,
    (LegState.FIN_WAIT_2, LegEvent.FIN_RECEIVED): LegState.CLOSED,
    (LegState.CLOSE_WAIT, LegEvent.FIN_SENT): LegState.LAST_ACK,
    (LegState.CLOSING, LegEvent.FIN_ACKED): LegState.CLOSED,
    (LegState.LAST_ACK, LegEvent.FIN_ACKED): LegState.CLOSED,
}
# Deviation: no TIME-WAIT. A FIN that the mirror repeats finds no leg and is answered with a RST, which its receiver,
# done with both directions, takes for the last acknowledgement; the client's next connection from this port has no
# wait.

CONNECT_TIMEOUT = 30.0
"""Seconds until an unanswered SYN is given up (RFC 9293 §3.8.3 asks for 3 minutes of a user's connection; a leg is not
one)."""
STALL_TIMEOUT = 120.0
"""Seconds of retransmission or probing without an answer until the leg is given up (R2, RFC 9293 §3.8.3: at least 100
s)."""
LINGER_TIMEOUT = 5.0
"""Seconds without progress that a leg is kept after the client is gone, to deliver the rest."""
LINGER_LIMIT = 60.0
"""Seconds that a leg is kept after the client is gone, however it progresses."""

_MSS = 1460  # Ethernet's MTU less the headers; what we offer, and the most that we send
_DEFAULT_MSS = 536  # RFC 9293 §3.7.1, where the peer names none
_MIN_MSS = 48  # the smallest a peer may make us use: IPv4's minimum MTU of 68 (RFC 791) less TCP's largest header
_MIN_PATH_MTU = 552  # Linux's ip_forward_min_pmtu: smaller ones are not believed
_WINDOW = 0xFFFF
_SCALE = 7  # all that is received is consumed at once: the window is a formality, and wide

_DONE = frozenset({LegState.CLOSED})
_MAY_SEND = frozenset({LegState.ESTABLISHED, LegState.CLOSE_WAIT})


class Leg:
    """One connection to one mirror.

    Every method that takes ``now`` (seconds) gives the packets to send. ``ended`` is None while the leg lives, then the
    reason of its end; an ended leg takes and gives nothing any more.
    """

    def __init__(self, client: Endpoint, mirror: Endpoint, *, iss: int, max_buffer: int) -> None:
        self.client = client
        self.mirror = mirror
        self.state = LegState.SYN_SENT
        self.ended: str | None = None
        self.consumed_bytes = 0
        self.retransmits = 0
        self.timeouts = 0
        self.sent_bytes = 0
        self.acked_bytes = 0
        self._max_buffer = max_buffer
        self._buffer = bytearray()
        self._buffer_seq = seq.add(iss, 1)
        self._written: deque[tuple[int, float]] = deque()  # numbers, and until when their bytes had come
        self._finishing: int | None = None  # FIN or RST, once the client's stream is complete
        self._snd_una = iss
        self._snd_nxt = iss
        self._snd_max = iss  # one past the highest number ever sent; snd_nxt falls back on a timeout
        self._snd_wnd = 0
        self._snd_scale = 0
        self._rcv_nxt = 0
        self._mss = _DEFAULT_MSS
        self._congestion = Congestion()
        self._timer = RetransmitTimer()
        self._probe_at: float | None = None
        self._probe_interval = 0.0
        self._progress_at = 0.0  # when the mirror last acknowledged something new, or answered a probe
        self._gone_at: float | None = None

    # What the engine asks of a leg

    def open(self, now: float) -> list[bytes]:
        """Send the SYN."""
        self._progress_at = now
        self._snd_nxt = self._snd_max = seq.add(self._snd_una, 1)
        self._timer.start(now, self._snd_max)
        return [self._syn()]

    def write(self, data: bytes, now: float) -> list[bytes]:
        """Take the next bytes of the client's stream; a full buffer ends the leg."""
        if self.ended is not None or not data:
            return []
        if len(self._buffer) + len(data) > self._max_buffer:
            return self._abort("buffer-full")
        self._buffer += data
        self._written.append((seq.add(self._buffer_seq, len(self._buffer)), now))
        return self._output(now)

    def finish(self, now: float) -> list[bytes]:
        """The client has closed its side: a FIN follows the last byte."""
        self._finishing = self._finishing or FIN
        return self._output(now) if self.ended is None else []

    def reset(self, now: float) -> list[bytes]:
        """The connection was reset: a RST follows the last byte, so that the mirror has what the backend had."""
        self._finishing = RST
        return self._output(now) if self.ended is None else []

    def client_gone(self, now: float) -> None:
        """Production's connection is over: from now on the leg lives for a bounded time."""
        if self._gone_at is None:
            self._gone_at = now

    def abort(self, reason: str) -> list[bytes]:
        """End the leg at once, with a RST."""
        return self._abort(reason) if self.ended is None else []

    def unreachable(self, about: int) -> list[bytes]:
        """A router or host says that the segment with number ``about`` cannot be delivered.

        Heeded while connecting only (RFC 5927 §5.2: a soft error for a connection that stands).
        """
        if self.state is LegState.SYN_SENT and about == self._snd_una:
            self._end("unreachable")
        return []

    def path_mtu(self, mtu: int, about: int, now: float) -> list[bytes]:
        """A router's fragmentation-needed for the segment with number ``about`` (RFC 1191, checks of RFC 5927 §7)."""
        mss = max(mtu, _MIN_PATH_MTU) - 40
        in_flight = seq.le(self._snd_una, about) and seq.lt(about, self._snd_max)
        if self.ended is not None or not in_flight or mss >= self._mss:
            return []
        self._mss = mss
        self._congestion.mss = mss
        self._snd_nxt = self._snd_una
        return self._output(now)

    def receive(self, segment: Segment, now: float) -> list[bytes]:
        """A segment of the mirror's with a right checksum (RFC 9293 §3.10.7)."""
        if self.ended is not None:
            return []
        if self.state is LegState.SYN_SENT:
            return self._receive_syn_sent(segment, now)
        return self._receive_synchronized(segment, now)

    def next_timer(self) -> float | None:
        """When handle_timer() is due, or None."""
        if self.ended is not None:
            return None
        due = [when for when in (self._timer.due_at, self._probe_at, self._linger_until()) if when is not None]
        return min(due, default=None)

    def handle_timer(self, now: float) -> list[bytes]:
        """Do what is due: retransmit, probe a closed window, or give up."""
        if self.ended is not None:
            return []
        until = self._linger_until()
        if until is not None and now >= until:
            return self._abort("closed" if self._all_delivered() else "linger-timeout")
        if self._probe_at is not None and now >= self._probe_at:
            return self._probe(now)
        if self._timer.due_at is not None and now >= self._timer.due_at:
            return self._retransmission_timeout(now)
        return []

    @property
    def lag_bytes(self) -> int:
        """Bytes of the client's stream that the mirror has not acknowledged."""
        return len(self._buffer)

    @property
    def in_flight_bytes(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return self._in_flight() if self.ended is None else 0

    @property
    def rtt_seconds(self) -> float | None:
        """The smoothed round-trip time to the mirror; None before the first sample."""
        return self._timer.smoothed

    def lag_seconds(self, now: float) -> float:
        """The age of the oldest byte that the mirror has not acknowledged; 0 where there is none."""
        return now - self._written[0][1] if self._written else 0.0

    # Receiving

    def _receive_syn_sent(self, segment: Segment, now: float) -> list[bytes]:
        """RFC 9293 §3.10.7.3."""
        acceptable = bool(segment.flags & ACK) and segment.ack == self._snd_max
        if segment.flags & RST:
            if acceptable:
                self._end("refused")
            return []
        if segment.flags & ACK and not acceptable:
            # An older connection of these ports still stands at the mirror: the RST clears it for our next SYN.
            return [self._packet(segment.ack, RST, ack=0)]
        if not segment.flags & SYN or not acceptable:
            return []  # Deviation: no simultaneous open; a mirror does not call
        scale = segment.window_scale()
        self._snd_scale = scale or 0
        self._mss = max(min(segment.mss() or _DEFAULT_MSS, _MSS), _MIN_MSS)
        self._congestion.start(self._mss)
        self._rcv_nxt = seq.add(segment.seq, 1)
        self._snd_una = segment.ack
        self._snd_wnd = segment.window  # never scaled on a SYN (RFC 7323 §2.2)
        self._timer.acknowledged(segment.ack, now)
        self._timer.stop()
        self._progress_at = now
        self._step(LegEvent.SYN_ACK)
        return self._output(now) or [self._ack()]

    def _receive_synchronized(self, segment: Segment, now: float) -> list[bytes]:
        """RFC 9293 §3.10.7.4, in its order of checks."""
        in_window = self._is_in_window(segment)
        if segment.flags & RST:
            if segment.seq == self._rcv_nxt:
                self._end("mirror-reset")
                return []
            return [self._ack()] if in_window else []  # RFC 5961 §3.2
        if segment.flags & SYN or not in_window:
            return [self._ack()]  # RFC 5961 §4.2; keep-alives and old duplicates end here as well
        if not segment.flags & ACK:
            return []
        if seq.lt(self._snd_max, segment.ack):
            return [self._ack()]
        out = self._take_ack(segment, now)
        if self.ended is None:
            out += self._take_data(segment)
        return out

    def _is_in_window(self, segment: Segment) -> bool:
        """The acceptability test of RFC 9293 §3.4, for our window, which is never closed."""
        window = _WINDOW << _SCALE
        first = seq.diff(segment.seq, self._rcv_nxt)
        last = first + max(segment.seq_len, 1) - 1
        return 0 <= first < window or (segment.seq_len > 0 and 0 <= last < window)

    def _take_ack(self, segment: Segment, now: float) -> list[bytes]:
        if seq.lt(segment.ack, self._snd_una):
            return []  # an old duplicate; its window is old as well
        window = segment.window << self._snd_scale
        out: list[bytes] = []
        if segment.ack != self._snd_una:
            out = self._advance(segment.ack, now)
        elif self._is_duplicate_ack(segment, window) and self._congestion.duplicate_ack(
            self._in_flight(), self._snd_max
        ):
            out = self._retransmit_first(now)
        self._snd_wnd = window
        if window:
            self._probe_at = None
        elif self._probe_at is not None:
            self._progress_at = now  # closed, but alive: the answer to a probe (RFC 9293 §3.8.6.1)
        return out + self._output(now) if self.ended is None else out

    def _is_duplicate_ack(self, segment: Segment, window: int) -> bool:
        """RFC 5681 §2."""
        return self._in_flight() > 0 and segment.seq_len == 0 and window == self._snd_wnd

    def _advance(self, ack: int, now: float) -> list[bytes]:
        """New data is acknowledged (RFC 9293 §3.10.7.4, fifth check)."""
        acked = seq.diff(ack, self._snd_una)
        self._snd_una = ack
        if seq.lt(self._snd_nxt, ack):
            self._snd_nxt = ack  # the mirror held more than we had fallen back to
        data = min(seq.diff(ack, self._buffer_seq), len(self._buffer))
        del self._buffer[:data]
        self._buffer_seq = seq.add(self._buffer_seq, data)
        self.acked_bytes += data
        while self._written and seq.le(self._written[0][0], ack):
            self._written.popleft()
        self._progress_at = now
        self._timer.acknowledged(ack, now)
        if self._in_flight():
            self._timer.restart(now)
        else:
            self._timer.stop()
        retransmit = self._congestion.new_ack(acked, ack, self._in_flight())
        if self._fin_is_acked():
            self._step(LegEvent.FIN_ACKED)
        return self._retransmit_first(now) if retransmit and self.ended is None else []

    def _take_data(self, segment: Segment) -> list[bytes]:
        """Consume what is next in order; acknowledge whatever took sequence space."""
        if not segment.seq_len:
            return []
        skip = seq.diff(self._rcv_nxt, segment.seq)
        if 0 <= skip <= segment.payload_len:
            fresh = segment.payload_len - skip
            self.consumed_bytes += fresh
            self._rcv_nxt = seq.add(self._rcv_nxt, fresh)
            if segment.flags & FIN:
                self._rcv_nxt = seq.add(self._rcv_nxt, 1)
                self._step(LegEvent.FIN_RECEIVED)
        return [self._ack()]

    # Sending

    def _output(self, now: float) -> list[bytes]:
        """Send what the mirror's window and the congestion window allow (RFC 9293 §3.8.6.2, without Nagle: the client's
        own pauses are kept), then what ends the stream."""
        out: list[bytes] = []
        if self.state is LegState.SYN_SENT:
            return out
        limit = seq.add(self._snd_una, min(self._snd_wnd, self._congestion.window))
        end = seq.add(self._buffer_seq, len(self._buffer))
        while (left := seq.diff(end, self._snd_nxt)) > 0:
            room = seq.diff(limit, self._snd_nxt)
            size = min(left, room, self._mss)
            if size <= 0 or (size < self._mss and size < left and self._in_flight() > 0):
                break  # RFC 9293 §3.8.6.2.1: no silly windows
            out.append(self._data(self._snd_nxt, size, now))
            self._snd_nxt = seq.add(self._snd_nxt, size)
        if left <= 0:
            out += self._finish_stream(end, now)
        elif not self._snd_wnd and not self._in_flight() and self._probe_at is None and self.ended is None:
            self._probe_interval = self._timer.interval
            self._probe_at = now + self._probe_interval
            self._progress_at = now
        return out

    def _data(self, at: int, size: int, now: float) -> bytes:
        """The segment with ``size`` bytes from number ``at``; what was sent before counts as a retransmission."""
        offset = seq.diff(at, self._buffer_seq)
        payload = self._buffer[offset : offset + size]
        end = seq.add(at, size)
        if at == self._snd_una:
            self._progress_at = now  # nothing was under way: a stall is counted from here
        if seq.lt(at, self._snd_max):
            self.retransmits += 1
            self._timer.forget_sample()
        else:
            self._timer.start(now, end)
        if seq.lt(self._snd_max, end):
            self.sent_bytes += seq.diff(end, seq.latest(at, self._snd_max))
            self._snd_max = end
        if self._timer.due_at is None:
            self._timer.restart(now)
        push = PSH if offset + size == len(self._buffer) else 0
        return self._packet(at, ACK | push, payload=payload)

    def _finish_stream(self, end: int, now: float) -> list[bytes]:
        """All data is out: send the FIN, or once all of it is acknowledged the RST, if the client's stream has
        ended."""
        if self._finishing == RST:
            return self._abort("client-reset") if not self._buffer else []
        if self._finishing != FIN or self._snd_nxt != end:
            return []
        if self.state in _MAY_SEND:
            self._step(LegEvent.FIN_SENT)
        elif seq.lt(self._snd_nxt, self._snd_max):
            self.retransmits += 1
        else:
            return []
        self._snd_nxt = seq.add(end, 1)
        if seq.lt(self._snd_max, self._snd_nxt):
            self._snd_max = self._snd_nxt
        if self._timer.due_at is None:
            self._timer.restart(now)
        return [self._packet(end, FIN | ACK)]

    def _retransmit_first(self, now: float) -> list[bytes]:
        """Send the first unacknowledged segment again."""
        self.retransmits += 1
        self._timer.forget_sample()
        self._timer.restart(now)
        payload = self._buffer[: min(self._mss, seq.diff(self._snd_max, self._snd_una))]
        return [self._packet(self._snd_una, ACK if payload else FIN | ACK, payload=payload)]

    def _retransmission_timeout(self, now: float) -> list[bytes]:
        """RFC 6298 §5.4-5.7; after it all that is in flight counts as lost."""
        connecting = self.state is LegState.SYN_SENT
        if now - self._progress_at >= (CONNECT_TIMEOUT if connecting else STALL_TIMEOUT):
            return self._abort("connect-timeout" if connecting else "stalled")
        self._timer.back_off(now)
        self.timeouts += 1
        if connecting:
            self.retransmits += 1
            return [self._syn()]
        self._congestion.timeout(self._in_flight(), self._snd_max)
        progress_at = self._progress_at
        self._snd_nxt = self._snd_una
        out = self._output(now) or self._retransmit_first(now)
        self._progress_at = progress_at
        return out

    def _probe(self, now: float) -> list[bytes]:
        """Ask for the window with a number below it, which any TCP answers (RFC 9293 §3.8.6.1; as Linux probes)."""
        if now - self._progress_at >= STALL_TIMEOUT:
            return self._abort("stalled")
        self._probe_interval = min(self._probe_interval * 2, RetransmitTimer.MAX)
        self._probe_at = now + self._probe_interval
        return [self._packet(seq.add(self._snd_una, -1), ACK)]

    # Ending

    def _linger_until(self) -> float | None:
        if self._gone_at is None:
            return None
        progress = max(self._gone_at, self._progress_at)
        return min(progress + LINGER_TIMEOUT, self._gone_at + LINGER_LIMIT)

    def _all_delivered(self) -> bool:
        return self._finishing is not None and not self._buffer and self.state is not LegState.SYN_SENT

    def _fin_is_acked(self) -> bool:
        sent = self.state in (LegState.FIN_WAIT_1, LegState.CLOSING, LegState.LAST_ACK)
        return sent and self._snd_una == self._snd_max

    def _step(self, event: LegEvent) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is not None:
            self.state = following
        if self.state is LegState.CLOSED:
            self._end("closed")

    def _abort(self, reason: str) -> list[bytes]:
        silent = self.state is LegState.SYN_SENT
        self._end(reason)
        # Before the SYN-ACK there is no number that the mirror would take a RST for but the SYN's own.
        return [self._packet(self._snd_max, RST if silent else RST | ACK, ack=0 if silent else None)]

    def _end(self, reason: str) -> None:
        self.state = LegState.CLOSED
        self.ended = reason
        self._buffer = bytearray()
        self._written.clear()
        self._timer.stop()
        self._probe_at = None

    # Building

    def _in_flight(self) -> int:
        return seq.diff(self._snd_nxt, self._snd_una)

    def _syn(self) -> bytes:
        options = bytes((OPT_MSS, 4, _MSS >> 8, _MSS & 0xFF, OPT_NOP, OPT_WINDOW_SCALE, 3, _SCALE))
        return build(self.client, self.mirror, seq=self._snd_una, ack=0, flags=SYN, window=_WINDOW, options=options)

    def _ack(self) -> bytes:
        return self._packet(self._snd_max, ACK)

    def _packet(self, at: int, flags: int, *, payload: bytes | bytearray = b"", ack: int | None = None) -> bytes:
        return build(
            self.client,
            self.mirror,
            seq=at,
            ack=self._rcv_nxt if ack is None else ack,
            flags=flags,
            window=_WINDOW,
            payload=payload,
        )
