"""ICMP errors (RFC 792): the connection that an error is about, and its translation with the inner header (RFC 5508
§4.2)."""

import struct
from dataclasses import dataclass

from natmirror.net.checksum import ones_sum, update_checksum_at
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import PROTO_ICMP, PROTO_TCP, Datagram

UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM = 3, 11, 12
ERRORS = frozenset({UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM})

FRAGMENTATION_NEEDED = 4
"""The code of UNREACHABLE that carries a router's MTU (RFC 1191 §4)."""

_HEADER_LEN = 8
_INNER_TCP_LEN = 8  # bytes of the inner segment that every error carries: ports and sequence number (RFC 792)


@dataclass(slots=True)
class IcmpError:
    """An error about a TCP segment that was sent from ``inner_src`` to ``inner_dst``."""

    datagram: Datagram
    type: int
    code: int
    mtu: int
    """The next hop's MTU in bytes if ``is_fragmentation_needed``, else meaningless."""
    inner_src: Endpoint
    inner_dst: Endpoint
    inner_seq: int
    inner_at: int
    """The inner IP header's offset in the packet, in bytes."""
    inner_ip_len: int

    @property
    def is_fragmentation_needed(self) -> bool:
        """Whether a router asks the sender for smaller packets."""
        return self.type == UNREACHABLE and self.code == FRAGMENTATION_NEEDED


def parse_error(datagram: Datagram) -> IcmpError | None:
    """Return the ICMP error in ``datagram``; None if it is no error, is damaged, is not about TCP over IPv4, or
    is addressed to another host than the sender of the packet that it quotes, as no true error is (RFC 1122 §3.2.2)."""
    raw, at = datagram.raw, datagram.ip_len
    inner = at + _HEADER_LEN
    if datagram.proto != PROTO_ICMP or len(raw) < inner + 20 or raw[at] not in ERRORS or ones_sum(raw[at:]) != 0xFFFF:
        return None
    inner_ip_len = (raw[inner] & 15) * 4
    if raw[inner] >> 4 != 4 or inner_ip_len < 20 or raw[inner + 9] != PROTO_TCP:
        return None
    tcp = inner + inner_ip_len
    later_fragment = (raw[inner + 6] & 0x1F) or raw[inner + 7]
    if len(raw) < tcp + _INNER_TCP_LEN or later_fragment:
        return None
    sport, dport, number = struct.unpack_from("!HHI", raw, tcp)
    src, dst = raw[inner + 12 : inner + 16], raw[inner + 16 : inner + 20]
    if src != raw[16:20]:
        return None
    mtu = raw[at + 6] << 8 | raw[at + 7]
    return IcmpError(datagram, raw[at], raw[at + 1], mtu, (src, sport), (dst, dport), number, inner, inner_ip_len)


def translate(
    error: IcmpError,
    *,
    outer_src: bytes | None = None,
    outer_dst: bytes | None = None,
    inner_src: Endpoint | None = None,
    inner_dst: Endpoint | None = None,
) -> bytes:
    """Return the error's packet with these addresses in place of its own, and all checksums right."""
    buffer = bytearray(error.datagram.raw)
    inner, tcp = error.inner_at, error.inner_at + error.inner_ip_len
    for address, at in ((outer_src, 12), (outer_dst, 16)):
        if address is not None:
            _replace(buffer, at, address, checksums_at=[10])
    for endpoint, address_at, port_at in ((inner_src, inner + 12, tcp), (inner_dst, inner + 16, tcp + 2)):
        if endpoint is None:
            continue
        # An error need not carry more than the eight bytes before the inner TCP checksum.
        transport = [tcp + 16] if len(buffer) >= tcp + 18 else []
        _replace(buffer, address_at, endpoint[0], checksums_at=[inner + 10, *transport])
        _replace(buffer, port_at, endpoint[1].to_bytes(2, "big"), checksums_at=transport)
    at = error.datagram.ip_len
    buffer[at + 2 : at + 4] = b"\0\0"
    struct.pack_into("!H", buffer, at + 2, ~ones_sum(buffer[at:]) & 0xFFFF)
    return bytes(buffer)


def _replace(buffer: bytearray, at: int, new: bytes, *, checksums_at: list[int]) -> None:
    old = bytes(buffer[at : at + len(new)])
    buffer[at : at + len(new)] = new
    for checksum_at in checksums_at:
        update_checksum_at(buffer, checksum_at, old, new)
