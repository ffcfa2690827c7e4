"""Packets of no connection: C decides them without Python, and as Python would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Decision, Drop, Hook
from natmirror.engine.engine import Engine
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, MASTER, SERVICE, at, packet

OTHER = at("10.10.0.200", 7000)
"""A service without a pool."""
SHARED = at("10.20.0.14", 6653)
"""A backend of two services."""
BOTH = at("10.20.0.15", 6653)
"""A mirror that is a backend too."""
DIRECT = at("10.20.0.16", 6653)
"""A mirror to which clients talk themselves."""
OURS = at("10.20.0.1", 40001)
"""An address of this host, the source of some legs."""
JUNK = at("10.10.0.12", 1024)
"""A client without any connection."""
MANY = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}, {name: c2, address: 10.20.0.12}]}
    mirrors:
      - {name: master, address: 10.20.0.13}
      - {name: direct, address: 10.20.0.16, direct: true}
      - {name: ours, address: 10.20.0.17, source: 10.20.0.1}
      - {name: both, address: 10.20.0.15}
  - name: shared
    address: 10.10.0.101
    port: 6653
    pool:
      balance: round-robin
      backends: [{name: c4, address: 10.20.0.14}, {name: c5, address: 10.20.0.15}]
  - name: shared-too
    address: 10.10.0.102
    port: 6653
    pool: {balance: least-connections, backends: [{name: c4, address: 10.20.0.14}, {name: c6, address: 10.20.0.18}]}
  - {name: watched, address: 10.10.0.200, port: 7000, mirrors: [{name: m2, address: 10.20.0.13, port: 7000}]}
"""
SERVICES = [SERVICE, at("10.10.0.101", 6653), at("10.10.0.102", 6653), OTHER, at("10.10.0.100", 80)]
CLIENTS = [CLIENT, JUNK, at("10.10.0.255", 1), at("192.0.2.9", 9), OURS]
SERVERS = [
    C1,
    C2,
    MASTER,
    SHARED,
    BOTH,
    DIRECT,
    at("10.20.0.17", 6653),
    at("10.20.0.18", 6653),
    at("10.20.0.11", 80),
    OTHER,
]


def punted(one: Engine) -> dict[PuntReason, int]:
    """Return the number of packets that C left to Python, by reason."""
    return one.snapshot(0.0)["packets_decided_in_python"]


@pytest.mark.parametrize(
    ("source", "destination", "letters", "data", "hook"),
    [
        (JUNK, SERVICE, "A", b"", Hook.PREROUTING),
        (JUNK, SERVICE, "R", b"", Hook.PREROUTING),
        (JUNK, SERVICE, "FA", b"", Hook.PREROUTING),
        (JUNK, SERVICE, "SA", b"", Hook.PREROUTING),
        (JUNK, SERVICE, "SFRPA", b"", Hook.PREROUTING),
        (JUNK, SERVICE, "RA", b"data", Hook.PREROUTING),
        (JUNK, at("10.10.0.100", 80), "PA", b"data", Hook.PREROUTING),
        (JUNK, at("10.10.0.100", 80), "S", b"", Hook.PREROUTING),
        (JUNK, C1, "S", b"", Hook.PREROUTING),
        (JUNK, C1, "PA", b"data", Hook.PREROUTING),
        (C1, JUNK, "A", b"", Hook.FORWARD),
        (C1, JUNK, "RA", b"", Hook.FORWARD),
        (C1, JUNK, "FA", b"", Hook.FORWARD),
        (C1, JUNK, "SA", b"", Hook.FORWARD),
        (C1, JUNK, "S", b"", Hook.FORWARD),
        (at("10.20.0.99", 6653), JUNK, "PA", b"data", Hook.FORWARD),
        (C1, at("192.0.2.1", 1), "PA", b"data", Hook.FORWARD),
    ],
)
def test_a_packet_of_no_connection_never_reaches_python(
    source: Endpoint, destination: Endpoint, letters: str, data: bytes, hook: Hook
) -> None:
    one, reference = engine(), engine(fast=False)
    raw = packet(source, destination, letters, 1, 1, data)
    assert one.receive(raw, hook, 1.0, Checksum.VALID) == reference.receive(raw, hook, 1.0, Checksum.VALID)
    assert punted(one) == {}


def test_a_packet_with_a_wrong_checksum_never_reaches_python(fast: bool) -> None:
    one = engine(fast=fast)
    raw = bytearray(packet(JUNK, SERVICE, "PA", 1, 1, b"data"))
    raw[-1] ^= 1
    verdict = one.receive(bytes(raw), Hook.PREROUTING, 1.0, Checksum.UNVERIFIED).verdict
    assert isinstance(verdict, Accept)
    assert verdict.packet is not None
    assert punted(one) == {}
    assert one.flows(1.0) == []


def test_damaged_data_past_the_window_of_a_connection_never_reaches_python(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.establish()
    before = punted(one)
    raw = bytearray(packet(CLIENT, SERVICE, "PA", seq.add(ISS, 500_000_000), seq.add(IRS, 1), bytes(60_000)))
    raw[-1] ^= 1
    for _ in range(10):
        verdict = one.receive(bytes(raw), Hook.PREROUTING, connection.now, Checksum.UNVERIFIED).verdict
        assert isinstance(verdict, Accept)
    assert punted(one) == before
    connection.from_client("PA", b"on")
    connection.from_backend("A")
    assert [data for _, _, _, data in connection.mirrored()] == [b"on"]


def test_a_mirrors_packet_without_a_leg_gets_a_rst(fast: bool) -> None:
    one = engine(fast=fast)
    decision = one.receive(packet(MASTER, JUNK, "A", 7, 9), Hook.PREROUTING, 1.0, Checksum.VALID)
    assert decision.verdict == Drop(DropReason.MIRROR_WITHOUT_LEG)
    assert len(decision.sends) == 1


def test_a_packet_of_a_ports_former_backend_is_dropped_and_counted(fast: bool) -> None:
    one = engine(fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    other = C2 if connection.backend == C1 else C1
    verdict = one.receive(packet(other, CLIENT, "A", 7, 9), Hook.FORWARD, connection.now, Checksum.VALID).verdict
    assert verdict == Drop(DropReason.FORMER_BACKEND)
    assert one.snapshot(connection.now)["drops"] == {DropReason.FORMER_BACKEND: 1}
    assert "no-flow" not in punted(one)


def outcome(one: Engine, packets: list[tuple[bytes, Hook, Checksum]]) -> tuple[list[Decision], object]:
    """Return the decisions on packets, and the counters that both gears have."""
    decisions = [one.receive(raw, hook, 1.0 + at / 100, checksum) for at, (raw, hook, checksum) in enumerate(packets)]
    state = one.snapshot(2.0)
    counters = {name: count for name, count in state["counters"].items() if name != "packets_decided_in_c"}
    flows = [(flow["client"], flow["backend"], flow["state"], flow["client_bytes"]) for flow in one.flows(2.0)]
    return decisions, (counters, state["drops"], state["backends"], sorted(flows, key=str), one.flow_ids())


packets = st.builds(
    lambda client, service, server, hook, letters, number, data, checksum, flip: (
        _flipped(
            packet(*((client, service) if hook is Hook.PREROUTING else (server, client)), letters, number, 7, data),
            flip,
        ),
        hook,
        checksum,
    ),
    st.sampled_from(CLIENTS),
    st.sampled_from([*SERVICES, C1, SHARED, BOTH]),
    st.sampled_from(SERVERS),
    st.sampled_from(Hook),
    st.sampled_from(["S", "S", "SA", "A", "PA", "FA", "R", "RA", "SFRPA", "SR", "SRA", ""]),
    st.integers(0, 3),
    st.sampled_from([b"", b"", b"data"]),
    st.sampled_from(Checksum),
    st.booleans(),
)
from_mirrors = st.builds(
    lambda server, client, letters: (packet(server, client, letters, 1, 1), Hook.PREROUTING, Checksum.VALID),
    st.sampled_from(SERVERS),
    st.sampled_from(CLIENTS),
    st.sampled_from(["S", "SA", "A", "RA"]),
)


def _flipped(raw: bytes, flip: bool) -> bytes:
    return raw[:-1] + bytes((raw[-1] ^ 1,)) if flip and len(raw) > 40 else raw


@given(st.lists(st.one_of(packets, packets, from_mirrors), max_size=30))
def test_both_gears_decide_alike(some: list[tuple[bytes, Hook, Checksum]]) -> None:
    rules = parse_rules(MANY)
    gears = [Engine(rules, key=bytes(16), fast=fast) for fast in (True, False)]
    assert outcome(gears[0], some) == outcome(gears[1], some)
