"""The clients, leg ports and ICMP errors of each shard, and the sums over the engines of all shards."""

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
from tests.helpers.support import C1, RULES, SERVICE, assert_adds_up, at, at_once, icmp_error, packet

OWN_SOURCE = RULES.replace("address: 10.20.0.13}", "address: 10.20.0.13, source: 10.20.0.1}")


def shards(count: int) -> list[Shard]:
    return [Shard(number, count) for number in range(count)]


def matches(pattern: str | None, address: IPv4Address) -> bool:
    """Return whether iptables matches an address by an address and a mask, or by a network."""
    if pattern is None:
        return False
    base, _, mask = pattern.partition("/")
    bits = int(IPv4Network(f"0.0.0.0/{mask}").netmask) if mask.isdecimal() else int(IPv4Address(mask))
    return int(address) & bits == int(IPv4Address(base)) & bits


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 32), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 0xFFFF_FFFF))
def test_each_client_belongs_to_one_shard_and_others_to_none(base: int, length: int, count: int, other: int) -> None:
    network = IPv4Network((base, length), strict=False)
    inside = IPv4Address(int(network.network_address) | other & int(network.hostmask))
    owners = [shard.number for shard in shards(count) if matches(shard.clients_in(network), inside)]
    assert owners == [int(inside) & (count - 1)]
    outside = IPv4Address(other)
    if outside not in network:
        assert not any(matches(shard.clients_in(network), outside) for shard in shards(count))


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_the_leg_ports_of_shards_do_not_overlap(count: int) -> None:
    ports = [port for shard in shards(count) for port in shard.leg_ports]
    assert len(ports) == len(set(ports)) == len(LEG_PORTS) // count * count
    assert set(ports) <= set(LEG_PORTS)


def test_legs_from_an_address_of_this_host_have_a_port_of_their_shard() -> None:
    for shard in shards(4):
        session = ClientConnection(engine(OWN_SOURCE, shard=shard))
        session.connect()
        assert session.to_mirror[0].sport in shard.leg_ports


def two_engines() -> list[Engine]:
    return [engine(OWN_SOURCE, shard=shard) for shard in shards(2)]


def test_an_icmp_error_belongs_to_the_shard_whose_packet_it_is_about() -> None:
    """The error comes from a router, whose address does not tell the shard."""
    engines = two_engines()
    for number in (0, 1):
        client = at(f"10.10.0.{10 + number}", 40_000)
        to_client = packet(SERVICE, client, "A", 1, 1)
        assert [
            one.shard_of(icmp_error("10.10.0.254", "10.10.0.100", to_client), Hook.PREROUTING) for one in engines
        ] == [number] * 2
        leg = packet(at("10.20.0.1", Shard(number, 2).leg_ports[5]), at("10.20.0.13", 6653), "A", 1, 1)
        assert engines[0].shard_of(icmp_error("10.20.0.254", "10.20.0.1", leg), Hook.PREROUTING) == number


def test_a_source_of_legs_may_be_a_services_address_too() -> None:
    rules = (
        OWN_SOURCE + "  - {name: web, address: 10.20.0.1, port: 80, pool: {backends: [{name: w, address: 10.20.0.21}]}}"
    )
    one = engine(rules, shard=Shard(0, 4))
    about = packet(at("10.20.0.1", 80), at("10.10.0.3", 40_000), "A", 1, 1)
    assert one.shard_of(icmp_error("10.10.0.254", "10.20.0.1", about), Hook.PREROUTING) == 3


@pytest.mark.parametrize("raw", [b"", b"\x45", packet(C1, SERVICE, "A", 1, 1), b"\x45" + bytes(40)])
def test_all_other_packets_belong_to_the_engine_that_has_them(raw: bytes) -> None:
    for number, one in enumerate(two_engines()):
        assert one.shard_of(raw, Hook.PREROUTING) == one.shard_of(raw, Hook.FORWARD) == number


def test_several_engines_count_together_what_one_counts() -> None:
    whole, memory = engine(), Memory(1 << 30)
    parts = [RelativeEngine(at_once(parse_rules(RULES)), key=KEY, shard=shard, memory=memory) for shard in shards(4)]
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
