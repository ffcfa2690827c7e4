"""An ideal mirror for replays: it accepts every leg, acknowledges every segment, and closes when the leg does.

Theory: a receiver on a path without loss, whose window is always open (RFC 9293 §3.10.7.4 without its error cases).
"""

from typing import Protocol

from natmirror.net import seq
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, FIN, OPT_MSS, OPT_NOP, OPT_WINDOW_SCALE, RST, SYN, Segment

DELAY = 0.001
"""Seconds between a packet and the arrival of its answer."""

_ISS = 1_000_000
_WINDOW = 0xFFFF
_OPTIONS = bytes((OPT_MSS, 4, 1460 >> 8, 1460 & 0xFF, OPT_NOP, OPT_WINDOW_SCALE, 3, 7))


class Model(Protocol):
    """A model of the mirrors in a replay."""

    def answer(self, segment: Segment) -> list[bytes]:
        """Return the mirror's answers to a segment of a leg."""


class IdealMirror:
    """All the mirrors of a replay at once."""

    def __init__(self) -> None:
        self._next: dict[tuple[Endpoint, Endpoint], int] = {}  # by leg: the next expected sequence number
        self._closed: set[tuple[Endpoint, Endpoint]] = set()

    def answer(self, segment: Segment) -> list[bytes]:
        """Return the mirror's answers to a segment of a leg."""
        leg = ((segment.src, segment.sport), (segment.dst, segment.dport))
        if segment.flags & SYN:
            self._next[leg] = seq.add(segment.seq, 1)
            self._closed.discard(leg)
            return [self._packet(leg, SYN | ACK, _ISS, _OPTIONS)]
        if leg not in self._next:
            return []
        if segment.flags & RST:
            del self._next[leg]
            return []
        if segment.seq_len == 0:
            return []
        if segment.seq == self._next[leg]:
            self._next[leg] = seq.add(segment.seq, segment.seq_len)
        if not segment.flags & FIN or leg in self._closed:
            return [self._packet(leg, ACK, self._sent(leg))]
        out = [self._packet(leg, FIN | ACK, self._sent(leg))]
        self._closed.add(leg)
        return out

    def _sent(self, leg: tuple[Endpoint, Endpoint]) -> int:
        return _ISS + 1 + (leg in self._closed)

    def _packet(self, leg: tuple[Endpoint, Endpoint], flags: int, number: int, options: bytes = b"") -> bytes:
        client, mirror = leg
        return build(mirror, client, seq=number, ack=self._next[leg], flags=flags, window=_WINDOW, options=options)
