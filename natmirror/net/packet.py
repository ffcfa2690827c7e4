"""IPv4 packets with TCP or ICMP inside: one check of all lengths, then fields that cannot fail; rewriting; building.

Addresses are raw bytes, so that their length carries the family. ``Endpoint`` is an address with a port.
Checksums: RFC 1071 for the full sum, RFC 1624 for its incremental update.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Protocol

Endpoint = tuple[bytes, int]

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

PROTO_ICMP, PROTO_TCP = 1, 6

OPT_END, OPT_NOP, OPT_MSS, OPT_WINDOW_SCALE, OPT_SACK_PERMITTED, OPT_SACK, OPT_TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8

MAX_PACKET_LEN = 0xFFFF

_IP_HEADER_LEN = 20
_TCP_HEADER_LEN = 20
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_DONT_FRAGMENT = 0x4000
_TTL = 64
_SYNTHESISED_WORDS = 0x4500 + _DONT_FRAGMENT + (_TTL << 8 | PROTO_TCP)
"""Of an IP header that we make: the sum of what never changes."""

_IP = struct.Struct("!BBHHHBBH4s4s")
_SACK_BLOCK = struct.Struct("!II")
_TCP = struct.Struct("!HHIIBBHHH")


class Checksum(IntEnum):
    """What is known of a packet's transport checksum before we look."""

    UNVERIFIED = 0
    """Nothing: it has to be computed before the packet is believed."""
    VALID = 1
    """The kernel or the network card vouches for it."""
    PARTIAL = 2
    """The field holds the pseudo-header's sum only; hardware was to do the rest."""


class Malformed(Exception):
    """A packet whose own length fields contradict each other, or that cannot be handled; ``str()`` is the reason."""


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
    """Length of the IP header in bytes."""
    data_at: int
    """Where the payload begins in ``raw``."""

    def with_ack(self, ack: int) -> "Segment":
        """The same segment with another acknowledgement number; ``raw`` stays as it came."""
        ends = (self.src, self.dst, self.sport, self.dport)
        return Segment(self.raw, *ends, self.seq, ack, self.flags, self.window, self.ip_len, self.data_at)

    @property
    def payload(self) -> bytes:
        """The segment's data."""
        return self.raw[self.data_at :]

    @property
    def payload_len(self) -> int:
        """Length of the segment's data in bytes."""
        return len(self.raw) - self.data_at

    @property
    def seq_len(self) -> int:
        """Sequence space taken: data, and one each for SYN and FIN (RFC 9293 §3.4)."""
        return len(self.raw) - self.data_at + (self.flags >> 1 & 1) + (self.flags & 1)

    def options(self) -> dict[int, bytes]:
        """The TCP options by kind; reading stops at the first broken one (RFC 9293 §3.1)."""
        found: dict[int, bytes] = {}
        at, end = self.ip_len + _TCP_HEADER_LEN, self.data_at
        while at < end and self.raw[at] != OPT_END:
            if self.raw[at] == OPT_NOP:
                at += 1
                continue
            if at + 1 >= end or not 2 <= self.raw[at + 1] <= end - at:
                break
            found[self.raw[at]] = self.raw[at + 2 : at + self.raw[at + 1]]
            at += self.raw[at + 1]
        return found

    def mss(self) -> int | None:
        """The maximum segment size offered, or None where the option is absent or broken."""
        option = self.options().get(OPT_MSS, b"")
        return int.from_bytes(option, "big") if len(option) == 2 else None

    def window_scale(self) -> int | None:
        """The window scale offered, at most 14 (RFC 7323 §2.3), or None."""
        option = self.options().get(OPT_WINDOW_SCALE, b"")
        return min(option[0], 14) if len(option) == 1 else None

    def sack_permitted(self) -> bool:
        """Whether selective acknowledgements are offered (RFC 2018 §2)."""
        return self.options().get(OPT_SACK_PERMITTED) == b""

    def sack_blocks(self) -> list[tuple[int, int]]:
        """The ranges (first number, one past the last) that the sender says it holds (RFC 2018 §3)."""
        if self.data_at == self.ip_len + _TCP_HEADER_LEN:
            return []
        option = self.options().get(OPT_SACK, b"")
        return [] if len(option) % 8 else list(_SACK_BLOCK.iter_unpack(option))


@dataclass(slots=True)
class Datagram:
    """Any other IPv4 packet, ICMP among them."""

    raw: bytes
    src: bytes
    dst: bytes
    proto: int
    ip_len: int


def parse(packet: bytes) -> Segment | Datagram:
    """Check all lengths of an IPv4 packet and give its fields; raises Malformed with the reason.

    Bytes after the packet's own total length (padding of short Ethernet frames) are cut off.
    """
    if len(packet) < _IP_HEADER_LEN:
        raise Malformed("short-ip-header")
    version_ihl, _, total_len, _, frag, _, proto, _, src, dst = _IP.unpack_from(packet)
    if version_ihl >> 4 != 4:
        raise Malformed("not-ipv4")
    ip_len = (version_ihl & 15) * 4
    if ip_len < _IP_HEADER_LEN or not ip_len <= total_len <= len(packet):
        raise Malformed("bad-ip-length")
    if frag & _MORE_FRAGMENTS_OR_OFFSET:
        raise Malformed("fragment")
    raw = packet if total_len == len(packet) else packet[:total_len]
    if proto != PROTO_TCP:
        return Datagram(raw, src, dst, proto, ip_len)
    if total_len < ip_len + _TCP_HEADER_LEN:
        raise Malformed("short-tcp-header")
    sport, dport, seq, ack, offset, flags, window, _, _ = _TCP.unpack_from(packet, ip_len)
    data_at = ip_len + (offset >> 4) * 4
    if offset >> 4 < 5 or data_at > total_len:
        raise Malformed("bad-tcp-offset")
    return Segment(raw, src, dst, sport, dport, seq, ack, flags, window, ip_len, data_at)


def ones_sum(data: bytes | bytearray) -> int:
    """The one's complement sum of 16-bit words, odd data padded with a zero byte (RFC 1071 §1).

    The sum modulo 65535 is the whole number modulo 65535, since 65536 is 1 there.
    """
    value = int.from_bytes(data, "big") << 8 * (len(data) & 1)
    return value % 0xFFFF or (0xFFFF if value else 0)


def pseudo_header_sum(src: bytes, dst: bytes, proto: int, length: int) -> int:
    """The sum over the pseudo-header of a transport segment of ``length`` bytes (RFC 9293 §3.1)."""
    return ones_sum(src + dst + struct.pack("!HH", proto, length))


def transport_checksum_ok(packet: bytes, src: bytes, dst: bytes, proto: int, at: int) -> bool:
    """Whether the TCP checksum of the segment that begins at ``at`` is right."""
    total = ones_sum(packet[at:]) + pseudo_header_sum(src, dst, proto, len(packet) - at)
    return total % 0xFFFF == 0


def segment_checksum_ok(segment: Segment, checksum: Checksum) -> bool:
    """Whether production's receiver will find the segment's checksum right."""
    if checksum is not Checksum.UNVERIFIED:
        return True
    return transport_checksum_ok(segment.raw, segment.src, segment.dst, PROTO_TCP, segment.ip_len)


def updated_checksum(checksum: int, old: bytes, new: bytes) -> int:
    """The checksum after ``old`` became ``new``, both of the same even length (RFC 1624 §3, equation 3)."""
    total = ~checksum & 0xFFFF
    for at in range(0, len(old), 2):
        total += (~(old[at] << 8 | old[at + 1]) & 0xFFFF) + (new[at] << 8 | new[at + 1])
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def update_checksum_at(buffer: bytearray, at: int, old: bytes, new: bytes) -> None:
    """Bring the checksum stored at ``at`` up to date after ``old`` became ``new``."""
    struct.pack_into("!H", buffer, at, updated_checksum(buffer[at] << 8 | buffer[at + 1], old, new))


def rewrite(
    segment: Segment,
    checksum: Checksum,
    *,
    source: Endpoint | None = None,
    destination: Endpoint | None = None,
    window: int | None = None,
) -> bytes:
    """The packet with another source, destination or window field, and its checksums mended.

    A checksum that was left to hardware is computed in full: the kernel takes a rewritten packet for finished.
    """
    buffer = bytearray(segment.raw)
    tcp = segment.ip_len
    for new, address_at, port_at in ((source, 12, tcp), (destination, 16, tcp + 2)):
        if new is None:
            continue
        old = bytes(buffer[address_at : address_at + 4] + buffer[port_at : port_at + 2])
        fresh = new[0] + new[1].to_bytes(2, "big")
        buffer[address_at : address_at + 4] = new[0]
        buffer[port_at : port_at + 2] = fresh[4:]
        update_checksum_at(buffer, 10, old[:4], fresh[:4])
        if checksum is not Checksum.PARTIAL:
            update_checksum_at(buffer, tcp + 16, old, fresh)
    if window is not None and window != segment.window:
        buffer[tcp + 14 : tcp + 16] = window.to_bytes(2, "big")
        if checksum is not Checksum.PARTIAL:
            update_checksum_at(buffer, tcp + 16, segment.window.to_bytes(2, "big"), window.to_bytes(2, "big"))
    if checksum is Checksum.PARTIAL:
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
    """A whole IPv4 packet with a TCP segment; ``options`` are padded by the caller to a multiple of four.

    It may not be fragmented, so its identification is 0 (RFC 6864 §4.1).
    """
    packet = synthesise(
        source, destination, seq=seq, ack=ack, flags=flags, window=window, options=options, payload=payload
    )
    at = _IP_HEADER_LEN + 16
    checksum = ~ones_sum(packet[_IP_HEADER_LEN:]) & 0xFFFF  # over the pseudo-header's sum as well
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
    """What build() gives, but for the TCP checksum, which holds the pseudo-header's sum only.

    Who puts it on the wire completes that, and cuts the data into segments where there is more than one's: the kernel
    behind a TUN device, or finish().
    """
    tcp_len = _TCP_HEADER_LEN + len(options) + len(payload)
    total_len = _IP_HEADER_LEN + tcp_len
    offset = (_TCP_HEADER_LEN + len(options)) // 4 << 4
    (src, sport), (dst, dport) = source, destination
    # Both sums as in ones_sum(), which no sum of ours is 0 for: that is where most of this function's time would go.
    addresses = int.from_bytes(src + dst, "big")
    header_sum = (addresses + _SYNTHESISED_WORDS + total_len) % 0xFFFF or 0xFFFF
    partial = (addresses + PROTO_TCP + tcp_len) % 0xFFFF or 0xFFFF
    ip = _IP.pack(0x45, 0, total_len, 0, _DONT_FRAGMENT, _TTL, PROTO_TCP, 0xFFFF - header_sum, src, dst)
    return ip + _TCP.pack(sport, dport, seq, ack, offset, flags, window, partial, 0) + options + payload


def finish(packet: bytes, segment_len: int) -> list[bytes]:
    """The packets on the wire of one that synthesise() gave: at most ``segment_len`` bytes of data in each (0: as many
    as there are), complete checksums; PSH and FIN stay with the last."""
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
                options=packet[whole.ip_len + _TCP_HEADER_LEN : whole.data_at],
                payload=data[at : at + step],
            )
        )
    return out


def build_reset(segment: Segment) -> bytes:
    """The RST that answers a segment of no known connection (RFC 9293 §3.10.7.1)."""
    seq, ack, flags = (segment.ack, 0, RST) if segment.flags & ACK else (0, segment.seq + segment.seq_len, RST | ACK)
    return synthesise(
        (segment.dst, segment.dport),
        (segment.src, segment.sport),
        seq=seq,
        ack=ack & 0xFFFF_FFFF,
        flags=flags,
        window=0,
    )


class Addressed(Protocol):
    """Anything in the rules that has an address and a port."""

    @property
    def address(self) -> IPv4Address:
        """Its address."""

    @property
    def port(self) -> int:
        """Its TCP port."""


def endpoint_of(thing: Addressed) -> Endpoint:
    """Where a service, backend or mirror of the rules is to be found."""
    address = thing.address
    return _endpoint(int(address), address.max_prefixlen, thing.port)


@lru_cache(maxsize=4096)
def _endpoint(address: int, bits: int, port: int) -> Endpoint:
    """The same object each time: legs keep theirs. Numbers are found faster than addresses, whose hash Python makes."""
    return address.to_bytes(bits // 8, "big"), port


def show(endpoint: Endpoint) -> str:
    """``10.10.0.11:4711``, for people to read."""
    return f"{IPv4Address(endpoint[0])}:{endpoint[1]}"
