"""Writes match fields and their values as ``ovs-ofctl`` does."""

from collections.abc import Callable
from ipaddress import IPv6Address

from natmirror.openflow.bodies.elements import MatchField, ReservedPort
from natmirror.openflow.bodies.fields import BY_HEADER, FIELDS, NXM_0, NXM_1, PACKET_REGISTERS, Form

_OVS_NAMES = {
    "ip_ecn": "nw_ecn",
    "ip_proto": "nw_proto",
    "ipv4_src": "ip_src",
    "ipv4_dst": "ip_dst",
    "icmpv4_type": "icmp_type",
    "icmpv4_code": "icmp_code",
    "ipv6_flabel": "ipv6_label",
    "ipv6_nd_target": "nd_target",
    "ipv6_nd_sll": "nd_sll",
    "ipv6_nd_tll": "nd_tll",
    "tunnel_id": "tun_id",
    "ip_tos": "nw_tos",
}
"""Open vSwitch's names, where they differ from OXM's."""
_NXM_NAMES = {
    **_OVS_NAMES,
    "ip_ecn": "ip_ecn",
    "ip_proto": "ip_proto",
    "ip_tos": "ip_tos",
    "nw_ttl": "ip_ttl",
    "tun_src": "tun_ipv4_src",
    "tun_dst": "tun_ipv4_dst",
}
_NXM_PREFIXES = {NXM_0: "NXM_OF_", NXM_1: "NXM_NX_", PACKET_REGISTERS: "OXM_OF_"}
_NXM_CLASSES = {
    field.name: of_class
    for (of_class, _, _), field in BY_HEADER.items()
    if of_class in (NXM_0, NXM_1, PACKET_REGISTERS)
}
_FIRST_RESERVED = 0xFFFF_FF00
_MAX_OPAQUE_LEN = 64  # bytes that are shown
_RESERVED = {int(port): port.name for port in ReservedPort}
_WIDE_FIELDS = {field.name: field for field in BY_HEADER.values()}


def ovs_name(name: str) -> str:
    """Return Open vSwitch's name for a field."""
    return _OVS_NAMES.get(name, name)


def nxm_name(name: str) -> str:
    """Return the name of a field's TLV, as the actions move and load name it: ``NXM_OF_ETH_SRC``."""
    if name.startswith("xreg"):
        return f"OXM_OF_PKT_REG{name[4:]}"
    prefix = _NXM_PREFIXES.get(_NXM_CLASSES.get(name, -1), "OXM_OF_")
    return prefix + (_NXM_NAMES if name in _NXM_CLASSES else _OVS_NAMES).get(name, name).upper()


def port_text(port: int) -> str:
    """Return a port's number, or its name if it is reserved; as Open vSwitch does, with 16 bits if it has no name."""
    return _RESERVED.get(port) or str(port & 0xFFFF if port >= _FIRST_RESERVED else port)


def mac_text(address: int) -> str:
    """Return a MAC address."""
    digits = f"{address:012x}"
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def ipv4_text(address: int) -> str:
    """Return an IPv4 address."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def ipv6_text(address: int) -> str:
    """Return an IPv6 address as glibc's inet_ntop() writes it: RFC 5952, with IPv4 addresses in their own form."""
    if address >> 32 == 0xFFFF:
        return f"::ffff:{ipv4_text(address & 0xFFFF_FFFF)}"
    if 1 << 16 <= address < 1 << 32:
        return f"::{ipv4_text(address)}"
    return str(IPv6Address(address))


def bytes_text(body: bytes) -> str:
    """Return opaque bytes in hexadecimal, or their beginning and their number."""
    if len(body) <= _MAX_OPAQUE_LEN:
        return body.hex()
    return f"{body[:_MAX_OPAQUE_LEN].hex()}… ({len(body)} bytes)"


def hex_text(number: int) -> str:
    """Return a number as C's ``%#x`` writes it: zero has no prefix."""
    return f"{number:#x}" if number else "0"


_WRITERS: dict[Form, Callable[[int], str]] = {
    Form.DECIMAL: str,
    Form.HEX: hex_text,
    Form.HEX4: lambda value: f"0x{value:04x}",
    Form.MAC: mac_text,
    Form.IPV4: ipv4_text,
    Form.IPV6: ipv6_text,
    Form.PORT: port_text,
}


def value_text(one: MatchField) -> str:
    """Return a field's value, with its mask if it has one."""
    field = FIELDS.get(one.name) or _WIDE_FIELDS.get(one.name)
    form = Form.HEX if field is None else field.form
    text = _WRITERS[form](one.value)
    if one.mask is None:
        return text
    if field is not None and form in (Form.IPV4, Form.IPV6):
        ignored = ~one.mask & field.all_ones
        if not ignored & ignored + 1:
            return f"{text}/{field.bits - ignored.bit_length()}"
    if form in (Form.DECIMAL, Form.PORT):
        return f"{text}/{one.mask:#x}"
    return f"{text}/{_WRITERS[form](one.mask)}"
