"""Capture files: reading IPv4 packets with their times, and writing raw IP packets.

pcapy-ng (libpcap) reads pcap and pcapng files. dpkt writes, because pcapy-ng cannot make the header of a new packet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dpkt
import pcapy

from natmirror.errors import CaptureError

# DLT_* of libpcap
_ETHERNET, _RAW, _LINUX_SLL, _IPV4, _LINUX_SLL2 = 1, 12, 113, 228, 276
_LINKTYPE_RAW = 101

_IPV4_TYPE = 0x0800
_VLAN_TYPES = frozenset({0x8100, 0x88A8})
_ETHERNET_LEN, _SLL_LEN, _SLL2_LEN, _VLAN_LEN = 14, 16, 20, 4
_IPV4_HEADER_LEN = 20
_SNAP_LEN = 262_144
# A pcap's seconds have 32 bits; an hour is left for packets that the engine sends after the last one
_MAX_TIME = 0xFFFF_FFFF - 3600
_MICROSECONDS = 1_000_000


@dataclass(slots=True)
class Captured:
    """One packet of a capture. ``packet`` begins with its IP header; None where it is not IPv4 or was cut short."""

    at: float
    """The time in the capture, in seconds."""
    packet: bytes | None
    cut_short: bool


def read(path: Path) -> Iterator[Captured]:
    """Return the packets of a capture in their order.

    CaptureError: at once for a file that is no capture, and while reading where the capture breaks off.
    """
    try:
        reader = pcapy.open_offline(str(path))
    except pcapy.PcapError as error:
        raise CaptureError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    link = reader.datalink()
    if link not in (_ETHERNET, _RAW, _LINUX_SLL, _IPV4, _LINUX_SLL2):
        raise CaptureError(f"{path}: expected Ethernet, Linux cooked or raw IP packets, found link type {link}")
    return _packets(path, reader, link)


def _packets(path: Path, reader: Any, link: int) -> Iterator[Captured]:
    count = 0
    while True:
        try:
            header, frame = reader.next()
        except pcapy.PcapError as error:
            raise CaptureError(f"{path}: {error}, after {count} packets") from None
        if header is None:
            return
        seconds, microseconds = header.getts()
        at = seconds + microseconds / _MICROSECONDS
        if not 0 <= at <= _MAX_TIME:
            raise CaptureError(f"{path}: expected times from 1970 to 2106, found {seconds} s, after {count} packets")
        count += 1
        cut_short = header.getcaplen() < header.getlen()
        packet = None if cut_short else ipv4_of(link, frame)
        yield Captured(at, packet, cut_short)


def ipv4_of(link: int, frame: bytes) -> bytes | None:
    """Return the IPv4 packet in a frame of this link type, or None."""
    if link in (_RAW, _IPV4):
        return _unpadded(frame) if frame[:1] and frame[0] >> 4 == 4 else None
    type_at, at = {
        _ETHERNET: (_ETHERNET_LEN - 2, _ETHERNET_LEN),
        _LINUX_SLL: (_SLL_LEN - 2, _SLL_LEN),
        _LINUX_SLL2: (0, _SLL2_LEN),
    }[link]
    kind = int.from_bytes(frame[type_at : type_at + 2], "big")
    while kind in _VLAN_TYPES:
        kind = int.from_bytes(frame[at + 2 : at + 4], "big")
        at += _VLAN_LEN
    return _unpadded(frame[at:]) if kind == _IPV4_TYPE and len(frame) > at else None


def _unpadded(packet: bytes) -> bytes:
    """Return the packet without the padding of a short Ethernet frame, as the kernel does before the first hook."""
    total_len = int.from_bytes(packet[2:4], "big")
    return packet[:total_len] if total_len >= _IPV4_HEADER_LEN else packet


class Writer:
    """A pcap file of raw IP packets; a context manager. CaptureError where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise self._failed(error) from None
        self._writer = dpkt.pcap.Writer(self._file, snaplen=_SNAP_LEN, linktype=_LINKTYPE_RAW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write the buffered packets and close the file."""
        try:
            self._file.close()
        except OSError as failure:
            raise self._failed(failure) from None

    def write(self, at: float, packet: bytes) -> None:
        """Write a packet; ``at`` is in seconds since 1970."""
        # Round to whole microseconds first: dpkt splits off the seconds, and would write 0.9999997 s as 1,000,000 µs.
        rounded = Fraction(round(at * _MICROSECONDS), _MICROSECONDS)
        try:
            self._writer.writepkt(packet, rounded)
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self._path}: {error.strerror}")
