"""The internet checksum: computed in full (RFC 1071), or updated after a change (RFC 1624)."""

import struct
from enum import IntEnum


class Checksum(IntEnum):
    """What the kernel knows of a packet's transport checksum."""

    UNVERIFIED = 0
    """Nothing: verify it before relying on the packet."""
    VALID = 1
    """The kernel or the network card has verified it."""
    PARTIAL = 2
    """The field holds only the pseudo-header's sum; hardware was to complete it."""


def ones_sum(data: bytes | bytearray) -> int:
    """Return the one's complement sum of 16-bit words; a zero byte pads odd data (RFC 1071 §1).

    It is ``data``, read as one big number, modulo 65535, because 65536 is 1 modulo 65535.
    """
    value = int.from_bytes(data, "big") << 8 * (len(data) & 1)
    return value % 0xFFFF or (0xFFFF if value else 0)


def pseudo_header_sum(src: bytes, dst: bytes, proto: int, length: int) -> int:
    """Return the sum over the pseudo-header of a transport segment of ``length`` bytes (RFC 9293 §3.1)."""
    return ones_sum(src + dst + struct.pack("!HH", proto, length))


def transport_checksum_ok(packet: bytes, src: bytes, dst: bytes, proto: int, at: int) -> bool:
    """Return whether the TCP checksum of the segment at offset ``at`` is right."""
    total = ones_sum(packet[at:]) + pseudo_header_sum(src, dst, proto, len(packet) - at)
    return total % 0xFFFF == 0


def updated_checksum(checksum: int, old: bytes, new: bytes) -> int:
    """Return the checksum after ``old`` became ``new``, both of the same even length (RFC 1624 §3, equation 3)."""
    total = ~checksum & 0xFFFF
    for at in range(0, len(old), 2):
        total += (~(old[at] << 8 | old[at + 1]) & 0xFFFF) + (new[at] << 8 | new[at + 1])
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def update_checksum_at(buffer: bytearray, at: int, old: bytes, new: bytes) -> None:
    """Update the checksum at offset ``at`` after ``old`` became ``new``."""
    struct.pack_into("!H", buffer, at, updated_checksum(buffer[at] << 8 | buffer[at + 1], old, new))
