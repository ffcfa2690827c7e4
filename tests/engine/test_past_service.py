"""Packets that clients send to a backend's own endpoint, past the service."""

import pytest

from natmirror.actions import Accept, Drop, Hook, Verdict
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_NOP
from natmirror.reasons import DropReason
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, SERVICE, assert_adds_up, packet

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
    holding.now += 2
    holding.engine.handle_timer(holding.now)
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
