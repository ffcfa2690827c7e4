"""Decodes and encodes matches: OXM and NXM fields (1.3.5 §7.2.3), and 1.0's fixed match (1.0.0 §5.2.3)."""

from collections.abc import Iterable
from struct import Struct

from natmirror.openflow.bodies.elements import Malformed, Match, MatchField
from natmirror.openflow.bodies.fields import (
    BY_HEADER,
    EXPERIMENTER,
    FIELDS,
    HEADERS,
    IP_TOS,
    SHORT_IN_PORT,
    VLAN_TCI,
    XREGS,
    XXREGS,
    Field,
    Header,
    unknown_name,
)
from natmirror.openflow.messages import V10

_OXM_MATCH = 1  # OFPMT_OXM
_MATCH_HEAD = Struct("!HH")
_TLV_HEAD = Struct("!HBB")
_TLV_HEAD_LEN = _TLV_HEAD.size
_EXPERIMENTER_LEN = 4
_SPLIT = {VLAN_TCI, IP_TOS, SHORT_IN_PORT, *XREGS, *XXREGS}
"""Fields whose bits a match has under other names."""
_REGISTER_BITS = 32
_ONE_REGISTER = (1 << _REGISTER_BITS) - 1

_FIRST_RESERVED = 0xFF00  # 1.0.0 §5.2.1: the ports above are reserved ones
_RESERVED_BITS = 0xFFFF_0000


def widen_port(port: int) -> int:
    """Return the 32-bit number of a port of 1.0."""
    return port | _RESERVED_BITS if port >= _FIRST_RESERVED else port


def narrow_port(port: int) -> int:
    """Return the 16-bit number of a port in 1.0."""
    return port & 0xFFFF


# OXM and NXM


def decode_field(raw: bytes, at: int, end: int) -> tuple[Field | None, MatchField, int]:
    """Decode the TLV at ``at``. Return its field (None if unknown), its content, and where it ends."""
    if at + _TLV_HEAD_LEN > end:
        raise Malformed("a match field is cut off")
    of_class, number, length = _TLV_HEAD.unpack_from(raw, at)
    start = at + _TLV_HEAD_LEN
    at = start + length
    if at > end:
        raise Malformed("a match field is longer than the match")
    experimenter = 0
    if of_class == EXPERIMENTER:
        if length < _EXPERIMENTER_LEN:
            raise Malformed("a match field is too short for its experimenter")
        experimenter = int.from_bytes(raw[start : start + _EXPERIMENTER_LEN], "big")
        start += _EXPERIMENTER_LEN
    size = at - start
    has_mask = number & 1
    if has_mask:
        if size & 1:
            raise Malformed("a masked match field has an odd length")
        size >>= 1
    value = int.from_bytes(raw[start : start + size], "big")
    header = (of_class, number >> 1, experimenter)
    field = BY_HEADER.get(header)
    if field is None:
        name, bits = unknown_name(header, size), 8 * size
    elif size != field.size:
        raise Malformed(f"the match field {field.name} has {size} bytes")
    else:
        name, bits = field.name, field.bits
    if not has_mask:
        if value >> bits:
            raise Malformed(f"the value of {name} is too large")
        return field, MatchField(name, value), at
    all_ones = (1 << bits) - 1
    mask = int.from_bytes(raw[start + size : at], "big") & all_ones
    return field, MatchField(name, value & mask, None if mask == all_ones else mask), at


def _split(field: Field, one: MatchField) -> Iterable[MatchField]:
    """Yield the fields of a match that hold the bits of a field of ``_SPLIT``."""
    value, mask = one.value, field.all_ones if one.mask is None else one.mask
    if field is SHORT_IN_PORT:
        yield MatchField("in_port", widen_port(value), one.mask and mask | _RESERVED_BITS)
    elif field is IP_TOS:
        yield _part("ip_dscp", value, mask, 2, 6)
    elif field is VLAN_TCI:
        yield _part("vlan_vid", value, mask, 0, 13)
        yield _part("vlan_pcp", value, mask, 13, 3)
    else:
        count = field.bits // _REGISTER_BITS
        first = count * (XREGS if field in XREGS else XXREGS).index(field)
        for index in range(count):
            yield _part(f"reg{first + index}", value, mask, (count - 1 - index) * _REGISTER_BITS, _REGISTER_BITS)


def _part(name: str, value: int, mask: int, shift: int, bits: int) -> MatchField:
    all_ones = (1 << bits) - 1
    mask = mask >> shift & all_ones
    return MatchField(name, value >> shift & mask, None if mask == all_ones else mask)


def decode_fields(raw: bytes, at: int, end: int) -> Match:
    """Decode consecutive TLVs into a match."""
    found: dict[str, MatchField] = {}
    while at < end:
        field, one, at = decode_field(raw, at, end)
        for part in _split(field, one) if field in _SPLIT else (one,):
            if part.name in found:
                raise Malformed(f"the match has {part.name} twice")
            found[part.name] = part
    if len(found) < 2:
        return tuple(one for one in found.values() if one.mask != 0)
    return tuple(sorted(one for one in found.values() if one.mask != 0))


def decode_match(raw: bytes, at: int) -> tuple[Match, int]:
    """Decode an ``ofp_match`` of 1.3 and later. Return it and where it ends, with its padding."""
    kind, length = _MATCH_HEAD.unpack_from(raw, at)
    end = at + length
    if kind != _OXM_MATCH or length < _MATCH_HEAD.size or end > len(raw):
        raise Malformed("the match has no OXM header or is cut off")
    return decode_fields(raw, at + _MATCH_HEAD.size, end), at + (length + 7 & ~7)


def header_of(name: str) -> tuple[Header, int]:
    """Return the header of a field's TLV and the bytes of its value. KeyError for a name that no decoder gives."""
    if name in HEADERS:
        header = HEADERS[name]
        return header, BY_HEADER[header].size
    kind, of_class, number, size, *experimenter = name.split("_")
    if kind != "oxm":
        raise KeyError(name)
    return (int(of_class, 16), int(number), int(experimenter[0], 16) if experimenter else 0), int(size)


def encode_field(one: MatchField) -> bytes:
    """Return the TLV of a field."""
    (of_class, number, experimenter), size = header_of(one.name)
    body = experimenter.to_bytes(_EXPERIMENTER_LEN, "big") if of_class == EXPERIMENTER else b""
    body += one.value.to_bytes(size, "big")
    if one.mask is not None:
        body += one.mask.to_bytes(size, "big")
    return _TLV_HEAD.pack(of_class, number << 1 | (one.mask is not None), len(body)) + body


def encode_match(match: Match) -> bytes:
    """Return an ``ofp_match`` of 1.3 and later, with its padding.

    OXM's numbers are in an order in which each field follows its prerequisites, which 1.3.5 §7.2.3.8 demands.
    """
    fields = b"".join(map(encode_field, sorted(match, key=lambda one: _encoding_order(one.name))))
    length = _MATCH_HEAD.size + len(fields)
    return _MATCH_HEAD.pack(_OXM_MATCH, length) + fields + bytes(-length % 8)


def _encoding_order(name: str) -> tuple[bool, int, int]:
    of_class, number, _ = header_of(name)[0]
    return name not in FIELDS, -of_class, number


# 1.0

_V10_MATCH = Struct("!IH6s6sHBxHBB2xIIHH")
V10_MATCH_LEN = _V10_MATCH.size
_W_IN_PORT, _W_VLAN, _W_SRC, _W_DST, _W_TYPE, _W_PROTO, _W_TP_SRC, _W_TP_DST = (1 << bit for bit in range(8))
_W_PCP, _W_TOS = 1 << 20, 1 << 21
_W_ADDRESS = 0x3F  # bits of an address that do not count
_W_NW_SRC_SHIFT, _W_NW_DST_SHIFT = 8, 14
_W_ALL = (1 << 22) - 1
_NO_VLAN = 0xFFFF
_VLAN_PRESENT = 0x1000  # in vlan_vid (OFPVID_PRESENT)
_IP, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_RARP = 0x8035
_ARPS = (_ARP, _RARP)
_V10_PORTS = {
    (_IP, 6): ("tcp_src", "tcp_dst"),
    (_IP, 17): ("udp_src", "udp_dst"),
    (_IP, 132): ("sctp_src", "sctp_dst"),
    (_IP, 1): ("icmpv4_type", "icmpv4_code"),
    (_IPV6, 6): ("tcp_src", "tcp_dst"),
    (_IPV6, 17): ("udp_src", "udp_dst"),
    (_IPV6, 132): ("sctp_src", "sctp_dst"),
    (_IPV6, 58): ("icmpv6_type", "icmpv6_code"),
}
"""What 1.0's two fields for ports mean. 1.0 does not define them for IPv6; Open vSwitch does."""


def decode_v10_match(raw: bytes, at: int) -> Match:
    """Decode 1.0's match. Fields without their prerequisites are left out, as switches ignore them (1.0.0 §3.4)."""
    wild, in_port, src, dst, vlan, pcp, kind, tos, proto, nw_src, nw_dst, tp_src, tp_dst = _V10_MATCH.unpack_from(
        raw, at
    )
    found: list[MatchField] = []
    if not wild & _W_IN_PORT:
        found.append(MatchField("in_port", widen_port(in_port)))
    if not wild & _W_SRC:
        found.append(MatchField("eth_src", int.from_bytes(src, "big")))
    if not wild & _W_DST:
        found.append(MatchField("eth_dst", int.from_bytes(dst, "big")))
    if wild & (_W_VLAN | _W_PCP) != _W_VLAN | _W_PCP:
        found += _v10_vlan(wild, vlan, pcp)
    if not wild & _W_TYPE:
        found.append(MatchField("eth_type", kind))
        if kind in (_IP, _IPV6, *_ARPS):
            found += _v10_network(wild, kind, tos, proto, nw_src, nw_dst)
            if not wild & _W_PROTO and (names := _V10_PORTS.get((kind, proto))):
                if not wild & _W_TP_SRC:
                    found.append(MatchField(names[0], tp_src))
                if not wild & _W_TP_DST:
                    found.append(MatchField(names[1], tp_dst))
    found.sort()
    return tuple(found)


def _v10_vlan(wild: int, vlan: int, pcp: int) -> Iterable[MatchField]:
    """Yield the VLAN's fields. "No VLAN" leaves no priority; a priority alone demands a VLAN."""
    if wild & _W_VLAN:
        yield MatchField("vlan_vid", _VLAN_PRESENT, _VLAN_PRESENT)
    elif vlan == _NO_VLAN:
        yield MatchField("vlan_vid", 0)
        yield MatchField("vlan_pcp", 0)
        return
    else:
        yield MatchField("vlan_vid", _VLAN_PRESENT | vlan & 0xFFF)
    if not wild & _W_PCP:
        yield MatchField("vlan_pcp", pcp & 7)


def _v10_network(wild: int, kind: int, tos: int, proto: int, nw_src: int, nw_dst: int) -> Iterable[MatchField]:
    if kind != _IPV6:
        names = ("ipv4_src", "ipv4_dst") if kind == _IP else ("arp_spa", "arp_tpa")
        for name, address, shift in ((names[0], nw_src, _W_NW_SRC_SHIFT), (names[1], nw_dst, _W_NW_DST_SHIFT)):
            ignored = wild >> shift & _W_ADDRESS
            if ignored < 32:
                mask = 0xFFFF_FFFF << ignored & 0xFFFF_FFFF
                yield MatchField(name, address & mask, mask if ignored else None)
    if not wild & _W_PROTO:
        yield MatchField("arp_op" if kind in _ARPS else "ip_proto", proto)
    if not wild & _W_TOS and kind not in _ARPS:
        yield MatchField("ip_dscp", tos >> 2)


def encode_v10_match(match: Match) -> bytes:
    """Return 1.0's match. ValueError for a field that 1.0 cannot match."""
    fields = {one.name: one for one in match}
    wild = _W_ALL

    def take(name: str, bit: int) -> int:
        nonlocal wild
        if name not in fields:
            return 0
        wild &= ~bit
        return fields.pop(name).value

    def take_address(name: str, shift: int) -> int:
        nonlocal wild
        if name not in fields:
            return 0
        one = fields.pop(name)
        wild &= ~(_W_ADDRESS << shift)
        if one.mask is not None:
            wild |= ((one.mask & -one.mask).bit_length() - 1) << shift
        return one.value

    in_port = narrow_port(take("in_port", _W_IN_PORT))
    src, dst = (take(name, bit).to_bytes(6, "big") for name, bit in (("eth_src", _W_SRC), ("eth_dst", _W_DST)))
    vlan = 0
    if "vlan_vid" in fields:
        vid = fields.pop("vlan_vid")
        if vid.mask is None:
            wild &= ~_W_VLAN
            vlan = vid.value & 0xFFF if vid.value else _NO_VLAN
    has_vlan = vlan != _NO_VLAN
    pcp = take("vlan_pcp", _W_PCP if has_vlan else 0)
    kind = take("eth_type", _W_TYPE)
    is_arp = kind in _ARPS
    proto = take("arp_op" if is_arp else "ip_proto", _W_PROTO)
    nw_src = take_address("arp_spa" if is_arp else "ipv4_src", _W_NW_SRC_SHIFT)
    nw_dst = take_address("arp_tpa" if is_arp else "ipv4_dst", _W_NW_DST_SHIFT)
    tos = take("ip_dscp", _W_TOS) << 2
    names = _V10_PORTS.get((kind, proto), ("", ""))
    tp_src, tp_dst = take(names[0], _W_TP_SRC), take(names[1], _W_TP_DST)
    if fields:
        raise ValueError(f"OpenFlow 1.0 cannot match {', '.join(fields)}")
    return _V10_MATCH.pack(wild, in_port, src, dst, vlan, pcp, kind, tos, proto, nw_src, nw_dst, tp_src, tp_dst)


def encode_any_match(version: int, match: Match) -> bytes:
    """Return a version's match; ValueError where the version cannot express it."""
    return encode_v10_match(match) if version == V10 else encode_match(match)
