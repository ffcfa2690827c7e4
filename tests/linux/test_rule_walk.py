"""Packets of production and of legs, walked through other programs' rules as iptables-save and nft show them."""

import json
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from natmirror.linux.foreign_iptables import from_iptables
from natmirror.linux.foreign_nft import from_nft
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.rule_walk import drops_invalid, find_drops
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

ROUTES: dict[IPv4Address | IPv4Network, str | None] = {
    IPv4Network("10.10.0.0/24"): "sw0",
    **{IPv4Address(f"10.20.0.{last}"): "pl0" for last in (11, 12, 13)},
}
HEAD = {"family": "inet", "table": "fw", "handle": 1}
BOTH = ["copies-dropped", "production-dropped"]


def drops(chains: list[BaseChain], rules: str = RULES) -> dict[str, str]:
    return {str(one.code): str(one) for one in find_drops(parse_rules(rules), ROUTES, chains)}


def iptables(*rules: str, policy: str = "ACCEPT", table: str = "filter", chain: str = "FORWARD") -> list[BaseChain]:
    lines = [f"*{table}", f":{chain} {policy} [0:0]", ":user - [0:0]", *rules, "COMMIT"]
    return from_iptables("\n".join(lines), "nft")


def nft(*rules: list[dict[str, Any]], policy: str = "drop", hook: str = "forward", prio: int = 0) -> list[BaseChain]:
    base = {**HEAD, "name": "c", "type": "filter", "hook": hook, "prio": prio, "policy": policy}
    objects = [{"chain": base}, {"chain": {**HEAD, "name": "x"}}]
    objects += [{"rule": {**HEAD, "chain": "c", "expr": rule}} for rule in rules]
    return from_nft(json.dumps({"nftables": objects}))


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


STATE, IIF, OIF = {"ct": {"key": "state"}}, {"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}
SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
ACCEPT: dict[str, Any] = {"accept": None}
DROP: dict[str, Any] = {"drop": None}
ESTABLISHED = [match(STATE, ["established", "related"], "in"), ACCEPT]
BY_INTERFACE = [
    [match(IIF, "sw0"), match(OIF, {"set": ["pl0", "pl1"]}), ACCEPT],
    [match(IIF, "pl0"), match(OIF, "sw0"), ACCEPT],
]


def test_a_policy_of_drop_stops_all_and_the_remedy_lets_it_pass() -> None:
    found = drops(iptables(policy="DROP"))
    assert sorted(found) == BOTH
    assert found["production-dropped"].endswith(
        "run: iptables-nft -I FORWARD -s 10.10.0.0/24 -j ACCEPT && iptables-nft -I FORWARD -d 10.10.0.0/24 -j ACCEPT"
    )
    assert found["copies-dropped"].endswith("run: iptables-nft -I FORWARD -i natmirror+ -j ACCEPT")
    accepted = ("-s 10.10.0.0/24", "-d 10.10.0.0/24", "-i natmirror+")
    assert drops(iptables(*(f"-A FORWARD {one} -j ACCEPT" for one in accepted), policy="DROP")) == {}
    found = drops(nft(ESTABLISHED))
    assert (
        "nft inet fw c drops clients' packets to c1 of service openflow, by its policy" in found["production-dropped"]
    )
    assert "run: nft insert rule inet fw c ip saddr 10.10.0.0/24 accept" in found["production-dropped"]
    assert found["copies-dropped"].endswith('run: nft insert rule inet fw c iifname "natmirror*" accept')


def test_a_firewall_that_lets_production_pass_may_drop_the_copies() -> None:
    assert list(drops(nft(ESTABLISHED, [match(STATE, "invalid", "in"), DROP], *BY_INTERFACE))) == ["copies-dropped"]
    untracked = [match(STATE, {"set": ["untracked"]}, "in"), ACCEPT]
    assert drops(nft(ESTABLISHED, untracked, *BY_INTERFACE)) == {}


@pytest.mark.parametrize("wanted", [True, False])
def test_a_test_of_the_reverse_path_drops_the_copies_only(wanted: bool) -> None:
    by_route = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}
    rule = [match(by_route, False), DROP] if wanted else [match(by_route, True, "!="), DROP]
    assert list(drops(nft(rule, policy="accept", hook="prerouting", prio=-290))) == ["copies-dropped"]
    raw = iptables("-A PREROUTING -m rpfilter --invert -j DROP", table="raw", chain="PREROUTING")
    assert list(drops(raw)) == ["copies-dropped"]
    with_source = RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")
    assert drops(raw, with_source) == {}, "a source of this host may pass"


def test_a_verdict_map_and_jumps_are_followed() -> None:
    states = {"set": [["established", {"accept": None}], ["related", {"accept": None}], ["invalid", {"drop": None}]]}
    assert sorted(drops(nft([{"vmap": {"key": STATE, "data": states}}]))) == BOTH
    assert drops(nft([{"vmap": {"key": STATE, "data": states}}], policy="accept")) == {}
    only_in = [[match(IIF, "other"), ACCEPT]]
    assert list(drops(nft(*only_in))) == ["copies-dropped"], "production may come in on any interface"
    back = iptables("-A FORWARD -j user", "-A user -o pl0 -j RETURN", "-A user -j DROP")
    assert "clients' packets" not in "".join(drops(back).values())
    assert "replies of c1" in drops(back)["production-dropped"]
    assert drops(iptables("-A FORWARD -g user", "-A user -i eth9 -j DROP")) == {}


@pytest.mark.parametrize(
    "condition",
    [
        "-m limit --limit 3/sec",
        "-m set --match-set s src",
        "-m mark --mark 0x1",
        "-s 10.10.0.1/255.255.255.1",
        "-m conntrack --ctstate DNAT",
    ],
)
def test_what_a_condition_without_an_answer_drops_is_not_reported(condition: str) -> None:
    assert drops(iptables(f"-A FORWARD {condition} -j DROP")) == {}
    assert drops(iptables(f"-A FORWARD {condition} -j ACCEPT", policy="DROP")) == {}


def test_unknown_expressions_and_named_sets_are_not_judged() -> None:
    assert drops(nft([match(SADDR, "@blocked"), DROP], policy="accept")) == {}
    assert drops(nft([{"xt": {"type": "match", "name": "owner"}}, DROP], policy="accept")) == {}
    assert drops(nft([{"match": {"strange": 1}}, DROP], policy="accept")) == {}
    assert drops(nft([match(STATE, "new", "in"), {"limit": {"rate": 1}}, DROP], policy="accept")) == {}


def test_rules_for_other_packets_are_no_matter() -> None:
    assert drops(iptables("-A FORWARD -p udp -j DROP", "-A FORWARD ! -s 10.0.0.0/8 -j DROP")) == {}
    assert drops(iptables("-A FORWARD -p tcp -m multiport --dports 80,6640:6650 -j DROP")) == {}
    assert drops(nft([match(DPORT, {"set": [80, {"range": [100, 200]}]}), DROP], policy="accept")) == {}
    found = drops(nft([match(DPORT, {"set": [{"range": [6000, 7000]}]}), DROP], policy="accept"))
    assert sorted(found) == BOTH
    assert "by the rule 'rule 1'" in found["production-dropped"]


def test_requests_skip_the_rest_of_the_raw_table_and_our_own_rules_are_no_ones_else() -> None:
    raw = iptables("-A PREROUTING -s 10.10.0.0/24 -i sw0 -j DROP", table="raw", chain="PREROUTING")
    assert drops(raw) == {}
    ours = iptables("-A FORWARD -p tcp -j NATMIRROR-FWD", "-A NATMIRROR-FWD -j DROP")
    assert drops(ours) == {}


def test_a_rule_that_drops_invalid_packets_is_found() -> None:
    rules = parse_rules(RULES)
    invalid = iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    assert drops(invalid) == {}
    assert drops_invalid(rules, ROUTES, invalid) == "iptables-nft -t filter FORWARD"
    assert drops_invalid(rules, ROUTES, iptables()) is None


def test_only_a_service_without_any_backend_that_gets_through_makes_the_host_unfit() -> None:
    one = iptables("-A FORWARD -s 10.10.0.0/24 -d 10.20.0.11/32 -j DROP")
    found = drops(one)
    assert [code for code in found if "production" in code or "partly" in code] == ["partly-dropped"]
    assert "clients' packets to c1 of service openflow" in found["partly-dropped"]
    both = iptables(*(f"-A FORWARD -s 10.10.0.0/24 -d 10.20.0.{last}/32 -j DROP" for last in (11, 12)))
    assert [code for code in drops(both) if "production" in code or "partly" in code] == ["production-dropped"]


def test_a_service_that_gets_through_does_not_hide_one_that_does_not() -> None:
    pool = "pool: {backends: [{name: c2, address: 10.20.0.12}]}"
    rules = f"{RULES}  - {{name: web, address: 10.10.0.101, port: 80, {pool}}}\n"
    found = drops(iptables("-A FORWARD -s 10.10.0.0/24 -d 10.20.0.12/32 -j DROP"), rules)
    assert list(found) == ["production-dropped"]
