"""The clients that have connections, as the checks of this host's routes ask for them."""

from ipaddress import IPv4Address

import pytest

from natmirror.actions import Hook
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.support import SERVICE, at, packet


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
