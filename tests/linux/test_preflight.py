"""Problems of a host's settings, and the commands that correct them."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from natmirror.linux.foreign_iptables import from_iptables
from natmirror.linux.host_state import Features, HostState
from natmirror.linux.memory_limit import memory_limit
from natmirror.linux.preflight import find_problems
from natmirror.linux.sampled_clients import Client
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
    return [(finding.code.severity, str(finding)) for finding in find_problems(parse_rules(rules), host)]


def test_a_correct_host_has_no_findings() -> None:
    assert findings(good()) == []


def test_ip_forwarding_is_off() -> None:
    host = good()
    host.forwarding = {"all": 0, "pl0": 0, "sw0": 0, "natmirror0": 0}
    [(level, text)] = findings(host)
    assert level == "failure"
    assert "come in by pl0 (" in text
    assert "sysctl -w net.ipv4.ip_forward=1" in text


def test_forwarding_counts_where_packets_of_production_come_in() -> None:
    host = good()
    host.client_routes = {IPv4Network("10.10.0.0/24"): "sw0"}
    host.forwarding = {"all": 0, "pl0": 1, "sw0": 1, "other": 0}
    assert findings(host) == []
    host.forwarding = {"all": 1, "pl0": 1, "sw0": 0}
    host.clients = [Client(IPv4Address("10.10.0.2"), IPv4Network("10.10.0.0/24"), ("sw0",), is_beside=True)]
    [(level, text)] = findings(host)
    assert level == "failure" and "come in by sw0 (" in text
    assert text.endswith("run: sysctl -w net.ipv4.conf.sw0.forwarding=1"), "ip_forward = 1 would change nothing"


def test_a_part_of_clients_or_backends_behind_an_interface_that_forwards_nothing_is_no_failure() -> None:
    host = good()
    beside = Client(IPv4Address("10.10.0.2"), IPv4Network("10.10.0.0/24"), ("sw0",), is_beside=True)
    far = Client(IPv4Address("172.16.0.1"), IPv4Network("172.16.0.0/12"), ("eth0.7",), is_beside=False)
    host.interfaces = {"lo", "sw0", "pl0", "eth0.7"}
    host.forwarding = {"all": 1, "lo": 1, "sw0": 1, "pl0": 1, "eth0.7": 0}
    host.clients = [beside, far]
    [(level, text)] = findings(host)
    assert level == "warning" and text.startswith("partly-forwarding: ")
    assert text.endswith("run: sysctl -w net.ipv4.conf.eth0/7.forwarding=1")
    host.clients = [far]
    assert [level for level, _ in findings(host)] == ["warning"], "they may come in elsewhere"
    host.forwarding |= {"sw0": 0, "pl0": 0}
    assert [level for level, _ in findings(host)] == ["failure"]
    host.clients, host.forwarding = [beside], {"all": 1, "sw0": 1, "pl0": 1, "eth0.7": 0}
    host.routes[TARGETS[1]] = "eth0.7"
    assert [level for level, _ in findings(host)] == ["warning"]
    host.routes[TARGETS[0]] = "eth0.7"
    assert [level for level, _ in findings(host)] == ["failure"]
    asymmetric = RULES.replace("    pool:\n", "    pool:\n      asymmetric: true\n")
    assert [level for level, _ in findings(host, asymmetric)] == ["warning"]


def test_the_route_of_one_client_is_not_that_of_all_its_network() -> None:
    network = IPv4Network("10.8.0.0/13")
    rules = RULES.replace("10.10.0.0/24", str(network))
    host = good()
    host.client_routes = {network: "mgmt"}
    host.clients = [
        Client(IPv4Address("10.8.0.1"), network, ("mgmt",), is_beside=False),
        Client(IPv4Address("10.15.255.254"), network, (), is_beside=False),
    ]
    host.chains = from_iptables("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -o mgmt -j DROP\nCOMMIT", "nft")
    [(level, text)] = findings(host, rules)
    assert level == "failure" and "drops replies of c1" in text
    host.clients.append(Client(IPv4Address("10.10.0.11"), network, ("sw0",), is_beside=False, is_live=True))
    assert findings(host, rules) == []


def test_the_match_for_paths_is_missing() -> None:
    host = good()
    host.features = Features(can_check_paths=False)
    [(level, text)] = findings(host)
    assert level == "warning"
    assert "modprobe ipt_rpfilter" in text
    asymmetric = RULES.replace("10.20.0.13}", "10.20.0.13, asymmetric: true}")
    assert len(findings(host, asymmetric)) == 1
    assert findings(host, asymmetric.replace("    pool:\n", "    pool:\n      asymmetric: true\n")) == []


def test_the_service_manager_allows_less_memory_than_the_rules() -> None:
    host = good()
    host.features = Features(memory_limit=4 << 30)
    assert findings(host) == []
    [(level, text)] = findings(host, "mirror-memory: 4GiB\n" + RULES)
    assert level == "warning"
    assert "may take 6464 MiB with these rules, and is killed at 4096 MiB" in text
    assert "MemoryMax=6464M" in text
    host.features = Features()
    assert findings(host, "mirror-memory: 4GiB\n" + RULES) == []


def test_the_memory_limit_is_that_of_the_own_control_group(tmp_path: Path) -> None:
    own, group = tmp_path / "cgroup", tmp_path / "system.slice/natmirror.service"
    assert memory_limit(own, tmp_path) is None
    own.write_text("1:name=systemd:/other\n0::/system.slice/natmirror.service\n")
    assert memory_limit(own, tmp_path) is None
    group.mkdir(parents=True)
    for text, limit in (("4294967296\n", 4 << 30), ("max\n", None)):
        (group / "memory.max").write_text(text)
        assert memory_limit(own, tmp_path) == limit


def test_the_service_address_is_not_an_address_of_the_host() -> None:
    host = good()
    host.addresses.remove(IPv4Address("10.10.0.100"))
    [(level, text)] = findings(host)
    assert level == "warning"
    assert "ip address add 10.10.0.100/24 dev sw0" in text


def test_a_service_address_outside_the_connected_networks_is_no_problem() -> None:
    host = good()
    host.addresses.remove(IPv4Address("10.10.0.100"))
    host.links["sw0"] = [IPv4Network("10.99.0.0/24")]
    assert findings(host) == []


def test_there_is_no_route_to_a_mirror() -> None:
    host = good()
    host.routes[TARGETS[2]] = None
    [(level, text)] = findings(host)
    assert level == "failure"
    assert "no route to master (10.20.0.13)" in text
    assert "ip route add 10.20.0.13/32 via GATEWAY" in text


def test_the_source_of_legs_is_not_an_address_of_the_host() -> None:
    rules = RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")
    host = good()
    assert findings(host, rules) == []
    host.addresses.remove(IPv4Address("10.20.0.1"))
    [(level, text)] = findings(host, rules)
    assert level == "failure"
    assert "ip address add 10.20.0.1/32" in text


def test_the_reverse_path_filter_is_strict() -> None:
    host = good()
    host.rp_filter["all"] = 1
    host.rp_filter["pl0"] = 0
    found = findings(host)
    assert {level for level, _ in found} == {"warning"}
    assert len(found) == 1
    assert "sysctl -w net.ipv4.conf.pl0.rp_filter=2" in found[0][1]
    host.routes = dict.fromkeys(host.routes, "eth0.7")
    assert "sysctl -w net.ipv4.conf.eth0/7.rp_filter=2" in dict(findings(host))["warning"]


def test_a_standby_host_needs_no_virtual_address() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    host.addresses.remove(IPv4Address("10.10.0.100"))
    assert findings(host, PAIR) == []
    with_source = PAIR.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.100}")
    assert findings(host, with_source) == []


def test_the_host_is_not_one_of_the_pair() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    host.addresses.remove(IPv4Address("10.20.0.1"))
    [(level, text)] = findings(host, PAIR)
    assert level == "warning"
    assert "not one of the pair: it has both addresses neither of lb1 (10.10.0.1, 10.20.0.1) nor of lb2" in text


def test_an_interface_of_the_pair_is_missing() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "eth1"}
    [(level, text)] = findings(host, PAIR)
    assert level == "warning"
    assert "there is no interface pl0 for the virtual addresses 10.20.0.100/24" in text
    assert "correct ha.pool-side.interface" in text


def test_the_hosts_addresses_are_on_other_interfaces() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    swapped = PAIR.replace("interface: sw0", "interface: x").replace("interface: pl0", "interface: sw0")
    found = findings(host, swapped.replace("interface: x", "interface: pl0"))
    assert [level for level, _ in found] == ["warning", "warning"]
    assert "10.10.0.1 is not an address of pl0, so the other host does not get" in found[0][1]
    assert "run: ip address add 10.10.0.1/24 dev pl0; or correct ha.switch-side.interface" in found[0][1]
    assert "10.20.0.1 is not an address of sw0" in found[1][1]


def test_conntrack_takes_connections_of_the_other_host_for_invalid() -> None:
    host = good()
    host.interfaces = {"lo", "sw0", "pl0"}
    host.conntrack = {"be_liberal": 0, "loose": 1}
    [(level, text)] = findings(host, PAIR)
    assert (level, "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1" in text) == ("warning", True)
    host.conntrack = {"be_liberal": 1, "loose": 0}
    [(level, text)] = findings(host, PAIR)
    assert (level, "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1" in text) == ("warning", True)
    assert findings(host) == [], "without a pair, a host sees all packets of a connection"


def test_the_kernel_cannot_limit_clients() -> None:
    host = good()
    host.features = Features(can_limit=False)
    [(level, text)] = findings(host)
    assert level == "failure"
    assert "lacks the match hashlimit" in text
    assert "modprobe xt_hashlimit" in text


def test_a_rule_that_drops_invalid_packets_is_found_where_conntrack_is_strict() -> None:
    host = good()
    host.chains = from_iptables("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m state --state INVALID -j DROP", "legacy")
    host.conntrack = {"be_liberal": 0, "loose": 1}
    assert findings(host) == []
    host.interfaces = {"lo", "sw0", "pl0"}
    [(level, text)] = findings(host, PAIR)
    assert (level, text.partition(":")[0]) == ("warning", "invalid-dropped")
    host.conntrack = {"be_liberal": 1, "loose": 0}
    [(level, text)] = findings(host)
    assert text.endswith("run: sysctl -w net.netfilter.nf_conntrack_tcp_loose=1")
