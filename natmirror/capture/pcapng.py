"""Builds the blocks of a pcapng file, with several interfaces, comments and statistics.

The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-05.html. dpkt writes such files too, but with one
interface, and takes 30 µs for a packet. replay/pcapng.py reads them.
"""

import struct
from collections.abc import Iterable

ETHERNET, RAW = 1, 101
"""LINKTYPE_*: with an Ethernet header, and from the IP header on."""
SNAP_LEN = 262_144
"""The most that Wireshark reads of one packet (WTAP_MAX_PACKET_SIZE_STANDARD)."""
UNKNOWN_LENGTH = -1
INBOUND, OUTBOUND = 1, 2
"""The first two bits of a packet's flags."""

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_MAGIC = 0x1A2B3C4D
_END, _COMMENT = 0, 1
_OS, _PROGRAM = 3, 4  # shb_os, shb_userappl
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER = 2, 3, 9, 11  # if_*
_FLAGS = 2  # epb_flags
_START_TIME, _END_TIME, _RECEIVED, _OS_DROPPED = 2, 3, 4, 7  # isb_*
_NANOSECONDS = b"\x09"  # of a power of ten
_MAX_OPTION_LEN = 0xFFFF

Option = tuple[int, bytes]


def section(comment: str, program: str, system: str) -> bytes:
    """Return the header of a file: what it is, the program that wrote it and the operating system."""
    body = struct.pack("=IHHq", _MAGIC, 1, 0, UNKNOWN_LENGTH)
    return _block(_SECTION, body, [_text(_OS, system), _text(_PROGRAM, program), _text(_COMMENT, comment)])


def interface(link: int, name: str, description: str) -> bytes:
    """Return the description of an interface, whose times are in nanoseconds. Interfaces have the numbers from 0 on, in
    their order."""
    body = struct.pack("=HHI", link, 0, SNAP_LEN)
    return _block(_INTERFACE, body, [_text(_NAME, name), _text(_DESCRIPTION, description), (_RESOLUTION, _NANOSECONDS)])


def packet(number: int, at: int, frame: bytes, length: int, flags: int, comments: Iterable[str] = ()) -> bytes:
    """Return a packet of the interface ``number``. ``at`` is in nanoseconds since 1970, ``length`` the number of bytes
    before it was cut off."""
    body = struct.pack("=IIIII", number, at >> 32, at & 0xFFFFFFFF, len(frame), length) + _padded(frame)
    return _block(_PACKET, body, [*(_text(_COMMENT, one) for one in comments), (_FLAGS, struct.pack("=I", flags))])


def statistics(number: int, at: int, start: int, received: int, lost: int, comment: str) -> bytes:
    """Return the sums of an interface: its packets in this file since ``start``, and those that the kernel dropped.
    Times are in nanoseconds since 1970."""
    body = struct.pack("=III", number, at >> 32, at & 0xFFFFFFFF)
    options = [
        _text(_COMMENT, comment),
        (_START_TIME, _time(start)),
        (_END_TIME, _time(at)),
        (_RECEIVED, struct.pack("=Q", received)),
        (_OS_DROPPED, struct.pack("=Q", lost)),
    ]
    return _block(_STATISTICS, body, options)


def _time(at: int) -> bytes:
    return struct.pack("=II", at >> 32, at & 0xFFFFFFFF)


def _text(code: int, text: str) -> Option:
    return code, text.encode()[:_MAX_OPTION_LEN].decode(errors="ignore").encode()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes, options: Iterable[Option]) -> bytes:
    """Return a block; options without a value are left out."""
    listed = b"".join(struct.pack("=HH", code, len(value)) + _padded(value) for code, value in options if value)
    body += listed + struct.pack("=HH", _END, 0)
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length
