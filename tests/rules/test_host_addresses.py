"""Addresses of backends, mirrors and services at which no other host can be: errors with file, line and key."""

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from natmirror.errors import RulesError
from natmirror.linux import addresses
from natmirror.linux.addresses import taken_addresses
from natmirror.rules import load_rules, parse_rules
from tests.helpers.support import RULES

PAIR = (Path(__file__).parents[2] / "rules/pair.yaml").read_text()
OWN = {IPv4Address("10.20.0.1"): "an address of this host"}


def refusal(text: str, taken: dict[IPv4Address, str] | None = None) -> str:
    with pytest.raises(RulesError) as raised:
        parse_rules(text, "lb.yaml", taken)
    return str(raised.value)


@pytest.mark.parametrize("role", ["10.20.0.11", "10.20.0.13", "10.10.0.100"])
@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.0.0.0", "which stands for no host or any"),
        ("0.1.2.3", "which stands for no host or any"),
        ("127.0.0.1", "a loopback address"),
        ("127.1.2.3", "a loopback address"),
        ("224.0.0.18", "a multicast address"),
        ("239.1.1.1", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
    ],
)
def test_an_address_of_no_single_host_is_refused(role: str, address: str, kind: str) -> None:
    text = RULES.replace(role, address, 1)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if address in line)
    found = refusal(text)
    assert found.startswith(f"lb.yaml:{line}: services[0].")
    assert found.endswith(f"expected the address of one host that others can reach, found {address}, {kind}")


@pytest.mark.parametrize("address", ["240.0.0.11", "169.254.0.11"])
@pytest.mark.parametrize("role", ["10.20.0.11", "10.20.0.13", "10.10.0.100"])
def test_an_address_that_linux_forwards_is_allowed(role: str, address: str) -> None:
    parse_rules(RULES.replace(role, address, 1))


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        ("127.0.0.0/8", "a loopback address"),
        ("224.0.0.0/8", "a multicast address"),
        ("0.0.0.0/8", "which stands for no host or any"),
    ],
)
def test_a_network_of_clients_without_hosts_is_refused(network: str, kind: str) -> None:
    text = RULES.replace("10.10.0.0/24", network)
    assert refusal(text).endswith(f"expected a network with hosts that others can reach, found {network}, {kind}")
    parse_rules(RULES.replace("10.10.0.0/24", "0.0.0.0/5"))


@pytest.mark.parametrize("address", ["10.10.0.255", "10.10.0.0"])
def test_a_service_has_the_address_of_a_host(address: str) -> None:
    text, own = RULES.replace("10.10.0.100", address), {IPv4Address("10.10.0.100"): "an address of this host"}
    found = refusal(text, {**own, IPv4Address(address): "the broadcast address of 10.10.0.0/24"})
    assert found.endswith(f"expected the address of a host, found {address}, the broadcast address of 10.10.0.0/24")
    parse_rules(RULES, "lb.yaml", own)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.10.0.255/24", "the address of a host, found 10.10.0.255, the broadcast address of 10.10.0.0/24"),
        ("10.10.0.0/24", "the address of a host, found 10.10.0.0, the address of the network 10.10.0.0/24 itself"),
        ("127.0.0.1/8", "the address of one host that others can reach, found 127.0.0.1, a loopback address"),
    ],
)
def test_a_virtual_address_is_that_of_a_host(address: str, expected: str) -> None:
    assert refusal(PAIR.replace("10.10.0.100/24", address)).endswith(f"expected {expected}")


@pytest.mark.parametrize("role", ["10.20.0.11", "10.20.0.13"])
def test_this_hosts_address_is_refused_for_a_backend_and_a_mirror(role: str) -> None:
    text = RULES.replace(role, "10.20.0.1", 1)
    assert refusal(text, OWN).endswith("expected the address of another host, found 10.20.0.1, an address of this host")
    parse_rules(text)


def test_a_mirror_on_this_host_is_possible_with_a_source() -> None:
    parse_rules(RULES.replace("10.20.0.13}", "10.20.0.1, port: 7000, source: 10.20.0.1}"), "lb.yaml", OWN)


@pytest.mark.parametrize("address", ["10.20.0.100", "10.20.0.1", "10.20.0.2"])
@pytest.mark.parametrize("role", ["10.20.0.11", "10.20.0.13"])
def test_the_addresses_of_a_pair_are_refused(role: str, address: str) -> None:
    found = refusal(PAIR.replace(f"address: {role}", f"address: {address}", 1))
    assert "expected no backend or mirror on the hosts of the pair" in found
    assert address in found


def test_broadcast_and_network_addresses_of_this_hosts_networks_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = [IPv4Interface(text) for text in ("10.20.0.1/24", "10.30.0.0/31", "10.40.0.1/32", "127.0.0.1/8")]
    monkeypatch.setattr(addresses, "own_interfaces", lambda: interfaces)
    taken = {str(address): kind for address, kind in taken_addresses().items()}
    assert taken["10.20.0.1"] == taken["10.30.0.0"] == taken["10.40.0.1"] == "an address of this host"
    assert taken["10.20.0.255"] == "the broadcast address of 10.20.0.0/24"
    assert taken["10.20.0.0"] == "the address of the network 10.20.0.0/24 itself"
    assert "10.30.0.1" not in taken


def test_a_file_is_read_with_the_addresses_of_this_host(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text(RULES.replace("10.20.0.11", "10.20.0.1"))
    load_rules(file)
    with pytest.raises(RulesError, match="an address of this host"):
        load_rules(file, OWN)
