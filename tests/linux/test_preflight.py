"""What a host is told that it lacks."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from natmirror.linux.preflight import HostState, find_problems
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

PAIR = (Path(__file__).parents[2] / "rules/pair.yaml").read_text()
TARGETS = [IPv4Address(f"10.20.0.{last}") for last in (11, 12, 13)]


def good() -> HostState:
    return HostState(
        addresses={IPv4Address("10.10.0.1"), IPv4Address("10.10.0.100"), IPv4Address("10.20.0.1")},
        links={"sw0": [IPv4Network("10.10.0.0/24")], "pl0": [IPv4Network("10.20.0.0/24")]},
        routes=dict.fromkeys(TARGETS, "pl0"),
        rp_filter={"all": 0, "pl0": 2, "sw0": 2},
    )


def findings(host: HostState, rules: str = RULES) -> list[tuple[str, str]]:
    return [(finding.level, str(finding)) for finding in find_problems(parse_rules(rules), host)]


def test_a_host_with_everything_hears_nothing() -> None:
    assert findings(good()) == []


def test_forwarding() -> None:
    host = good()
    host.forwarding = False
    [(level, text)] = findings(host)
    assert level == "error"
    assert "sysctl -w net.ipv4.ip_forward=1" in text


def test_nobody_owns_the_service_address() -> None:
    host = good()
    host.addresses.remove(IPv4Address("10.10.0.100"))
    [(level, text)] = findings(host)
    assert level == "error"
    assert "ip address add 10.10.0.100/24 dev sw0" in text


def test_a_service_address_behind_a_route_is_somebody_elses_affair() -> None:
    host = good()
    host.addresses.remove(IPv4Address("10.10.0.100"))
    host.links["sw0"] = [IPv4Network("10.99.0.0/24")]
    assert findings(host) == []


def test_no_route() -> None:
    host = good()
    host.routes[TARGETS[2]] = None
    [(level, text)] = findings(host)
    assert level == "error"
    assert "no route to master (10.20.0.13)" in text


def test_legs_come_from_an_address_of_this_host() -> None:
    rules = RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")
    host = good()
    assert findings(host, rules) == []
    host.addresses.remove(IPv4Address("10.20.0.1"))
    [(level, text)] = findings(host, rules)
    assert level == "error"
    assert "ip address add 10.20.0.1/32" in text


def test_the_forward_policy() -> None:
    host = good()
    host.forward_policy = "DROP"
    assert [level for level, _ in findings(host)] == ["error"]
    host.forward_has_rules = True
    assert [level for level, _ in findings(host)] == ["warning"], "some rule may accept what has to pass"


def test_a_strict_reverse_path_filter() -> None:
    host = good()
    host.rp_filter["all"] = 1
    host.rp_filter["pl0"] = 0
    found = findings(host)
    assert {level for level, _ in found} == {"warning"}
    assert len(found) == 1
    assert "sysctl -w net.ipv4.conf.pl0.rp_filter=2" in found[0][1]


def test_a_standby_needs_no_virtual_address() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    host.addresses.remove(IPv4Address("10.10.0.100"))
    assert findings(host, PAIR) == []
    with_source = PAIR.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.100}")
    assert findings(host, with_source) == []


def test_a_host_of_a_pair_is_one_of_the_two() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    host.addresses.remove(IPv4Address("10.20.0.1"))
    [(level, text)] = findings(host, PAIR)
    assert level == "error"
    assert "none of the pair: it has not both addresses of lb1 (10.10.0.1, 10.20.0.1) or of lb2" in text


def test_a_host_of_a_pair_has_both_interfaces() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "eth1"}
    [(level, text)] = findings(host, PAIR)
    assert level == "error"
    assert "there is no interface pl0, which is to have 10.20.0.100/24" in text


def test_a_host_of_a_pair_has_its_addresses_on_these_interfaces() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    swapped = PAIR.replace("interface: sw0", "interface: x").replace("interface: pl0", "interface: sw0")
    found = findings(host, swapped.replace("interface: x", "interface: pl0"))
    assert [level for level, _ in found] == ["error", "error"]
    assert "10.10.0.1 is no address of pl0, where the other host is to hear of this one" in found[0][1]
    assert "10.20.0.1 is no address of sw0" in found[1][1]


def test_conntrack_of_a_pair_lets_connections_come_back() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    host.conntrack = {"be_liberal": 0, "loose": 1}
    [(level, text)] = findings(host, PAIR)
    assert (level, "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1" in text) == ("warning", True)
    host.conntrack = {"be_liberal": 1, "loose": 0}
    [(level, text)] = findings(host, PAIR)
    assert (level, "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1" in text) == ("warning", True)
    assert findings(host) == [], "a host alone sees all packets"
