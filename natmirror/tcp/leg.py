"""A leg: the TCP connection that we hold with a mirror in the client's name, built from synthesised packets.

Theory. The leg is the active side of an ordinary TCP connection (RFC 9293) whose application is the client's byte
stream and which throws away what it receives. Inside, a leg of the client's own bytes has the client's sequence
numbers, so that both streams are compared as they are. On the wire its numbers are shifted by an offset
(initial_numbers.py): a mirror must not learn where production's connection stands, or it could reset it. Here are the
states, what a segment means in each, and when to give up; the two halves, sender.py and receiver.py, keep the numbers.

The leg does no I/O and knows no clock: segments and times go in, packets come out.
"""

from collections.abc import Callable, Iterable

from natmirror.fastpath import NEVER, SACK, STEADY, LegTable
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, RST, SYN, Segment
from natmirror.rules import Mirror
from natmirror.tcp.client_window import slack_of
from natmirror.tcp.leg_base import CHALLENGE_INTERVAL, HEADERS_LEN, MSS, MTU, LegBase
from natmirror.tcp.leg_states import TRANSITIONS, LegEvent, LegState
from natmirror.tcp.receiver import ACK_DELAY
from natmirror.tcp.sender import Piece

_LINGERS = 12  # a leg whose client is gone lives this many times its linger, however it progresses
_DEFAULT_MSS = 536  # RFC 9293 §3.7.1, where the peer names none
_MIN_MSS = 48  # the smallest a peer may make us use: IPv4's minimum MTU of 68 (RFC 791) less TCP's largest header
_MIN_PATH_MTU = 552  # Linux's ip_forward_min_pmtu: smaller ones are not believed


class Leg(LegBase):
    """One connection to one mirror.

    ``local`` is where it comes from: the client's endpoint, or one of ours. Every method that takes ``now`` (seconds)
    gives the packets to send, which may hold more data than ``segment_len`` bytes: they are cut on their way.
    ``ended`` is None while the leg lives, then the reason of its end; an ended leg takes and gives nothing any more.

    Its numbers lie in ``row``, in the table of legs, until it has ended.
    """

    __slots__ = ("_gone_at", "_listener", "_path_mtu", "_resetting", "client_waits")

    def __init__(
        self,
        table: LegTable,
        local: Endpoint,
        settings: Mirror,
        *,
        iss: int,
        offset: int,
        path_mtu: int = MTU,
        listener: Callable[[bytes], None] | None = None,
    ) -> None:
        """``iss`` is the client's own. On the wire to the mirror each number lies ``offset`` after the leg's own; the
        way takes packets of at most ``path_mtu`` bytes, as far as is known.

        ``listener`` is given what the mirror sends, in order, and nothing at its end; without one it is thrown away.
        """
        super().__init__(table, local, settings, iss, offset)
        self.row.max_buffer = settings.buffer + (2 * slack_of(settings.buffer) if settings.throttles else 0)
        self.row.stall_timeout = settings.stall_timeout
        self.row.idle_timeout = NEVER if settings.idle_timeout is None else settings.idle_timeout
        self._path_mtu = path_mtu
        self._listener = listener
        self._resetting = False  # the client was reset: a RST follows the last byte
        self._gone_at: float | None = None
        self.client_waits = False
        """The client has used up the window that it is shown because of this leg."""

    # What the engine asks of a leg

    def open(self, now: float) -> list[bytes]:
        """Send the SYN."""
        row = self.row
        row.progress_at = row.heard_at = now
        row.snd_nxt = row.snd_max = seq.add(row.snd_una, 1)
        self._sender.timer.start(now, row.snd_max)
        return [self._syn()]

    def write(self, data: bytes, now: float, *, wanted: int | None = None) -> list[bytes]:
        """Take the next bytes of the client's stream; a full buffer ends the leg.

        A mirror that has everything so far is not behind, however much comes at once. ``wanted``: bytes that room is
        needed for, where what comes at once is written in pieces: all of them with the first piece, 0 with others.
        """
        if self.ended is not None or not data:
            return []
        self._sender.take_over()
        row = self.row
        wanted = len(data) if wanted is None else wanted
        if wanted and row.buffered and row.buffered + wanted > row.max_buffer:
            return self._abort("buffer-full")
        if not self._sender.write(data, now):
            return self._abort("memory-full")
        row.heard_at = row.written_at = now
        return self._output(now)

    def finish(self, now: float) -> list[bytes]:
        """The client has closed its side: a FIN follows the last byte."""
        self._sender.take_over()
        self._sender.finishing = not self._resetting
        return self._output(now) if self.ended is None else []

    def reset(self, now: float) -> list[bytes]:
        """The connection was reset: a RST follows the last byte, so that the mirror has what the backend had."""
        self._sender.take_over()
        self._resetting = True
        self._sender.finishing = False
        return self._output(now) if self.ended is None else []

    def client_gone(self, now: float) -> None:
        """Production's connection is over: from now on the leg lives for a bounded time."""
        if self._gone_at is None:
            self._gone_at = now

    def abort(self, reason: str) -> list[bytes]:
        """End the leg at once, with a RST."""
        return self._abort(reason) if self.ended is None else []

    def give_way(self, reason: str) -> list[bytes]:
        """End the leg at once, without a word: its address and port are somebody else's now."""
        if self.ended is None:
            self._end(reason)
        return []

    def unreachable(self, about: int) -> list[bytes]:
        """A router or host says that the segment with number ``about`` on the wire cannot be delivered.

        Heeded while connecting only (RFC 5927 §5.2: a soft error for a connection that stands).
        """
        if self.state is LegState.SYN_SENT and self._inward(about) == self.row.snd_una:
            self._end("unreachable")
        return []

    def path_mtu(self, mtu: int, about: int, now: float) -> list[bytes]:
        """A router's fragmentation-needed for the segment with number ``about`` on the wire (RFC 1191, checks of RFC
        5927 §7)."""
        if self.ended is not None:
            return []
        self._sender.take_over()
        shrunk = self._sender.shrink(max(mtu, _MIN_PATH_MTU) - HEADERS_LEN, self._inward(about))
        return self._output(now) if shrunk else []

    def receive(self, segment: Segment, now: float) -> list[bytes]:
        """A segment of the mirror's with a right checksum (RFC 9293 §3.10.7)."""
        return self._receive(self._inner(segment), now) if self.ended is None else []

    def _receive(self, segment: Segment, now: float) -> list[bytes]:
        self._sender.take_over()
        if self.state is LegState.SYN_SENT:
            return self._receive_syn_sent(segment, now)
        return self._receive_synchronized(segment, now)

    def next_timer(self) -> float | None:
        """When handle_timer() is due, or None."""
        if self.ended is not None:
            return None
        at, _ = self._deadline()
        due = [when for when in (self._sender.probe_at, at) if when is not None]
        when = min([self.row.rto_at, self.row.ack_at, self.row.more_at, *due])
        return None if when == NEVER else when

    def hand_over(self) -> None:
        """After the leg has moved: let the C gear have it where nothing but data and acknowledgements is to come, and
        say when it is due."""
        if self.ended is not None:
            return
        if self._is_at_rest() and self._receiver.is_steady and self._sender.is_steady:
            self.row.flags |= STEADY
        else:
            self.row.flags &= ~STEADY
        due = self.next_timer()
        self._table.set_due(self.row, NEVER if due is None else due)

    def _is_at_rest(self) -> bool:
        return self.state is LegState.ESTABLISHED and self._gone_at is None and not self._settings.throttles

    def handle_timer(self, now: float) -> list[bytes]:
        """Do what is due: go on sending, retransmit, probe a closed window, or give up."""
        if self.ended is not None:
            return []
        sender = self._sender
        sender.take_over()
        at, reason = self._deadline()
        if at is not None and now >= at:
            return self._abort(reason)
        if sender.probe_at is not None and now >= sender.probe_at:
            return self._build([sender.probe(now)])
        if now < self.row.rto_at:
            if now >= self.row.more_at:
                return self._output(now)
            return [self._ack()] if now >= self.row.ack_at else []
        if self.state is LegState.SYN_SENT:
            return self._resend_syn(now)
        return self._build(sender.time_out(now))

    # What another host's leg, which goes on here, does otherwise (resumed_leg.py)

    is_asking = False
    """Whether the mirror has still to say how far it has come."""

    @property
    def hole_reason(self) -> str:
        """Why the leg ends where bytes are missing that the client will not send again."""
        return "hole"

    def unheard_of(self, data: bytes, start: int) -> bytes:
        """Of the client's bytes, from number ``start`` on, those that the mirror does not have from elsewhere."""
        return data

    def ask_again(self, now: float) -> bool:
        """Bytes are missing that the client will not send again; whether the mirror may have them from elsewhere, and
        will be asked."""
        return False

    # Receiving

    def _receive_syn_sent(self, segment: Segment, now: float) -> list[bytes]:
        """RFC 9293 §3.10.7.3."""
        acceptable = bool(segment.flags & ACK) and segment.ack == self.row.snd_max
        if segment.flags & RST:
            if acceptable:
                self._step(LegEvent.RESET, "refused")
            return []
        if segment.flags & ACK and not acceptable:
            # An older connection of these ports still stands at the mirror. The RST clears it, and the SYN follows at
            # once (RFC 9293 §3.5.1, half-open connection discovery).
            return [self._packet(segment.ack, RST, ack=0), *self._call_again(now)]
        if not segment.flags & SYN or not acceptable:
            return []
        self.row.scale = segment.window_scale() or 0
        self._receiver.start(segment.seq)
        mss = self._limit_mss(segment.mss() or _DEFAULT_MSS)
        # The window is never scaled on a SYN (RFC 7323 §2.2)
        self._sender.start(segment.ack, segment.window, mss, sack=segment.sack_permitted(), now=now)
        self._step(LegEvent.SYN_ACK)
        return self._output(now) or [self._ack()]

    def _receive_synchronized(self, segment: Segment, now: float) -> list[bytes]:
        """RFC 9293 §3.10.7.4, in its order of checks."""
        in_window = self._receiver.is_in_window(segment)
        if segment.flags & RST:
            if segment.seq == self.row.rcv_nxt:
                self._step(LegEvent.RESET, "mirror-reset")
                return []
            return self._challenge(now) if in_window else []  # RFC 5961 §3.2
        if segment.flags & SYN:
            return self._challenge(now)  # RFC 5961 §4.2
        if not in_window:  # old duplicates, and keep-alives
            return [self._ack()] if segment.seq_len else self._challenge(now)
        if not segment.flags & ACK:
            return []
        if not self._sender.is_acceptable(segment.ack):
            return self._challenge(now)  # RFC 5961 §5.2
        out = self._take_ack(segment, now)
        if self.ended is None and segment.seq_len:
            self.row.heard_at = now
            finished = self._receiver.finished
            in_turn = segment.seq == self.row.rcv_nxt and self._receiver.is_steady
            fresh = self._receiver.take(segment, keeps_order=self._listener is not None)
            if self._listener is not None and fresh:
                self._listener(fresh)
            if self._receiver.finished and not finished:
                self._step(LegEvent.FIN_RECEIVED)
                if self._listener is not None:
                    self._listener(b"")
            # What fills a gap, or makes one, is told at once (RFC 5681 §4.2).
            out += self._owe_ack(segment, now) if in_turn and self._receiver.is_steady else [self._ack()]
        return out

    def _owe_ack(self, segment: Segment, now: float) -> list[bytes]:
        """Data in its turn: each second segment is acknowledged at once, a first one with the next packet or after a
        moment (RFC 9293 §3.8.6.3)."""
        row = self.row
        if segment.payload_len > row.mss or row.ack_at != NEVER:
            return [self._ack()]
        row.ack_at = now + ACK_DELAY
        return []

    def _take_ack(self, segment: Segment, now: float) -> list[bytes]:
        sender = self._sender
        was_acked = sender.fin_acked
        pieces = sender.take_ack(
            segment.ack,
            segment.window << self.row.scale,
            self._inner_blocks(segment) if self.row.flags & SACK else (),
            bare=segment.seq_len == 0,
            now=now,
        )
        out = self._sent(pieces)
        if sender.fin_acked and not was_acked:
            self._step(LegEvent.FIN_ACKED)
        return out

    # Sending

    def _output(self, now: float) -> list[bytes]:
        """Send what may be sent, once the mirror has answered."""
        return [] if self.state is LegState.SYN_SENT else self._sent(self._sender.output(now))

    def _sent(self, pieces: Iterable[Piece]) -> list[bytes]:
        """The packets of what the sender gave, and what follows from it: the FIN's state, or the RST that ends the
        leg when the client was reset."""
        out = self._build(pieces)
        if self._sender.fin_sent:
            self._step(LegEvent.FIN_SENT)
        if self._resetting and not self.row.buffered and self.ended is None:
            out += self._abort("client-reset")
        return out

    def _resend_syn(self, now: float) -> list[bytes]:
        """RFC 6298 §5.4-5.6."""
        self._sender.timer.back_off(now)
        self.row.timeouts += 1
        self.row.retransmits += 1
        return [self._syn()]

    def _call_again(self, now: float) -> list[bytes]:
        """The SYN once more, without waiting for the timer; not often, whatever the mirror sends."""
        if now - self._challenged_at < CHALLENGE_INTERVAL:
            return []
        self._challenged_at = now
        self.row.retransmits += 1
        self._sender.timer.forget_sample()
        self._sender.timer.restart(now)
        return [self._syn()]

    def _limit_mss(self, mss: int) -> int:
        """The most data that a segment takes, where the mirror takes ``mss`` bytes."""
        path_mss = max(self._path_mtu, _MIN_PATH_MTU) - HEADERS_LEN
        return max(min(mss, MSS, path_mss), _MIN_MSS)

    # Ending

    def _deadline(self) -> tuple[float | None, str]:
        """When the leg is given up if nothing happens, and why."""
        settings, row = self._settings, self.row
        if self.client_waits and row.buffered:
            first = (max(row.progress_at, row.written_at) + settings.throttle_limit, "throttle-limit")
        elif self.state is LegState.SYN_SENT:
            first = (row.progress_at + settings.connect_timeout, "connect-timeout")
        elif self._sender.outstanding:
            # Deviation: a window that stays closed counts as well, answered probes or not (RFC 9293 §3.8.6.1 would
            # have us wait for ever): what waits for it costs memory that other legs may want.
            first = (row.progress_at + settings.stall_timeout, "stalled")
        elif settings.idle_timeout is not None:
            first = (row.heard_at + settings.idle_timeout, "idle-timeout")
        else:
            first = None
        if self._gone_at is None:
            return first or (None, "")
        progress = max(self._gone_at, row.progress_at)
        until = min(progress + settings.linger, self._gone_at + _LINGERS * settings.linger)
        linger = (until, "closed" if self._all_delivered() else "linger-timeout")
        return linger if first is None else min(first, linger)

    def _all_delivered(self) -> bool:
        ending = self._sender.finishing or self._resetting
        return ending and not self.row.buffered and self.state is not LegState.SYN_SENT

    def _step(self, event: LegEvent, reason: str = "closed") -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is not None:
            self.state = following
            if following is LegState.CLOSED:
                self._end(reason)

    def _abort(self, reason: str) -> list[bytes]:
        silent = self.state is LegState.SYN_SENT
        self._end(reason)
        # Before the SYN-ACK there is no number that the mirror would take a RST for but the SYN's own.
        return [self._packet(self.row.snd_max, RST if silent else RST | ACK, ack=0 if silent else None)]

    def _end(self, reason: str) -> None:
        self.state = LegState.CLOSED
        self.ended = reason
        self.row = self._receiver.row = self._table.retire(self.row)
        self._sender.retire(self.row)
