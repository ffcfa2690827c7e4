"""Paths to backends and mirrors, and programs on this host that get in the way."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from natmirror.linux.host_state import HostState
from natmirror.linux.interfaces import Link
from natmirror.linux.preflight import find_problems
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

SERVICE = IPv4Address("10.10.0.100")
C1, C2, M = (IPv4Address(f"10.20.0.{last}") for last in (11, 12, 13))


@pytest.fixture
def host() -> HostState:
    return HostState(
        addresses={IPv4Address("10.10.0.1"), SERVICE, IPv4Address("10.20.0.1")},
        links={"sw0": [IPv4Network("10.10.0.0/24")], "pl0": [IPv4Network("10.20.0.0/24")]},
        routes=dict.fromkeys((C1, C2, M), "pl0"),
        client_routes={IPv4Network("10.10.0.0/24"): "sw0"},
        details={"sw0": Link(1500, True), "pl0": Link(1500, True)},
    )


def codes(host: HostState, rules: str = RULES) -> list[str]:
    return sorted(str(one.code) for one in find_problems(parse_rules(rules), host))


def test_a_correct_host_has_no_findings(host: HostState) -> None:
    assert codes(host) == []


def test_a_service_with_no_backend_in_reach_cannot_pass(host: HostState) -> None:
    host.routes[C1] = None
    assert codes(host) == ["no-route-to-backend"]
    host.routes[C2] = None
    assert codes(host) == ["no-backend-reachable", "no-route-to-backend", "no-route-to-backend"]


def test_an_interface_without_a_carrier_is_named_with_those_behind_it(host: HostState) -> None:
    host.details["pl0"] = Link(1500, False)
    found = [str(one) for one in find_problems(parse_rules(RULES), host)]
    assert sorted(text.partition(":")[0] for text in found) == ["link-down", "no-backend-reachable"]
    assert any("the interface pl0, by which master, c1, c2 are reached" in text for text in found)


def test_different_mtus_are_a_finding(host: HostState) -> None:
    host.details["pl0"] = Link(1400, True)
    [found] = find_problems(parse_rules(RULES), host)
    assert str(found).startswith("mtu-narrows: packets that fit sw0 (MTU 1500) do not fit pl0 (MTU 1400)")
    assert "run: ip link set pl0 mtu 1500" in str(found)


@pytest.mark.parametrize("address", [SERVICE, IPv4Address("0.0.0.0")])
def test_a_program_that_listens_at_the_services_address_gets_nothing(host: HostState, address: IPv4Address) -> None:
    host.listeners = {(address, 22)}
    assert codes(host) == []
    host.listeners = {(address, 6653)}
    assert codes(host) == ["listener-bypassed"]


def test_a_client_on_this_host_gets_no_answer(host: HostState) -> None:
    host.connecting = {(C1, 6653)}
    assert codes(host) == []
    host.connecting = {(SERVICE, 6653)}
    assert codes(host) == ["local-client"]


def test_a_backend_or_mirror_has_become_this_host(host: HostState) -> None:
    host.addresses |= {M}
    assert codes(host) == ["target-is-this-host"]
    assert codes(host, RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")) == []
    host.addresses |= {C1}
    assert codes(host) == ["target-is-this-host", "target-is-this-host"]


def test_clients_beside_a_service_whose_network_is_not_in_switches_are_refused(host: HostState) -> None:
    wrong = RULES.replace("switches: [10.10.0.0/24]", "switches: [10.99.0.0/24]")
    host.client_routes = {IPv4Network("10.99.0.0/24"): "wan"}
    host.links["sw0"] *= 2  # two addresses
    found = [one for one in find_problems(parse_rules(wrong), host) if one.code == "clients-not-in-switches"]
    assert [one.problem for one in found] == [
        "10.10.0.100 of service openflow lies in 10.10.0.0/24 on sw0, but no network of switches does, or is routed"
        " there: the service refuses the clients beside its address"
    ]
    host.client_routes = {IPv4Network("10.99.0.0/24"): "sw0"}  # clients behind a router beside the service
    assert "clients-not-in-switches" not in codes(host, wrong)
