"""Capture files: IPv4 packets with their times out of one, raw IP packets into another.

pcapy-ng (libpcap) reads, pcap and pcapng alike; dpkt writes, since pcapy-ng cannot make the header of a packet of ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import dpkt
import pcapy

from natmirror.errors import CaptureError

# DLT_* of libpcap
_ETHERNET, _RAW, _LINUX_SLL, _IPV4, _LINUX_SLL2 = 1, 12, 113, 228, 276
_LINKTYPE_RAW = 101

_IPV4_TYPE = 0x0800
_VLAN_TYPES = frozenset({0x8100, 0x88A8})
_ETHERNET_LEN, _SLL_LEN, _SLL2_LEN, _VLAN_LEN = 14, 16, 20, 4
_SNAP_LEN = 262_144


@dataclass(slots=True)
class Captured:
    """One packet of a capture: ``packet`` from its IP header on, None where it is not IPv4 or was cut short."""

    at: float
    """Seconds, of whatever clock the capture was made by."""
    packet: bytes | None
    cut_short: bool


def read(path: Path) -> Iterator[Captured]:
    """The packets of a capture in their order; CaptureError for a file that is none, or once it breaks off."""
    try:
        reader = pcapy.open_offline(str(path))
    except pcapy.PcapError as error:
        raise CaptureError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    link = reader.datalink()
    if link not in (_ETHERNET, _RAW, _LINUX_SLL, _IPV4, _LINUX_SLL2):
        raise CaptureError(f"{path}: expected Ethernet, Linux cooked or raw IP packets, found link type {link}")
    count = 0
    while True:
        try:
            header, frame = reader.next()
        except pcapy.PcapError as error:
            raise CaptureError(f"{path}: {error}, after {count} packets") from None
        if header is None:
            return
        count += 1
        seconds, microseconds = header.getts()
        cut_short = header.getcaplen() < header.getlen()
        packet = None if cut_short else ipv4_of(link, frame)
        yield Captured(seconds + microseconds / 1e6, packet, cut_short)


def ipv4_of(link: int, frame: bytes) -> bytes | None:
    """The IPv4 packet inside a frame of a link type, or None."""
    if link in (_RAW, _IPV4):
        return frame if frame[:1] and frame[0] >> 4 == 4 else None
    type_at, at = {
        _ETHERNET: (_ETHERNET_LEN - 2, _ETHERNET_LEN),
        _LINUX_SLL: (_SLL_LEN - 2, _SLL_LEN),
        _LINUX_SLL2: (0, _SLL2_LEN),
    }[link]
    kind = int.from_bytes(frame[type_at : type_at + 2], "big")
    while kind in _VLAN_TYPES:
        kind = int.from_bytes(frame[at + 2 : at + 4], "big")
        at += _VLAN_LEN
    return frame[at:] if kind == _IPV4_TYPE and len(frame) > at else None


class Writer:
    """A pcap file of raw IP packets; a context manager. CaptureError where it cannot be written."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise CaptureError(f"{path}: {error.strerror}") from None
        self._writer = dpkt.pcap.Writer(self._file, snaplen=_SNAP_LEN, linktype=_LINKTYPE_RAW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, at: float, packet: bytes) -> None:
        """Add a packet."""
        self._writer.writepkt(packet, at)
