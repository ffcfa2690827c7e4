"""Writes a capture: holds packets until their comments are there, sorts them to their sides, keeps the bounds.

No I/O but ``write`` and no clock: packets, answers and the time go in.
"""

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from natmirror.api.text import counted, size
from natmirror.capture import pcapng
from natmirror.capture.headers import Headers, read
from natmirror.capture.sides import BACKEND, CLIENT, Place, Side, Sorter
from natmirror.capture.story import Comment, Story
from natmirror.linux.packet_socket import SeenPacket

HOLD = 2.0
"""Seconds for which a packet waits: the API has answered by then, and packets of other processors have come."""

_MAX_HELD_BYTES = 64 << 20
_DESCRIPTIONS = {
    Place.CLIENT: "the client's packets as they came in, and what was sent to the client",
    Place.BACKEND: "the client's packets as they were sent on, and what came in from the backend",
    Place.COPY: "the legs' packets to the mirror as they left this host",
    Place.ANSWERS: "the mirror's packets as they came in; natmirror reads them, and passes none on",
}
_OF_ALL = "the kernel counts the packets that it drops for all sides together"
_STATISTICS_ROOM = 1024  # bytes for a side's description and statistics


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a capture is full; None: never."""

    packets: int | None
    bytes: int


@dataclass(slots=True)
class Sums:
    """What the file has of one side at one interface."""

    number: int
    packets: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Recorder:
    """Writes one capture. ``write`` takes whole blocks; ``start`` is in nanoseconds since 1970."""

    sorter: Sorter
    story: Story
    bounds: Bounds
    write: Callable[[bytes], None]
    start: int
    is_live: bool = False
    """A program reads the capture while it is written."""
    full: str = ""
    """Why the capture takes no more packets; empty while it does."""
    sums: dict[tuple[Side, str], Sums] = field(default_factory=dict)
    """What the file has, by side and interface."""
    made: dict[str, int] = field(default_factory=dict)
    """Packets that natmirror has made for each mirror."""
    _held: list[tuple[int, int, float, SeenPacket, Headers]] = field(default_factory=list)
    _held_bytes: int = 0
    _settled: dict[int, list[str]] = field(default_factory=dict)  # comments by the serial number of their packet
    _serial: "itertools.count[int]" = field(default_factory=itertools.count)
    _last: tuple[Sums, SeenPacket, list[str]] | None = None
    _count: int = 0
    _written: int = 0

    def begin(self, comment: str, program: str, system: str) -> None:
        """Write the file's header."""
        self._write(pcapng.section(comment, program, system))

    def take(self, packet: SeenPacket, now: float) -> bool:
        """Take a packet; return whether it opens a connection of the client's. ``now`` is monotonic, in seconds."""
        headers = read(packet.frame[packet.link_len :])
        if headers is None:
            return False
        heapq.heappush(self._held, (packet.at, next(self._serial), now, packet, headers))
        self._held_bytes += len(packet.frame)
        return headers.opens and not packet.is_outgoing

    def advance(self, now: float, *, to_end: bool = False) -> None:
        """Write the packets that have waited long enough, or all. Without ``is_live`` the last of them stays, so that a
        later comment finds a packet."""
        while self._held and not self.full:
            _, serial, since, packet, headers = self._held[0]
            if not to_end and now - since < HOLD and self._held_bytes <= _MAX_HELD_BYTES:
                break
            heapq.heappop(self._held)
            self._held_bytes -= len(packet.frame)
            found = self.sorter.side_of(headers, packet.device, is_outgoing=packet.is_outgoing)
            if found is not None:
                self._sort(packet, *found, self._settled.pop(serial, []))
        if self.is_live:
            self._put_last()

    def settle(self) -> None:
        """Give the comments on legs' ends to the last packets of these legs, as far as those are still held."""
        ends: dict[int | None, list[Comment]] = {}
        for comment in self.story.ends():
            ends.setdefault(comment.port, []).append(comment)
        last: dict[int, tuple[int, int]] = {}
        for at, serial, _, packet, headers in self._held if ends else ():
            found = self.sorter.side_of(headers, packet.device, is_outgoing=packet.is_outgoing)
            for comment in ends.get(found[1], ()) if found else ():
                if found and found[0] in comment.sides and at <= comment.at:
                    last[id(comment)] = max(last.get(id(comment), (0, 0)), (at, serial))
        for comment in (one for comments in ends.values() for one in comments):
            if id(comment) in last:
                self._settled.setdefault(last[id(comment)][1], []).append(comment.text)
            else:
                self.story.put_back(comment)

    def end(self, at: int, lost: int) -> None:
        """Write the sums of all sides, also of those without a packet. ``at`` is in nanoseconds since 1970, ``lost``
        the number of packets that the kernel has dropped."""
        if self._last is not None:
            self._last[2].extend(self.story.rest())
            self._put_last()
        with_packets = {side for side, _ in self.sums}
        mirrors = [Side(place, one) for one in self.sorter.mirrors for place in (Place.COPY, Place.ANSWERS)]
        for side in (CLIENT, BACKEND, *mirrors):
            if side not in with_packets:
                self._interface(side, "", pcapng.RAW)
        for sums in self.sums.values():
            self.write(pcapng.statistics(sums.number, at, self.start, sums.packets, lost, _OF_ALL if lost else ""))

    def summary(self) -> list[str]:
        """Return a line for each side."""
        lines = [
            f"{_named(side, device)}: {counted(sums.packets, 'packet')}, {size(sums.bytes)}"
            for (side, device), sums in sorted(self.sums.items())
        ]
        copied: Mapping[str, int] = {side.mirror: sums.packets for (side, _), sums in self.sums.items() if sums.packets}
        for mirror, count in self.made.items():
            if mirror not in copied:
                lines.append(
                    f"natmirror made {counted(count, 'packet')} for {mirror}, and none left this host: natmirror doctor"
                    " looks for what drops them"
                )
        if not copied and not self.made:
            lines.append(
                "no packet came meanwhile: an open connection without data sends none; natmirror explain tells what is"
                " open"
            )
        return lines

    def _sort(self, packet: SeenPacket, side: Side, port: int | None, settled: list[str]) -> None:
        if side.place is Place.MADE:
            self.made[side.mirror] = self.made.get(side.mirror, 0) + 1
            return
        if self.bounds.packets is not None and self._count >= self.bounds.packets:
            self.full = f"it has {counted(self.bounds.packets, 'packet')} (--limit)"
            return
        self._put_last()
        sums = self._interface(side, packet.device, pcapng.ETHERNET if packet.link_len else pcapng.RAW)
        self._last = sums, packet, self.story.take(packet.at, port, side) + settled
        self._count += 1

    def _put_last(self) -> None:
        """Write the packet that came last, unless the file would be too large."""
        if self._last is None:
            return
        (sums, packet, comments), self._last = self._last, None
        flags = pcapng.OUTBOUND if packet.is_outgoing else pcapng.INBOUND
        block = pcapng.packet(sums.number, packet.at, packet.frame, packet.length, flags, comments)
        if self._written + len(block) + _STATISTICS_ROOM * (len(self.sums) + 2) > self.bounds.bytes:
            self.full = f"it has {self.bounds.bytes // 1_000_000} MB (--size)"
            return
        self._write(block)
        sums.packets += 1
        sums.bytes += packet.length

    def _interface(self, side: Side, device: str, link: int) -> Sums:
        """Return the sums of a side at an interface, which is described in the file before its first packet."""
        sums = self.sums.get((side, device))
        if sums is None:
            sums = self.sums[side, device] = Sums(len(self.sums))
            self._write(pcapng.interface(link, _named(side, device), _DESCRIPTIONS[side.place]))
        return sums

    def _write(self, block: bytes) -> None:
        self.write(block)
        self._written += len(block)


def _named(side: Side, device: str) -> str:
    return f"{side} ({device})" if device else f"{side} (no packet)"
