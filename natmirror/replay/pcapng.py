"""Reads the frames of pcapng files: several sections, byte orders, link types, snap lengths and clocks.

The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-05.html. A file consists of blocks, each with its
type, its length, and its length again. A section begins with its header, which gives the order of bytes; the interfaces
of the section before are gone. docs/notes.md says why no library reads these files here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

from natmirror.errors import CaptureError
from natmirror.replay.link_layers import ByteOrder, Frame

MAGIC = bytes.fromhex("0a0d0d0a")
"""The first bytes of a file: the type of a section header, the same in both orders of bytes."""

_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6
_MAX_BLOCK_LEN = 16 << 20  # as libpcap
_MAX_INTERFACES = 10_000
_FRAME_LEN = 12  # the type, and the length twice
_ORDERS: dict[bytes, ByteOrder] = {bytes.fromhex("1a2b3c4d"): "big", bytes.fromhex("4d3c2b1a"): "little"}
_OPTION_RESOLUTION, _OPTION_OFFSET = 9, 14
_MICROSECONDS = 1_000_000


@dataclass(slots=True)
class _Interface:
    link: int
    snap_len: int
    units: int
    """Units of its clock in a second."""
    offset: int
    """Seconds to add to its times."""


@dataclass(slots=True)
class _Section:
    byteorder: ByteOrder
    interfaces: list[_Interface] = field(default_factory=list)

    def unpack(self, layout: str, body: bytes, at: int = 0) -> tuple[int, ...]:
        """Return numbers from a block."""
        return struct.unpack_from(("<" if self.byteorder == "little" else ">") + layout, body, at)


def read_frames(path: Path, file: BinaryIO) -> Iterator[Frame]:
    """Return the frames of a file in their order. CaptureError: at once for a file that does not begin with a section,
    and while reading where it contradicts itself or breaks off."""
    begin = file.read(12)
    if begin[:4] != MAGIC or begin[8:] not in _ORDERS:
        raise CaptureError(f"{path}: expected a pcapng file, found one without a section header")
    file.seek(0)
    return _frames(path, file)


def _frames(path: Path, file: BinaryIO) -> Iterator[Frame]:
    count = 0
    section = _Section("little")
    try:
        with file:
            while (head := file.read(8)) != b"":
                if head[:4] == MAGIC:
                    section = _Section(_byteorder(file))
                kind, body = _block(section, head, file)
                if kind == _INTERFACE:
                    section.interfaces.append(_interface(section, body))
                elif kind in (_OLD_PACKET, _SIMPLE_PACKET, _PACKET):
                    yield _frame(section, kind, body)
                    count += 1
    except struct.error:
        raise CaptureError(f"{path}: a block is too short for its fields, after {count} packets") from None
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}, after {count} packets") from None
    except CaptureError as error:
        raise CaptureError(f"{path}: {error}, after {count} packets") from None


def _byteorder(file: BinaryIO) -> ByteOrder:
    """Return the order of bytes of the section whose header's first eight bytes have been read."""
    magic = file.read(4)
    if magic not in _ORDERS:
        raise CaptureError("a section header without its byte-order magic")
    file.seek(-len(magic), SEEK_CUR)
    return _ORDERS[magic]


def _block(section: _Section, head: bytes, file: BinaryIO) -> tuple[int, bytes]:
    """Return the type and the body of the block that begins with ``head``."""
    if len(head) < 8:
        raise CaptureError("the file breaks off inside a block")
    kind, length = section.unpack("II", head)
    if not _FRAME_LEN <= length <= _MAX_BLOCK_LEN or length % 4:
        raise CaptureError(f"a block with a length of {length}")
    rest = file.read(length - len(head))
    if len(rest) < length - len(head):
        raise CaptureError("the file breaks off inside a block")
    if section.unpack("I", rest, len(rest) - 4)[0] != length:
        raise CaptureError("a block whose two lengths differ")
    return kind, rest[:-4]


def _interface(section: _Section, body: bytes) -> _Interface:
    if len(section.interfaces) == _MAX_INTERFACES:
        raise CaptureError(f"a section with more than {_MAX_INTERFACES} interfaces")
    link, snap_len = section.unpack("H2xI", body)
    interface = _Interface(link, snap_len, _MICROSECONDS, 0)
    at = 8
    while at + 4 <= len(body):
        code, length = section.unpack("HH", body, at)
        if code == _OPTION_RESOLUTION:
            [exponent] = section.unpack("B", body, at + 4)
            interface.units = (2 if exponent & 0x80 else 10) ** (exponent & 0x7F)
        elif code == _OPTION_OFFSET:
            [interface.offset] = section.unpack("q", body, at + 4)
        at += 4 + (length + 3 & ~3)
    return interface


def _frame(section: _Section, kind: int, body: bytes) -> Frame:
    """Return the frame in a packet block. A simple one has no time, and belongs to the first interface."""
    number, at, units = 0, 0, None
    if kind == _SIMPLE_PACKET:
        [length] = section.unpack("I", body)
        captured_len, at = min(length, len(body) - 4), 4
    else:
        layout = "IIIII" if kind == _PACKET else "H2xIIII"
        number, high, low, captured_len, length = section.unpack(layout, body)
        units, at = high << 32 | low, 20
    if number >= len(section.interfaces):
        raise CaptureError(f"a packet of interface {number}, which the file does not describe")
    interface = section.interfaces[number]
    if captured_len > len(body) - at:
        raise CaptureError("a packet that is longer than its block")
    if kind == _SIMPLE_PACKET and interface.snap_len:
        captured_len = min(captured_len, interface.snap_len)
    when = None if units is None else units / interface.units + interface.offset
    return Frame(when, interface.link, body[at : at + captured_len], captured_len < length, section.byteorder)
