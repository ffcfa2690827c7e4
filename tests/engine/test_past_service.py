"""Packets that clients send to a backend past the service of their connection: to the backend's own endpoint, or to
another service with this backend."""

import pytest

from natmirror.actions import Accept, Drop, Hook, Verdict
from natmirror.engine.counters import EngineCounter
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_NOP
from natmirror.reasons import DropReason
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, SERVICE, TIMEOUTS, assert_adds_up, at, packet

MD5 = bytes((19, 18)) + bytes(16) + bytes((OPT_NOP, OPT_NOP))
"""A signature (RFC 2385): a receiver without a key for it refuses the segment."""
DROPPED = Drop(DropReason.PAST_SERVICE)


@pytest.fixture
def holding(fast: bool) -> ClientConnection:
    """A connection whose bytes wait for their acknowledgement."""
    one = ClientConnection(engine(fast=fast, release=Release.ACKNOWLEDGED))
    one.establish()
    return one


def past(one: ClientConnection, letters: str, data: bytes = b"", *, backend: Endpoint | None = None) -> Verdict:
    """Send a packet with the client's next number to a backend, its own by default."""
    there = backend or one.backend
    assert there is not None
    numbers = seq.add(ISS, 1 + one.sent), seq.add(IRS, 1 + one.answered)
    return one.take(packet(CLIENT, there, letters, *numbers, data), Hook.PREROUTING)


def expire(one: ClientConnection) -> None:
    """Let the time of closed flows pass."""
    for _ in range(2):
        one.now += TIMEOUTS[State.RESET]
        one.engine.handle_timer(one.now)


def other(one: ClientConnection) -> Endpoint:
    return C1 if one.backend == C2 else C2


def test_what_the_backend_refuses_is_not_replaced_past_the_service(holding: ClientConnection) -> None:
    lie = packet(CLIENT, SERVICE, "PA", seq.add(ISS, 1), seq.add(IRS, 1), b"LIE!!", options=MD5)
    holding.passed(lie, Hook.PREROUTING)
    assert past(holding, "PA", b"TRUTH") == DROPPED
    holding.from_backend("A")  # it has taken neither
    assert holding.mirrored() == []
    snapshot = holding.engine.snapshot(holding.now)
    assert snapshot["drops"][DropReason.PAST_SERVICE] == 1
    assert_adds_up(snapshot)


@pytest.mark.parametrize("letters", ["S", "A", "PA", "FA", "R", "RA"])
def test_no_packet_of_a_flow_passes_its_service(connection: ClientConnection, letters: str) -> None:
    connection.syn()
    assert past(connection, letters) == DROPPED
    connection.syn_ack()
    assert past(connection, letters) == DROPPED
    connection.from_client("A")
    assert past(connection, letters) == DROPPED


def test_packets_to_another_backend_or_from_another_port_pass(connection: ClientConnection) -> None:
    connection.connect()
    assert connection.backend is not None
    assert past(connection, "PA", b"data", backend=other(connection)) == Accept()
    neighbour = (CLIENT[0], CLIENT[1] + 1)
    raw = packet(neighbour, connection.backend, "PA", 1, 1, b"data")
    assert connection.take(raw, Hook.PREROUTING) == Accept()
    assert connection.engine.snapshot(connection.now)["drops"] == {}


def test_a_port_whose_connection_has_closed_may_connect_to_the_backend_itself(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert past(connection, "S") == Accept()


def test_after_a_clients_reset_the_backend_gets_no_other_version_of_what_is_held(holding: ClientConnection) -> None:
    holding.from_client("PA", b"held")
    holding.from_client("R")
    assert past(holding, "PA", b"TRUTH") == DROPPED
    expire(holding)
    assert past(holding, "S") == Accept()


@pytest.mark.parametrize("letters", ["S", "A", "PA", "FA", "RA"])
def test_both_directions_of_a_direct_connection_pass_unchanged(connection: ClientConnection, letters: str) -> None:
    connection.backend = C1
    for sent in ("S", letters):
        assert past(connection, sent) == Accept()
        raw = packet(C1, CLIENT, "SA" if sent == "S" else "A", IRS, seq.add(ISS, 1))
        assert connection.take(raw, Hook.FORWARD) == Accept()
    assert past(connection, letters, b"data") == Accept()
    assert connection.engine.flows(connection.now) == []


def test_a_direct_connection_costs_python_nothing() -> None:
    one = ClientConnection(engine())
    one.backend = C1
    past(one, "S")
    one.take(packet(C1, CLIENT, "SA", IRS, seq.add(ISS, 1)), Hook.FORWARD)
    for letters in ("A", "PA", "FA"):
        assert past(one, letters) == Accept()
    assert one.engine.snapshot(one.now)["packets_decided_in_python"] == {}


SECOND, THIRD = at("10.10.0.101", 6653), at("10.10.0.102", 6653)
SHARED = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors: [{name: master, address: 10.20.0.13}]
  - {name: second, address: 10.10.0.101, port: 6653, pool: {backends: [{name: c1, address: 10.20.0.11}]}}
  - {name: third, address: 10.10.0.102, port: 6653, pool: {backends: [{name: c1, address: 10.20.0.11}]}}
"""
WATCHED = """
  - {name: own, address: 10.20.0.11, port: 6653, mirrors: [{name: m2, address: 10.20.0.14}]}
"""
"""A service without a pool at the backend's own endpoint."""
PASSAGES = {"pool": (SHARED, SECOND), "watched": (f"{SHARED}{WATCHED}", C1), "none": (SHARED, C1)}
"""The rules, and where a client sends what is to reach the backend past the service."""


def shared(passage: str, *, fast: bool) -> ClientConnection:
    """Return a connection that is not open yet, through a service whose backend can be reached by this passage."""
    return ClientConnection(engine(PASSAGES[passage][0], fast=fast, release=Release.ACKNOWLEDGED))


@pytest.fixture(params=PASSAGES)
def passage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def books(one: ClientConnection) -> tuple[int, dict[str, int]]:
    """Return how many bytes of clients the first mirror's account has, and which are lost."""
    assert_adds_up(one.engine.snapshot(one.now))
    shown = one.engine.snapshot(one.now)["mirrors"][0]
    return shown["client_bytes"], {str(reason): count for reason, count in shown["lost_bytes"].items()}


def data_of(one: ClientConnection) -> bytes:
    """Return the data in packets to mirrors since the last call."""
    return b"".join(data for *_, data in one.mirrored())


PACKETS = [("A", b""), ("FA", b""), ("R", b""), ("RA", b""), ("UA", b""), ("PA", b"TRUTH"), ("SA", b"")]
"""All kinds but SYNs."""


@pytest.mark.parametrize(("letters", "data"), PACKETS)
def test_no_packet_of_a_flow_passes_by_another_way(passage: str, letters: str, data: bytes, fast: bool) -> None:
    one, there = shared(passage, fast=fast), PASSAGES[passage][1]
    for step in (one.syn, one.syn_ack, lambda: one.from_client("A"), one.connect_mirror, one.mirrored):
        step()
        assert past(one, letters, data, backend=there) == DROPPED
    one.from_client("PA", b"LIES!")
    one.from_backend("A")
    assert data_of(one) == b"LIES!", "the backend has it too"
    assert books(one) == (5, {})


@pytest.mark.parametrize("data", [b"", b"X"])
def test_a_syn_by_another_way_does_not_end_an_open_connection(passage: str, data: bytes, fast: bool) -> None:
    one, there = shared(passage, fast=fast), PASSAGES[passage][1]
    one.establish()
    for number in (0, 1, ISS, 1 << 31):
        assert one.take(packet(CLIENT, there, "S", number, 0, data), Hook.PREROUTING) == DROPPED
    one.from_client("PA", b"hello")
    one.from_backend("A")
    assert data_of(one) == b"hello"
    assert books(one) == (5, {})


def test_a_handshake_gives_way_to_a_syn_by_another_service_and_no_copy_follows(fast: bool) -> None:
    for is_answered in (False, True):
        one = shared("pool", fast=fast)
        one.syn()
        if is_answered:
            one.syn_ack()
        far = seq.add(ISS, 1 << 30)  # which shares no answer with the first
        assert isinstance(one.take(packet(CLIENT, SECOND, "S", far, 0), Hook.PREROUTING), Accept)
        one.syn()  # perhaps with other data or another window scale than at first, and the backend answers the first
        one.syn_ack()
        one.from_client("A")
        one.from_client("PA", b"LIES!")
        one.from_backend("A")
        assert data_of(one) == b""
        assert books(one) == (5, {"ambiguous": 5})


def test_an_unconfirmed_flow_keeps_no_connection_from_another_service(fast: bool) -> None:
    for letters, data in (("S", b""), ("PA", b"data")):
        one = shared("pool", fast=fast)
        one.backend = C1
        assert isinstance(past(one, "PA", b"forged", backend=SECOND), Accept)
        assert past(one, "FA", backend=SERVICE) == DROPPED
        assert isinstance(past(one, letters, data, backend=SERVICE), Accept)
        assert [flow["service"] for flow in one.engine.flows(one.now)] == ["openflow"]


def test_a_damaged_packet_does_not_pass_either(passage: str, fast: bool) -> None:
    one = shared(passage, fast=fast)
    one.establish()
    raw = bytearray(packet(CLIENT, PASSAGES[passage][1], "PA", seq.add(ISS, 1), seq.add(IRS, 1), b"data"))
    raw[-1] ^= 1
    assert one.take(bytes(raw), Hook.PREROUTING, Checksum.UNVERIFIED) == DROPPED
    assert one.engine.snapshot(one.now)["counters"][EngineCounter.BAD_CHECKSUM_PACKETS] == 0


def test_a_client_without_turns_reaches_its_backend_by_no_other_service(passage: str, fast: bool) -> None:
    one = shared(passage, fast=fast)
    one.establish()
    for number in range(4000):
        one.take(packet((CLIENT[0], 1000 + number), SECOND, "S", 1, 0, b"junk"), Hook.PREROUTING)
    assert past(one, "PA", b"TRUTH", backend=PASSAGES[passage][1]) == DROPPED
    assert [flow["service"] for flow in one.engine.flows(one.now) if flow["client"] == "10.10.0.11:40001"] == [
        "openflow"
    ]


def test_a_flow_of_a_service_without_a_pool_has_no_other_way_to_its_program(fast: bool) -> None:
    one = ClientConnection(engine(f"{SHARED}{WATCHED}", fast=fast, release=Release.ACKNOWLEDGED), service=C1)
    one.connect()
    assert one.backend == C1
    for letters in ("S", "A", "FA", "RA"):
        assert past(one, letters, backend=SERVICE) == past(one, letters, backend=SECOND) == DROPPED
    assert past(one, "PA", b"TRUTH", backend=SERVICE) == DROPPED


def test_once_a_connection_has_closed_its_port_may_use_another_service(fast: bool) -> None:
    one = shared("pool", fast=fast)
    one.connect()
    one.from_client("FA")
    one.from_backend("FA")
    one.from_client("A")
    assert isinstance(past(one, "S", backend=SECOND), Accept)
    assert [flow["service"] for flow in one.engine.flows(one.now)] == ["second"]


def test_a_direct_connection_does_not_keep_its_port_from_services(fast: bool) -> None:
    one = shared("none", fast=fast)
    one.backend = C1
    past(one, "S")
    one.take(packet(C1, CLIENT, "SA", IRS, seq.add(ISS, 1)), Hook.FORWARD)
    assert isinstance(past(one, "A", backend=SECOND), Accept)
    assert isinstance(past(one, "S", backend=SERVICE), Accept)


@pytest.mark.parametrize("service", [SERVICE, SECOND])
def test_a_flow_that_was_reset_is_not_passed_until_it_leaves_the_table(
    passage: str, service: Endpoint, fast: bool
) -> None:
    text = PASSAGES[passage][0]
    one = ClientConnection(engine(text, fast=fast, release=Release.ACKNOWLEDGED), service=service)
    there = THIRD if passage == "pool" else C1
    one.connect()
    signed = packet(CLIENT, service, "R", seq.add(ISS, 1), 0, options=MD5)  # the backend has no key for it
    one.passed(signed, Hook.PREROUTING)
    assert one.engine.flows(one.now)[0]["state"] == "reset"
    for letters, data in PACKETS:
        assert past(one, letters, data, backend=there) == DROPPED
    if there != THIRD and passage != "watched":
        assert past(one, "S", backend=there) == DROPPED
        expire(one)
        assert one.engine.flows(one.now) == []
    assert isinstance(past(one, "S", backend=there), Accept)


def test_after_a_reset_the_same_service_opens_a_connection_at_once(fast: bool) -> None:
    one = shared("pool", fast=fast)
    one.connect()
    one.from_client("R")
    one.passed(packet(CLIENT, SERVICE, "S", seq.add(ISS, 7777)), Hook.PREROUTING)
    assert [flow["state"] for flow in one.engine.flows(one.now)] == ["syn-sent"]
