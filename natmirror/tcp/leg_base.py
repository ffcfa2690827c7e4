"""What is known of a leg, and its packets."""

from collections.abc import Iterable

from natmirror.fastpath import NEVER, SACK, LegTable
from natmirror.net import seq
from natmirror.net.packet import (
    ACK,
    OPT_MSS,
    OPT_NOP,
    OPT_SACK_PERMITTED,
    OPT_WINDOW_SCALE,
    SYN,
    Endpoint,
    Segment,
    endpoint_of,
    synthesise,
)
from natmirror.rules import Mirror
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.receiver import SCALE, WINDOW, Receiver
from natmirror.tcp.sender import Piece, Sender

MTU, HEADERS_LEN = 1500, 40  # Ethernet's; IPv4 and TCP without options
MSS = MTU - HEADERS_LEN
"""What a mirror is offered, and the most that it is sent in one segment."""

_LONG_AGO = -NEVER  # one object for all legs, each of which is to be small
CHALLENGE_INTERVAL = 0.5  # RFC 5961 §7 asks for a limit; Linux's, in seconds

_OPTIONS = bytes((OPT_MSS, 4, MSS >> 8, MSS & 0xFF, OPT_NOP, OPT_WINDOW_SCALE, 3, SCALE))
_OPTIONS += bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))


class LegBase:
    """The ends of a leg, its two halves and the numbers that they keep in ``row``."""

    __slots__ = (
        *("_challenged_at", "_receiver", "_sender", "_settings", "_table"),
        *("ended", "local", "mirror", "row", "state"),
    )

    def __init__(self, table: LegTable, local: Endpoint, settings: Mirror, iss: int, offset: int) -> None:
        self.local = local
        self.mirror = endpoint_of(settings)
        self.state = LegState.SYN_SENT
        self.ended: str | None = None
        self.row = table.insert(self.mirror, local)
        self.row.seq_offset = offset
        self._table = table
        self._settings = settings
        self._sender = Sender(table, self.row, iss)
        self._receiver = Receiver(self.row)
        self._challenged_at = _LONG_AGO

    def cut(self, reason: str) -> None:
        """Take the leg out of the table, whatever else is wrong with it."""
        self.state, self.ended = LegState.CLOSED, reason
        self.row = self._sender.row = self._receiver.row = self._table.retire(self.row)

    # What is known of it

    @property
    def last_on_the_wire(self) -> int:
        """One past the highest number that the mirror was ever sent."""
        return self._outward(self.row.snd_max)

    @property
    def una(self) -> int:
        """The first number that the mirror has not acknowledged."""
        return int(self.row.snd_una)

    @property
    def end(self) -> int:
        """One past the last byte of the client's that was written."""
        return seq.add(self.row.buffer_seq, self.row.buffered)

    @property
    def segment_len(self) -> int:
        """The most data that a segment of the leg's takes, in bytes."""
        return int(self.row.mss)

    @property
    def speaks_sack(self) -> bool:
        """Whether both ends speak of selective acknowledgements."""
        return bool(self.row.flags & SACK)

    @property
    def lag_bytes(self) -> int:
        """Bytes of the client's stream that the mirror has not acknowledged."""
        return int(self.row.buffered)

    @property
    def in_flight_bytes(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return self._sender.in_flight if self.ended is None else 0

    @property
    def sent_bytes(self) -> int:
        """Bytes of the stream that were sent, each counted once."""
        return int(self.row.sent_bytes)

    @property
    def acked_bytes(self) -> int:
        """Bytes of the stream that the mirror has acknowledged."""
        return int(self.row.acked_bytes)

    @property
    def consumed_bytes(self) -> int:
        """Bytes of the mirror's own that were acknowledged and thrown away."""
        return int(self.row.consumed_bytes)

    @property
    def retransmits(self) -> int:
        """Segments sent again."""
        return int(self.row.retransmits)

    @property
    def timeouts(self) -> int:
        """How often the retransmission timer ran out."""
        return int(self.row.timeouts)

    @property
    def rtt_seconds(self) -> float | None:
        """The smoothed round-trip time to the mirror; None before the first sample."""
        return self._sender.timer.smoothed

    def lag_seconds(self, now: float) -> float:
        """The age of the oldest byte that the mirror has not acknowledged; 0 where there is none."""
        return self._sender.age(now)

    # The numbers inside are the client's; on the wire they are shifted by row.seq_offset. Only these methods and
    # _packet() know of that; in C, emit() and process_mirrors().

    def _outward(self, number: int) -> int:
        return seq.add(number, self.row.seq_offset)

    def _inward(self, number: int) -> int:
        return seq.add(number, -self.row.seq_offset)

    def _inner(self, segment: Segment) -> Segment:
        """A segment of the mirror's, its acknowledgement number turned into the leg's own."""
        return segment.with_ack(self._inward(segment.ack))

    def _inner_blocks(self, segment: Segment) -> list[tuple[int, int]]:
        """The selective acknowledgements of a segment of the mirror's, in the leg's own numbers."""
        return [(self._inward(start), self._inward(end)) for start, end in segment.sack_blocks()]

    # Building

    def _build(self, pieces: Iterable[Piece]) -> list[bytes]:
        return [self._packet(at, flags, payload=payload) for at, flags, payload in pieces]

    def _syn(self) -> bytes:
        return self._packet(self.row.snd_una, SYN, ack=0, options=_OPTIONS)

    def _ack(self) -> bytes:
        options = self._receiver.sack_option() if self.row.flags & SACK else b""
        return self._packet(self._sender.acceptable_seq, ACK, options=options)

    def _challenge(self, now: float) -> list[bytes]:
        """An acknowledgement that tells where the leg stands, unless one has just done so (RFC 5961 §7)."""
        if now - self._challenged_at < CHALLENGE_INTERVAL:
            return []
        self._challenged_at = now
        return [self._ack()]

    def _packet(
        self, at: int, flags: int, *, payload: bytes = b"", ack: int | None = None, options: bytes = b""
    ) -> bytes:
        if ack is None:
            ack, self.row.ack_at = self.row.rcv_nxt, NEVER  # whatever is owed is told with it
        return synthesise(
            self.local,
            self.mirror,
            seq=self._outward(at),
            ack=ack,
            flags=flags,
            window=WINDOW,
            options=options,
            payload=payload,
        )
