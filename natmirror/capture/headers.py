"""Reads the ends of a captured packet: as little as its side needs, of packets that may be cut off or malformed.

net/packet.py refuses packets whose lengths contradict each other. A capture has to show these, too.
"""

import struct
from dataclasses import dataclass

from natmirror.net.icmp import ERRORS
from natmirror.net.packet import ACK, IP_HEADER_LEN, PROTO_ICMP, PROTO_TCP, SYN

_ENDS = struct.Struct("!4s4s")
_PORTS = struct.Struct("!HH")
_OFFSET_MASK = 0x1FFF
_FLAGS_AT = 13
_ICMP_LEN = 8


@dataclass(frozen=True, slots=True)
class Headers:
    """The ends of a TCP packet. Those of an ICMP error are the ends of the packet that it is about, the other way
    round: it comes in place of an answer."""

    src: bytes
    dst: bytes
    sport: int | None
    """None: the packet has no TCP header, as a later fragment."""
    dport: int | None
    opens: bool = False
    """It is a SYN, and no SYN-ACK."""


def read(packet: bytes) -> Headers | None:
    """Return the ends of an IPv4 packet; None if it is neither TCP nor an ICMP error, or cut off before its ends."""
    ip_len = _ip_len(packet)
    if ip_len is None:
        return None
    if packet[9] == PROTO_ICMP:
        inner = packet[ip_len + _ICMP_LEN :]
        inner_len = _ip_len(inner)
        if inner_len is None or inner[9] != PROTO_TCP or _is_later_fragment(packet) or packet[ip_len] not in ERRORS:
            return None
        src, dst = _ENDS.unpack_from(inner, 12)
        sport, dport = _ports(inner, inner_len)
        return Headers(dst, src, dport, sport)
    if packet[9] != PROTO_TCP:
        return None
    src, dst = _ENDS.unpack_from(packet, 12)
    if _is_later_fragment(packet):
        return Headers(src, dst, None, None)
    sport, dport = _ports(packet, ip_len)
    flags = packet[ip_len + _FLAGS_AT] if len(packet) > ip_len + _FLAGS_AT else 0
    return Headers(src, dst, sport, dport, flags & (SYN | ACK) == SYN)


def _ip_len(packet: bytes) -> int | None:
    """Return the length of an IPv4 header; None if there is none."""
    if len(packet) < IP_HEADER_LEN or packet[0] >> 4 != 4:
        return None
    ip_len = (packet[0] & 15) * 4
    return ip_len if ip_len >= IP_HEADER_LEN else None


def _is_later_fragment(packet: bytes) -> bool:
    return bool(int.from_bytes(packet[6:8], "big") & _OFFSET_MASK)


def _ports(packet: bytes, at: int) -> tuple[int | None, int | None]:
    return _PORTS.unpack_from(packet, at) if len(packet) >= at + _PORTS.size else (None, None)
