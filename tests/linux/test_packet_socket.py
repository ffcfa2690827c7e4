"""The kernel's filter of a capture, run by a small interpreter, and interfaces that show a packet twice;
tests/live/test_capture.py has the kernel run both."""

import struct
from collections.abc import Sequence

import pytest

from natmirror.linux.interfaces import Link
from natmirror.linux.packet_socket import doubles_of, filter_of
from tests.helpers.captures import fragments_of
from tests.helpers.support import C1, CLIENT, MASTER, SERVICE, at, icmp_error, packet

NEIGHBOUR = at("10.10.0.11", 40002)
OTHER = at("10.10.0.12", 40001)


def passes(
    raw: bytes,
    port: int | None = None,
    *,
    protocol: int = 0x0800,
    vlan: int = 0,
    pairs: Sequence[tuple[bytes, bytes]] = (),
) -> bool:
    """Run the filter over an IP packet, as the kernel does: a load past the packet's end ends it."""
    program = [struct.unpack("=HBBi", one) for one in filter_of(CLIENT[0], port, pairs)]
    extra = {-0x1000: protocol, -0x1000 + 44: vlan}
    here = value = index = 0
    while True:
        code, yes, no, k = program[here]
        here += 1
        size = {0x20: 4, 0x28: 2, 0x30: 1, 0x48: 2, 0xB1: 1}.get(code, 0)
        if size:
            start = k + 0x100000 + (index if code == 0x48 else 0)
            if k not in extra and start + size > len(raw):
                return False
            loaded = extra[k] if k in extra else int.from_bytes(raw[start : start + size], "big")
            index, value = (4 * (loaded & 15), value) if code == 0xB1 else (index, loaded)
        elif code == 0x06:
            return bool(k)
        else:
            k &= 0xFFFFFFFF
            here += yes if (value == k if code == 0x15 else value & k) else no


@pytest.mark.parametrize("ends", [(CLIENT, SERVICE), (CLIENT, C1), (C1, CLIENT), (MASTER, CLIENT)])
def test_packets_of_the_client_pass(ends: tuple[tuple[bytes, int], tuple[bytes, int]]) -> None:
    raw = packet(*ends, "PA", 1, data=b"hello")
    assert passes(raw) and passes(raw, CLIENT[1]) and not passes(raw, 1)
    assert not passes(raw, protocol=0x86DD) and not passes(raw, vlan=100)
    assert passes(raw, vlan=0x2000)  # a priority without a VLAN


def test_packets_of_others_do_not() -> None:
    assert not passes(packet(OTHER, SERVICE, "S", 1))
    assert passes(packet(NEIGHBOUR, SERVICE, "S", 1)) and not passes(packet(NEIGHBOUR, SERVICE, "S", 1), CLIENT[1])
    assert not passes(b"") and not passes(b"\x45")


def test_icmp_errors_about_the_client_pass() -> None:
    there, back = packet(CLIENT, C1, "A", 1), packet(SERVICE, CLIENT, "A", 1)
    assert passes(icmp_error("10.20.0.1", "10.10.0.11", there), CLIENT[1])
    assert passes(icmp_error("10.10.0.1", "10.10.0.100", back), CLIENT[1])
    assert not passes(icmp_error("10.10.0.1", "10.10.0.100", packet(SERVICE, OTHER, "A", 1)))


def test_packets_between_the_addresses_of_a_pair_pass() -> None:
    ours = at("10.20.0.1", 10240)
    pairs = [(bytes((10, 20, 0, number)), MASTER[0]) for number in range(16)]
    assert not passes(packet(ours, MASTER, "A", 1))
    for raw in (packet(ours, MASTER, "A", 1), packet(MASTER, ours, "A", 1), packet(CLIENT, SERVICE, "S", 1)):
        assert passes(raw, CLIENT[1], pairs=pairs)
    assert not passes(packet(ours, C1, "A", 1), pairs=pairs)
    error = icmp_error("10.20.0.1", "10.10.0.11", packet(CLIENT, C1, "A", 1))
    assert passes(error, CLIENT[1], pairs=pairs)


def test_later_fragments_pass_whatever_their_port() -> None:
    pieces = fragments_of(packet(CLIENT, SERVICE, "PA", 1, data=bytes(64)), 24)
    assert [passes(piece, 1) for piece in pieces] == [False, True, True, True]
    assert all(passes(piece, CLIENT[1]) for piece in pieces)


def test_ports_show_the_packets_of_their_bridge_or_bond_again() -> None:
    links = {
        "br0": Link(1500, True, is_bridge=True),
        "sw0": Link(1500, True, master="br0"),
        "bond0": Link(1500, True),
        "pl0": Link(1500, True, master="bond0"),
        "eth0": Link(1500, True, vrf="red"),
    }
    assert doubles_of(links, runs_iptables=False) == (frozenset({"sw0", "pl0"}), frozenset())
    assert doubles_of(links, runs_iptables=True) == (frozenset({"br0", "pl0"}), frozenset({"sw0"}))
