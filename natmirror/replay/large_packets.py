"""Packets that were captured with an IPv4 length of 0: the sender left them to its hardware to cut (TSO), or they are
too long for the field (IPv4 BIG TCP). Their length is that of the frame.
"""

from natmirror.net.checksum import ones_sum, pseudo_header_sum
from natmirror.net.packet import FIN, IP_HEADER_LEN, MAX_PACKET_LEN, PROTO_TCP, PSH, TCP_HEADER_LEN

_FLAGS_AT = 13  # in the TCP header
_CHECKSUM_AT = 16


def pieces_of(packet: bytes) -> list[bytes]:
    """Return the packet with its length written into it, or several packets if it is too long for one. Return it as it
    is if it is no TCP segment."""
    header_len = (packet[0] & 15) * 4
    tcp = packet[header_len:]
    tcp_len = (tcp[12] >> 4) * 4 if len(tcp) >= TCP_HEADER_LEN else 0
    if header_len < IP_HEADER_LEN or not TCP_HEADER_LEN <= tcp_len <= len(tcp) or packet[9] != PROTO_TCP:
        return [packet]
    step = MAX_PACKET_LEN - header_len - tcp_len
    data = tcp[tcp_len:]
    is_left_to_hardware = len(packet) > MAX_PACKET_LEN or _checksum(tcp) == _pseudo_sum(packet, 0)
    pieces = []
    for at in range(0, max(len(data), 1), step):
        segment = bytearray(tcp[:tcp_len] + data[at : at + step])
        segment[4:8] = (int.from_bytes(tcp[4:8], "big") + at & 0xFFFF_FFFF).to_bytes(4, "big")
        if at + step < len(data):
            segment[_FLAGS_AT] &= ~(PSH | FIN)
        if is_left_to_hardware:
            segment[_CHECKSUM_AT : _CHECKSUM_AT + 2] = _pseudo_sum(packet, len(segment)).to_bytes(2, "big")
        header = bytearray(packet[:header_len])
        header[2:4] = (header_len + len(segment)).to_bytes(2, "big")
        header[10:12] = bytes(2)
        header[10:12] = (~ones_sum(header) & 0xFFFF).to_bytes(2, "big")
        pieces.append(bytes(header + segment))
    return pieces


def _checksum(tcp: bytes) -> int:
    return int.from_bytes(tcp[_CHECKSUM_AT : _CHECKSUM_AT + 2], "big")


def _pseudo_sum(packet: bytes, length: int) -> int:
    return pseudo_header_sum(packet[12:16], packet[16:20], PROTO_TCP, length)
