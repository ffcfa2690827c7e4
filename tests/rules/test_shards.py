"""Several engines that share the clients: who has what, and their sums."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Hook
from natmirror.engine.engine import Engine
from natmirror.fastpath import Memory
from natmirror.rules import LEG_PORTS, parse_rules
from natmirror.rules.shards import Shard
from natmirror.runtime.aggregate import aggregate
from tests.helpers.client_connection import KEY, ClientConnection, engine
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import C1, RULES, SERVICE, assert_adds_up, at, icmp_error, packet

OURS = RULES.replace("address: 10.20.0.13}", "address: 10.20.0.13, source: 10.20.0.1}")


def shards(count: int) -> list[Shard]:
    return [Shard(number, count) for number in range(count)]


def matches(written: str | None, address: IPv4Address) -> bool:
    """What iptables does with an address and a mask."""
    if written is None:
        return False
    base, _, mask = written.partition("/")
    bits = int(IPv4Network(f"0.0.0.0/{mask}").netmask) if mask.isdecimal() else int(IPv4Address(mask))
    return int(address) & bits == int(IPv4Address(base)) & bits


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 32), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 0xFFFF_FFFF))
def test_each_client_is_one_shards_and_only_clients_are(base: int, length: int, count: int, other: int) -> None:
    network = IPv4Network((base, length), strict=False)
    inside = IPv4Address(int(network.network_address) | other & int(network.hostmask))
    owners = [shard.number for shard in shards(count) if matches(shard.part_of(network), inside)]
    assert owners == [int(inside) & (count - 1)]
    outside = IPv4Address(other)
    if outside not in network:
        assert not any(matches(shard.part_of(network), outside) for shard in shards(count))


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_ports_of_legs_are_dealt_out_without_overlap(count: int) -> None:
    ports = [port for shard in shards(count) for port in shard.leg_ports]
    assert len(ports) == len(set(ports)) == len(LEG_PORTS) // count * count
    assert set(ports) <= set(LEG_PORTS)


def test_legs_with_an_address_of_ours_come_from_their_shards_ports() -> None:
    for shard in shards(4):
        session = ClientConnection(engine(OURS, shard=shard))
        session.connect()
        assert session.to_mirror[0].sport in shard.leg_ports


def both() -> list[Engine]:
    return [engine(OURS, shard=shard) for shard in shards(2)]


def test_errors_are_for_him_whose_packet_they_are_about() -> None:
    """An error comes from a router, whose address says nothing."""
    engines = both()
    for number in (0, 1):
        client = at(f"10.10.0.{10 + number}", 40_000)
        to_client = packet(SERVICE, client, "A", 1, 1)
        assert [
            one.shard_of(icmp_error("10.10.0.254", "10.10.0.100", to_client), Hook.PREROUTING) for one in engines
        ] == [number] * 2
        leg = packet(at("10.20.0.1", Shard(number, 2).leg_ports[5]), at("10.20.0.13", 6653), "A", 1, 1)
        assert engines[0].shard_of(icmp_error("10.20.0.254", "10.20.0.1", leg), Hook.PREROUTING) == number


def test_an_address_of_ours_may_be_a_services_too() -> None:
    rules = OURS + "  - {name: web, address: 10.20.0.1, port: 80, pool: {backends: [{name: w, address: 10.20.0.21}]}}"
    one = engine(rules, shard=Shard(0, 4))
    about = packet(at("10.20.0.1", 80), at("10.10.0.3", 40_000), "A", 1, 1)
    assert one.shard_of(icmp_error("10.10.0.254", "10.20.0.1", about), Hook.PREROUTING) == 3


@pytest.mark.parametrize("raw", [b"", b"\x45", packet(C1, SERVICE, "A", 1, 1), b"\x45" + bytes(40)])
def test_all_other_packets_are_with_their_engine_already(raw: bytes) -> None:
    for number, one in enumerate(both()):
        assert one.shard_of(raw, Hook.PREROUTING) == one.shard_of(raw, Hook.FORWARD) == number


def test_sums_of_several_engines_are_those_of_one() -> None:
    whole, memory = engine(), Memory(256 << 20)
    parts = [RelativeEngine(parse_rules(RULES), key=KEY, shard=shard, memory=memory) for shard in shards(4)]
    for address in range(1, 30):
        client = at(f"10.10.0.{address}", 40_000)
        for one in (whole, parts[address % 4]):
            session = ClientConnection(one, client=client)
            session.connect()
            session.connect_mirror()
            session.from_client("PA", bytes(address))
            if address % 2:
                session.from_mirror("A", 1, 1 + address)
            if address % 3:
                session.from_client("RA")
    expected = whole.snapshot(1000.0)
    summed = aggregate([one.snapshot(1000.0) for one in parts])
    assert_adds_up(summed)
    assert summed == expected
    assert aggregate([expected]) == expected
