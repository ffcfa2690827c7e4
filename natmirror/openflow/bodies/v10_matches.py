"""Decodes and encodes the matches of OpenFlow 1.0, which have a fixed layout (1.0.0 §5.2.3)."""

from collections.abc import Iterable
from struct import Struct

from natmirror.openflow.bodies.elements import Match, MatchField
from natmirror.openflow.bodies.v10_ports import narrow_port, widen_port

_V10_MATCH = Struct("!IH6s6sHBxHBB2xIIHH")
V10_MATCH_LEN = _V10_MATCH.size
_W_IN_PORT, _W_VLAN, _W_SRC, _W_DST, _W_TYPE, _W_PROTO, _W_TP_SRC, _W_TP_DST = (1 << bit for bit in range(8))
_W_PCP, _W_TOS = 1 << 20, 1 << 21
_W_ADDRESS = 0x3F  # bits of an address that do not count
_W_NW_SRC_SHIFT, _W_NW_DST_SHIFT = 8, 14
_W_ALL = (1 << 22) - 1
_NO_VLAN = 0xFFFF
_VLAN_PRESENT = 0x1000  # in vlan_vid (OFPVID_PRESENT)
_ANY_VLAN, _WITHOUT_VLAN = MatchField("vlan_vid", _VLAN_PRESENT, _VLAN_PRESENT), MatchField("vlan_vid", 0)
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
        yield _ANY_VLAN
    elif vlan == _NO_VLAN:
        yield _WITHOUT_VLAN
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
        if name not in fields or fields[name].mask is not None:
            return 0
        wild &= ~bit
        return fields.pop(name).value

    def take_address(name: str, shift: int) -> int:
        nonlocal wild
        one = fields.get(name)
        if one is None:
            return 0
        ignored = 0 if one.mask is None else ~one.mask & 0xFFFF_FFFF
        if ignored & ignored + 1:
            return 0
        wild = wild & ~(_W_ADDRESS << shift) | ignored.bit_length() << shift
        return fields.pop(name).value

    in_port = narrow_port(take("in_port", _W_IN_PORT))
    src, dst = (take(name, bit).to_bytes(6, "big") for name, bit in (("eth_src", _W_SRC), ("eth_dst", _W_DST)))
    if fields.get("vlan_vid") == _ANY_VLAN and "vlan_pcp" in fields:
        del fields["vlan_vid"]  # in 1.0 a priority demands a VLAN
    has_vlan = fields.get("vlan_vid") != _WITHOUT_VLAN
    vlan = take("vlan_vid", _W_VLAN) & 0xFFF if has_vlan else _NO_VLAN
    if not has_vlan:
        del fields["vlan_vid"]
        wild &= ~_W_VLAN
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
