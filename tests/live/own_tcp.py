"""A client's connection whose TCP is the test's own, so that it can send any packet besides its honest ones."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise

from natmirror.net import seq
from natmirror.net.build import build
from natmirror.net.checksum import update_checksum_at
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, FIN, OPT_MSS, OPT_NOP, OPT_TIMESTAMPS, OPT_WINDOW_SCALE, PSH, RST, SYN, Segment
from tests.live.in_process import Wire

MAX_LEN = 1400
"""The largest segment, in bytes."""
WINDOW = 500
_SCALE = 7
_RESEND_AFTER = 0.2  # seconds
_PATIENCE = 30.0  # seconds
_TTL = 64
_SYN_OPTIONS = bytes((OPT_MSS, 4, MAX_LEN >> 8, MAX_LEN & 0xFF, OPT_NOP, OPT_WINDOW_SCALE, 3, _SCALE))


class OwnTcp:
    """A connection of ``here`` to ``there`` that sends ``stream``, and ignores what it receives."""

    def __init__(
        self, wire: Wire, here: Endpoint, there: Endpoint, stream: bytes, draw: random.Random, *, uses_stamps: bool
    ) -> None:
        self.draw = draw
        self.told = 0
        """The bytes of the stream that it has sent honestly."""
        self.edge = 0
        """The offset in the stream up to which the other end's window reaches."""
        self.rcv_nxt: int | None = None
        self.echoed = 0
        """The last timestamp of its own that the other end has echoed."""
        self.closed_by_peer = False
        self.reset = False
        self.uses_stamps = uses_stamps
        self._wire, self.here, self._there = wire, here, there
        self._stream = stream
        self._iss = draw.choice((0, 0xFFFF_FF00, 0x7FFF_FF00, draw.getrandbits(32)))
        self._una = self._iss
        self._stamp_offset = draw.choice((1000, 0xFFFF_F000, 0x7FFF_FF00)) - int(time.monotonic() * 1000)
        self.their_stamp = 0
        self._their_scale = 0
        self._segments = 0
        self._news = asyncio.Event()
        wire.on_segment(here, self._take)

    # What a client does

    @property
    def acked(self) -> int:
        """The offset in the stream up to which the other end has acknowledged it."""
        return seq.diff(self._una, self._iss) - 1

    @property
    def is_over(self) -> bool:
        """Whether the other end has ended the connection or its direction of it."""
        return self.reset or self.closed_by_peer

    def at(self, offset: int) -> int:
        """Return the sequence number of an offset in the stream."""
        return seq.add(self._iss, offset + 1)

    async def open(self, before: Sequence[bytes] = (), after: Sequence[bytes] = ()) -> None:
        """Connect; send other packets before and after each SYN."""

        def send_syn() -> None:
            for packet in (*before, self.packet(at=self._iss, flags=SYN, options=_SYN_OPTIONS), *after):
                self._wire.send(packet)

        await self._until(lambda: self.rcv_nxt is not None, send_syn)

    async def tell(self, count: int, *, shuffled: bool = False) -> None:
        """Send the next bytes of the stream in segments of any size, and have them acknowledged."""
        begin, self.told = self.told, min(self.told + count, len(self._stream))
        end = self.told
        self._send_stream(begin, min(end, self.edge), shuffled=shuffled)
        while self.acked < end and not self.is_over:
            limit = min(end, max(self.edge, self.acked + 1))
            await self._until(lambda: self.acked >= limit, lambda: self._send_stream(self.acked, limit))  # noqa: B023

    async def hear(self) -> None:
        """Have the other end answer, so that it has dealt with all that was sent before."""
        before = self._segments

        def send_keep_alive() -> None:  # RFC 9293 §3.8.4
            self._wire.send(self.packet(at=self.at(self.acked - 1), flags=ACK, payload=b"\0"))

        await self._until(lambda: self._segments > before, send_keep_alive)

    async def close(self) -> None:
        """End the stream, and wait for the other end to do so."""

        def send_fin() -> None:
            self._wire.send(self.packet(at=self.at(max(self.told, self.acked)), flags=FIN | ACK))

        await self._until(lambda: self.is_over, send_fin)

    # Packets

    @property
    def stamp(self) -> int:
        """Its timestamp now."""
        return (int(time.monotonic() * 1000) + self._stamp_offset) & seq.MASK

    def packet(
        self,
        *,
        at: int,
        payload: bytes = b"",
        flags: int = ACK | PSH,
        ack: int | None = None,
        stamp: int | None = None,
        options: bytes = b"",
        ttl: int = _TTL,
        there: Endpoint | None = None,
    ) -> bytes:
        """Return a packet of this client; by default to the other end, with the acknowledgement and the timestamp that
        are right now."""
        if self.uses_stamps:
            options = stamps_option(self.stamp if stamp is None else stamp, self.their_stamp) + options
        packet = build(
            *(self.here, there or self._there),
            seq=at,
            ack=(self.rcv_nxt or 0) if ack is None else ack,
            flags=flags,
            window=WINDOW,
            options=options,
            payload=payload,
        )
        return with_ttl(packet, ttl) if ttl != _TTL else packet

    def _send_stream(self, begin: int, end: int, *, shuffled: bool = False) -> None:
        size = self.draw.choice((1 + (end - begin) // 4, 100, MAX_LEN))
        cuts = [*range(begin, end, min(size, MAX_LEN)), end]
        parts = list(pairwise(cuts))
        for first, last in self.draw.sample(parts, len(parts)) if shuffled else parts:
            self._wire.send(self.packet(at=self.at(first), payload=self._stream[first:last]))

    def _take(self, one: Segment) -> None:
        self._segments += 1
        self.reset = self.reset or bool(one.flags & RST)
        if one.flags & SYN and self.rcv_nxt is None:
            self.rcv_nxt = seq.add(one.seq, 1)
            self._their_scale = one.window_scale() or 0
            self.uses_stamps = one.timestamps() is not None
        if self.rcv_nxt is None or self.reset:
            self._news.set()
            return
        if (stamps := one.timestamps()) is not None:
            self.their_stamp, self.echoed = stamps
        if one.flags & ACK:
            self._una = seq.latest(self._una, one.ack)
            scale = 0 if one.flags & SYN else self._their_scale
            self.edge = max(self.edge, seq.diff(one.ack, self.at(0)) + (one.window << scale))
        if one.seq == self.rcv_nxt and not one.flags & SYN:
            self.rcv_nxt = seq.add(self.rcv_nxt, one.seq_len)
            self.closed_by_peer = self.closed_by_peer or bool(one.flags & FIN)
        if one.seq_len:
            self._wire.send(self.packet(at=self.at(max(self.told, self.acked)), flags=ACK))
        self._news.set()

    async def _until(self, holds: Callable[[], bool], send: Callable[[], None]) -> None:
        """Send until a condition holds or the connection is over."""
        deadline = time.monotonic() + _PATIENCE
        while not (holds() or self.is_over):
            assert time.monotonic() < deadline, f"no answer to the client after {self.acked} bytes"
            send()
            with suppress(TimeoutError):
                async with asyncio.timeout(_RESEND_AFTER):
                    while not (holds() or self.is_over):
                        self._news.clear()
                        await self._news.wait()


def stamps_option(value: int, echo: int) -> bytes:
    """Return a timestamps option."""
    numbers = value.to_bytes(4, "big") + echo.to_bytes(4, "big")
    return bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + numbers


def with_ttl(raw: bytes, ttl: int) -> bytes:
    """Return a packet with another time to live."""
    changed = bytearray(raw)
    changed[8] = ttl
    update_checksum_at(changed, 10, raw[8:10], bytes(changed[8:10]))
    return bytes(changed)
