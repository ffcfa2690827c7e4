"""Reassembles fragments as Linux does (net/ipv4/ip_fragment.c), so that a replay decides on the packets that the kernel
would have queued.

Theory. A packet's fragments have its addresses, protocol and identification. They are kept until they are whole, or for
30 seconds. A fragment inside a run of bytes that are already there is a duplicate, and ignored. One that overlaps
others, or contradicts the packet's length, discards the packet: it may be an attack on what reads it.
"""

from bisect import bisect
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from operator import itemgetter

from natmirror.net.checksum import ones_sum
from natmirror.net.packet import IP_HEADER_LEN, MAX_PACKET_LEN

_TIME = 30.0  # seconds: net.ipv4.ipfrag_time
_MEMORY = 4 << 20  # bytes: net.ipv4.ipfrag_high_thresh
_FRAGMENT_COST = 768  # about what the kernel counts for a fragment besides its bytes
_MAX_DISTANCE = 64  # net.ipv4.ipfrag_max_dist
_MORE_FRAGMENTS, _DONT_FRAGMENT, _OFFSET = 0x2000, 0x4000, 0x1FFF
_ECN_CE = 3


class Fate(StrEnum):
    """Why fragments did not become a packet."""

    INCOMPLETE = "incomplete"
    OVERLAPPING = "overlapping"
    CONTRADICTORY = "contradictory"
    DUPLICATE = "duplicate"
    TOO_MANY = "too many at once"


class _Discarded(Exception):
    """A fragment that discards its whole packet."""

    def __init__(self, fate: Fate) -> None:
        super().__init__(fate)
        self.fate = fate


@dataclass(slots=True)
class _Packet:
    """The fragments of one packet."""

    began_at: float
    source: bytes
    distance: int
    """The count of its source's fragments when its latest one came."""
    fragments: list[tuple[int, bytes]] = field(default_factory=list)
    """Offset and data of each."""
    runs: list[tuple[int, int]] = field(default_factory=list)
    """First and last offset of adjacent fragments that came in order, sorted."""
    first: bytes | None = None
    """The header of the fragment with offset 0."""
    end: int = 0
    has_last: bool = False
    data_len: int = 0
    largest: int = 0
    largest_unfragmentable: int = 0
    ecn: int = 0
    """A bit for each codepoint that a fragment has."""

    @property
    def cost(self) -> int:
        return self.data_len + len(self.fragments) * _FRAGMENT_COST


class Reassembly:
    """The fragments of a capture."""

    def __init__(self) -> None:
        self._packets: OrderedDict[bytes, _Packet] = OrderedDict()  # the oldest first
        self._sources: dict[bytes, int] = {}  # fragments of each source that has one waiting
        self._waiting_by_source: Counter[bytes] = Counter()
        self._memory = 0
        self.used = 0
        """Fragments that became packets."""
        self.made = 0
        """Packets that they became."""
        self.unused: Counter[Fate] = Counter()
        """Other fragments, by what became of them."""

    def add(self, packet: bytes, now: float) -> bytes | None:
        """Add a fragment whose length fields are right. Return the packet that it makes whole, or None."""
        self._expire(now)
        if self._memory > _MEMORY:
            self.unused[Fate.TOO_MANY] += 1
            return None
        key = packet[12:20] + packet[9:10] + packet[4:6]
        waiting = self._packets.get(key)
        if waiting is None:
            waiting = self._packets[key] = _Packet(now, packet[12:16], self._sources.get(packet[12:16], 0))
            self._waiting_by_source[waiting.source] += 1
        if self._is_too_far(waiting):
            waiting = self._restart(key, now)
        self._memory -= waiting.cost
        try:
            is_duplicate = not _insert(waiting, packet)
        except _Discarded as discarded:
            self._memory += waiting.cost
            self.unused[discarded.fate] += 1
            self._discard(key, discarded.fate)
            return None
        self._memory += waiting.cost
        if is_duplicate:
            self.unused[Fate.DUPLICATE] += 1
        if is_duplicate or waiting.first is None or not waiting.has_last or waiting.data_len != waiting.end:
            return None
        whole = _joined(waiting, waiting.first)
        if whole is None:
            self._discard(key, Fate.CONTRADICTORY)
            return None
        self.used += len(waiting.fragments)
        self.made += 1
        self._forget(key)
        return whole

    def finish(self) -> None:
        """Count the fragments that still wait, at the end of the capture."""
        for key in list(self._packets):
            self._discard(key, Fate.INCOMPLETE)

    def __str__(self) -> str:
        """Return the outcome as a line of a report; empty without fragments."""
        if not self.used and not self.unused.total():
            return ""
        unused = ", ".join(f"{fate} {count}" for fate, count in sorted(self.unused.items()) if count)
        return f"fragments that became packets: {self.used} ({self.made}), others: {unused or 'none'}"

    def _is_too_far(self, waiting: _Packet) -> bool:
        """Return whether so many other fragments of the source have come since this packet's latest one that its
        identification may have been used again."""
        before, count = waiting.distance, self._sources.get(waiting.source, 0) + 1
        waiting.distance = self._sources[waiting.source] = count
        return bool(waiting.fragments) and count - before > _MAX_DISTANCE

    def _restart(self, key: bytes, now: float) -> _Packet:
        """Discard the fragments of a packet, and begin one with the same identification."""
        old = self._packets.pop(key)
        self._memory -= old.cost
        self.unused[Fate.INCOMPLETE] += len(old.fragments)
        fresh = self._packets[key] = _Packet(now, old.source, old.distance)
        return fresh

    def _expire(self, now: float) -> None:
        while self._packets and next(iter(self._packets.values())).began_at + _TIME <= now:
            self._discard(next(iter(self._packets)), Fate.INCOMPLETE)

    def _discard(self, key: bytes, fate: Fate) -> None:
        self.unused[fate] += len(self._packets[key].fragments)
        self._forget(key)

    def _forget(self, key: bytes) -> None:
        packet = self._packets.pop(key)
        self._memory -= packet.cost
        self._waiting_by_source[packet.source] -= 1
        if not self._waiting_by_source[packet.source]:
            del self._waiting_by_source[packet.source], self._sources[packet.source]


def is_fragment(packet: bytes) -> bool:
    """Return whether an IPv4 packet is a fragment whose length fields are right."""
    header_len = (packet[0] & 15) * 4
    return (
        len(packet) >= IP_HEADER_LEN <= header_len <= len(packet) == int.from_bytes(packet[2:4], "big")
        and int.from_bytes(packet[6:8], "big") & (_MORE_FRAGMENTS | _OFFSET) != 0
    )


def _insert(waiting: _Packet, packet: bytes) -> bool:
    """Add a fragment. Return False for a duplicate; raise _Discarded if the whole packet goes."""
    header_len = (packet[0] & 15) * 4
    flags_and_offset = int.from_bytes(packet[6:8], "big")
    offset = (flags_and_offset & _OFFSET) * 8
    end = offset + len(packet) - header_len
    if not flags_and_offset & _MORE_FRAGMENTS:
        if end < waiting.end or (waiting.has_last and end != waiting.end):
            raise _Discarded(Fate.CONTRADICTORY)
        waiting.has_last, waiting.end = True, end
    else:
        end &= ~7  # all but the last have a multiple of eight bytes
        if end > waiting.end and waiting.has_last:
            raise _Discarded(Fate.CONTRADICTORY)
        waiting.end = max(waiting.end, end)
    if end <= offset:
        raise _Discarded(Fate.CONTRADICTORY)
    if not _add_run(waiting.runs, offset, end):
        return False
    data = packet[header_len : header_len + end - offset]
    waiting.fragments.append((offset, data))
    waiting.data_len += len(data)
    waiting.ecn |= 1 << (packet[1] & _ECN_CE)
    if offset == 0:
        waiting.first = packet[:header_len]
    size = len(data) + header_len
    waiting.largest = max(waiting.largest, size)
    if flags_and_offset & _DONT_FRAGMENT:
        waiting.largest_unfragmentable = max(waiting.largest_unfragmentable, size)
    return True


def _add_run(runs: list[tuple[int, int]], offset: int, end: int) -> bool:
    """Add a fragment's bytes; return False for a duplicate. As in the kernel, fragments that came in order form a run,
    and bytes inside a run are a duplicate, whatever they are."""
    if not runs or end > runs[-1][1]:
        if runs and offset < runs[-1][1]:
            raise _Discarded(Fate.OVERLAPPING)
        if runs and offset == runs[-1][1]:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((offset, end))
        return True
    at = bisect(runs, offset, key=itemgetter(1))  # the first run that ends behind the offset
    if end <= runs[at][0]:
        runs.insert(at, (offset, end))
        return True
    if offset >= runs[at][0] and end <= runs[at][1]:
        return False
    raise _Discarded(Fate.OVERLAPPING)


def _joined(waiting: _Packet, first: bytes) -> bytes | None:
    """Return the packet; None if it would be too long, or if its fragments' ECN bits do not fit (RFC 3168 §5.3)."""
    total_len = len(first) + waiting.end
    if total_len > MAX_PACKET_LEN or (waiting.ecn & 1 and waiting.ecn != 1):
        return None
    is_congested = waiting.ecn & 1 << _ECN_CE and waiting.ecn != 1 << _ECN_CE
    header = bytearray(first)
    header[1] |= _ECN_CE if is_congested else 0
    header[2:4] = total_len.to_bytes(2, "big")
    keeps_df = waiting.largest_unfragmentable == waiting.largest
    header[6:8] = (_DONT_FRAGMENT if keeps_df else 0).to_bytes(2, "big")
    header[10:12] = bytes(2)
    header[10:12] = (~ones_sum(header) & 0xFFFF).to_bytes(2, "big")
    return bytes(header) + b"".join(data for _, data in sorted(waiting.fragments))
