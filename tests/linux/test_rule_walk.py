"""Packets of production and of legs, walked through other programs' rules as iptables-save and nft show them."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from natmirror.linux import rule_walk
from natmirror.linux.flights import Surroundings
from natmirror.linux.foreign_iptables import from_iptables
from natmirror.linux.foreign_nft import from_nft
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.iptables_rules import FORWARD as OUR_FORWARD
from natmirror.linux.iptables_rules import PRE
from natmirror.linux.rule_findings import drops_invalid, find_drops
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

ROUTES: dict[IPv4Address | IPv4Network, str | None] = {
    IPv4Network("10.10.0.0/24"): "sw0",
    **{IPv4Address(f"10.20.0.{last}"): "pl0" for last in (11, 12, 13)},
}
HOST = Surroundings(ROUTES, {"sw0": [IPv4Network("10.10.0.0/24")], "pl0": [IPv4Network("10.20.0.0/24")]})
HEAD = {"family": "inet", "table": "fw", "handle": 1}
BOTH = ["copies-dropped", "production-dropped"]


def drops(chains: list[BaseChain], rules: str = RULES, host: Surroundings = HOST) -> dict[str, str]:
    return {str(one.code): str(one) for one in find_drops(parse_rules(rules), host, chains)}


def iptables(
    *rules: str, policy: str = "ACCEPT", table: str = "filter", chain: str = "FORWARD", backend: str = "nft"
) -> list[BaseChain]:
    names = {"user": "-", PRE.name: "-", OUR_FORWARD.name: "-"}
    lines = [f"*{table}", f":{chain} {policy} [0:0]", *(f":{name} {no} [0:0]" for name, no in names.items()), *rules]
    return from_iptables("\n".join([*lines, "COMMIT"]), backend)


def nft(
    *rules: list[dict[str, Any]],
    policy: str = "drop",
    more: Sequence[dict[str, Any]] = (),
    text: str = "",
    **base: Any,
) -> list[BaseChain]:
    base = {**HEAD, "name": "c", "type": "filter", "hook": "forward", "prio": 0, "policy": policy, **base}
    head = {"family": base["family"], "table": "fw", "handle": 1}
    objects = [*more, {"chain": base}, {"chain": {**head, "name": "x"}}]
    objects += [{"rule": {**head, "chain": "c", "expr": rule}} for rule in rules]
    return from_nft(json.dumps({"nftables": objects}), text)


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


STATE, IIF, OIF = {"ct": {"key": "state"}}, {"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}
SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
DADDR = {"payload": {"protocol": "ip", "field": "daddr"}}
DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
ACCEPT: dict[str, Any] = {"accept": None}
DROP: dict[str, Any] = {"drop": None}
ESTABLISHED = [match(STATE, ["established", "related"], "in"), ACCEPT]
BY_INTERFACE = [
    [match(IIF, "sw0"), match(OIF, {"set": ["pl0", "pl1"]}), ACCEPT],
    [match(IIF, "pl0"), match(OIF, "sw0"), ACCEPT],
]


RAW = {"table": "raw", "chain": "PREROUTING"}
NAT = {"table": "nat", "chain": "PREROUTING"}
MANGLE = {"table": "mangle", "chain": "PREROUTING"}
JUMP, REPLIES_JUMP = f"-A {PRE.jump}", f"-A {OUR_FORWARD.jump}"


def test_a_policy_of_drop_stops_all_and_the_remedy_lets_it_pass() -> None:
    found = drops(iptables(policy="DROP"))
    assert sorted(found) == BOTH
    assert found["production-dropped"].endswith(
        "run: iptables-nft -I FORWARD -s 10.10.0.0/24 -d 10.20.0.11,10.20.0.12 -p tcp --dport 6653 -j ACCEPT"
        " && iptables-nft -I FORWARD -s 10.10.0.100 -d 10.10.0.0/24 -p tcp --sport 6653 -j ACCEPT"
    )
    to_mirror = "-i natmirror+ -s 10.10.0.0/24 -d 10.20.0.13 -p tcp --dport 6653"
    assert found["copies-dropped"].endswith(f"run: iptables-nft -I FORWARD {to_mirror} -j ACCEPT")
    accepted = (
        *(f"-s 10.10.0.0/24 -d 10.20.0.{last}/32 -p tcp -m tcp --dport 6653" for last in (11, 12)),
        *("-s 10.10.0.100/32 -d 10.10.0.0/24 -p tcp -m tcp --sport 6653", to_mirror),
    )
    assert drops(iptables(*(f"-A FORWARD {one} -j ACCEPT" for one in accepted), policy="DROP")) == {}
    found = drops(nft(ESTABLISHED))
    assert (
        "nft inet fw c drops clients' packets to c1 of service openflow, by its policy" in found["production-dropped"]
    )
    backends = "{ 10.20.0.11, 10.20.0.12 }"
    assert found["production-dropped"].endswith(
        f"run: nft insert rule inet fw c ip saddr 10.10.0.0/24 ip daddr {backends} tcp dport 6653 accept"
    )
    assert found["copies-dropped"].endswith(
        'run: nft insert rule inet fw c iifname "natmirror*" ip saddr 10.10.0.0/24 ip daddr 10.20.0.13 tcp dport 6653'
        " accept"
    )


def rules_of(remedies: Iterable[str]) -> list[str]:
    """Return what the commands of these remedies insert, as iptables-save shows it: one rule for each address."""
    commands = [text.split() for one in remedies for text in one.partition("run: ")[2].split(" && ")]
    inserted = [words[words.index("-I") + 1 :] for words in commands]
    each = [itertools.product(*(word.split(",") for word in words)) for words in inserted]
    return ["-A " + " ".join(words) for some in each for words in some]


@pytest.mark.parametrize(
    ("table", "chain"),
    [
        *(("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "FORWARD"), ("filter", "FORWARD")),
        *(("mangle", "POSTROUTING"), ("nat", "POSTROUTING"), ("security", "FORWARD")),
    ],
)
def test_the_remedies_let_all_packets_pass_wherever_they_are_dropped(table: str, chain: str) -> None:
    rules = RULES.replace("10.20.0.12}", "10.20.0.12, port: 7000}")
    dropped = drops(iptables(policy="DROP", table=table, chain=chain), rules)
    assert "production-dropped" in dropped
    added = rules_of(dropped.values())
    assert all("-p tcp" in rule and "-s " in rule and "-d " in rule and "port" in rule for rule in added)
    assert "-i natmirror+" not in "".join(added) or chain != "POSTROUTING", "iptables refuses it there"
    assert drops(iptables(*added, policy="DROP", table=table, chain=chain), rules) == {}


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
    back = iptables("-A FORWARD -j user", "-A user -o pl0 -j RETURN", "-A user -j DROP")
    assert "clients' packets" not in "".join(drops(back).values())
    assert "replies of c1" in drops(back)["production-dropped"]
    assert drops(iptables("-A FORWARD -g user", "-A user -i eth9 -j DROP")) == {}


@pytest.mark.parametrize(
    "condition",
    [
        "-m limit --limit 3/sec",
        "-m set --match-set s src",
        "-s 10.10.0.1/255.255.255.1",
        "-m conntrack --ctstate RELATED,ASSURED",
        "-m socket",
    ],
)
def test_what_a_condition_without_an_answer_drops_is_not_reported(condition: str) -> None:
    assert drops(iptables(f"-A FORWARD {condition} -j DROP")) == {}
    assert drops(iptables(f"-A FORWARD {condition} -j ACCEPT", policy="DROP")) == {}


def test_unknown_expressions_and_named_sets_are_not_judged() -> None:
    assert drops(nft([{"xt": {"type": "match", "name": "owner"}}, DROP], policy="accept")) == {}
    assert drops(nft([{"match": {"strange": 1}}, DROP], policy="accept")) == {}
    assert drops(nft([match(STATE, "new", "in"), {"limit": {"rate": 1}}, DROP], policy="accept")) == {}


def test_rules_for_other_packets_are_no_matter() -> None:
    assert drops(iptables("-A FORWARD -p udp -j DROP", "-A FORWARD ! -s 10.0.0.0/8 -j DROP")) == {}
    assert drops(iptables("-A FORWARD -p tcp -m multiport --dports 80,6640:6650 -j DROP")) == {}
    assert drops(nft([match(DPORT, {"set": [80, {"range": [100, 200]}]}), DROP], policy="accept")) == {}
    found = drops(nft([match(DPORT, {"set": [{"range": [6000, 7000]}]}), DROP], policy="accept"))
    assert sorted(found) == BOTH
    assert "by the rule with handle 1" in found["production-dropped"]


def test_requests_skip_the_rest_of_the_raw_table_and_our_own_rules_are_no_ones_else() -> None:
    raw = iptables("-A PREROUTING -s 10.10.0.0/24 -i sw0 -j DROP", table="raw", chain="PREROUTING")
    assert drops(raw) == {}
    ours = iptables("-A FORWARD -p tcp -j NATMIRROR-FWD", "-A NATMIRROR-FWD -j DROP")
    assert drops(ours) == {}


def test_a_rule_that_drops_invalid_packets_is_found() -> None:
    rules = parse_rules(RULES)
    invalid = iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    assert drops(invalid) == {}
    assert drops_invalid(rules, HOST, invalid) == "iptables-nft -t filter FORWARD"
    assert drops_invalid(rules, HOST, iptables()) is None


def test_only_a_service_without_any_backend_that_gets_through_makes_the_host_unfit() -> None:
    one = iptables("-A FORWARD -s 10.10.0.0/24 -d 10.20.0.11/32 -j DROP")
    found = drops(one)
    assert [code for code in found if "production" in code or "partly" in code] == ["partly-dropped"]
    assert "clients' packets to c1 of service openflow" in found["partly-dropped"]
    both = iptables(*(f"-A FORWARD -s 10.10.0.0/24 -d 10.20.0.{last}/32 -j DROP" for last in (11, 12)))
    assert [code for code in drops(both) if "production" in code or "partly" in code] == ["production-dropped"]


def test_clients_without_a_known_route_may_get_through() -> None:
    unknown = replace(HOST, routes={**ROUTES, IPv4Network("10.8.0.0/13"): None}, links={})
    rules = RULES.replace("10.10.0.0/24", "10.8.0.0/13")
    assert list(drops(iptables("-A FORWARD -d 10.20.0.12/32 -j DROP"), rules, unknown)) == ["partly-dropped"]
    assert list(drops(iptables("-A FORWARD -d 10.10.0.0/24 -j DROP"), rules, unknown)) == []
    assert "production-dropped" in drops(iptables("-A FORWARD -s 10.8.0.0/13 -j DROP"), rules, unknown)
    no_backend = replace(unknown, routes={**unknown.routes, IPv4Address("10.20.0.11"): None})
    found = drops(iptables("-A FORWARD -d 10.20.0.12/32 -j DROP"), rules, no_backend)
    assert list(found) == ["production-dropped"]


def test_a_service_that_gets_through_does_not_hide_one_that_does_not() -> None:
    pool = "pool: {backends: [{name: c2, address: 10.20.0.12}]}"
    rules = f"{RULES}  - {{name: web, address: 10.10.0.101, port: 80, {pool}}}\n"
    found = drops(iptables("-A FORWARD -s 10.10.0.0/24 -d 10.20.0.12/32 -j DROP"), rules)
    assert list(found) == ["production-dropped"]


def test_a_rule_above_our_jump_keeps_packets_from_the_queue() -> None:
    for above in (["-A PREROUTING -i sw0 -j ACCEPT"], ["-A PREROUTING -s 10.10.0.0/24 -g user"]):
        found = drops(iptables(*above, JUMP, **RAW))
        assert list(found) == ["production-not-queued"]
        assert f"run: iptables-nft -t raw -D {PRE.jump} && iptables-nft -t raw -I {PRE.jump}" in "".join(found.values())
        assert drops(iptables(JUMP, *above, **RAW)) == {}
        assert drops(iptables(*above, **RAW)) == {}, "natmirror is about to install its jump"
    assert "the rule '-A PREROUTING -s 10.10.0.0/24 -g user'" in found["production-not-queued"]
    found = drops(iptables("-A PREROUTING -p tcp -j user", "-A user -s 10.10.0.0/24 -j DROP", JUMP, **RAW))
    assert f"-I {PRE.jump}" in found["production-dropped"]
    assert "-d 10.20.0.13 -p tcp --dport 6653 -j CT --notrack" in found["copies-dropped"]
    found = drops(iptables("-A PREROUTING -i pl0 -j ACCEPT", JUMP, **RAW))
    assert list(found) == ["copies-dropped"]
    assert "keeps from natmirror's queue answers of master of service openflow" in found["copies-dropped"]


def test_replies_reach_the_queue_in_the_table_mangle() -> None:
    found = drops(iptables("-A FORWARD -p tcp -m tcp --sport 6653 -j ACCEPT", REPLIES_JUMP, table="mangle"))
    assert list(found) == ["production-not-queued"]
    assert "replies of c1 of service openflow" in found["production-not-queued"]
    assert drops(iptables("-A FORWARD -s 10.10.0.0/24 -j ACCEPT", REPLIES_JUMP, table="mangle")) == {}
    assert drops(iptables(REPLIES_JUMP, "-A FORWARD -d 10.10.0.0/24 -j DROP", table="mangle")) == {}
    one = drops(iptables("-A FORWARD -s 10.20.0.11/32 -j ACCEPT", REPLIES_JUMP, table="mangle"))
    assert list(one) == ["partly-dropped"]


def test_a_chain_beside_our_jump_may_see_packets_before_or_after_the_queue() -> None:
    ours = iptables(JUMP, **RAW)
    by_source = iptables("-A PREROUTING -s 10.10.0.0/24 -p tcp -j DROP", **RAW, backend="legacy")
    found = drops([*ours, *by_source])
    assert "iptables-legacy -t raw PREROUTING drops clients' packets" in found["production-dropped"]
    assert drops([*ours, *iptables("-A PREROUTING -d 10.10.0.100/32 -j DROP", **RAW, backend="legacy")]) == {}
    early = nft([match(DADDR, "10.10.0.100"), DROP], policy="accept", hook="prerouting", prio=-310)
    assert list(drops([*ours, *early])) == ["production-dropped"]
    late = nft([match(DADDR, "10.10.0.100"), DROP], policy="accept", hook="prerouting", prio=-150)
    assert drops([*ours, *late]) == {}


def test_what_only_the_route_says_about_the_interface_is_a_warning() -> None:
    by_interface = iptables("-A FORWARD -i sw0 -j DROP")
    assert list(drops(by_interface)) == ["production-dropped"]
    routed = replace(HOST, links={})
    found = drops(by_interface, host=routed)
    assert list(found) == ["likely-dropped"]
    assert "drops clients' packets to c1 of service openflow if they come in by sw0" in found["likely-dropped"]
    asymmetric = RULES.replace("pool:", "pool:\n      asymmetric: true")
    assert drops(by_interface, asymmetric) == drops(by_interface, asymmetric, routed) == {}
    only_in = [match(IIF, "other"), ACCEPT]
    assert sorted(drops(nft(only_in), host=routed)) == ["copies-dropped", "likely-dropped"]


def test_marks_and_translations_of_our_packets_are_known() -> None:
    established = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    for accept in ("-m mark --mark 0x4000/0x4000", "-m conntrack --ctstate DNAT", "-m connmark --mark 0x1"):
        chains = iptables(f"-A FORWARD {accept} -j ACCEPT", established, policy="DROP")
        assert sorted(drops(chains)) == BOTH
        assert sorted(drops(chains, host=replace(HOST, filtered=["sw0"]))) == BOTH[: 1 + ("DNAT" in accept)]
    status = [match({"ct": {"key": "status"}}, "dnat", "in"), ACCEPT]
    masked = [match({"&": [{"meta": {"key": "mark"}}, 16384]}, 16384), ACCEPT]
    assert sorted(drops(nft(ESTABLISHED, status, masked))) == BOTH
    elsewhere = iptables("-A PREROUTING -m set --match-set s dst -j DNAT --to-destination 10.9.9.9", **NAT)
    assert list(drops([*nft(ESTABLISHED, status), *elsewhere])) == ["copies-dropped"]
    other = iptables("-A PREROUTING -d 10.9.9.9/32 -j DNAT --to-destination 10.20.0.11", **NAT)
    assert sorted(drops([*nft(ESTABLISHED, status), *other])) == BOTH
    saves = iptables("-A FORWARD -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff", table="mangle")
    by_connection = iptables("-A FORWARD -m connmark --mark 0x1 -j ACCEPT", established, policy="DROP")
    assert drops([*by_connection, *saves]) == {}


def test_a_mark_of_our_own_range_is_found_where_it_is_set() -> None:
    found = drops(iptables("-A PREROUTING -i sw0 -j MARK --set-xmark 0x6e6d0000/0xffffffff", **MANGLE))
    assert list(found) == ["mark-collides"]
    assert "iptables-nft -t mangle PREROUTING gives a mark of natmirror's own" in found["mark-collides"]
    in_forward = iptables(REPLIES_JUMP, "-A FORWARD -j MARK --set-xmark 0x6e6d0001/0xffffffff", table="mangle")
    assert list(drops(in_forward)) == ["mark-collides"]
    assert drops(iptables("-A PREROUTING -j MARK --set-xmark 0x6d/0xff", **MANGLE)) == {}
    assert drops(iptables("-A PREROUTING -m set --match-set s src -j MARK --set-xmark 0x6e6d0000", **MANGLE)) == {}
    assert drops(iptables("-A PREROUTING -j CONNMARK --restore-mark", **MANGLE)) == {}
    set_mark = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 0x6E6D0007]}}}
    assert list(drops(nft([set_mark], policy="accept", hook="prerouting", prio=-140))) == ["mark-collides"]
    to_unknown = [{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"ct": {"key": "mark"}}}}]
    assert sorted(drops(nft(to_unknown))) == BOTH, "its policy drops whatever the mark"
    accepted = [match({"meta": {"key": "mark"}}, 0, "!="), ACCEPT]
    assert drops(nft(to_unknown, accepted)) == {}
    cleared = [*nft([set_mark], policy="accept", hook="prerouting", prio=-140)]
    clear = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": 0}}
    assert drops([*cleared, *nft([clear], policy="accept", hook="prerouting", prio=0)]) == {}


def test_a_queue_that_no_program_reads_drops() -> None:
    chains = iptables("-A FORWARD -j NFQUEUE --queue-num 200")
    assert drops(chains) == {}, "a program may read it"
    found = drops(chains, host=replace(HOST, unread_queues={200}))
    assert sorted(found) == BOTH
    assert "because no program reads queue 200" in found["production-dropped"]
    bypass = iptables("-A FORWARD -j NFQUEUE --queue-balance 200:201 --queue-bypass", "-A FORWARD -j DROP")
    assert drops(bypass, host=replace(HOST, unread_queues={200, 201})) == {}
    several = nft([{"queue": {"num": {"range": [200, 201]}}}])
    assert drops(several, host=replace(HOST, unread_queues={200})) == {}
    assert sorted(drops(several, host=replace(HOST, unread_queues={200, 201}))) == BOTH


def test_a_translation_after_ours_sends_production_elsewhere() -> None:
    found = drops(iptables("-A PREROUTING -p tcp -m tcp --dport 6653 -j DNAT --to-destination 10.20.0.99", **NAT))
    assert list(found) == ["production-redirected"]
    assert found["production-redirected"].endswith(
        "run: iptables-nft -t nat -I PREROUTING -s 10.10.0.0/24 -d 10.20.0.11,10.20.0.12 -p tcp --dport 6653 -j ACCEPT"
    )
    assert drops(iptables("-A PREROUTING -d 10.10.0.100/32 -j DNAT --to-destination 10.20.0.99", **NAT)) == {}
    same = drops(iptables("-A PREROUTING -i sw0 -j DNAT --to-destination 10.20.0.11:6653", **NAT))
    assert list(same) == ["partly-dropped"], "c1 gets its clients' packets all the same"
    redirect = [match(DPORT, 6653), {"redirect": {"port": 9}}]
    chains = nft(redirect, policy="accept", type="nat", hook="prerouting", prio=-100)
    assert list(drops(chains)) == ["production-redirected"]
    docker = iptables("-A PREROUTING -m addrtype --dst-type LOCAL -j user", "-A user -j DNAT --to 1.2.3.4", **NAT)
    assert drops(docker) == {}
    hidden = drops(iptables("-A POSTROUTING -o pl0 -j MASQUERADE", table="nat", chain="POSTROUTING"))
    assert list(hidden) == ["clients-hidden"]


def test_named_sets_and_maps_are_looked_up() -> None:
    networks = [{"range": ["10.1.1.1", "10.1.1.5"]}, {"elem": {"val": {"prefix": {"addr": "10.20.0.0", "len": 24}}}}]
    bad: dict[str, Any] = {"set": {**HEAD, "name": "bad", "type": "ipv4_addr", "elem": networks}}
    rule = [match(DADDR, "@bad"), DROP]
    assert sorted(drops(nft(rule, policy="accept", more=[bad]))) == BOTH
    assert drops(nft(rule, policy="accept")) == {}
    leaves = {"set": {**bad["set"], "flags": ["timeout"]}}
    assert drops(nft(rule, policy="accept", more=[leaves])) == {}
    added = [{"set": {"op": "add", "elem": SADDR, "set": "@bad"}}]
    assert drops(nft(added, rule, policy="accept", more=[bad])) == {}, "rules change the set"
    pairs = [[f"10.20.0.{last}", {"drop": None}] for last in (11, 12)] + [["10.20.0.13", {"continue": None}]]
    verdicts = {"map": {**HEAD, "name": "vm", "type": "ipv4_addr", "map": "verdict", "elem": pairs}}
    looked_up = [{"vmap": {"key": DADDR, "data": "@vm"}}]
    assert list(drops(nft(looked_up, policy="accept", more=[verdicts]))) == ["production-dropped"]
    joined = [match({"concat": [DADDR, DPORT]}, {"set": [{"concat": ["10.20.0.11", 6653]}]}), DROP]
    assert drops(nft(joined, policy="accept")) == {}


def test_chains_of_interfaces_and_bridges_are_seen_and_dormant_tables_are_not() -> None:
    drop = [match(DPORT, 6653), DROP]
    ingress: dict[str, Any] = {"policy": "accept", "family": "netdev", "hook": "ingress"}
    shown = "table netdev fw {\n\tchain c {\n\t\ttype filter hook ingress device %s priority filter; policy accept;\n"
    assert list(drops(nft(drop, **ingress, text=shown % '"sw0"'))) == ["production-dropped"]
    assert list(drops(nft(drop, **ingress, text=shown.replace("device", "devices =") % "{ br0, sw0 }"))) != []
    assert drops(nft(drop, **ingress, dev="sw0")) != {}
    assert drops(nft(drop, **ingress, text=shown % '"eth9"')) == drops(nft(drop, **ingress)) == {}
    egress = nft(family="netdev", hook="egress", dev=["pl0"])
    assert sorted(drops(egress)) == BOTH
    bridge = nft(
        [match({"payload": {"protocol": "ether", "field": "type"}}, "arp"), ACCEPT], family="bridge", hook="input"
    )
    assert drops(bridge) == {}
    assert list(drops(bridge, host=replace(HOST, bridges=["sw0"]))) == ["production-dropped"]
    for flags in (["dormant"], "fw"):
        assert drops(nft(more=[{"table": {"family": "inet", "name": "fw", "flags": flags}}])) == {}
    assert drops(nft(more=[{"table": {"family": "inet", "name": "fw", "flags": ["owner"]}}])) != {}


def test_more_conditions_on_addresses_are_judged() -> None:
    by_type = {"fib": {"result": "type", "flags": ["daddr", "iif"]}}
    not_local = [match(by_type, {"set": ["local", "broadcast", "multicast"]}, "!="), DROP]
    assert sorted(drops(nft(not_local, policy="accept", hook="prerouting", prio=-290))) == BOTH
    local = "-m addrtype --dst-type LOCAL"
    assert sorted(drops(iptables(f"-A PREROUTING {local} -j ACCEPT", policy="DROP", **MANGLE))) == BOTH
    on_range = "-m iprange --src-range 10.10.0.0-10.10.1.255"
    assert "production-dropped" in drops(iptables(f'-A FORWARD {on_range} -m comment --comment "-j ! x" -j DROP'))
    bridged = iptables("-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT", policy="DROP")
    assert sorted(drops(bridged)) == BOTH
    one_bridge = replace(HOST, routes=dict.fromkeys(ROUTES, "br0"), links={"br0": [IPv4Network("10.0.0.0/8")]})
    assert list(drops(bridged, host=one_bridge)) == ["copies-dropped"]


def test_replies_come_from_an_address_of_this_host_once_they_are_translated() -> None:
    host = replace(HOST, addresses=[IPv4Address("10.10.0.100")])
    by_route = [match({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, False), DROP]
    by_type = [match({"fib": {"result": "type", "flags": ["saddr"]}}, "local"), DROP]
    local = iptables("-A FORWARD -m addrtype --src-type LOCAL -j DROP")
    for chains in (nft(by_route, policy="accept"), nft(by_type, policy="accept"), local):
        assert "replies of c1 of service openflow" in drops(chains, host=host)["production-dropped"]
        assert "production-dropped" not in drops(chains), "an address of another host, whose route is not known"
    assert drops(nft(by_type, policy="accept", hook="prerouting", prio=-290), host=host) == {}
    assert drops(nft(by_type, policy="accept", prio=-150), host=host) == {}, "before the queue"
    unicast = iptables("-A FORWARD -m addrtype --src-type UNICAST -j ACCEPT", policy="DROP")
    assert list(drops(unicast, host=host)) == ["production-dropped"]
    source = RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")
    own = replace(HOST, addresses=[IPv4Address("10.20.0.1")])
    assert list(drops(local, source, own)) == ["copies-dropped"]


def test_a_chain_to_which_many_rules_jump_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f":user{n} - [0:0]" for n in range(16)]
    twice = [f"-A user{n} -j user{n + 1}" for n in range(15) for _ in range(2)]
    saved = "\n".join(["*filter", ":FORWARD DROP [0:0]", *names, "-A FORWARD -j user0", *twice, "COMMIT"])
    assert sorted(drops(from_iptables(saved, "nft"))) == BOTH
    monkeypatch.setattr(rule_walk, "_MAX_RULES", 1000)
    sets = [f"-m set --match-set {n} src" for n in range(400)]
    jumps, returns = [f"-A FORWARD {one} -j user" for one in sets], [f"-A user {one} -j RETURN" for one in sets]
    assert sorted(drops(iptables(*jumps, *returns, policy="DROP"))) == BOTH
    assert drops(iptables(*jumps, *returns, "-A user -j ACCEPT", policy="DROP")) == {}, "each set may be the one"
    assert drops(iptables(*jumps * 2, *returns, policy="DROP")) == {}, "too many rules"


def test_a_chain_is_walked_again_for_a_packet_with_another_mark() -> None:
    rules = ("-A FORWARD -j user", "-A FORWARD -j MARK --set-xmark 0x1", "-A FORWARD -j user")
    assert drops(iptables(*rules, "-A user -m mark --mark 0x2 -j DROP")) == {}
    assert sorted(drops(iptables(*rules, "-A user -m mark --mark 0x1 -j DROP"))) == BOTH
    marks = ("-A user -j MARK --set-xmark 0x6e6d0001", "-A FORWARD -j MARK --set-xmark 0x0", "-A FORWARD -j user")
    found = drops(iptables("-A FORWARD -j user", *marks, table="mangle"))
    assert "by the rule '-A user -j MARK --set-xmark 0x6e6d0001'" in found["mark-collides"]


def test_chains_that_jump_in_a_circle_end_the_walk() -> None:
    assert drops(iptables("-A FORWARD -j user", "-A user -j user", policy="DROP")) == {}


def test_a_rule_that_stops_tracking_counts_for_later_states() -> None:
    raw = iptables("-A PREROUTING -s 10.20.0.0/24 -j CT --notrack", **RAW)
    assert drops(raw) == {}
    found = drops([*raw, *nft(ESTABLISHED, *BY_INTERFACE[:1])])
    assert "replies of c1" in found["production-dropped"]
    assert list(drops(nft(ESTABLISHED, *BY_INTERFACE[:1]))) == ["copies-dropped"]
