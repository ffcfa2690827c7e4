"""The clients that have connections, as the checks of this host's routes ask for them."""

from ipaddress import IPv4Address

import pytest

from natmirror.actions import Accept, Hook
from natmirror.engine.engine import Engine
from natmirror.net import seq
from tests.helpers.bindings import UNMIRRORED, close
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, SERVICE, at, packet


@pytest.mark.parametrize("fast", [True, False])
def test_each_client_is_named_once_with_whether_it_was_answered(*, fast: bool) -> None:
    subject = engine(fast=fast)
    assert subject.clients(8) == ({}, True)
    for client in (at("10.10.0.11", 40001), at("10.10.0.11", 40002), at("10.10.0.12", 40001)):
        ClientConnection(subject, client=client).connect()
    subject.receive(packet(at("10.10.0.13", 40001), SERVICE, "S", 1), Hook.PREROUTING, 1000.0)
    clients, are_all = subject.clients(8)
    assert {str(IPv4Address(one)): answered for one, answered in clients.items()} == {
        "10.10.0.11": True,
        "10.10.0.12": True,
        "10.10.0.13": False,
    }
    assert are_all
    clients, are_all = subject.clients(2)
    assert (len(clients), are_all) == (2, False)
    assert subject.clients(3)[1]


def answered(subject: Engine) -> list[bool]:
    return list(subject.clients(8)[0].values())


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("letters", ["A", "PA", "FA"])
def test_a_packet_of_a_connection_that_is_not_known_shows_no_answer(letters: str, *, fast: bool) -> None:
    subject = engine(fast=fast)
    forged = packet(CLIENT, SERVICE, letters, 5000, 777, b"xyz")
    assert isinstance(subject.receive(forged, Hook.PREROUTING, 1000.0).verdict, Accept)
    assert answered(subject) == [False]


@pytest.mark.parametrize("fast", [True, False])
def test_a_client_that_has_not_got_its_backends_answer_may_be_forged(*, fast: bool) -> None:
    subject = engine(fast=fast)
    connection = ClientConnection(subject)
    connection.syn()
    connection.syn_ack()
    assert answered(subject) == [False]
    subject.receive(packet(CLIENT, SERVICE, "R", seq.add(ISS, 1)), Hook.PREROUTING, connection.now)
    assert connection.states == ["reset"]
    assert answered(subject) == [False]


@pytest.mark.parametrize("fast", [True, False])
def test_a_client_whose_connection_has_closed_was_answered(*, fast: bool) -> None:
    subject = engine(fast=fast)
    connection = ClientConnection(subject)
    connection.connect()
    close(connection)
    assert connection.states == ["time-wait"]
    assert answered(subject) == [True]


@pytest.mark.parametrize("fast", [True, False])
def test_direct_connections_and_those_of_another_host_show_nothing(*, fast: bool) -> None:
    subject = engine(UNMIRRORED, fast=fast)
    subject.receive(packet(C1, CLIENT, "SA", IRS, seq.add(ISS, 1)), Hook.FORWARD, 1000.0)
    assert subject.bindings.adopt("openflow", at("10.10.0.12", 40001), C2, 1000.0)
    assert len(subject.flow_ids()) == 2
    assert answered(subject) == []
