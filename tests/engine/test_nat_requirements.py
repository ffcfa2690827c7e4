"""What RFC 5382, RFC 5508 and RFC 7857 ask of a NAT and no other test shows; docs/requirements.md names these tests."""

from dataclasses import replace

import pytest

from natmirror.actions import Accept, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.errors import RulesError
from natmirror.net import seq
from natmirror.net.checksum import ones_sum
from natmirror.rules import Timeouts, parse_rules
from tests.helpers.client_connection import IRS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, RULES, SERVICE, at, icmp_error, packet, segment

UNMIRRORED = RULES[: RULES.index("    mirrors:")]


@pytest.fixture
def connection(fast: bool) -> ClientConnection:
    return ClientConnection(engine(UNMIRRORED, fast=fast))


def test_each_timeout_is_configurable_but_not_below_the_rfcs(fast: bool) -> None:
    """RFC 5382 REQ-5a."""
    least = Timeouts(opening=30.0, established=7440.0, closing=240.0, closed=5.0)
    for name, limit in (("opening", "30s"), ("established", "124m"), ("closing", "4m"), ("closed", "5s")):
        seconds = getattr(least, name)
        for found in (seconds, 2 * seconds):
            rules = parse_rules(f"timeouts: {{{name}: {found:.0f}s}}\n{UNMIRRORED}")
            assert rules.timeouts == replace(Timeouts(), **{name: found})
        with pytest.raises(RulesError, match=rf"timeouts\.{name}: expected a duration from {limit}"):
            parse_rules(f"timeouts: {{{name}: {seconds - 1:.0f}s}}\n{UNMIRRORED}")
    one = engine(f"timeouts: {{established: 3h}}\n{UNMIRRORED}", fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    assert connection.outlive() == 3 * 3600.0


@pytest.mark.parametrize("key", ["pool", "mirrors"])
def test_a_server_inside_the_clients_networks_is_refused(key: str) -> None:
    """RFC 5382 REQ-8: there is no hairpinning, because such a server's replies would not pass this host."""
    address = "10.20.0.12" if key == "pool" else "10.20.0.13"
    with pytest.raises(RulesError, match=rf"services\[0\]\.{key}.*: expected an address outside the switches' network"):
        parse_rules(RULES.replace(address, "10.10.0.12"))


def test_an_error_without_a_flow_is_translated_for_the_derived_backend(connection: ClientConnection) -> None:
    """RFC 5508 REQ-4 and 5."""
    derived = ClientConnection(engine(UNMIRRORED)).syn().dst
    reply = packet(SERVICE, CLIENT, "PA", 5, 6, b"reply")
    verdict = connection.take(icmp_error("10.10.0.1", "10.10.0.100", reply), Hook.PREROUTING)
    assert isinstance(verdict, Accept)
    assert verdict.packet is not None
    assert (verdict.packet[16:20], verdict.packet[40:44], verdict.packet[44:48]) == (derived, derived, CLIENT[0])
    assert ones_sum(verdict.packet[20:]) == 0xFFFF
    assert connection.states == [], "an error opens no flow"


def test_without_room_a_connection_goes_to_its_derived_backend_and_is_counted(fast: bool) -> None:
    """RFC 5508 REQ-8."""
    one = engine(UNMIRRORED, fast=fast, max_flows=3)
    for number in range(3):
        ClientConnection(one, client=at("10.10.0.9", 1025 + number)).connect()
    connection = ClientConnection(one, client=at("10.10.0.10", 7))
    derived = ClientConnection(engine(UNMIRRORED), client=connection.client).syn().dst
    assert connection.syn().dst == derived
    assert (connection.syn_ack().src, connection.from_client("PA", b"data").dst) == (SERVICE[0], derived)
    assert connection.from_backend("PA", b"reply").src == SERVICE[0]
    snapshot = one.snapshot(connection.now)
    assert snapshot["flows"] == 3
    assert snapshot["counters"][EngineCounter.FLOWS_UNTRACKED] > 0


@pytest.mark.parametrize("by_client", [True, False])
def test_a_connection_has_the_states_of_rfc_6146_and_a_rst_ends_it_at_once(
    connection: ClientConnection, *, by_client: bool
) -> None:
    """RFC 7857 §2."""
    connection.syn()
    assert connection.states == ["syn-sent"]
    connection.syn_ack()
    assert connection.states == ["syn-received"]
    connection.from_client("A")
    assert connection.states == ["established"]
    (connection.from_client if by_client else connection.from_backend)("FA")
    assert connection.states == ["half-closed"]
    (connection.from_backend if by_client else connection.from_client)("FA")
    assert connection.states == ["closing"]
    (connection.from_client if by_client else connection.from_backend)("A")
    assert connection.states == ["time-wait"]
    other = ClientConnection(connection.engine, client=at("10.10.0.12", 40001))
    other.connect()
    (other.from_client if by_client else other.from_backend)("RA")
    assert sorted(other.states) == ["reset", "time-wait"]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_rst_is_translated_in_both_directions(connection: ClientConnection, *, is_known: bool) -> None:
    """RFC 7857 §2.2: also where the connection is not known, and again after the first one."""
    if is_known:
        connection.connect()
    backend = connection.backend or C1
    for _ in range(2):
        there = connection.passed(packet(CLIENT, SERVICE, "R", seq.add(connection.iss, 1)), Hook.PREROUTING)
        assert (there.dst, there.dport) in ((backend,) if is_known else (C1, C2))
        here = connection.passed(packet(backend, CLIENT, "R", seq.add(IRS, 1)), Hook.FORWARD)
        assert ((here.src, here.sport), (here.dst, here.dport)) == (SERVICE, CLIENT)
        assert there.checksum_ok()
        assert here.checksum_ok()


def test_the_identification_field_stays_in_both_directions(connection: ClientConnection) -> None:
    """RFC 7857 §10."""
    connection.connect()
    assert connection.backend
    for source, destination, hook in ((CLIENT, SERVICE, Hook.PREROUTING), (connection.backend, CLIENT, Hook.FORWARD)):
        raw = bytearray(packet(source, destination, "A", 1, 1))
        raw[4:6], raw[10:12] = b"\x12\x34", b"\0\0"
        raw[10:12] = (~ones_sum(bytes(raw[:20])) & 0xFFFF).to_bytes(2, "big")
        passed = connection.passed(bytes(raw), hook).raw
        assert (passed[4:6], segment(passed).ttl) == (b"\x12\x34", segment(bytes(raw)).ttl)
