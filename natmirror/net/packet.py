"""IPv4 packets with TCP or ICMP inside. parse() checks all lengths once; reading a field cannot fail afterwards.

Addresses are raw bytes; their number gives the address family.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from natmirror.net.checksum import Checksum, transport_checksum_ok
from natmirror.reasons import DropReason

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

PROTO_ICMP, PROTO_TCP = 1, 6

OPT_END, OPT_NOP, OPT_MSS, OPT_WINDOW_SCALE, OPT_SACK_PERMITTED, OPT_SACK, OPT_TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
OPT_MPTCP, OPT_FAST_OPEN, OPT_EXPERIMENT = 30, 34, 254

MPTCP_CAPABLE, MPTCP_NO_SUBTYPE = 1, 0x10000
"""In Segment.mptcp(): MP_CAPABLE, which is subtype 0, and an option that is too short for its subtype."""

MAX_PACKET_LEN = 0xFFFF

IP_HEADER_LEN, TCP_HEADER_LEN = 20, 20
"""In bytes, without options."""

_TTL_AT = 8  # in the IP header

_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF

IP_HEADER = struct.Struct("!BBHHHBBH4s4s")
TCP_HEADER = struct.Struct("!HHIIBBHHH")
_COOKIE_AT = {OPT_FAST_OPEN: 2, OPT_EXPERIMENT: 4}
"""Where a cookie of TCP Fast Open begins in an option (RFC 7413 §4.1.1, RFC 6994 §3)."""

_OPTION_LENGTHS = {OPT_MSS: 4, OPT_WINDOW_SCALE: 3, OPT_SACK_PERMITTED: 2, OPT_TIMESTAMPS: 10}
_SACK_BLOCK = struct.Struct("!II")
_TIMESTAMPS = struct.Struct("!II")
_TIMESTAMPS_ALONE = bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10))  # as segments have them (RFC 7323, appendix A)


class Malformed(Exception):
    """A packet whose length fields contradict each other, or that is not supported."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Segment:
    """A TCP segment inside an IPv4 packet. ``raw`` is the packet without link-layer padding."""

    raw: bytes
    src: bytes
    dst: bytes
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    ip_len: int
    """The IP header's length in bytes."""
    data_at: int
    """The payload's offset in ``raw``, in bytes."""
    checksum: Checksum = Checksum.UNVERIFIED
    """What the kernel knows of the TCP checksum."""
    _options: dict[int, bytes] | None = None  # parsed at most once

    def with_ack(self, ack: int) -> "Segment":
        """Return the segment with another acknowledgement number; ``raw`` stays as it arrived."""
        ends = (self.src, self.dst, self.sport, self.dport)
        numbers = (self.seq, ack, self.flags, self.window)
        return Segment(self.raw, *ends, *numbers, self.ip_len, self.data_at, self.checksum)

    def without_data(self) -> "Segment":
        """Return the segment with its headers alone; their lengths and checksums stay as they arrived."""
        ends = (self.src, self.dst, self.sport, self.dport)
        numbers = (self.seq, self.ack, self.flags, self.window)
        return Segment(self.raw[: self.data_at], *ends, *numbers, self.ip_len, self.data_at, self.checksum)

    def checksum_ok(self) -> bool:
        """Return whether the checksum is right, as production's receiver will see it."""
        if self.checksum is not Checksum.UNVERIFIED:
            return True
        return transport_checksum_ok(self.raw, self.src, self.dst, PROTO_TCP, self.ip_len)

    @property
    def ttl(self) -> int:
        return self.raw[_TTL_AT]

    @property
    def payload(self) -> bytes:
        return self.raw[self.data_at :]

    @property
    def payload_len(self) -> int:
        return len(self.raw) - self.data_at

    @property
    def seq_len(self) -> int:
        """The sequence numbers that the segment takes: its data, and one each for SYN and FIN (RFC 9293 §3.4)."""
        return len(self.raw) - self.data_at + (self.flags >> 1 & 1) + (self.flags & 1)

    @property
    def urgent_pointer(self) -> int:
        """How far behind its first byte the segment says that urgent data ends; only with URG."""
        return int.from_bytes(self.raw[self.ip_len + 18 : self.ip_len + 20])

    def options(self) -> dict[int, bytes]:
        """Return the TCP options by kind, up to the first malformed one (RFC 9293 §3.1). As in Linux, an option whose
        length its kind does not have is ignored, and if a kind comes twice, the last option counts."""
        if self._options is None:
            self._options = {
                self.raw[at]: self.raw[at + 2 : at + length]
                for at, length in self._each_option()
                if _has_right_length(self.raw[at], length)
            }
        return self._options

    def _each_option(self) -> Iterator[tuple[int, int]]:
        """Yield each TCP option's offset in ``raw`` and its length, without NOPs, up to the first malformed one."""
        at, end = self.ip_len + TCP_HEADER_LEN, self.data_at
        while at < end and self.raw[at] != OPT_END:
            if self.raw[at] == OPT_NOP:
                at += 1
                continue
            if at + 1 >= end or not 2 <= self.raw[at + 1] <= end - at:
                break
            yield at, self.raw[at + 1]
            at += self.raw[at + 1]

    def mss(self) -> int | None:
        """Return the offered maximum segment size in bytes; None if the option is absent."""
        option = self.options().get(OPT_MSS)
        return None if option is None else int.from_bytes(option, "big")

    def window_scale(self) -> int | None:
        """Return the offered window scale, at most 14 (RFC 7323 §2.3); None if the option is absent."""
        option = self.options().get(OPT_WINDOW_SCALE)
        return None if option is None else min(option[0], 14)

    def timestamps(self) -> tuple[int, int] | None:
        """Return TSval and TSecr (RFC 7323 §3.2); None if the option is absent."""
        at = self.ip_len + TCP_HEADER_LEN
        if self.data_at == at + 12 and self.raw[at : at + 4] == _TIMESTAMPS_ALONE:
            return _TIMESTAMPS.unpack_from(self.raw, at + 4)
        option = None if self.data_at == at else self.options().get(OPT_TIMESTAMPS)
        return None if option is None else _TIMESTAMPS.unpack(option)

    def mptcp(self) -> int:
        """Return the subtypes of all MPTCP options (RFC 8684 §3), as the sum of 1 << subtype; 0 if there is none."""
        subtypes = 0
        for subtype, _, _ in self.mptcp_options():
            subtypes |= subtype
        return subtypes

    def mptcp_options(self) -> Iterator[tuple[int, int, int]]:
        """Yield each MPTCP option: 1 << subtype, or MPTCP_NO_SUBTYPE; offset in ``raw``; and length."""
        if self.data_at > self.ip_len + TCP_HEADER_LEN:
            for at, length in self._each_option():
                if self.raw[at] == OPT_MPTCP:
                    yield 1 << (self.raw[at + 2] >> 4) if length > 2 else MPTCP_NO_SUBTYPE, at, length

    def has_cookie(self) -> bool:
        """Return whether an option may be a cookie of TCP Fast Open."""
        return any(length > _COOKIE_AT.get(self.raw[at], length) for at, length in self._each_option())

    def sack_permitted(self) -> bool:
        """Return whether the sender offers selective acknowledgements (RFC 2018 §2)."""
        return OPT_SACK_PERMITTED in self.options()

    def sack_blocks(self) -> list[tuple[int, int]]:
        """Return the ranges that the sender reports as received: first number, one past the last (RFC 2018 §3)."""
        if self.data_at == self.ip_len + TCP_HEADER_LEN:
            return []
        return list(_SACK_BLOCK.iter_unpack(self.options().get(OPT_SACK, b"")))


def _has_right_length(kind: int, length: int) -> bool:
    if kind == OPT_SACK:
        return length > 2 and length % _SACK_BLOCK.size == 2
    return _OPTION_LENGTHS.get(kind, length) == length


@dataclass(slots=True)
class Datagram:
    """An IPv4 packet that is not TCP."""

    raw: bytes
    src: bytes
    dst: bytes
    proto: int
    ip_len: int


def parse(packet: bytes, checksum: Checksum = Checksum.UNVERIFIED) -> Segment | Datagram:
    """Check all lengths of an IPv4 packet and return its fields. ``checksum`` is what the kernel knows of the TCP
    checksum.

    Raise Malformed, with the reason, if a length is wrong. Bytes past the packet's own total length, which pad short
    Ethernet frames, are cut off.
    """
    if len(packet) < IP_HEADER_LEN:
        raise Malformed(DropReason.SHORT_IP_HEADER)
    version_ihl, _, total_len, _, frag, _, proto, _, src, dst = IP_HEADER.unpack_from(packet)
    if version_ihl >> 4 != 4:
        raise Malformed(DropReason.NOT_IPV4)
    ip_len = (version_ihl & 15) * 4
    if ip_len < IP_HEADER_LEN or not ip_len <= total_len <= len(packet):
        raise Malformed(DropReason.BAD_IP_LENGTH)
    if frag & _MORE_FRAGMENTS_OR_OFFSET:
        raise Malformed(DropReason.FRAGMENT)
    raw = packet if total_len == len(packet) else packet[:total_len]
    if proto != PROTO_TCP:
        return Datagram(raw, src, dst, proto, ip_len)
    if total_len < ip_len + TCP_HEADER_LEN:
        raise Malformed(DropReason.SHORT_TCP_HEADER)
    sport, dport, seq, ack, offset, flags, window, _, _ = TCP_HEADER.unpack_from(packet, ip_len)
    data_at = ip_len + (offset >> 4) * 4
    if offset >> 4 < 5 or data_at > total_len:
        raise Malformed(DropReason.BAD_TCP_OFFSET)
    return Segment(raw, src, dst, sport, dport, seq, ack, flags, window, ip_len, data_at, checksum)


def segment_of(packet: bytes) -> Segment | None:
    """Return the fields of an IPv4 packet if it is a whole TCP segment, else None."""
    try:
        parsed = parse(packet)
    except Malformed:
        return None
    return parsed if isinstance(parsed, Segment) else None
