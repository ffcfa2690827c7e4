"""Our iptables rules as data; no program is run."""

from pathlib import Path

import pytest

from natmirror.errors import HostError
from natmirror.linux import commands, iptables
from natmirror.linux.iptables import Firewall, plan
from natmirror.linux.iptables_rules import (
    CHAINS,
    FORWARD,
    FORWARD_ERRORS,
    GUARD,
    NAT_QUEUE,
    OURS,
    OUT,
    PRE,
    PRE_ERRORS,
    WATCH_QUEUE,
    Chain,
    contents,
)
from natmirror.rules import parse_rules
from tests.helpers.support import RULES

WATCHED = """
switches: [10.10.0.0/24, 10.11.0.0/24]
services:
  - {name: web, address: 10.10.0.100, port: 80, mirrors: [{name: m, address: 10.20.0.13}]}
"""


def test_packets_of_clients_and_mirrors_are_queued_before_routing_and_fail_closed() -> None:
    chain = contents(parse_rules(RULES))[PRE]
    assert f"-s 10.10.0.0/24 -d 10.10.0.100/32 -p tcp --dport 6653 -j NFQUEUE --queue-num {NAT_QUEUE}" in chain
    from_mirror = "-s 10.20.0.13/32 -d 10.10.0.0/24 -p tcp --sport 6653"
    assert f"{from_mirror} -m rpfilter -j NFQUEUE --queue-num {NAT_QUEUE}" in chain
    assert chain[-1] == f"{from_mirror} -j DROP", "forged: it came in where no route to the mirror leads"
    assert not any("bypass" in rule for rule in chain if "-d 10.10.0" in rule)


BACKENDS = ("10.20.0.11", "10.20.0.12")


def test_packets_past_the_service_are_queued_and_pass_while_natmirror_does_not_run() -> None:
    chain = contents(parse_rules(f"limit-per-client: 5000\n{RULES}"), 2)[PRE]
    for shard, queue in ((0, 6653), (1, 6655)):
        for backend in BACKENDS:
            past = f"-s 10.10.0.{shard}/255.255.255.1 -d {backend}/32 -p tcp --dport 6653 "
            limited, queued = [rule.removeprefix(past) for rule in chain if rule.startswith(past)]
            assert limited.startswith("-m hashlimit --hashlimit-above 5000/sec")
            assert limited.endswith("-j DROP")
            assert queued == f"-j NFQUEUE --queue-num {queue} --queue-bypass"
    assert not any("-d 10.20.0.11" in rule for rule in contents(parse_rules(RULES[: RULES.index("    mirrors")]))[PRE])


def test_packets_of_a_service_without_a_pool_at_a_backends_endpoint_can_be_dropped() -> None:
    watched = "  - {name: own, address: 10.20.0.11, port: 6653, mirrors: [{name: m, address: 10.20.0.14}]}\n"
    first = RULES.replace("services:\n", f"services:\n{watched}")
    for text in (f"{RULES}{watched}", first):
        chains = contents(parse_rules(text))
        past = [rule for rule in chains[PRE] if "-d 10.20.0.11/32" in rule]
        assert [rule.partition("-j ")[2] for rule in past] == [f"NFQUEUE --queue-num {NAT_QUEUE} --queue-bypass"]
        replies = [rule for rule in chains[FORWARD] if "-s 10.20.0.11/32" in rule]
        assert [rule.partition("-j ")[2] for rule in replies] == [f"NFQUEUE --queue-num {NAT_QUEUE}"]


def test_packets_in_a_backends_name_are_dropped_before_they_are_routed() -> None:
    chain = contents(parse_rules(RULES))[PRE]
    at = [number for number, rule in enumerate(chain) if rule.startswith("-s 10.20.0.11/32")]
    named = "-s 10.20.0.11/32 -d 10.10.0.0/24 -p tcp --sport 6653"
    assert [chain[number] for number in at] == [f"{named} -m rpfilter -j RETURN", f"{named} -j DROP"]
    past = next(number for number, rule in enumerate(chain) if "-d 10.20.0.11" in rule)
    assert max(at) < past, "a reply need not be compared with the rules for packets past the service"
    assert "DROP" not in str(contents(parse_rules(RULES[: RULES.index("    mirrors")]))[PRE])
    assert not any("-s 10.20.0.11" in rule for rule in contents(parse_rules(RULES), checks_paths=False)[PRE])


POOL = "    pool:\n"
SHARED = """
  - name: other
    address: 10.10.0.101
    port: 6653
    pool: {asymmetric: true, backends: [{name: c2, address: 10.20.0.12}]}
"""


@pytest.mark.parametrize(
    ("rules", "checked"),
    [
        (RULES.replace(POOL, f"{POOL}      sorry: {{name: s, address: 10.20.0.19}}\n"), [*BACKENDS, "10.20.0.19"]),
        (RULES.replace(POOL, f"{POOL}      asymmetric: true\n"), []),
        (RULES + SHARED, ["10.20.0.11"]),
        (RULES.replace("10.20.0.13}", "10.20.0.12, asymmetric: true}"), ["10.20.0.11"]),
        (RULES.replace("10.20.0.13}", "10.20.0.12}"), list(BACKENDS)),
        (WATCHED, []),
    ],
)
def test_paths_of_backends_are_checked_unless_their_routes_are_asymmetric(rules: str, checked: list[str]) -> None:
    chain = contents(parse_rules(rules))[PRE]
    dropped = {rule.split()[1].removesuffix("/32") for rule in chain if rule.endswith(" -j DROP")}
    assert dropped - {"10.20.0.13"} == set(checked)


def test_replies_are_queued_when_they_are_forwarded() -> None:
    assert contents(parse_rules(RULES))[FORWARD] == [
        f"-s {address}/32 -d 10.10.0.0/24 -p tcp --sport 6653 -j NFQUEUE --queue-num {NAT_QUEUE}"
        for address in ("10.20.0.11", "10.20.0.12")
    ] + [FROM_MIRROR]


@pytest.mark.parametrize("checks_paths", [True, False])
def test_packets_of_mirrors_that_come_past_the_table_raw_are_dropped(checks_paths: bool) -> None:
    def dropped(rules: str, chain: Chain = FORWARD) -> list[str]:
        found = contents(parse_rules(rules), checks_paths=checks_paths)[chain]
        return [rule for rule in found if "-s 10.20.0.13" in rule and "DROP" in rule]

    assert dropped(RULES) == [FROM_MIRROR]
    assert dropped(RULES.replace("10.20.0.13}", "10.20.0.13, asymmetric: true}")) == [FROM_MIRROR]
    assert dropped(RULES.replace("10.20.0.13}", "10.20.0.13, direct: true}")) == []
    assert dropped(RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")) == []
    [to_us] = dropped(RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}"), GUARD)
    assert to_us.startswith("-s 10.20.0.13/32 -d 10.20.0.1/32 -p tcp --sport 6653 --dport ")


@pytest.mark.parametrize("source", ["", ", source: 10.20.0.1"])
def test_a_mirror_with_asymmetric_routes_is_not_checked(source: str) -> None:
    chain = contents(parse_rules(RULES.replace("10.20.0.13}", f"10.20.0.13, asymmetric: true{source}}}")))[PRE]
    assert not any("rpfilter" in rule or "DROP" in rule for rule in chain if "10.20.0.13" in rule)


def test_packets_of_a_mirror_to_which_clients_connect_are_not_dropped() -> None:
    chain = contents(parse_rules(RULES.replace("10.20.0.13}", "10.20.0.13, direct: true}")))[PRE]
    assert not any("DROP" in rule for rule in chain if "-s 10.20.0.13" in rule)


def test_packets_of_a_mirror_that_is_an_unmirrored_backend_are_not_dropped() -> None:
    shared = SHARED.replace("10.20.0.12", "10.20.0.13").replace("asymmetric: true, ", "")
    chain = contents(parse_rules(RULES + shared))[PRE]
    assert not any("DROP" in rule for rule in chain if "-s 10.20.0.13" in rule)


def test_fragments_are_reassembled_without_conntrack() -> None:
    chains = contents(parse_rules(RULES))
    asking = {chain: [rule for rule in rules if "-m socket" in rule] for chain, rules in chains.items()}
    assert {chain: rules for chain, rules in asking.items() if rules} == {GUARD: ["-i natmirror+ -m socket -j RETURN"]}
    assert "conntrack" not in str(chains)


def test_our_kernel_never_answers_for_a_service_with_a_pool() -> None:
    drop = "-s 10.10.0.0/24 -d 10.10.0.100/32 -p tcp --dport 6653 -j DROP"
    assert drop in contents(parse_rules(RULES))[GUARD]
    assert not any("DROP" in rule for rule in contents(parse_rules(WATCHED))[GUARD])


def test_synthesised_packets_are_not_tracked() -> None:
    assert contents(parse_rules(RULES))[OURS] == ["-j CT --notrack"]
    assert (OURS.match, PRE.match) == ("-i natmirror+", "! -i natmirror+ -p tcp")


def test_a_service_without_a_pool_fails_open_everywhere() -> None:
    chains = contents(parse_rules(WATCHED))
    for chain in (PRE, FORWARD, OUT):
        rules = [rule for rule in chains[chain] if f"--queue-num {WATCH_QUEUE}" in rule]
        assert len(rules) == 2, "one for each network"
        assert all(rule.endswith("--queue-bypass") for rule in rules)
    closed = [rule for rule in chains[PRE] if f"--queue-num {NAT_QUEUE}" in rule]
    assert all("-s 10.20.0.13/32" in rule for rule in closed), "only the mirror's answers"


def test_icmp_errors_are_queued_in_each_direction() -> None:
    chains = contents(parse_rules(RULES))
    for chain, match in (
        (PRE_ERRORS, "-d 10.10.0.100/32"),
        (FORWARD_ERRORS, "-d 10.10.0.0/24"),
        (OUT, "-d 10.10.0.0/24"),
    ):
        types = [rule.split("--icmp-type ")[1].split()[0] for rule in chains[chain] if "icmp" in rule and match in rule]
        assert types == ["3", "11", "12"]


def test_legs_from_an_address_of_the_host_are_distinguished_by_their_ports() -> None:
    chains = contents(parse_rules(RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")))
    answers = [rule for rule in chains[PRE] if "-s 10.20.0.13/32" in rule]
    from_mirror = "-s 10.20.0.13/32 -d 10.20.0.1/32 -p tcp --sport 6653"
    assert answers == [
        f"{from_mirror} -m rpfilter --dport 10240:32767 -j NFQUEUE --queue-num {NAT_QUEUE} --queue-bypass",
        f"{from_mirror} --dport 10240:32767 -j DROP",
    ]
    types = [rule for rule in chains[PRE_ERRORS] if "-d 10.20.0.1/32" in rule]
    assert len(types) == 3


def test_each_thread_has_a_part_of_the_clients() -> None:
    chains = contents(parse_rules(RULES), 2)
    for shard, queue in ((0, 6653), (1, 6655)):
        part = f"10.10.0.{shard}/255.255.255.1"
        queued = f"-j NFQUEUE --queue-num {queue}"
        assert f"-s {part} -d 10.10.0.100/32 -p tcp --dport 6653 {queued}" in chains[PRE]
        assert f"-s 10.20.0.13/32 -d {part} -p tcp --sport 6653 -m rpfilter {queued}" in chains[PRE]
        assert f"-s 10.20.0.11/32 -d {part} -p tcp --sport 6653 {queued}" in chains[FORWARD]
        assert f"-d {part} -p icmp --icmp-type 3 {queued} --queue-bypass" in chains[OUT]
    assert chains[GUARD] == contents(parse_rules(RULES))[GUARD]
    assert len(chains[PRE_ERRORS]) == 3, "natmirror finds out later which thread they belong to"


def test_each_thread_has_ports_of_its_own_for_legs_from_an_address_of_the_host() -> None:
    chains = contents(parse_rules(RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")), 4)
    answers = [
        rule.split("--dport ")[1].split()
        for rule in chains[PRE]
        if "-s 10.20.0.13/32" in rule and "-m rpfilter" in rule
    ]
    assert [(words[0], words[4]) for words in answers] == [
        ("10240:15871", "6653"),
        ("15872:21503", "6655"),
        ("21504:27135", "6657"),
        ("27136:32767", "6659"),
    ]


def test_a_network_with_fewer_addresses_than_threads_has_rules_for_some_threads_only() -> None:
    chains = contents(parse_rules(RULES.replace("10.10.0.0/24", "10.10.0.6/31")), 4)
    requests = [rule.split()[1] for rule in chains[PRE] if "-d 10.10.0.100/32 -p tcp" in rule]
    assert requests == ["10.10.0.6/255.255.255.255", "10.10.0.7/255.255.255.255"]


def test_the_plan_declares_every_chain_once_and_puts_every_jump_at_the_top() -> None:
    lines = plan(parse_rules(RULES), 1).splitlines()
    for chain in CHAINS:
        assert lines.count(f":{chain.name} - [0:0]") == 1
        assert lines.count(f"-I {chain.parent} 1 {chain.jump.removeprefix(chain.parent).strip()}") == 1
    assert [line for line in lines if line.startswith("*")] == ["*filter", "*mangle", "*raw"], "the guard comes first"
    assert lines.count("COMMIT") == 3


class Recorded(Firewall):
    """A firewall that records its input, and refuses input with ``refused`` in it."""

    def __init__(self) -> None:
        super().__init__("nft")
        self.restored: list[str] = []
        self.refused = "nothing"
        self.warnings = self.fails = ""
        self.saved: list[str] = []

    def _saved(self, table: str, *options: str, timeout: float = 0.0) -> list[str]:
        return self.saved

    def _test(self, text: str) -> str:
        if self.fails:
            raise HostError(self.fails)
        return self.warnings

    def _restore(self, text: str) -> None:
        if self.refused in text:
            raise HostError("refused")
        self.restored.append(text)


def tables(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("*")]


FROM_MIRROR = "-s 10.20.0.13/32 -d 10.10.0.0/24 -p tcp --sport 6653 -j DROP"
MORE = RULES.replace("    mirrors:", "        - {name: c3, address: 10.20.0.14}\n    mirrors:")
OTHER = (
    RULES + "  - {name: other, address: 10.10.0.100, port: 7000, pool: {backends: [{name: c1, address: 10.20.0.11}]}}\n"
)


def test_replies_of_a_sorry_backend_are_queued() -> None:
    text = RULES.replace("    pool:\n", "    pool:\n      sorry: {name: sorry, address: 10.20.0.19}\n")
    assert any(line.startswith("-s 10.20.0.19/32") for line in contents(parse_rules(text))[FORWARD])


def test_only_changed_tables_are_restored_and_the_guard_is_first_in_and_last_out() -> None:
    firewall = Recorded()
    firewall.install(parse_rules(RULES), 1)
    firewall.restored.clear()
    firewall.extend(parse_rules(RULES.replace("10.20.0.11}", "10.20.0.11, weight: 2}")), 1)
    assert firewall.restored == []
    firewall.extend(parse_rules(MORE), 1)
    firewall.extend(parse_rules(OTHER), 1)
    firewall.reduce(parse_rules(RULES), 1)
    assert [tables(text) for text in firewall.restored] == [
        ["*mangle", "*raw"],
        ["*filter", "*mangle", "*raw"],
        ["*raw", "*mangle", "*filter"],
    ]
    assert all(":NATMIRROR" in text and "-I " not in text for text in firewall.restored), "no jump is changed"


def test_if_one_table_is_refused_all_are_restored() -> None:
    firewall = Recorded()
    firewall.install(parse_rules(RULES), 1)
    firewall.restored.clear()
    firewall.refused = "--dport 7000"
    with pytest.raises(HostError):
        firewall.extend(parse_rules(OTHER), 1)
    (back,) = firewall.restored
    assert tables(back) == ["*raw", "*mangle", "*filter"]
    firewall.extend(parse_rules(RULES), 1)
    assert len(firewall.restored) == 1, "nothing has to change"


def test_a_limit_per_client_comes_before_the_queue() -> None:
    chain = contents(parse_rules(f"limit-per-client: 5000\n{RULES}"), 2)[PRE]
    requests = [rule for rule in chain if "-d 10.10.0.100/32" in rule]
    assert [rule.split(" -j ")[1].split()[0] for rule in requests] == ["DROP", "NFQUEUE"] * 2
    assert "--hashlimit-above 5000/sec --hashlimit-burst 1000 --hashlimit-mode srcip" in requests[0]
    assert "hashlimit" not in str(contents(parse_rules(RULES)))


def test_a_service_without_a_pool_has_no_limit_its_packets_would_pass_unseen() -> None:
    assert "hashlimit" not in str(contents(parse_rules(f"limit-per-client: 5000\n{WATCHED}")))


@pytest.mark.parametrize("is_missing", [False, True])
def test_without_the_match_for_paths_packets_of_mirrors_are_taken_from_each_interface(is_missing: bool) -> None:
    firewall = Recorded()
    firewall.warnings = "Warning: Extension rpfilter revision 0 not supported, missing kernel module?" * is_missing
    firewall.install(parse_rules(RULES), 1)
    firewall.extend(parse_rules(OTHER), 1)
    assert firewall.checks_paths is not is_missing
    raw = [text for text in firewall.restored if "*raw" in text]
    drops = f"-A {PRE.name} {FROM_MIRROR}"
    assert [("rpfilter" in text, drops in text) for text in raw] == [(not is_missing, not is_missing)] * 2


@pytest.mark.parametrize("why", ["Couldn't load match `rpfilter'", "the lock is taken"])
def test_a_host_that_does_not_answer_is_not_taken_for_one_without_the_match(why: str) -> None:
    firewall = Recorded()
    firewall.fails = why
    if "rpfilter" in why:
        assert not firewall.can_check_paths()
    else:
        with pytest.raises(HostError, match=why):
            firewall.install(parse_rules(RULES), 1)
        assert firewall.restored == []


def test_dropped_packets_are_counted_for_each_mirror() -> None:
    firewall = Recorded()
    firewall.install(parse_rules(RULES), 1)
    firewall.saved = [
        "[9:500] -A NATMIRROR-PRE -s 10.20.0.13/32 -d 10.10.0.0/24 -p tcp -m tcp --sport 6653 -m rpfilter -j NFQUEUE",
        "[3:180] -A NATMIRROR-PRE -s 10.20.0.13/32 -d 10.10.0.0/24 -p tcp -m tcp --sport 6653 -j DROP",
        "[2:120] -A NATMIRROR-PRE -s 10.20.0.13/32 -d 10.11.0.0/24 -p tcp -m tcp --sport 6653 -j DROP",
        "[1:60] -A NATMIRROR-PRE -s 10.20.0.14/32 -d 10.20.0.1/32 -p tcp -m tcp --sport 7 --dport 10240:32767 -j DROP",
        "[7:420] -A NATMIRROR-GUARD -s 10.10.0.0/24 -d 10.10.0.100/32 -p tcp -m tcp --dport 6653 -j DROP",
    ]
    assert firewall.forged_packets() == {"10.20.0.13:6653": 5, "10.20.0.14:7": 1}
    firewall.install(parse_rules(RULES[: RULES.index("    mirrors")]), 1)
    assert firewall.forged_packets() == {}, "no program is run for rules that drop none"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_table_with_rules_for_nft_alone_is_unreadable_unless_it_has_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    def run(command: list[str], *arguments: object, **options: object) -> str:
        if command[0] == "nft":
            return "table ip raw {\n\tchain NATMIRROR-PRE {\n" if is_there else "table ip raw {\n\tchain PREROUTING {\n"
        return f"# Table `{command[2]}' is incompatible, use 'nft' tool.\n"

    monkeypatch.setattr(commands, "run", run)
    if is_there:
        with pytest.raises(HostError, match="to see them: nft list table ip raw"):
            Firewall("nft").differences("raw")
    else:
        assert Firewall("nft").left() == []


def test_a_removal_that_cannot_read_which_legacy_tables_there_are_names_all_chains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iptables, "_LEGACY_TABLES", tmp_path / "missing")
    assert Firewall("legacy").remove() == []
    monkeypatch.setattr(iptables, "_LEGACY_TABLES", tmp_path)
    with pytest.raises(HostError, match=r"cannot read .*: Is a directory; these chains stay: NATMIRROR-PRE, .*GUARD$"):
        Firewall("legacy").remove()


def test_a_user_who_may_not_read_the_names_of_legacy_tables_learns_how_to_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(HostError, match=r"run as root: chgrp \d+ /proc/net/ip_tables_names$"):
        Firewall("legacy").left()
