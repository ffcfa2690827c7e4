"""Writes matches as ``ovs-ofctl dump-flows --no-names`` does: its names, its abbreviations and its order of fields."""

from collections.abc import Callable

from natmirror.openflow.bodies.elements import Match, MatchField
from natmirror.openflow.bodies.field_text import hex_text, ovs_name, value_text

_ABBREVIATIONS = {
    (0x0800, None): "ip",
    (0x0800, 1): "icmp",
    (0x0800, 6): "tcp",
    (0x0800, 17): "udp",
    (0x0800, 132): "sctp",
    (0x86DD, None): "ipv6",
    (0x86DD, 6): "tcp6",
    (0x86DD, 17): "udp6",
    (0x86DD, 58): "icmp6",
    (0x86DD, 132): "sctp6",
    (0x0806, None): "arp",
    (0x8035, None): "rarp",
    (0x8847, None): "mpls",
    (0x8848, None): "mplsm",
}
"""The words for eth_type and ip_proto together."""
_NAMES = {
    "eth_type": "dl_type",
    "eth_src": "dl_src",
    "eth_dst": "dl_dst",
    "ipv4_src": "nw_src",
    "ipv4_dst": "nw_dst",
    "icmpv6_type": "icmp_type",
    "icmpv6_code": "icmp_code",
    **{f"{protocol}_{end}": f"tp_{end}" for protocol in ("tcp", "udp", "sctp") for end in ("src", "dst")},
}
"""Names in matches, where they differ from those elsewhere."""

_Fields = dict[str, MatchField]


def match_text(match: Match) -> str:
    """Return a match, such as ``tcp,in_port=1,nw_dst=10.0.0.0/24``; an empty text for an empty one."""
    fields = {one.name: one for one in match}
    words: list[str] = []
    for item in _ORDER:
        if isinstance(item, str):
            if item in fields:
                words.append(_word(fields.pop(item)))
        else:
            words += item(fields)
    words += map(_word, fields.values())  # fields that Open vSwitch does not print
    return ",".join(words)


def _word(one: MatchField) -> str:
    return f"{_NAMES.get(one.name) or ovs_name(one.name)}={value_text(one)}"


def _take_abbreviation(fields: _Fields) -> list[str]:
    kind, protocol = fields.get("eth_type"), fields.get("ip_proto")
    if kind is None or kind.mask is not None:
        return []
    if protocol is not None and protocol.mask is None and (kind.value, protocol.value) in _ABBREVIATIONS:
        del fields["eth_type"], fields["ip_proto"]
        return [_ABBREVIATIONS[kind.value, protocol.value]]
    if (kind.value, None) in _ABBREVIATIONS:
        del fields["eth_type"]
        return [_ABBREVIATIONS[kind.value, None]]
    return []


def _take_vlan(fields: _Fields) -> list[str]:
    """Take the VLAN's fields. Open vSwitch writes a tag that must be there by its parts, else the whole of it."""
    vid, pcp = fields.pop("vlan_vid", None), fields.pop("vlan_pcp", None)
    value = (vid.value if vid else 0) | (pcp.value if pcp else 0) << 13
    mask = _mask_of(vid, 0x1FFF) | _mask_of(pcp, 7) << 13
    if not mask:
        return []
    vid_mask, pcp_mask = mask & 0xFFF, mask >> 13
    if mask & value & _TAG and vid_mask in (0, 0xFFF) and pcp_mask in (0, 7) and (vid_mask or pcp_mask):
        words = [f"dl_vlan={value & 0xFFF}"] if vid_mask else []
        return [*words, f"dl_vlan_pcp={value >> 13}"] if pcp_mask else words
    return [f"vlan_tci=0x{value:04x}" + ("" if mask == 0xFFFF else f"/0x{mask:04x}")]


_TAG = 0x1000  # the bit of a TCI that says that there is a tag


def _mask_of(one: MatchField | None, all_ones: int) -> int:
    if one is None:
        return 0
    return all_ones if one.mask is None else one.mask


def _take_label(fields: _Fields) -> list[str]:
    one = fields.pop("ipv6_flabel", None)
    if one is None:
        return []
    return [f"ipv6_label=0x{one.value:05x}" + ("" if one.mask is None else f"/0x{one.mask:05x}")]


def _take_tos(fields: _Fields) -> list[str]:
    one = fields.pop("ip_dscp", None)
    return [] if one is None else [f"nw_tos={one.value << 2}"]


_FRAGMENTS = {
    (0, 3): "no",
    (1, 3): "first",
    (3, 3): "later",
    (1, 1): "yes",
    (0, 1): "no",
    (2, 2): "later",
    (0, 2): "not_later",
}


def _take_fragment(fields: _Fields) -> list[str]:
    one = fields.pop("ip_frag", None)
    return [] if one is None else [f"nw_frag={_FRAGMENTS.get((one.value, _mask_of(one, 3)), '<error>')}"]


def _take_ports(fields: _Fields) -> list[str]:
    """Take the ports. With a mask they are written in hexadecimal."""
    words = []
    for end in ("src", "dst"):
        for protocol in ("tcp", "udp", "sctp"):
            if one := fields.pop(f"{protocol}_{end}", None):
                text = str(one.value) if one.mask is None else f"{hex_text(one.value)}/{one.mask:#x}"
                words.append(f"tp_{end}={text}")
    return words


def _flags(name: str, names: tuple[str, ...]) -> Callable[[_Fields], list[str]]:
    """Return a function that takes a field of flags: the set ones if all bits count, else each with a sign."""
    all_ones = (1 << len(names)) - 1

    def take(fields: _Fields) -> list[str]:
        one = fields.pop(name, None)
        if one is None:
            return []
        mask = _mask_of(one, all_ones)
        bits = [bit for bit in range(len(names)) if mask >> bit & 1]
        if mask == all_ones:
            return [f"{name}=" + ("|".join(names[bit] for bit in bits if one.value >> bit & 1) or "0")]
        return [f"{name}=" + "".join("-+"[one.value >> bit & 1] + names[bit] for bit in bits)]

    return take


_TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]")
_CT_STATES = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")

_ORDER: tuple[str | Callable[[_Fields], list[str]], ...] = (
    *("pkt_mark", "recirc_id", "dp_hash", "conj_id", "actset_output"),
    _flags("ct_state", _CT_STATES),
    *("ct_zone", "ct_mark", "ct_label"),
    _take_abbreviation,
    *(f"reg{number}" for number in range(16)),
    *("tunnel_id", "tun_src", "tun_dst", "tun_ipv6_src", "tun_ipv6_dst", "tun_gbp_id", "tun_gbp_flags", "tun_flags"),
    *("metadata", "in_port"),
    _take_vlan,
    *("eth_src", "eth_dst", "eth_type", "ipv6_src", "ipv6_dst"),
    _take_label,
    *("ipv4_src", "ipv4_dst", "arp_spa", "arp_tpa", "ip_proto", "arp_op", "arp_sha", "arp_tha"),
    _take_tos,
    *("ip_ecn", "nw_ttl", "mpls_label", "mpls_tc", "mpls_bos"),
    _take_fragment,
    *("icmpv4_type", "icmpv4_code", "icmpv6_type", "icmpv6_code"),
    *("ipv6_nd_target", "ipv6_nd_sll", "ipv6_nd_tll"),
    _take_ports,
    _flags("tcp_flags", _TCP_FLAGS),
)
"""Open vSwitch's order: the names of fields, and functions that take several or have a form of their own."""
