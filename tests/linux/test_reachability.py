"""What this host says about the way to an endpoint; tests/live/test_local_trouble.py breaks the way."""

import socket
from ipaddress import IPv4Address

import pytest

from natmirror.linux.reachability import Reachability
from natmirror.linux.vrf import ProductionVrf
from tests.helpers.support import at

OWN = "127.0.0.1"


def test_nothing_is_wrong_where_packets_leave() -> None:
    with socket.create_server((OWN, 0)) as listener:
        to = at(OWN, listener.getsockname()[1])
        assert Reachability(ProductionVrf()).why_cut_off(to) is None
        assert Reachability(ProductionVrf()).why_dropped(at(OWN, 1), to) is None


def test_mirrors_behind_another_interface_are_no_second_targets() -> None:
    beside, elsewhere = at("127.0.0.2", 5), at("240.0.0.1", 5)
    assert Reachability(ProductionVrf()).second_targets(IPv4Address(OWN), [beside, elsewhere]) == [beside]


def test_without_descriptors_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.pipe", none_left)
    assert Reachability(ProductionVrf()).second_targets(IPv4Address(OWN), []) == []
