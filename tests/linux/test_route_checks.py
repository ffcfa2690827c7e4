"""Routes between clients, backends and mirrors: what the kernel's answers mean for production and copies."""

from dataclasses import replace
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH
from ipaddress import IPv4Address, IPv4Network

import pytest

from natmirror.linux.host_state import HostState
from natmirror.linux.interfaces import Link
from natmirror.linux.policy_rules import PolicyRule, Routing
from natmirror.linux.preflight import find_problems
from natmirror.linux.route_questions import questions
from natmirror.linux.routes import Answer, Neighbour, Question, RefusingRoute
from natmirror.linux.sampled_clients import Client
from natmirror.linux.xfrm import Policy
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

NETWORK = IPv4Network("10.10.0.0/24")
ANY = IPv4Network("0.0.0.0/0")
FAR = IPv4Network("10.0.0.0/12")
SERVICE = IPv4Address("10.10.0.100")
FIRST, LAST = IPv4Address("10.10.0.2"), IPv4Address("10.10.0.254")
C1, C2, M = (IPv4Address(f"10.20.0.{last}") for last in (11, 12, 13))
BACKENDS = {C1, C2}


def beside(address: IPv4Address) -> Client:
    return Client(address, NETWORK, ("sw0",), is_beside=True)


def live(address: str, *, was_answered: bool = True) -> Client:
    return replace(beside(IPv4Address(address)), is_live=True, was_answered=was_answered)


def far(address: str) -> Client:
    return Client(IPv4Address(address), FAR, ("sw0",), is_beside=False)


def ask(host: HostState, rules: str = RULES) -> None:
    """Have the kernel route all packets."""
    links = {SERVICE: "lo", **dict.fromkeys((C1, C2, M), "pl0")}
    asked = questions(parse_rules(rules), host.clients, host.routes, host.interfaces)
    asked += [Question(client.address) for client in host.clients]
    host.answers = {one: Answer(link=links.get(one.to, "sw0"), is_local=one.to == SERVICE) for one in asked}


def refuse(host: HostState, error: int, *, to: set[IPv4Address], link: str | None = None) -> None:
    for question in host.answers:
        if question.to in to and link in (None, question.link):
            host.answers[question] = Answer(error=error)


def route(host: HostState, to: set[IPv4Address], link: str) -> None:
    for question in host.answers:
        if question.to in to:
            host.answers[question] = Answer(link=link)


@pytest.fixture
def host() -> HostState:
    host = HostState(
        addresses={IPv4Address("10.10.0.1"), SERVICE, IPv4Address("10.20.0.1")},
        interfaces={"lo", "sw0", "pl0", "natmirror0"},
        links={"sw0": [NETWORK], "pl0": [IPv4Network("10.20.0.0/24")]},
        routes=dict.fromkeys((C1, C2, M), "pl0"),
        client_routes={NETWORK: "sw0"},
        details={"sw0": Link(1500, True), "pl0": Link(1500, True)},
        clients=[beside(FIRST), beside(LAST)],
    )
    ask(host)
    return host


def found(host: HostState, rules: str = RULES) -> dict[str, str]:
    return {str(one.code): str(one) for one in find_problems(parse_rules(rules), host)}


def test_a_correct_host_has_no_findings(host: HostState) -> None:
    assert found(host) == {}


def test_clients_whose_only_interface_is_down_are_cut_off(host: HostState) -> None:
    host.details["sw0"] = Link(1500, False)
    texts = found(host)
    assert texts.keys() == {"link-down", "production-cut"}
    assert "the interface sw0 is down or has no carrier; run: ip link set sw0 up" in texts["production-cut"]
    assert "the interface sw0, by which 10.10.0.0/24 are reached" in texts["link-down"]
    host.details["sw1"] = Link(1500, True)
    host.clients = [replace(client, links=("sw0", "sw1")) for client in host.clients]
    ask(host)
    assert "the route to client 10.10.0.2 leads to sw0, and the interface sw0 is" in found(host)["production-cut"]
    route(host, {FIRST, LAST}, "sw1")
    assert found(host).keys() == {"link-down"}


def test_a_port_of_a_bridge_gets_no_packets(host: HostState) -> None:
    host.details["pl0"] = Link(1500, True, "br9")
    assert found(host).keys() == {"link-enslaved", "no-backend-reachable"}
    host.details["pl0"], host.details["sw0"] = Link(1500, True), Link(1500, True, "br9")
    texts = found(host)
    assert texts.keys() == {"link-enslaved", "production-cut"}
    assert "run: ip link set sw0 nomaster" in texts["production-cut"]


def test_a_backend_at_an_address_of_this_host_is_not_reached(host: HostState) -> None:
    host.addresses |= {C1}
    assert found(host).keys() == {"target-is-this-host"}
    host.addresses |= {C2}
    assert found(host).keys() == {"target-is-this-host", "no-backend-reachable"}


def test_policy_rules_may_give_clients_packets_a_route_that_this_host_has_not(host: HostState) -> None:
    host.routes |= dict.fromkeys(BACKENDS)
    assert "no-backend-reachable" in found(host)
    for kind in (Routing.BY_PACKET, Routing.UNKNOWN):
        host.routing = kind
        assert found(host).keys() == {"no-route-to-backend"}
    host.answers = {}
    assert found(host).keys() == {"no-route-to-backend"}
    host.routing = Routing.BY_PACKET
    ask(host)
    refuse(host, ENETUNREACH, to=BACKENDS)
    assert "no-backend-reachable" in found(host)
    route(host, BACKENDS, "pl1")
    assert "no-backend-reachable" not in found(host)
    host.details["pl1"] = Link(1500, False)
    assert "no-backend-reachable" in found(host)


def test_a_policy_rule_refuses_clients_packets(host: HostState) -> None:
    refuse(host, EINVAL, to=BACKENDS, link="sw0")
    host.refusing_rules = [
        PolicyRule(10, "blackhole", to=IPv4Network("10.30.0.0/16")),
        PolicyRule(20, "prohibit"),
        PolicyRule(30, "blackhole", NETWORK, link="pl0"),
        PolicyRule(100, "blackhole", NETWORK, link="sw0"),
    ]
    texts = found(host)
    assert texts.keys() == {"production-cut"}
    assert "run: ip rule del priority 100 from 10.10.0.0/24 iif sw0 blackhole" in texts["production-cut"]


@pytest.mark.parametrize(
    ("error", "kind"), [(EINVAL, "blackhole"), (EHOSTUNREACH, "unreachable"), (EACCES, "prohibit")]
)
def test_a_route_refuses_replies(host: HostState, error: int, kind: str) -> None:
    refuse(host, error, to={FIRST})
    host.refusing_routes = [
        RefusingRoute(kind, IPv4Network("10.0.0.0/12"), 254),
        RefusingRoute(kind, IPv4Network("10.10.0.0/25"), 254),
        RefusingRoute("throw", IPv4Network("10.10.0.0/26"), 254),
    ]
    texts = found(host)
    assert texts.keys() == {"partly-cut"}
    assert f"the route '{kind} 10.10.0.0/25' refuses replies to clients; run: ip route del" in texts["partly-cut"]
    refuse(host, error, to={LAST})
    assert found(host).keys() == {"production-cut"}
    asymmetric = RULES.replace("    pool:\n", "    pool:\n      asymmetric: true\n")
    assert "production-cut" not in found(host, asymmetric)


def test_there_is_no_route_to_the_clients(host: HostState) -> None:
    refuse(host, ENETUNREACH, to={FIRST, LAST})
    assert "there is no route to clients in 10.10.0.0/24; run: ip route add" in found(host)["production-cut"]


def test_a_strict_reverse_path_filter_refuses_clients_whose_route_leads_elsewhere(host: HostState) -> None:
    for client in host.clients:
        host.answers[Question(client.address)] = Answer(link="pl0")
    assert found(host).keys() == {"clients-elsewhere"}
    host.rp_filter = {"all": 0, "sw0": 1}
    refuse(host, EINVAL, to=BACKENDS, link="sw0")
    assert "sysctl -w net.ipv4.conf.sw0.rp_filter=2" in found(host)["production-cut"]


def test_sysctl_takes_a_slash_for_the_dot_in_the_name_of_a_vlan(host: HostState) -> None:
    host.clients = [replace(client, links=("eth0.7",)) for client in host.clients]
    host.links["eth0.7"] = host.links.pop("sw0")
    ask(host)
    route(host, {FIRST, LAST}, "pl0")
    host.rp_filter = {"eth0.7": 1}
    refuse(host, EINVAL, to=BACKENDS, link="eth0.7")
    assert "sysctl -w net.ipv4.conf.eth0/7.rp_filter=2" in found(host)["production-cut"]
    host.forwarding = {"eth0.7": 0}
    assert "sysctl -w net.ipv4.conf.eth0/7.forwarding=1" in found(host)["production-cut"]


def test_a_refusal_without_a_known_cause_names_the_question(host: HostState) -> None:
    refuse(host, EINVAL, to=BACKENDS, link="sw0")
    assert "see: ip rule; ip route get 10.20.0.11 from 10.10.0.2 iif sw0" in found(host)["production-cut"]


def test_a_more_specific_route_takes_a_part_of_the_clients_away(host: HostState) -> None:
    host.answers[Question(FIRST)] = Answer(link="br-x")
    texts = found(host)
    assert texts.keys() == {"clients-elsewhere"}
    assert "the route to 10.10.0.2, a part of it, leads to br-x" in texts["clients-elsewhere"]
    route(host, {FIRST}, "br-x")
    host.details["br-x"] = Link(1500, False)
    assert "leads to br-x, and the interface br-x is down" in found(host)["partly-cut"]


def test_addresses_in_a_network_that_is_not_connected_prove_nothing(host: HostState) -> None:
    rules = RULES.replace("10.10.0.0/24", str(FAR))
    host.clients = [far("10.0.0.1"), far("10.15.255.254")]
    ask(host, rules)
    refuse(host, ENETUNREACH, to={client.address for client in host.clients})
    assert found(host, rules) == {}
    host.links = {}
    assert found(host, rules).keys() == {"partly-cut"}


def test_clients_that_were_answered_count_in_place_of_networks_that_are_not_connected(host: HostState) -> None:
    rules = RULES.replace("10.10.0.0/24", str(FAR))
    one, other = (replace(far(address), is_live=True, was_answered=True) for address in ("10.10.0.11", "10.10.0.21"))
    host.clients = [far("10.0.0.1"), one, other]
    ask(host, rules)
    refuse(host, EINVAL, to={one.address})
    assert found(host, rules).keys() == {"partly-cut"}
    refuse(host, EINVAL, to={other.address})
    assert found(host, rules).keys() == {"production-cut"}
    host.clients = host.clients[:2]
    assert found(host, rules).keys() == {"partly-cut"}


ONE, TWO, THREE = live("10.10.0.11"), live("10.10.0.12"), live("10.10.0.21")
UNANSWERED = live("10.10.0.13", was_answered=False)


@pytest.mark.parametrize(
    ("clients", "knows_all", "code"),
    [
        ([ONE, TWO], True, "production-cut"),
        ([ONE, TWO, UNANSWERED], True, "production-cut"),
        ([ONE, TWO], False, "partly-cut"),
        ([ONE, UNANSWERED], True, "partly-cut"),
        ([ONE, TWO, THREE], True, "partly-cut"),
    ],
)
def test_production_is_cut_if_all_clients_that_were_answered_have_lost_their_routes(
    host: HostState, clients: list[Client], *, knows_all: bool, code: str
) -> None:
    blackhole = RefusingRoute("blackhole", IPv4Network("10.10.0.8/29"), 254)
    host.clients += clients
    host.knows_all_clients = knows_all
    ask(host)
    host.refusing_routes = [blackhole]
    refuse(host, EINVAL, to={one.address for one in clients if one.address in blackhole.network})
    texts = found(host)
    assert texts.keys() == {code}
    assert "ip route del blackhole 10.10.0.8/29" in texts[code]


def test_a_client_whose_route_leads_to_where_it_does_not_answer(host: HostState) -> None:
    route(host, {FIRST}, "br-x")
    host.neighbours = {(FIRST, "br-x"): Neighbour("", is_permanent=False, is_unknown=False)}
    assert found(host).keys() == {"clients-elsewhere"}
    host.neighbours = {(FIRST, "br-x"): Neighbour("", is_permanent=False, is_unknown=True)}
    texts = found(host)
    assert texts.keys() == {"clients-elsewhere", "partly-cut"}
    assert "leads to br-x, where 10.10.0.2 answers no ARP request" in texts["partly-cut"]


def test_the_neighbour_of_a_silent_backend_has_a_permanent_entry_or_none(host: HostState) -> None:
    gateway = IPv4Address("10.20.0.1")
    host.answers[Question(C1)] = Answer(link="pl0", gateway=gateway)
    host.neighbours = {(gateway, "pl0"): Neighbour("02:00:00:00:de:ad", is_permanent=True, is_unknown=False)}
    assert found(host) == {}
    host.silent = {"openflow/c1"}
    texts = found(host)
    assert texts.keys() == {"static-neighbour"}
    assert "run: ip neigh del 10.20.0.1 dev pl0" in texts["static-neighbour"]
    host.neighbours = {(gateway, "pl0"): Neighbour("", is_permanent=False, is_unknown=True)}
    assert "10.20.0.1, to which its packets go, answers no ARP request on pl0" in found(host)["no-neighbour"]


def test_an_ipsec_policy_blocks_clients_packets(host: HostState) -> None:
    host.policies = [Policy("fwd", 1234, 7, True, NETWORK, IPv4Network("10.20.0.0/24"))]
    texts = found(host)
    assert texts.keys() == {"production-cut", "copies-cut"}
    assert "run: ip xfrm policy delete index 1234 dir fwd" in texts["production-cut"]
    host.unpoliced = {"fwd": {"sw0", "natmirror0"}, "out": {"pl0"}}
    assert found(host) == {}
    host.unpoliced = {"fwd": {"all"}}
    assert found(host) == {}
    host.unpoliced = {"fwd": {"pl0"}, "out": {"all"}}
    assert found(host).keys() == {"production-cut", "copies-cut"}


def test_an_ipsec_policy_blocks_packets_that_go_out(host: HostState) -> None:
    host.policies = [Policy("fwd", 0, 1 << 32, True, ANY, ANY)]
    assert "run: ip xfrm policy setdefault fwd accept" in found(host)["production-cut"]
    host.policies = [Policy("out", 1234, 7, True, NETWORK, IPv4Network("10.20.0.0/24"))]
    host.unpoliced = {"fwd": {"all"}, "out": {"sw0"}}
    assert "run: ip xfrm policy delete index 1234 dir out" in found(host)["production-cut"]
    for link in ("pl0", "all"):
        host.unpoliced["out"] = {link}
        assert found(host) == {}
    host.unpoliced = {}
    for question in host.answers:
        host.answers[question] = Answer(error=EINVAL)
    assert "IPsec" not in "".join(found(host).values()), "the packets do not get so far"


def test_copies_are_refused(host: HostState) -> None:
    refuse(host, EINVAL, to={M}, link="natmirror0")
    host.refusing_rules = [PolicyRule(100, "blackhole", link="natmirror0")]
    texts = found(host)
    assert texts.keys() == {"copies-cut"}
    assert "run: ip rule del priority 100 from all iif natmirror0 blackhole" in texts["copies-cut"]
    host.forwarding = {"natmirror0": 0}
    assert found(host) == {}


def test_the_local_route_of_the_service_address_is_gone(host: HostState) -> None:
    route(host, {SERVICE}, "sw0")
    texts = found(host)
    assert texts.keys() == {"service-address-not-local"}
    assert "run: ip route add local 10.10.0.100 dev sw0 table local" in texts["service-address-not-local"]
    host.addresses.remove(SERVICE)
    assert "service-address-not-local" not in found(host)


MANY = 40
BACKENDS_MANY = {IPv4Address(f"10.20.1.{number}") for number in range(1, MANY + 1)}
MANY_RULES = (
    "switches: [10.10.0.0/24]\nservices:\n  - name: openflow\n    address: 10.10.0.100\n    port: 6653\n"
    "    pool:\n      backends:\n"
    + "".join(f"        - {{name: c{int(one) & 255}, address: {one}}}\n" for one in sorted(BACKENDS_MANY))
)


@pytest.fixture
def crowd(host: HostState) -> HostState:
    """A host with many backends and eight connected clients."""
    host.links["pl0"], host.routes = [IPv4Network("10.20.0.0/16")], dict.fromkeys(BACKENDS_MANY, "pl0")
    host.clients += [live(f"10.10.0.{last}") for last in range(11, 19)]
    host.knows_all_clients = True
    ask(host, MANY_RULES)
    return host


def test_a_cut_of_many_backends_is_certain(crowd: HostState) -> None:
    assert found(crowd, MANY_RULES) == {}
    refuse(crowd, EINVAL, to=BACKENDS_MANY, link="sw0")
    assert found(crowd, MANY_RULES).keys() == {"production-cut"}
    crowd.clients = crowd.clients[:2]
    assert found(crowd, MANY_RULES).keys() == {"production-cut"}


def test_each_of_many_backends_counts(crowd: HostState) -> None:
    refuse(crowd, EINVAL, to=BACKENDS_MANY - {max(BACKENDS_MANY)}, link="sw0")
    assert found(crowd, MANY_RULES).keys() == {"partly-cut"}


def test_ways_without_an_answer_do_not_count(crowd: HostState) -> None:
    refuse(crowd, EINVAL, to=BACKENDS_MANY, link="sw0")
    first = Question(min(BACKENDS_MANY), FIRST, "sw0", dport=6653)
    del crowd.answers[first]
    assert found(crowd, MANY_RULES).keys() == {"production-cut"}, "other clients' ways to that backend are refused"
    crowd.answers = {one: answer for one, answer in crowd.answers.items() if one.to != min(BACKENDS_MANY)}
    assert found(crowd, MANY_RULES).keys() == {"partly-cut"}, "no way to that backend is known"


def test_the_number_of_questions_grows_with_the_backends_alone(crowd: HostState) -> None:
    few, many = (
        len(questions(parse_rules(MANY_RULES), clients, crowd.routes, crowd.interfaces))
        for clients in (crowd.clients[:2], crowd.clients)
    )
    assert (few, many) == (2 * MANY + 2, 4 * MANY + 10)
