"""Reads IPv4 packets with their times from capture files, and writes raw IP packets to them.

pcapy-ng (libpcap) reads pcap files, pcapng.py the others. dpkt writes, because pcapy-ng cannot make the header of a new
packet. Fragments are reassembled, and packets that the kernel made larger than their length field says are completed:
so the packets are those that the kernel would have queued.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dpkt
import pcapy

from natmirror.errors import CaptureError
from natmirror.net.packet import IP_HEADER_LEN
from natmirror.replay.fragments import Reassembly, is_fragment
from natmirror.replay.large_packets import pieces_of
from natmirror.replay.link_layers import Frame, ipv4_of, is_known, may_cut_silently
from natmirror.replay.pcapng import MAGIC, read_frames

_LINKTYPE_RAW = 101
_GZIP = b"\x1f\x8b"
_SNAP_LEN = 262_144
# A pcap's seconds have 32 bits; an hour is left for packets that the engine sends after the last one
_MAX_TIME = 0xFFFF_FFFF - 3600
_MICROSECONDS = 1_000_000

CUT_SHORT, NOT_IPV4, FRAGMENT = "cut short", "not IPv4", "fragment"
"""Reasons to skip a packet; others are the link types that natmirror cannot read."""


@dataclass(slots=True)
class Captured:
    """One packet of a capture."""

    at: float
    """The time in the capture, in seconds."""
    packet: bytes | None
    """The packet from its IP header on; None if there is a reason to skip it."""
    reason: str = ""


class Capture:
    """The packets of a capture file in their order. CaptureError: at once for a file that is no capture, and while
    reading where the capture breaks off."""

    def __init__(self, path: Path) -> None:
        self.reassembly = Reassembly()
        self.has_times = True
        """No packet so far was without a time."""
        self._path = path
        self._frames = _frames_of(path)
        self._packets = self._read()

    def __iter__(self) -> Iterator[Captured]:
        return self._packets

    def _read(self) -> Iterator[Captured]:
        latest = 0.0
        for count, frame in enumerate(self._frames):
            if frame.at is None:
                self.has_times, frame.at = False, latest
            if not 0 <= frame.at <= _MAX_TIME:
                found = f"{frame.at:.0f} s, after {count} packets"
                raise CaptureError(f"{self._path}: expected times from 1970 to 2106, found {found}")
            latest = frame.at
            yield from self._packets_in(frame, frame.at)

    def _packets_in(self, frame: Frame, at: float) -> Iterator[Captured]:
        """Yield what the kernel makes of a frame: one packet, or more if no length field could hold its length."""
        packet = ipv4_of(frame)
        if packet is None:
            unknown = "" if is_known(frame.link) else f"link type {frame.link}"
            yield Captured(at, None, unknown or (CUT_SHORT if frame.is_cut else NOT_IPV4))
            return
        total_len = int.from_bytes(packet[2:4], "big")
        if total_len == 0 and not frame.is_cut:
            yield from (Captured(at, piece) for piece in pieces_of(packet))
            return
        if (frame.is_cut or may_cut_silently(frame.link)) and (total_len > len(packet) or total_len == 0):
            yield Captured(at, None, CUT_SHORT)
            return
        # The kernel removes the padding of short Ethernet frames before the first hook
        packet = packet[:total_len] if total_len >= IP_HEADER_LEN else packet
        if is_fragment(packet):
            whole = self.reassembly.add(packet, at)
            yield Captured(at, whole, "" if whole else FRAGMENT)
            return
        yield Captured(at, packet)


def _frames_of(path: Path) -> Iterator[Frame]:
    """Return the frames of a capture file; CaptureError for a file that is none."""
    begin = b""
    if path.is_file():  # a pipe could not be read again
        try:
            file = path.open("rb")
        except OSError as error:
            raise CaptureError(f"{path}: {error.strerror}") from None
        begin = file.read(len(MAGIC))
        if begin == MAGIC:
            file.seek(0)
            return read_frames(path, file)
        file.close()
        if not begin:
            raise CaptureError(f"{path}: expected a pcap or pcapng file, found an empty file")
        if begin.startswith(_GZIP):
            raise CaptureError(f"{path}: expected a pcap or pcapng file, found a compressed one: decompress it first")
    try:
        reader = pcapy.open_offline(str(path))
    except pcapy.PcapError as error:
        raise CaptureError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    link = reader.datalink()
    if not is_known(link):
        raise CaptureError(f"{path}: natmirror cannot read packets of link type {link}, see docs/running.md")
    return _pcap_frames(path, reader, link)


def _pcap_frames(path: Path, reader: Any, link: int) -> Iterator[Frame]:
    """Yield the frames that libpcap reads. It gives a file's 32 bits of seconds a sign, and its own order of bytes to
    what the capturing host added."""
    count = 0
    while True:
        try:
            header, data = reader.next()
        except pcapy.PcapError as error:
            raise CaptureError(f"{path}: {error}, after {count} packets") from None
        if header is None:
            return
        seconds, microseconds = header.getts()
        at = (seconds & 0xFFFF_FFFF) + microseconds / _MICROSECONDS
        yield Frame(at, link, data, header.getcaplen() < header.getlen(), sys.byteorder)
        count += 1


def pcap_bytes(packets: Iterable[tuple[float, bytes]]) -> bytes:
    """Return a pcap file of raw IP packets, each with its time in seconds since 1970."""
    file = BytesIO()
    writer = dpkt.pcap.Writer(file, snaplen=_SNAP_LEN, linktype=_LINKTYPE_RAW)
    for at, packet in packets:
        writer.writepkt(packet, _rounded(at))
    return file.getvalue()


def _rounded(at: float) -> Fraction:
    """Round to whole microseconds: dpkt splits off the seconds, and would write 0.9999997 s as 1,000,000 µs."""
    return Fraction(round(at * _MICROSECONDS), _MICROSECONDS)


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
        try:
            self._writer.writepkt(packet, _rounded(at))
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self._path}: {error.strerror}")
