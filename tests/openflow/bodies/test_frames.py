"""The match fields of frames, as a switch extracts them."""

from struct import pack

import dpkt
import pytest

from natmirror.openflow.bodies.frames import frame_fields
from tests.helpers.openflow_bodies import FRAME

_SRC, _DST = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
_A, _B = b"\x0a\0\0\1", b"\x0a\0\0\2"
_A6, _B6 = bytes(15) + b"\1", bytes(15) + b"\2"
ETHERNET = {"in_port": 1, "eth_src": 0x020000000001, "eth_dst": 0x020000000002, "vlan_vid": 0, "vlan_pcp": 0}
IPV4 = {"eth_type": 0x800, "ipv4_src": 0x0A000001, "ipv4_dst": 0x0A000002, "ip_frag": 0, "nw_ttl": 64}
IPV6 = {"eth_type": 0x86DD, "ipv6_src": 1, "ipv6_dst": 2, "ip_frag": 0, "nw_ttl": 64, "ipv6_flabel": 5}


def frame(kind: int, payload: bytes, tag: bytes = b"") -> bytes:
    return _DST + _SRC + tag + pack("!H", kind) + payload


def ipv4(protocol: int, payload: bytes, *, fragment: int = 0, tos: int = 0x2A, options: bytes = b"") -> bytes:
    head = pack("!BBHHHBBH", 0x45 + len(options) // 4, tos, 20 + len(payload), 1, fragment, 64, protocol, 0) + _A + _B
    return frame(0x800, head + options + payload)


def ipv6(protocol: int, payload: bytes) -> bytes:
    return frame(0x86DD, pack("!IHBB", 0x60000005 | 0x2A << 20, len(payload), protocol, 64) + _A6 + _B6 + payload)


def expected(*parts: dict[str, int], **fields: int) -> dict[str, int]:
    return {**ETHERNET, **{name: value for part in parts for name, value in part.items()}, **fields}


DSCP = {"ip_dscp": 10, "ip_ecn": 2}
TCP = bytes(dpkt.tcp.TCP(sport=1000, dport=80, flags=dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK))
UDP = bytes(dpkt.udp.UDP(sport=1000, dport=53))
PORTS = {"tcp_src": 1000, "tcp_dst": 80, "tcp_flags": 0x12}


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (ipv4(6, TCP), expected(IPV4, DSCP, PORTS, ip_proto=6)),
        (ipv4(6, TCP, options=bytes(8)), expected(IPV4, DSCP, PORTS, ip_proto=6)),
        (ipv4(17, UDP), expected(IPV4, DSCP, ip_proto=17, udp_src=1000, udp_dst=53)),
        (ipv4(132, UDP), expected(IPV4, DSCP, ip_proto=132, sctp_src=1000, sctp_dst=53)),
        (ipv4(1, b"\x08\1\0\0"), expected(IPV4, DSCP, ip_proto=1, icmpv4_type=8, icmpv4_code=1)),
        (ipv4(99, b""), expected(IPV4, DSCP, ip_proto=99)),
        (ipv6(6, TCP), expected(IPV6, DSCP, PORTS, ip_proto=6)),
        (ipv6(58, b"\x80\0\0\0"), expected(IPV6, DSCP, ip_proto=58, icmpv6_type=128, icmpv6_code=0)),
        (ipv6(0, b"\6\0" + bytes(6) + TCP), expected(IPV6, DSCP, PORTS, ip_proto=6)),
        (ipv6(51, b"\6\4" + bytes(22) + TCP), expected(IPV6, DSCP, PORTS, ip_proto=6)),
        (
            ipv6(58, b"\x87\0" + bytes(6) + _A6 + b"\1\1" + _SRC),
            expected(
                IPV6,
                DSCP,
                ip_proto=58,
                icmpv6_type=135,
                icmpv6_code=0,
                ipv6_nd_target=1,
                ipv6_nd_sll=0x020000000001,
            ),
        ),
        (
            ipv6(58, b"\x88\0" + bytes(6) + _A6 + b"\x0e\1" + bytes(6) + b"\2\1" + _DST),
            expected(
                IPV6,
                DSCP,
                ip_proto=58,
                icmpv6_type=136,
                icmpv6_code=0,
                ipv6_nd_target=1,
                ipv6_nd_tll=0x020000000002,
            ),
        ),
        (
            frame(0x8847, pack("!I", 5 << 12 | 3 << 9 | 1 << 8 | 64)),
            expected(eth_type=0x8847, mpls_label=5, mpls_tc=3, mpls_bos=1),
        ),
        (frame(0x1234, b"some"), expected(eth_type=0x1234)),
        (frame(4, b"\xaa\xaa\3\0\0\0\x12\x34"), expected(eth_type=0x1234)),
        (frame(4, b"\x42\x42\3\0"), expected(eth_type=0x05FF)),
    ],
)
def test_packets(raw: bytes, fields: dict[str, int]) -> None:
    assert frame_fields(raw, 1) == fields


def test_arp() -> None:
    assert frame_fields(FRAME, 1) == expected(
        eth_type=0x806, arp_op=1, arp_spa=0x0A000001, arp_tpa=0x0A000002, arp_sha=0x020000000001, arp_tha=0
    )


def test_arp_for_another_network_has_no_fields() -> None:
    assert frame_fields(frame(0x806, b"\0\1\x12\x34\6\4" + bytes(22)), 1) == expected(eth_type=0x806)


@pytest.mark.parametrize("kind", [0x8100, 0x88A8])
def test_a_vlan(kind: int) -> None:
    tagged = frame(0x1234, b"some", tag=pack("!HH", kind, 0x6005))
    assert frame_fields(tagged, 1) == expected(eth_type=0x1234, vlan_vid=0x1005, vlan_pcp=3)


def test_of_two_vlans_the_outer_one_counts() -> None:
    tagged = frame(0x1234, b"", tag=pack("!HHHH", 0x88A8, 5, 0x8100, 6))
    assert frame_fields(tagged, 1) == expected(eth_type=0x8100, vlan_vid=0x1005, vlan_pcp=0)


@pytest.mark.parametrize(("fragment", "ip_frag"), [(0x2000, 1), (0x2001, 3), (0x0001, 3), (0x4000, 0)])
def test_fragments_have_no_ports(fragment: int, ip_frag: int) -> None:
    found = frame_fields(ipv4(17, UDP, fragment=fragment), 1)
    assert found["ip_frag"] == ip_frag
    assert (found["udp_src"], found["udp_dst"]) == ((0, 0) if ip_frag else (1000, 53))


@pytest.mark.parametrize(("fragment", "ip_frag"), [(b"\0\1", 1), (b"\0\x09", 3), (b"\0\x08", 3), (b"\0\0", 0)])
def test_fragments_of_ipv6(fragment: bytes, ip_frag: int) -> None:
    found = frame_fields(ipv6(44, b"\x11\0" + fragment + bytes(4) + UDP), 1)
    assert (found["ip_frag"], found["ip_proto"]) == (ip_frag, 17)
    assert (found["udp_src"], found["udp_dst"]) == ((0, 0) if ip_frag else (1000, 53))


@pytest.mark.parametrize("length", range(0, 54))
def test_a_frame_that_is_cut_off_has_the_fields_before(length: int) -> None:
    whole = frame_fields(ipv4(6, TCP), 1)
    assert len(ipv4(6, TCP)) == 54
    found = frame_fields(ipv4(6, TCP)[:length], 1)
    missing = {"tcp_src": 0, "tcp_dst": 0}
    assert found.items() <= {**whole, **(missing if length < 38 else {})}.items()
    assert ("ipv4_src" in found) == (length >= 34)
    assert ("eth_type" in found) == (length >= 14)


def test_a_bad_header_has_no_fields() -> None:
    bad = bytearray(ipv4(6, TCP))
    bad[14] = 0x44
    assert frame_fields(bytes(bad), 1) == expected(eth_type=0x800)
