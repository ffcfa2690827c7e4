"""Reads the match fields of an Ethernet frame, as a switch extracts them before it looks into its tables.

What a frame does not have, or what is malformed or cut off in it, has no field. In fragments the ports of TCP, UDP and
SCTP and the type and code of ICMP are 0, as with OFPC_FRAG_NORMAL. Of several VLAN tags or MPLS labels the outermost
one counts, as in Open vSwitch with its default ``vlan-limit``.
"""

from struct import Struct

_ETHERNET, _VLAN, _MPLS = Struct("!6s6sH"), Struct("!HH"), Struct("!I")
_VLAN_TYPES, _MPLS_TYPES, _ARP_TYPES, _IP, _IPV6 = (0x8100, 0x88A8), (0x8847, 0x8848), (0x0806, 0x8035), 0x0800, 0x86DD
_VLAN_PRESENT = 0x1000
_FIRST_TYPE = 0x600  # lower numbers are lengths (IEEE 802.3)
_SNAP, _SNAP_LEN = bytes.fromhex("aaaa03000000"), 6
_NO_TYPE = 0x05FF
"""The type of a frame without one (1.0.0 §3.4)."""
_ARP_HEAD, _ARP = bytes.fromhex("000108000604"), Struct("!H6sI6sI")
_IPV4, _IPV6_HEAD = Struct("!BBHHHBBHII"), Struct("!IHBB16s16s")
_MORE_FRAGMENTS, _FRAGMENT_OFFSET = 0x2000, 0x1FFF
_IS_FRAGMENT, _IS_LATER = 1, 2  # bits of ip_frag
_TCP, _UDP, _SCTP, _ICMP, _ICMPV6 = 6, 17, 132, 1, 58
_PORTS = Struct("!HH")
_TCP_FLAGS_AT, _TCP_LEN = 12, 20
_PORT_NAMES = {_TCP: ("tcp_src", "tcp_dst"), _UDP: ("udp_src", "udp_dst"), _SCTP: ("sctp_src", "sctp_dst")}
_ICMP_NAMES = {(_IP, _ICMP): ("icmpv4_type", "icmpv4_code"), (_IPV6, _ICMPV6): ("icmpv6_type", "icmpv6_code")}
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = frozenset((0, 43, 60, _FRAGMENT, _AUTHENTICATION))  # RFC 8200 §4.1, RFC 4302
_MAX_EXTENSIONS = 16
_SOLICITATION, _ADVERTISEMENT = 135, 136  # RFC 4861 §4.3, §4.4
_ND_OPTION_NAMES = {(_SOLICITATION, 1): "ipv6_nd_sll", (_ADVERTISEMENT, 2): "ipv6_nd_tll"}
_MAX_ND_OPTIONS = 16

Fields = dict[str, int]
"""A packet's fields by the names of matches."""


def frame_fields(frame: bytes, in_port: int) -> Fields:
    """Return the match fields of a frame, or of its beginning."""
    fields: Fields = {"in_port": in_port, "vlan_vid": 0, "vlan_pcp": 0}
    if len(frame) < _ETHERNET.size:
        return fields
    dst, src, kind = _ETHERNET.unpack_from(frame)
    fields["eth_dst"], fields["eth_src"] = int.from_bytes(dst, "big"), int.from_bytes(src, "big")
    at = _ETHERNET.size
    if kind in _VLAN_TYPES and len(frame) >= at + _VLAN.size:
        tag, kind = _VLAN.unpack_from(frame, at)
        fields["vlan_vid"], fields["vlan_pcp"] = _VLAN_PRESENT | tag & 0xFFF, tag >> 13
        at += _VLAN.size
    if kind < _FIRST_TYPE:
        kind = int.from_bytes(frame[at + _SNAP_LEN : at + _SNAP_LEN + 2], "big")
        has_type = frame[at : at + _SNAP_LEN] == _SNAP and kind >= _FIRST_TYPE
        kind = kind if has_type else _NO_TYPE
        at += _SNAP_LEN + 2
    fields["eth_type"] = kind
    if kind == _IP:
        _read_ipv4(frame, at, fields)
    elif kind == _IPV6:
        _read_ipv6(frame, at, fields)
    elif kind in _ARP_TYPES:
        _read_arp(frame, at, fields)
    elif kind in _MPLS_TYPES and len(frame) >= at + _MPLS.size:
        label = _MPLS.unpack_from(frame, at)[0]
        fields["mpls_label"], fields["mpls_tc"], fields["mpls_bos"] = label >> 12, label >> 9 & 7, label >> 8 & 1
    return fields


def _read_arp(frame: bytes, at: int, fields: Fields) -> None:
    """Read ARP for IPv4 on Ethernet (RFC 826)."""
    start = at + len(_ARP_HEAD)
    if frame[at:start] != _ARP_HEAD or len(frame) < start + _ARP.size:
        return
    operation, sha, spa, tha, tpa = _ARP.unpack_from(frame, start)
    fields.update(arp_op=operation, arp_spa=spa, arp_tpa=tpa)
    fields.update(arp_sha=int.from_bytes(sha, "big"), arp_tha=int.from_bytes(tha, "big"))


def _read_traffic_class(traffic_class: int, fields: Fields) -> None:
    fields["ip_dscp"], fields["ip_ecn"] = traffic_class >> 2, traffic_class & 3


def _read_ipv4(frame: bytes, at: int, fields: Fields) -> None:
    if len(frame) < at + _IPV4.size:
        return
    first, tos, _, _, fragment, ttl, protocol, _, src, dst = _IPV4.unpack_from(frame, at)
    header_len = (first & 15) * 4
    if first >> 4 != 4 or header_len < _IPV4.size:
        return
    _read_traffic_class(tos, fields)
    offset = fragment & _FRAGMENT_OFFSET
    is_fragment = bool(offset or fragment & _MORE_FRAGMENTS)
    fields.update(ip_proto=protocol, nw_ttl=ttl, ipv4_src=src, ipv4_dst=dst)
    fields["ip_frag"] = is_fragment * _IS_FRAGMENT | bool(offset) * _IS_LATER
    _read_transport(frame, at + header_len, _IP, protocol, fields, is_fragment=is_fragment)


def _read_ipv6(frame: bytes, at: int, fields: Fields) -> None:
    """Read IPv6 and its extension headers (RFC 8200 §3, §4)."""
    if len(frame) < at + _IPV6_HEAD.size:
        return
    first, _, protocol, hops, src, dst = _IPV6_HEAD.unpack_from(frame, at)
    if first >> 28 != 6:
        return
    _read_traffic_class(first >> 20 & 0xFF, fields)
    fields.update(ipv6_flabel=first & 0xFFFFF, nw_ttl=hops)
    fields.update(ipv6_src=int.from_bytes(src, "big"), ipv6_dst=int.from_bytes(dst, "big"))
    at += _IPV6_HEAD.size
    fragment = 0
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS or len(frame) < at + 8:
            break
        if protocol == _FRAGMENT:
            later = int.from_bytes(frame[at + 2 : at + 4], "big")  # offset in the upper 13 bits, then "more"
            fragment = (_IS_FRAGMENT if later & ~6 else 0) | (_IS_LATER if later & ~7 else 0)
            length = 8
        else:
            length = (frame[at + 1] + 2) * 4 if protocol == _AUTHENTICATION else (frame[at + 1] + 1) * 8
        protocol = frame[at]
        at += length
        if fragment & _IS_LATER:
            break
    fields["ip_proto"], fields["ip_frag"] = protocol, fragment
    _read_transport(frame, at, _IPV6, protocol, fields, is_fragment=bool(fragment))


def _read_transport(frame: bytes, at: int, kind: int, protocol: int, fields: Fields, *, is_fragment: bool) -> None:
    names = _PORT_NAMES.get(protocol) or _ICMP_NAMES.get((kind, protocol))
    if names is None:
        return
    fields[names[0]] = fields[names[1]] = 0
    if is_fragment:
        return
    if protocol in _PORT_NAMES:
        if len(frame) >= at + _PORTS.size:
            fields[names[0]], fields[names[1]] = _PORTS.unpack_from(frame, at)
        if protocol == _TCP and len(frame) >= at + _TCP_LEN:
            flags = int.from_bytes(frame[at + _TCP_FLAGS_AT : at + _TCP_FLAGS_AT + 2], "big")
            fields["tcp_flags"] = flags & 0xFFF
    elif len(frame) >= at + 2:
        fields[names[0]], fields[names[1]] = frame[at], frame[at + 1]
        if protocol == _ICMPV6 and frame[at] in (_SOLICITATION, _ADVERTISEMENT) and not frame[at + 1]:
            _read_neighbour_discovery(frame, at, fields)


def _read_neighbour_discovery(frame: bytes, at: int, fields: Fields) -> None:
    """Read the target and the link-layer address of Neighbour Discovery (RFC 4861 §4.3, §4.4, §4.6.1)."""
    kind = frame[at]
    if len(frame) < at + 24:
        return
    fields["ipv6_nd_target"] = int.from_bytes(frame[at + 8 : at + 24], "big")
    at += 24
    for _ in range(_MAX_ND_OPTIONS):
        if len(frame) < at + 8 or not frame[at + 1]:
            return
        if (name := _ND_OPTION_NAMES.get((kind, frame[at]))) is not None and frame[at + 1] == 1:
            fields[name] = int.from_bytes(frame[at + 2 : at + 8], "big")
        at += 8 * frame[at + 1]
