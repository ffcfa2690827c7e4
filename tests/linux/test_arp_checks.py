"""ARP: whether this host answers for its addresses, and finds out those of its neighbours."""

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from natmirror.linux.foreign_nft import from_nft
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.host_state import HostState
from natmirror.linux.interfaces import Link
from natmirror.linux.preflight import find_problems
from natmirror.linux.route_questions import questions
from natmirror.linux.routes import Answer, Neighbour, Question
from natmirror.linux.sampled_clients import Client
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

NETWORK = IPv4Network("10.10.0.0/24")
SERVICE, CLIENT, OTHER = (IPv4Address(f"10.10.0.{last}") for last in (100, 11, 12))
C1, C2, M = (IPv4Address(f"10.20.0.{last}") for last in (11, 12, 13))
OWN = IPv4Address("10.20.0.1")

RESOLVED = Neighbour("02:00:00:00:00:01", is_permanent=False, is_unknown=False)
PERMANENT = replace(RESOLVED, is_permanent=True)
UNKNOWN = Neighbour("", is_permanent=False, is_unknown=True)


@pytest.fixture
def host() -> HostState:
    """A correct host with two clients beside it that are connected, all of whose neighbours are known."""
    host = HostState(
        addresses={IPv4Address("10.10.0.1"), SERVICE, OWN},
        interfaces={"lo", "sw0", "pl0", "natmirror0"},
        links={"sw0": [NETWORK], "pl0": [IPv4Network("10.20.0.0/24")]},
        own={
            "sw0": [IPv4Interface("10.10.0.1/24"), IPv4Interface("10.10.0.100/24")],
            "pl0": [IPv4Interface("10.20.0.1/24")],
        },
        routes=dict.fromkeys((C1, C2, M), "pl0"),
        client_routes={NETWORK: "sw0"},
        details={"sw0": Link(1500, True), "pl0": Link(1500, True)},
        clients=[
            Client(one, NETWORK, ("sw0",), is_beside=True, is_live=True, was_answered=True) for one in (CLIENT, OTHER)
        ],
        knows_all_clients=True,
    )
    route(host)
    host.neighbours = {
        **{(one, "sw0"): RESOLVED for one in (CLIENT, OTHER)},
        **{(one, "pl0"): RESOLVED for one in (C1, C2, M)},
    }
    return host


def route(host: HostState) -> None:
    asked = questions(parse_rules(RULES), host.clients, host.routes, host.interfaces)
    asked += [Question(one) for one in (CLIENT, OTHER, C1, C2, M)]
    host.answers = {
        one: Answer(link="pl0" if one.to in (C1, C2, M) else "sw0", is_local=one.to == SERVICE) for one in asked
    }


def found(host: HostState) -> dict[str, str]:
    return {str(one.code): str(one) for one in find_problems(parse_rules(RULES), host)}


def at_sw0(host: HostState) -> str:
    """Return what is unanswered where the clients are, or an empty text."""
    problems = find_problems(parse_rules(RULES), host)
    return next((str(one) for one in problems if (one.code, one.subject) == ("arp-unanswered", "openflow/sw0")), "")


def chain(*rules: list[dict[str, Any]], policy: str = "accept", **base: Any) -> list[BaseChain]:
    base = {"family": "arp", "table": "fw", "name": "c", "hook": "input", **base}
    head = {"family": base["family"], "table": base["table"], "chain": base["name"], "handle": 7}
    shown = [{"chain": {**base, "type": "filter", "prio": 0, "policy": policy}}]
    return from_nft(json.dumps({"nftables": [*shown, *({"rule": {**head, "expr": rule}} for rule in rules)]}))


def match(protocol: str, field: str, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}


DROP: dict[str, Any] = {"drop": None}
ACCEPT: dict[str, Any] = {"accept": None}
REQUEST, REPLY = match("arp", "operation", "request"), match("arp", "operation", "reply")


def test_a_correct_host_has_no_findings(host: HostState) -> None:
    assert found(host) == {}
    host.arp_ignore = {"all": 1, "sw0": 2, "pl0": 3}
    assert found(host) == {}, "its addresses are on their interfaces"


@pytest.mark.parametrize(
    ("values", "mend"),
    [
        ({"all": 8}, "sysctl -w net.ipv4.conf.all.arp_ignore=0"),
        ({"sw0": 8, "all": 1}, "sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.sw0.arp_ignore=0"),
    ],
)
def test_the_kernel_answers_no_arp_request(host: HostState, values: dict[str, int], mend: str) -> None:
    host.arp_ignore = values
    texts = found(host)
    assert texts.keys() == {"arp-unanswered"}, "clients may know the MAC address"
    assert texts["arp-unanswered"].endswith(f"run: {mend}")


def test_addresses_of_this_host_alone_are_hidden_by_another_value(host: HostState) -> None:
    host.arp_ignore = {"sw0": 3}
    assert found(host) == {}
    host.hidden = {SERVICE}
    texts = found(host)
    assert texts.keys() == {"arp-unanswered"}
    assert texts["arp-unanswered"].endswith("run: sysctl -w net.ipv4.conf.sw0.arp_ignore=0")


def test_it_is_a_failure_once_production_has_stopped(host: HostState) -> None:
    host.has_stopped = True
    assert found(host) == {}
    host.arp_ignore = {"sw0": 8}
    texts = found(host)
    assert texts.keys() == {"arp-in-vain"}
    assert "the kernel answers no ARP request on sw0 for 10.10.0.100, by which clients in" in texts["arp-in-vain"]


def test_an_address_of_another_interface_is_answered_for_unless_arp_ignore_forbids_it(host: HostState) -> None:
    host.own["lo"] = [host.own["sw0"].pop()]
    assert found(host) == {}
    host.arp_ignore = {"all": 1}
    assert "run: ip address add 10.10.0.100/32 dev sw0; or run: sysctl -w" in found(host)["arp-unanswered"]
    host.own["sw0"].append(IPv4Interface("10.10.0.100/32"))
    assert found(host) == {}
    host.arp_ignore = {"sw0": 2}
    assert found(host) == {}, "it has an address in the network of both"
    host.own["sw0"] = [IPv4Interface("10.10.0.100/32")]
    assert "net.ipv4.conf.sw0.arp_ignore = 2" in found(host)["arp-unanswered"]


def test_a_macvlan_beside_the_interface_may_answer(host: HostState) -> None:
    host.arp_ignore = {"sw0": 1}
    host.own["vrrp.51"] = [host.own["sw0"].pop()]
    host.details["vrrp.51"] = Link(1500, True, beside="pl0")
    assert found(host).keys() == {"arp-unanswered"}
    host.details["vrrp.51"] = Link(1500, True, beside="sw0")
    assert found(host) == {}


def test_backends_have_to_get_an_answer_for_one_of_the_addresses_that_may_be_their_gateway(host: HostState) -> None:
    host.arp_ignore = {"pl0": 8}
    host.own["pl0"].append(IPv4Interface("10.20.0.100/24"))
    host.addresses.add(IPv4Address("10.20.0.100"))
    text = found(host)["arp-unanswered"]
    assert "no ARP request on pl0 for 10.20.0.1 or 10.20.0.100" in text and "backends that do not know" in text
    host.chains = chain([REQUEST, match("arp", "daddr ip", "10.20.0.1"), DROP])
    host.arp_ignore = {}
    assert found(host) == {}


def test_without_arp_no_packets_get_out_unless_all_neighbours_are_permanent(host: HostState) -> None:
    host.details["sw0"] = Link(1500, True, does_arp=False)
    texts = found(host)
    assert texts.keys() == {"production-cut", "arp-unanswered"}
    assert all(text.endswith("run: ip link set sw0 arp on") for text in texts.values())
    host.neighbours |= {(CLIENT, "sw0"): PERMANENT}
    assert found(host).keys() == {"partly-cut", "arp-unanswered"}
    host.neighbours |= {(OTHER, "sw0"): PERMANENT}
    assert found(host).keys() == {"arp-unanswered"}
    host.details = {"sw0": Link(1500, True), "pl0": Link(1500, True, does_arp=False)}
    assert found(host).keys() == {"no-backend-reachable", "arp-unanswered"}
    host.details["pl0"] = Link(1500, True, does_arp=None)
    assert found(host) == {}, "no Ethernet, or an unknown kind of it"


def test_clients_that_nobody_knows_prove_nothing_beside_permanent_neighbours(host: HostState) -> None:
    host.details["sw0"] = Link(1500, True, does_arp=False)
    host.clients = [replace(one, is_live=False, was_answered=False) for one in host.clients]
    host.neighbours = {hop: one for hop, one in host.neighbours.items() if hop[1] != "sw0"}
    assert "production-cut" in found(host)
    host.static_links = {"sw0"}
    assert found(host).keys() == {"arp-unanswered"}


def test_rules_that_drop_arp_cut_production_where_the_neighbours_are_unknown(host: HostState) -> None:
    host.chains = chain(policy="drop", hook="output")
    texts = found(host)
    assert texts.keys() == {"arp-unanswered"}, "the kernel knows its neighbours still"
    text = at_sw0(host)
    assert "nft arp fw c drops ARP answers to hosts on sw0, by its policy" in text
    assert text.endswith("run: nft insert rule arp fw c arp operation reply arp saddr ip 10.10.0.100 accept")
    host.neighbours |= {(C1, "pl0"): UNKNOWN}
    assert "partly-cut" not in found(host), "the other backend is reached"
    host.neighbours |= {(C2, "pl0"): UNKNOWN}
    text = found(host)["no-backend-reachable"]
    assert text.endswith("run: nft insert rule arp fw c arp operation request arp daddr ip 10.20.0.0/24 accept")
    host.chains = chain([REPLY, DROP])
    text = found(host)["no-backend-reachable"]
    assert text.endswith("run: nft insert rule arp fw c arp operation reply arp saddr ip 10.20.0.0/24 accept")
    host.chains = []
    assert found(host) == {}, "whatever the reason, the kernel asks and may be answered"


@pytest.mark.parametrize(
    ("rule", "is_found"),
    [
        ([match("arp", "daddr ip", "10.10.0.100"), DROP], True),
        ([match("arp", "daddr ip", {"prefix": {"addr": "10.10.0.0", "len": 24}}), REQUEST, DROP], True),
        ([match("arp", "daddr ip", "10.10.0.100", "!="), DROP], False),
        ([match("arp", "saddr ip", "10.10.0.11"), DROP], False),
        ([match("arp", "htype", 1), match("arp", "hlen", 6), match("arp", "plen", 4), DROP], True),
        ([match("arp", "htype", 6), DROP], False),
        ([match("arp", "saddr ether", "02:00:00:00:00:01"), DROP], False),
        ([REPLY, DROP], False),
        ([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "pl0"}}, DROP], False),
        ([{"limit": {"rate": 1, "per": "second"}}, DROP], False),
    ],
)
def test_rules_about_arp_are_understood(host: HostState, rule: list[dict[str, Any]], is_found: bool) -> None:
    host.chains = chain(rule)
    assert bool(at_sw0(host)) == is_found
    host.chains = chain([REQUEST, ACCEPT], rule)
    assert found(host) == {}


def test_arptables_gets_its_own_commands(host: HostState) -> None:
    host.chains = chain([match("arp", "daddr ip", "10.10.0.100"), DROP], table="filter", name="INPUT")
    text = found(host)["arp-unanswered"]
    assert "arptables INPUT drops ARP requests from hosts on sw0, by the rule with handle 7" in text
    assert text.endswith("run: arptables -I INPUT --opcode 1 -d 10.10.0.100 -j ACCEPT")


def test_chains_of_interfaces_and_bridges_get_arp_packets_too(host: HostState) -> None:
    for_ip = match("ip", "saddr", "192.0.2.1", "!=")
    for kind in ({"family": "netdev", "hook": "ingress", "dev": "sw0"}, {"family": "bridge", "hook": "input"}):
        host.details["sw0"] = Link(1500, True, is_bridge=True)
        host.chains = chain([match("ether", "type", "ip"), ACCEPT], policy="drop", **kind)
        assert found(host).keys() == {"arp-unanswered"}
        host.chains = chain([match("ether", "type", "arp"), ACCEPT], [for_ip, ACCEPT], policy="drop", **kind)
        assert found(host) == {}
        host.chains = chain([match("ether", "type", "arp"), DROP], **kind)
        assert found(host).keys() == {"arp-unanswered"}
        host.chains = chain([for_ip, DROP], **kind)
        assert "arp-unanswered" not in found(host)
        host.chains = chain([match("arp", "daddr ip", "10.10.0.1", "!="), DROP], **kind)
        assert found(host).keys() == {"arp-unanswered"}, "that of a packet of IPv4 does not exist"
    host.chains = chain([for_ip, ACCEPT], policy="drop", family="inet", hook="ingress", dev="sw0")
    assert found(host) == {}, "the kernel gives it no ARP packets"


def test_a_router_to_the_clients_has_to_get_an_answer(host: HostState) -> None:
    router = IPv4Address("10.10.0.254")
    host.clients = [replace(one, is_beside=False) for one in host.clients]
    host.links["sw0"] = [IPv4Network("10.10.0.128/25")]
    host.own["sw0"] = [IPv4Interface("10.10.0.129/25")]
    route(host)
    for question in host.answers:
        if question.to in (CLIENT, OTHER):
            host.answers[question] = Answer(link="sw0", gateway=router)
    host.neighbours |= {(router, "sw0"): RESOLVED}
    assert found(host) == {}
    host.arp_ignore = {"sw0": 8}
    assert "on sw0 for 10.10.0.129" in found(host)["arp-unanswered"]
    assert "the router 10.10.0.254 that do not" in found(host)["arp-unanswered"]
