"""Initial sequence numbers of legs on the wire (RFC 6528).

Theory. A mirror knows the addresses and ports of the client's connection. If it also knew the connection's sequence
numbers, it could reset the connection or inject data into it. So each leg has numbers of its own. The initial
one is M + F, where M is a clock that ticks every 4 microseconds and F is a keyed hash of the leg's ends. It has to lie
above all numbers of earlier legs between the same ends, or the mirror would take the SYN for an old duplicate (RFC 9293
§3.6.1). The clock nearly always ensures that. If a leg sent faster than the clock ticks, or another host began it, its
last number is remembered until the clock has passed it.
"""

from typing import Protocol

from natmirror.fastpath import siphash, subkey
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint

_TICKS_PER_SECOND = 250_000  # RFC 6528 §3: M is the 4 microsecond timer
_MAX_REMEMBERED = 65_536  # pairs of endpoints; some 200 bytes each
_MAX_LEAD = 1 << 30
"""A leg's last number is forgotten if the clock is past it by less than this, in ticks (more than an hour). A clock
that is past it by twice as much would count as before it, because numbers wrap."""
_STEP = 1 << 20
"""The distance from a remembered number to the beginning of the next leg. No segment of the earlier leg that may still
be in the network reaches further."""


class Numbers(Protocol):
    """A source of initial sequence numbers for legs."""

    def first(self, local: Endpoint, mirror: Endpoint, now: float) -> int:
        """Return the initial number of a new leg between two endpoints."""

    def note_last(self, local: Endpoint, mirror: Endpoint, last: int, now: float) -> None:
        """Note the highest number on the wire of a leg that ends now."""


class InitialNumbers:
    """The initial numbers of RFC 6528, with a secret ``key`` of 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = subkey(key, b"initial")
        self._last: dict[bytes, int] = {}  # by the legs' ends; the number that was noted first comes first

    def first(self, local: Endpoint, mirror: Endpoint, now: float) -> int:
        """Return the initial number of a new leg between two endpoints; ``now`` is in seconds."""
        ends = ends_of(local, mirror)
        number, last = self._clock_number(ends, now), self._last.get(ends)
        return number if last is None or seq.lt(last, number) else seq.add(last, _STEP)

    def note_last(self, local: Endpoint, mirror: Endpoint, last: int, now: float) -> None:
        """Note the highest number on the wire of a leg that ends now."""
        ends = ends_of(local, mirror)
        self._last.pop(ends, None)
        if 0 < seq.diff(self._clock_number(ends, now), last) < _MAX_LEAD:
            return  # the clock is past it, and stays past it for as long as a mirror may remember the leg
        self._last[ends] = last
        if len(self._last) > _MAX_REMEMBERED:
            del self._last[next(iter(self._last))]

    def _clock_number(self, ends: bytes, now: float) -> int:
        return seq.add(siphash(self._key, ends), int(now * _TICKS_PER_SECOND))


def ends_of(local: Endpoint, mirror: Endpoint) -> bytes:
    """Return a leg's two endpoints as bytes, for a hash."""
    return local[0] + mirror[0] + local[1].to_bytes(2, "big") + mirror[1].to_bytes(2, "big")
