"""The match fields: their names, their widths, and the headers of their TLVs in OXM and Nicira's NXM.

OXM: 1.3.5 §7.2.3.7, 1.5.1 §7.2.3.8. NXM and the fields of Open vSwitch: ovs-fields(7).
"""

from enum import Enum, auto
from typing import NamedTuple

BASIC, PACKET_REGISTERS, NXM_0, NXM_1, EXPERIMENTER = 0x8000, 0x8001, 0, 1, 0xFFFF
"""Classes of TLVs."""
ONF = 0x4F4E4600
"""The experimenter id of the Open Networking Foundation."""


class Form(Enum):
    """How a field's values are written."""

    DECIMAL = auto()
    HEX = auto()
    HEX4 = auto()
    """Four hexadecimal digits at least."""
    MAC = auto()
    IPV4 = auto()
    IPV6 = auto()
    PORT = auto()


class Field(NamedTuple):
    """A match field."""

    name: str
    bits: int
    size: int
    """Bytes on the wire."""
    form: Form

    @property
    def all_ones(self) -> int:
        """The mask with which all bits count."""
        return (1 << self.bits) - 1


def _field(name: str, bits: int, form: Form = Form.DECIMAL, size: int = 0) -> Field:
    return Field(name, bits, size or (bits + 7) // 8, form)


_BASIC_FIELDS = {
    0: _field("in_port", 32, Form.PORT),
    1: _field("in_phy_port", 32, Form.PORT),
    2: _field("metadata", 64, Form.HEX),
    3: _field("eth_dst", 48, Form.MAC),
    4: _field("eth_src", 48, Form.MAC),
    5: _field("eth_type", 16, Form.HEX4),
    6: _field("vlan_vid", 13),
    7: _field("vlan_pcp", 3),
    8: _field("ip_dscp", 6),
    9: _field("ip_ecn", 2),
    10: _field("ip_proto", 8),
    11: _field("ipv4_src", 32, Form.IPV4),
    12: _field("ipv4_dst", 32, Form.IPV4),
    13: _field("tcp_src", 16),
    14: _field("tcp_dst", 16),
    15: _field("udp_src", 16),
    16: _field("udp_dst", 16),
    17: _field("sctp_src", 16),
    18: _field("sctp_dst", 16),
    19: _field("icmpv4_type", 8),
    20: _field("icmpv4_code", 8),
    21: _field("arp_op", 16),
    22: _field("arp_spa", 32, Form.IPV4),
    23: _field("arp_tpa", 32, Form.IPV4),
    24: _field("arp_sha", 48, Form.MAC),
    25: _field("arp_tha", 48, Form.MAC),
    26: _field("ipv6_src", 128, Form.IPV6),
    27: _field("ipv6_dst", 128, Form.IPV6),
    28: _field("ipv6_flabel", 20, Form.HEX, size=4),
    29: _field("icmpv6_type", 8),
    30: _field("icmpv6_code", 8),
    31: _field("ipv6_nd_target", 128, Form.IPV6),
    32: _field("ipv6_nd_sll", 48, Form.MAC),
    33: _field("ipv6_nd_tll", 48, Form.MAC),
    34: _field("mpls_label", 20, size=4),
    35: _field("mpls_tc", 3),
    36: _field("mpls_bos", 1),
    37: _field("pbb_isid", 24, Form.HEX),
    38: _field("tunnel_id", 64, Form.HEX),
    39: _field("ipv6_exthdr", 9, Form.HEX),
    41: _field("pbb_uca", 1),
    42: _field("tcp_flags", 12, Form.HEX),
    43: _field("actset_output", 32, Form.PORT),
    44: _field("packet_type", 32, Form.HEX),
}
"""OXM's fields by number, of 1.3 to 1.5."""

VLAN_TCI = _field("vlan_tci", 16)
"""NXM's field for vlan_pcp and vlan_vid together; a match has these instead."""
IP_TOS = _field("ip_tos", 8)
"""NXM's field for ip_dscp, in its upper six bits; a match has that instead."""
SHORT_IN_PORT = _field("in_port", 16)
"""NXM's field for in_port, with 1.0's numbers."""
XREGS = tuple(_field(f"xreg{number}", 64, Form.HEX) for number in range(8))
"""Pairs of registers; a match has the registers instead."""
XXREGS = tuple(_field(f"xxreg{number}", 128, Form.HEX) for number in range(4))

_OXM = {field.name: field for field in _BASIC_FIELDS.values()}
_NXM_0_FIELDS = {
    0: SHORT_IN_PORT,
    1: _OXM["eth_dst"],
    2: _OXM["eth_src"],
    3: _OXM["eth_type"],
    4: VLAN_TCI,
    5: IP_TOS,
    6: _OXM["ip_proto"],
    7: _OXM["ipv4_src"],
    8: _OXM["ipv4_dst"],
    9: _OXM["tcp_src"],
    10: _OXM["tcp_dst"],
    11: _OXM["udp_src"],
    12: _OXM["udp_dst"],
    13: _OXM["icmpv4_type"],
    14: _OXM["icmpv4_code"],
    15: _OXM["arp_op"],
    16: _OXM["arp_spa"],
    17: _OXM["arp_tpa"],
}
_NXM_1_FIELDS = {
    **{number: _field(f"reg{number}", 32, Form.HEX) for number in range(16)},
    16: _OXM["tunnel_id"],
    17: _OXM["arp_sha"],
    18: _OXM["arp_tha"],
    19: _OXM["ipv6_src"],
    20: _OXM["ipv6_dst"],
    21: _OXM["icmpv6_type"],
    22: _OXM["icmpv6_code"],
    23: _OXM["ipv6_nd_target"],
    24: _OXM["ipv6_nd_sll"],
    25: _OXM["ipv6_nd_tll"],
    26: _field("ip_frag", 2, Form.HEX),
    27: _OXM["ipv6_flabel"],
    28: _OXM["ip_ecn"],
    29: _field("nw_ttl", 8),
    30: _field("cookie", 64, Form.HEX),  # of the flow, in NXT_FLOW_MOD only; no field of packets
    31: _field("tun_src", 32, Form.IPV4),
    32: _field("tun_dst", 32, Form.IPV4),
    33: _field("pkt_mark", 32, Form.HEX),
    34: _OXM["tcp_flags"],
    35: _field("dp_hash", 32, Form.HEX),
    36: _field("recirc_id", 32, Form.HEX),
    37: _field("conj_id", 32),
    38: _field("tun_gbp_id", 16),
    39: _field("tun_gbp_flags", 8, Form.HEX),
    104: _field("tun_flags", 16, Form.HEX),
    105: _field("ct_state", 32, Form.HEX),
    106: _field("ct_zone", 16),
    107: _field("ct_mark", 32, Form.HEX),
    108: _field("ct_label", 128, Form.HEX),
    109: _field("tun_ipv6_src", 128, Form.IPV6),
    110: _field("tun_ipv6_dst", 128, Form.IPV6),
    **{111 + number: field for number, field in enumerate(XXREGS)},
}

Header = tuple[int, int, int]
"""Class, number, and the experimenter's id or 0."""

BY_HEADER: dict[Header, Field] = {
    **{(NXM_0, number, 0): field for number, field in _NXM_0_FIELDS.items()},
    **{(NXM_1, number, 0): field for number, field in _NXM_1_FIELDS.items()},
    **{(PACKET_REGISTERS, number, 0): field for number, field in enumerate(XREGS)},
    **{(EXPERIMENTER, number, ONF): _BASIC_FIELDS[number] for number in (42, 43)},  # in 1.3, as extensions
    **{(BASIC, number, 0): field for number, field in _BASIC_FIELDS.items()},
}
"""The fields by the header of their TLV."""

HEADERS: dict[str, Header] = {field.name: header for header, field in BY_HEADER.items() if field is not SHORT_IN_PORT}
"""The header of each field, by its name: OXM's if there is one."""

FIELDS: dict[str, Field] = {
    field.name: field for field in BY_HEADER.values() if field not in (VLAN_TCI, IP_TOS, SHORT_IN_PORT, *XREGS, *XXREGS)
}
"""The fields of matches, by name. A field that is unknown here is named after its header, as ``unknown_name`` says."""


def unknown_name(header: Header, size: int) -> str:
    """Return the name of a field that is unknown here: ``oxm_8000_45_4`` with class, number and bytes, then the
    experimenter."""
    of_class, number, experimenter = header
    return f"oxm_{of_class:04x}_{number}_{size}" + (f"_{experimenter:08x}" if of_class == EXPERIMENTER else "")
