"""Outgoing packets: production's with other addresses, and packets of our own.

Begin with rewrite(), which translates every packet of production, and synthesise(), which builds the packets of legs.
"""

import struct

from natmirror.net.checksum import Checksum, ones_sum, pseudo_header_sum, update_checksum_at
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import (
    ACK,
    FIN,
    IP_HEADER,
    IP_HEADER_LEN,
    MPTCP_CAPABLE,
    OPT_NOP,
    PROTO_TCP,
    PSH,
    RST,
    TCP_HEADER,
    TCP_HEADER_LEN,
    Segment,
    parse,
)

_DONT_FRAGMENT = 0x4000
_TTL = 64
_SYNTHESISED_WORDS = 0x4500 + _DONT_FRAGMENT + (_TTL << 8 | PROTO_TCP)
"""The sum over the fields that are the same in every IP header that we build."""


def rewrite(
    segment: Segment,
    *,
    source: Endpoint | None = None,
    destination: Endpoint | None = None,
    window: int | None = None,
    strips_mptcp: bool = False,
) -> bytes:
    """Return the packet with another source, destination or window field, and its checksums updated. ``strips_mptcp``:
    overwrite MP_CAPABLE by NOPs.

    A checksum that was left to hardware is computed in full, because the kernel assumes that a rewritten packet's
    checksum is complete.
    """
    buffer = bytearray(segment.raw)
    tcp = segment.ip_len
    is_partial = segment.checksum is Checksum.PARTIAL
    if strips_mptcp:
        for subtype, at, length in segment.mptcp_options():
            if subtype == MPTCP_CAPABLE:
                buffer[at : at + length] = bytes([OPT_NOP]) * length
        if not is_partial:
            options = slice(tcp + TCP_HEADER_LEN, segment.data_at)
            update_checksum_at(buffer, tcp + 16, segment.raw[options], bytes(buffer[options]))
    for new, address_at, port_at in ((source, 12, tcp), (destination, 16, tcp + 2)):
        if new is None:
            continue
        old = bytes(buffer[address_at : address_at + 4] + buffer[port_at : port_at + 2])
        fresh = new[0] + new[1].to_bytes(2, "big")
        buffer[address_at : address_at + 4] = new[0]
        buffer[port_at : port_at + 2] = fresh[4:]
        update_checksum_at(buffer, 10, old[:4], fresh[:4])
        if not is_partial:
            update_checksum_at(buffer, tcp + 16, old, fresh)
    if window is not None and window != segment.window:
        buffer[tcp + 14 : tcp + 16] = window.to_bytes(2, "big")
        if not is_partial:
            update_checksum_at(buffer, tcp + 16, segment.window.to_bytes(2, "big"), window.to_bytes(2, "big"))
    if is_partial:
        buffer[tcp + 16 : tcp + 18] = b"\0\0"
        src, dst = bytes(buffer[12:16]), bytes(buffer[16:20])
        total = ones_sum(buffer[tcp:]) + pseudo_header_sum(src, dst, PROTO_TCP, len(buffer) - tcp)
        struct.pack_into("!H", buffer, tcp + 16, ~(total % 0xFFFF or 0xFFFF) & 0xFFFF)
    return bytes(buffer)


def build(
    source: Endpoint,
    destination: Endpoint,
    *,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytes:
    """Return a complete IPv4 packet with a TCP segment; the caller pads ``options`` to a multiple of four bytes.

    Routers may not fragment it, so its identification is 0 (RFC 6864 §4.1).
    """
    packet = synthesise(
        source, destination, seq=seq, ack=ack, flags=flags, window=window, options=options, payload=payload
    )
    at = IP_HEADER_LEN + 16
    checksum = ~ones_sum(packet[IP_HEADER_LEN:]) & 0xFFFF  # the field holds the pseudo-header's sum
    return packet[:at] + checksum.to_bytes(2, "big") + packet[at + 2 :]


def synthesise(
    source: Endpoint,
    destination: Endpoint,
    *,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytes:
    """Return the packet of build(), but with only the pseudo-header's sum in the TCP checksum field.

    The kernel behind a TUN device, or finish(), completes the checksum and cuts the data into segments.
    """
    tcp_len = TCP_HEADER_LEN + len(options) + len(payload)
    total_len = IP_HEADER_LEN + tcp_len
    offset = (TCP_HEADER_LEN + len(options)) // 4 << 4
    (src, sport), (dst, dport) = source, destination
    # Both sums as in ones_sum(), whose calls would take most of this function's time. Neither sum is 0.
    addresses = int.from_bytes(src + dst, "big")
    header_sum = (addresses + _SYNTHESISED_WORDS + total_len) % 0xFFFF or 0xFFFF
    partial = (addresses + PROTO_TCP + tcp_len) % 0xFFFF or 0xFFFF
    ip = IP_HEADER.pack(0x45, 0, total_len, 0, _DONT_FRAGMENT, _TTL, PROTO_TCP, 0xFFFF - header_sum, src, dst)
    return ip + TCP_HEADER.pack(sport, dport, seq, ack, offset, flags, window, partial, 0) + options + payload


def finish(packet: bytes, segment_len: int) -> list[bytes]:
    """Return the packets that the kernel makes of a packet from synthesise(). Each has a complete checksum and at most
    ``segment_len`` bytes of data (0: all of the data). PSH and FIN stay with the last one."""
    whole = parse(packet)
    assert isinstance(whole, Segment)
    data = whole.payload
    step = segment_len or max(len(data), 1)
    out = []
    for at in range(0, max(len(data), 1), step):
        is_last = at + step >= len(data)
        out.append(
            build(
                (whole.src, whole.sport),
                (whole.dst, whole.dport),
                seq=(whole.seq + at) & 0xFFFF_FFFF,
                ack=whole.ack,
                flags=whole.flags if is_last else whole.flags & ~(PSH | FIN),
                window=whole.window,
                options=packet[whole.ip_len + TCP_HEADER_LEN : whole.data_at],
                payload=data[at : at + step],
            )
        )
    return out


def build_reset(segment: Segment) -> bytes:
    """Return the RST that answers a segment of no known connection (RFC 9293 §3.10.7.1)."""
    seq, ack, flags = (segment.ack, 0, RST) if segment.flags & ACK else (0, segment.seq + segment.seq_len, RST | ACK)
    return synthesise(
        (segment.dst, segment.dport),
        (segment.src, segment.sport),
        seq=seq,
        ack=ack & 0xFFFF_FFFF,
        flags=flags,
        window=0,
    )
