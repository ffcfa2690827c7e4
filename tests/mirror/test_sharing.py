"""Bytes that must not enter a leg, since production refuses them, and endpoints that production itself uses."""

from collections.abc import Iterator

import pytest

from natmirror.actions import Accept, Hook
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, packet

POOLED_MASTER = RULES.replace("      backends:\n", "      balance: round-robin\n      backends:\n").replace(
    "{name: c2, address: 10.20.0.12}", "{name: m, address: 10.20.0.13}"
)
TWO_SERVICES = """
switches: [10.10.0.0/24]
services:
  - name: a
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors: [{name: master, address: 10.20.0.13}]
  - name: b
    address: 10.10.0.101
    port: 6653
    pool: {backends: [{name: m, address: 10.20.0.13}]}
"""
OTHER_SERVICE = at("10.10.0.101", 6653)
NEXT = seq.add(ISS, 1)
THEIRS = seq.add(IRS, 1)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def session(request: pytest.FixtureRequest) -> Iterator[ClientConnection]:
    session = ClientConnection(engine(fast=bool(request.param)))
    yield session
    assert_adds_up(session.engine.snapshot(session.now))


def connected(session: ClientConnection) -> ClientConnection:
    session.connect()
    session.connect_mirror()
    session.mirrored()
    return session


def refused_segment(session: ClientConnection, letters: str, at_byte: int, data: bytes, *, ack: int = THEIRS) -> None:
    """Send a packet of the client that its backend will refuse."""
    session.passed(packet(CLIENT, SERVICE, letters, seq.add(NEXT, at_byte), ack, data), Hook.PREROUTING)


# Bytes


@pytest.mark.parametrize("letters", ["RA", "SA", "P", ""], ids=["reset", "syn-ack", "push-alone", "bare"])
def test_data_in_a_segment_that_receivers_ignore_enters_no_leg(session: ClientConnection, letters: str) -> None:
    connected(session)
    refused_segment(session, letters, 1, b"EVIL")
    assert session.mirrored() == []
    session.from_client("PA", b"good")
    assert [data for *_, data in session.mirrored()] == [b"good"]


def test_data_with_an_acknowledgement_of_unsent_bytes_enters_no_leg(session: ClientConnection) -> None:
    connected(session)
    refused_segment(session, "PA", 0, b"EVIL", ack=seq.add(THEIRS, 0x10000))  # past the client's own window
    assert session.mirrored() == []


def test_no_data_after_a_fin_enters_a_leg(session: ClientConnection) -> None:
    connected(session)
    session.from_client("PA", b"last")
    session.from_client("FA")
    session.from_backend("A")
    session.mirrored()
    refused_segment(session, "PA", 4, b"EVIL")
    refused_segment(session, "PA", 2, b"stEVIL")
    assert session.mirrored() == []
    [mirror] = session.engine.snapshot(session.now)["mirrors"]
    assert mirror["client_bytes"] == 4


def test_data_in_a_syn_that_the_backend_ignores_enters_no_leg(session: ClientConnection) -> None:
    out = session.passed(packet(CLIENT, SERVICE, "S", ISS, data=b"early"), Hook.PREROUTING)
    session.backend = (out.dst, out.dport)
    session.syn_ack()
    session.from_client("A")
    session.connect_mirror()
    assert [data for *_, data in session.mirrored() if data] == []
    session.from_client("PA", b"early and late")
    assert [data for *_, data in session.mirrored() if data] == [b"early and late"]


def test_data_in_a_syn_that_the_backend_answers_enters_the_leg(session: ClientConnection) -> None:
    out = session.passed(packet(CLIENT, SERVICE, "S", ISS, data=b"early"), Hook.PREROUTING)
    session.backend = (out.dst, out.dport)
    session.passed(packet(session.backend, CLIENT, "SA", IRS, seq.add(NEXT, 5)), Hook.FORWARD)
    session.passed(packet(session.backend, CLIENT, "PFA", THEIRS, seq.add(NEXT, 5), b"answer"), Hook.FORWARD)
    session.sent = 5
    session.from_client("A")
    session.connect_mirror()
    assert [data for *_, data in session.mirrored() if data] == [b"early"]
    [flow] = session.engine.flows(session.now)
    assert flow["state"] == "half-closed", "its FIN came with the answer"


def test_a_byte_past_the_window_that_the_backend_acknowledges_enters_the_leg(session: ClientConnection) -> None:
    connected(session)
    session.from_client("PA", b"x" * 0x8000)
    session.from_client("PA", b"x" * 0x7FFF)
    session.from_client("PA", b"P")  # a probe of the closed window
    acked = 0
    while sent := sum(len(data) for *_, data in session.mirrored()):
        acked += sent
        session.from_mirror("A", 1, 1 + acked)
    assert acked == 0xFFFF
    session.from_backend("A")
    assert [data for *_, data in session.mirrored()] == [b"P"]


@pytest.mark.parametrize("from_client", [True, False])
def test_a_repeated_fin_of_a_picked_up_flow_passes(session: ClientConnection, from_client: bool) -> None:
    client, backend = (CLIENT, SERVICE), (C1, CLIENT)
    ends, hook = (client, Hook.PREROUTING) if from_client else (backend, Hook.FORWARD)
    other, other_hook = (backend, Hook.FORWARD) if from_client else (client, Hook.PREROUTING)
    session.take(packet(*other, "PA", 5000, 9001, b"x"), other_hook)
    session.take(packet(*ends, "A", 9001, 5001), hook)
    assert isinstance(session.take(packet(*ends, "FA", 9000, 5001), hook), Accept)


# Addresses and ports


@pytest.mark.parametrize("fast", [True, False])
def test_a_lingering_leg_ends_for_productions_connection_to_the_same_host(fast: bool) -> None:
    old = ClientConnection(engine(POOLED_MASTER, fast=fast))
    connected(old)
    assert old.backend == C1
    old.from_client("PA", b"never acknowledged")
    old.from_client("FA")
    old.from_backend("FA")
    old.from_client("A")
    new = ClientConnection(old.engine, iss=seq.add(ISS, 100_000))
    new.syn()
    assert new.backend == MASTER
    assert [event.reason for event in new.engine.take_events()] == ["port-reused"]
    assert new.mirrored() == [], "the leg sends nothing into production's connection"
    syn_ack = packet(MASTER, CLIENT, "SA", IRS, seq.add(new.iss, 1))
    assert new.take(syn_ack, Hook.PREROUTING) == Accept(), "it passes to the FORWARD hook"
    new.syn_ack()
    new.from_client("A")
    [mirror] = new.engine.snapshot(new.now)["mirrors"]
    assert mirror["legs_opened"] == 1


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("leg_first", [True, False])
def test_a_host_that_is_mirror_of_one_service_and_backend_of_another(fast: bool, leg_first: bool) -> None:
    mirrored = ClientConnection(engine(TWO_SERVICES, fast=fast))
    other = ClientConnection(mirrored.engine, service=OTHER_SERVICE, iss=5000)
    for one in (mirrored, other) if leg_first else (other, mirrored):
        one.connect()
    letters = [sent[0] for sent in mirrored.mirrored()]
    assert letters == (["S"] if leg_first else [])
    answer = packet(MASTER, CLIENT, "PA", seq.add(IRS, 1), 5001, b"hello")
    assert mirrored.take(answer, Hook.PREROUTING, Checksum.VALID) == Accept()
    assert mirrored.mirrored() == []
    mirrored.from_client("PA", b"lost")
    [mirror] = mirrored.engine.snapshot(mirrored.now)["mirrors"]
    assert mirror["lost_bytes"] == {"port-reused" if leg_first else "port-in-use": 4}


def test_rules_with_such_a_host_give_a_warning() -> None:
    [warning] = parse_rules(TWO_SERVICES).warnings
    assert "mirror 10.20.0.13:6653 of a is a backend of b" in warning


def test_a_mirror_that_is_a_backend_of_its_own_pool_gives_a_warning() -> None:
    own = RULES.replace("address: 10.20.0.13", "address: 10.20.0.12")
    [warning] = parse_rules(own).warnings
    assert "mirror 10.20.0.12:6653 of openflow is a backend of the same pool" in warning
