"""Matches: each field of each version, masks, 1.0's prerequisites, NXM, and what is malformed."""

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.bodies.elements import MalformedBody, Match, MatchField
from natmirror.openflow.bodies.fields import BY_HEADER, FIELDS, IP_TOS, SHORT_IN_PORT, VLAN_TCI, XREGS, XXREGS
from natmirror.openflow.bodies.matches import decode_fields, decode_match, encode_match
from natmirror.openflow.bodies.v10_matches import decode_v10_match, encode_v10_match
from natmirror.openflow.messages import V10, V13
from tests.helpers.openflow import KITS
from tests.helpers.openflow_bodies import LATER, matches, mod

UNLIKE = {V13: ("pbb_uca",)}  # os-ken has it as an extension of 1.3
later = pytest.mark.parametrize("version", LATER)
MAC, ADDRESS, ADDRESS6 = "02:00:00:00:00:01", "10.0.0.1", "fe80::1"
AN_ARP, AN_IP, AN_IPV6 = {"eth_type": 0x806}, {"eth_type": 0x800}, {"eth_type": 0x86DD}


def tlv(of_class: int, number: int, body: bytes, *, has_mask: bool = False) -> bytes:
    return pack("!HBB", of_class, number << 1 | has_mask, len(body)) + body


def fields(raw: bytes) -> Match:
    return decode_fields(raw, 0, len(raw))


@later
def test_each_field_that_os_ken_knows(version: int) -> None:
    """os-ken's own types give each field a value, and it encodes it."""
    kit = KITS[version]
    seen = set()
    for kind in kit.ofproto.oxm_types:
        if kind.name in FIELDS and kind.name not in UNLIKE.get(version, ()):
            raw = bytearray()
            number = kit.ofproto.oxm_from_user_header(kind.name)
            kit.ofproto.oxm_serialize(number, bytes(kind.type.size - 1) + b"\1", None, raw, 0)
            assert fields(bytes(raw)) == (MatchField(kind.name, 1),), kind.name
            seen.add(kind.name)
    assert len(seen) >= 40


@later
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"eth_src": (MAC, "ff:ff:ff:ff:ff:ff")}, {"eth_src": MAC}),
        ({"eth_src": (MAC, "00:00:00:00:00:00")}, {}),
        ({**AN_IP, "ipv4_src": (ADDRESS, "255.255.255.255")}, {**AN_IP, "ipv4_src": ADDRESS}),
        ({**AN_IP, "ipv4_src": (ADDRESS, "0.0.0.0")}, AN_IP),
        ({**AN_IPV6, "ipv6_src": (ADDRESS6, "::")}, AN_IPV6),
        ({"metadata": (5, (1 << 64) - 1)}, {"metadata": 5}),
        ({"vlan_vid": (0x1005, 0x1FFF)}, {"vlan_vid": 0x1005}),
    ],
    ids=str,
)
def test_masks_of_all_ones_and_of_zeros(version: int, written: dict[str, Any], expected: dict[str, Any]) -> None:
    assert mod(version, written).match == mod(version, expected).match


@later
def test_the_order_of_fields_does_not_count(version: int) -> None:
    kit = KITS[version]
    raw = bytearray()
    kit.parser.OFPMatch(in_port=1, eth_type=0x800).serialize(raw, 0)
    swapped = bytes(raw[:4]) + bytes(raw[12:18]) + bytes(raw[4:12]) + bytes(raw[18:])
    assert decode_match(swapped, 0) == decode_match(bytes(raw), 0)


@given(matches)
def test_a_match_survives_its_encoding(match: Match) -> None:
    raw = encode_match(match)
    assert decode_match(raw, 0) == (match, len(raw))
    assert len(raw) % 8 == 0


def test_an_unknown_field_is_kept_by_its_header() -> None:
    raw = tlv(0x8000, 99, b"\0\5") + tlv(0xFFFF, 3, pack("!IB", 0xABC, 7))
    found = fields(raw)
    assert found == (MatchField("oxm_8000_99_2", 5), MatchField("oxm_ffff_3_1_00000abc", 7))
    assert decode_match(encode_match(found), 0)[0] == found
    assert found != fields(tlv(0x8000, 99, b"\0\0\5") + tlv(0xFFFF, 3, pack("!IB", 0xABC, 7)))


def test_the_flags_of_tcp_as_an_extension_of_1_3() -> None:
    assert fields(tlv(0xFFFF, 42, pack("!IH", 0x4F4E4600, 2))) == fields(tlv(0x8000, 42, b"\0\2"))


@pytest.mark.parametrize(
    ("nxm", "oxm"),
    [
        (tlv(0, 0, b"\xff\xfe"), (MatchField("in_port", 0xFFFF_FFFE),)),
        (tlv(0, 4, b"\x30\x05"), (MatchField("vlan_pcp", 1), MatchField("vlan_vid", 0x1005))),
        (tlv(0, 4, b"\x10\0\x10\0", has_mask=True), (MatchField("vlan_vid", 0x1000, 0x1000),)),
        (tlv(0, 5, b"\x28"), (MatchField("ip_dscp", 10),)),
        (tlv(0, 7, b"\x0a\0\0\1"), (MatchField("ipv4_src", 0x0A000001),)),
        (tlv(0x8001, 1, bytes(7) + b"\5"), (MatchField("reg2", 0), MatchField("reg3", 5))),
        (tlv(1, 111, bytes(15) + b"\5" + bytes(15) + b"\x0f", has_mask=True), (MatchField("reg3", 5, 0xF),)),
    ],
)
def test_fields_of_nxm_have_the_names_of_oxm(nxm: bytes, oxm: Match) -> None:
    assert fields(nxm) == oxm


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\0\0",
        tlv(0x8000, 0, b"\0\0\0\1")[:-1],
        tlv(0x8000, 0, b"\0\1"),
        tlv(0x8000, 6, b"\xff\xff"),
        tlv(0x8000, 2, bytes(15), has_mask=True),
        tlv(0xFFFF, 2, b"\0"),
        tlv(0x8000, 0, b"\0\0\0\1") * 2,
        tlv(0, 4, b"\x10\5") + tlv(0x8000, 6, b"\x10\5"),
    ],
    ids=[
        "no header",
        "cut off",
        "too short",
        "too large",
        "odd mask",
        "no experimenter",
        "twice",
        "twice by two names",
    ],
)
def test_malformed_fields(raw: bytes) -> None:
    with pytest.raises(MalformedBody):
        fields(raw)


def test_a_match_without_its_header_is_malformed() -> None:
    for raw in (pack("!HH4x", 0, 4), pack("!HH4x", 1, 3), pack("!HH4x", 1, 9)):
        with pytest.raises(MalformedBody):
            decode_match(raw, 0)


# 1.0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"nw_src": ADDRESS, "nw_proto": 6, "tp_dst": 80, "nw_tos": 8}, {}),
        ({"dl_type": 0x800, "tp_dst": 80}, {"dl_type": 0x800}),
        ({"dl_type": 0x800, "nw_proto": 99, "tp_dst": 80}, {"dl_type": 0x800, "nw_proto": 99}),
        ({"dl_type": 0x806, "nw_tos": 8, "tp_src": 1}, {"dl_type": 0x806}),
        ({"dl_type": 0x1234, "nw_dst": ADDRESS}, {"dl_type": 0x1234}),
        ({"dl_vlan": 0xFFFF, "dl_vlan_pcp": 3}, {"dl_vlan": 0xFFFF}),
        ({"dl_type": 0x800, "nw_src": "10.9.9.9", "nw_src_mask": 8}, {"dl_type": 0x800, "nw_src": "10.0.0.0/8"}),
    ],
    ids=str,
)
def test_fields_of_1_0_without_their_prerequisites(written: dict[str, Any], expected: dict[str, Any]) -> None:
    address, _, bits = expected.get("nw_src", "").partition("/")
    if bits:
        expected = {**expected, "nw_src": address, "nw_src_mask": int(bits)}
    assert mod(V10, written).match == mod(V10, expected).match


@pytest.mark.parametrize(
    ("v10", "v13"),
    [
        ({"dl_type": 0x800, "nw_proto": 6, "tp_dst": 80}, {**AN_IP, "ip_proto": 6, "tcp_dst": 80}),
        ({"dl_type": 0x800, "nw_proto": 17, "tp_src": 53}, {**AN_IP, "ip_proto": 17, "udp_src": 53}),
        ({"dl_type": 0x800, "nw_proto": 132, "tp_src": 53}, {**AN_IP, "ip_proto": 132, "sctp_src": 53}),
        ({"dl_type": 0x800, "nw_proto": 1, "tp_src": 8}, {**AN_IP, "ip_proto": 1, "icmpv4_type": 8}),
        ({"dl_type": 0x806, "nw_proto": 1, "nw_src": ADDRESS}, {**AN_ARP, "arp_op": 1, "arp_spa": ADDRESS}),
        ({"dl_type": 0x800, "nw_tos": 0x28}, {**AN_IP, "ip_dscp": 10}),
        ({"dl_type": 0x86DD, "nw_proto": 58, "tp_src": 135}, {**AN_IPV6, "ip_proto": 58, "icmpv6_type": 135}),
        ({"dl_vlan": 5, "dl_vlan_pcp": 3, "dl_src": MAC}, {"vlan_vid": 0x1005, "vlan_pcp": 3, "eth_src": MAC}),
        ({"dl_vlan_pcp": 3}, {"vlan_vid": (0x1000, 0x1000), "vlan_pcp": 3}),
    ],
    ids=str,
)
def test_the_matches_of_1_0_have_the_fields_of_later_versions(v10: dict[str, Any], v13: dict[str, Any]) -> None:
    assert mod(V10, v10).match == mod(V13, v13).match


@given(st.binary(min_size=40, max_size=40))
def test_a_match_of_1_0_survives_its_encoding(raw: bytes) -> None:
    match = decode_v10_match(raw, 0)
    assert decode_v10_match(encode_v10_match(match), 0) == match


def test_1_0_cannot_match_all_fields() -> None:
    with pytest.raises(ValueError, match="metadata"):
        encode_v10_match((MatchField("metadata", 5),))
    with pytest.raises(ValueError, match="vlan_vid"):
        encode_v10_match((MatchField("vlan_vid", 0x1000, 0x1000),))
    with pytest.raises(ValueError, match="eth_src"):
        encode_v10_match((MatchField("eth_src", 5, 7),))


def test_each_field_has_a_header_and_a_name_of_its_own() -> None:
    parts = (VLAN_TCI, IP_TOS, SHORT_IN_PORT, *XREGS, *XXREGS)
    assert {field.name for field in BY_HEADER.values() if field not in parts} == set(FIELDS)
    assert all(field.bits <= 8 * field.size for field in BY_HEADER.values())
