"""Builds the blocks of pcapng files; ``order`` is ``<`` or ``>``, for struct."""

import struct


def block(order: str, kind: int, body: bytes) -> bytes:
    """Return a block, padded."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str) -> bytes:
    """Return a section's header."""
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(
    order: str, *, link: int = 101, snap_len: int = 0, resolution: int | None = None, offset: int | None = None
) -> bytes:
    """Return an interface's description; ``resolution`` as in the option if_tsresol, ``offset`` in seconds."""
    options = struct.pack(order + "HH", 2, 3) + b"lan\0"
    if resolution is not None:
        options += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset is not None:
        options += struct.pack(order + "HHq", 14, 8, offset)
    return block(order, 1, struct.pack(order + "H2xI", link, snap_len) + options + bytes(4))


def packet(
    order: str, number: int, units: int, frame: bytes, *, options: bytes = b"", length: int | None = None
) -> bytes:
    """Return an enhanced packet block of an interface; ``length`` is the captured length that it claims."""
    captured_len = len(frame) if length is None else length
    head = struct.pack(order + "IIIII", number, units >> 32, units & 0xFFFF_FFFF, captured_len, captured_len)
    return block(order, 6, head + frame + bytes(-len(frame) % 4) + options)


def old_packet(order: str, number: int, units: int, frame: bytes) -> bytes:
    """Return a packet block, which the enhanced one has replaced."""
    head = struct.pack(order + "HHIIII", number, 0, units >> 32, units & 0xFFFF_FFFF, len(frame), len(frame))
    return block(order, 2, head + frame)


def simple_packet(order: str, frame: bytes, length: int) -> bytes:
    """Return a simple packet block with the frame's length before it was cut."""
    return block(order, 3, struct.pack(order + "I", length) + frame)
