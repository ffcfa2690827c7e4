"""Our rules in real tables of both backends: installed atomically, replaced, removed completely."""

import sys
from collections.abc import Iterator

import pytest
from pyroute2 import netns

from natmirror.errors import HostError
from natmirror.lab.process import run
from natmirror.lab.topology import Lab
from natmirror.linux import iptables as module
from natmirror.linux import iptables_rules
from natmirror.linux.iptables import Firewall, cleanup
from natmirror.linux.iptables_rules import CHAINS, FORWARD, GUARD, PRE, TABLES, Chain
from natmirror.rules import parse_rules
from tests.helpers.support import RULES as TEXT
from tests.live.scene import RULES, Scene

pytestmark = pytest.mark.live

OTHERS = "*filter\n-A INPUT -s 192.0.2.1 -j DROP\n-A FORWARD -j ACCEPT\nCOMMIT\n"


@pytest.fixture
def inside(lab: Lab) -> Iterator[str]:
    """Move this process into a new namespace."""
    before = open("/proc/self/ns/net", "rb")  # noqa: SIM115 - held open over the test
    host = f"x{len(lab._namespaces)}"
    namespace = lab.add_host(host)
    netns.setns(namespace)
    yield namespace
    netns.setns(before.fileno())
    before.close()


def saved(backend: str) -> list[str]:
    """Return all rules, without counters and times."""
    return [line for line in module._run([f"iptables-{backend}-save"]).splitlines() if not line.startswith("#")]


def test_a_second_installation_changes_nothing_and_removal_leaves_what_was_there(inside: str, iptables: str) -> None:
    firewall = Firewall(iptables)
    module._run([f"iptables-{iptables}-restore", "-w", "9", "--noflush"], OTHERS)
    firewall.install(parse_rules(TEXT), 2)
    firewall.remove()
    before = saved(iptables)
    firewall.install(parse_rules(TEXT), 2)
    once = saved(iptables)
    assert not any(firewall.differences(table) for table in TABLES)
    firewall.install(parse_rules(TEXT), 2)
    assert saved(iptables) == once
    for chain in CHAINS:
        assert once.count(f"-A {chain.jump}") == 1
    in_input = [line for line in once if line.startswith("-A INPUT ")]
    assert in_input == [f"-A {GUARD.jump}", "-A INPUT -s 192.0.2.1/32 -j DROP"], "ours at the top"
    assert sorted(firewall.remove()) == sorted(chain.name for chain in CHAINS)
    assert saved(iptables) == before
    assert firewall.remove() == []
    assert all(firewall.differences(table) for table in TABLES)


LIMITED = ["10.10.0.100/32", "10.20.0.11/32", "10.20.0.12/32"]
"""The service and, as it has a mirror, its backends."""


def limited(backend: str, limit: int) -> list[str]:
    """Return the destinations to which the rules limit each client's packets."""
    lines = [line for line in saved(backend) if f"--hashlimit-above {limit}/sec" in line]
    return [line.split(" -d ")[1].split()[0] for line in lines]


def test_a_limit_per_client_is_installed_changed_and_removed(inside: str, iptables: str) -> None:
    firewall = Firewall(iptables)
    assert firewall.can_limit(5000)
    firewall.install(parse_rules(f"limit-per-client: 5000\n{TEXT}"), 1)
    assert limited(iptables, 5000) == LIMITED
    firewall.extend(parse_rules(f"limit-per-client: 700\n{TEXT}"), 1)
    assert (limited(iptables, 5000), limited(iptables, 700)) == ([], LIMITED)
    firewall.reduce(parse_rules(TEXT), 1)
    assert "hashlimit" not in str(saved(iptables))
    firewall.remove()


def test_leftovers_with_other_rules_and_doubled_jumps_are_replaced(inside: str, iptables: str) -> None:
    firewall = Firewall(iptables)
    firewall.install(parse_rules(TEXT), 2)
    fresh = saved(iptables)
    program = f"iptables-{iptables}"
    module._run([program, "-w", "-t", "raw", "-A", "NATMIRROR-PRE", "-s", "192.0.2.9", "-j", "DROP"])
    module._run([program, "-w", "-t", "raw", "-A", "PREROUTING", *PRE.jump.split()[1:]])
    module._run([program, "-w", "-t", "raw", "-A", "PREROUTING", "-j", "NATMIRROR-PRE"])  # an older version's
    module._run([program, "-w", "-t", "mangle", "-D", *FORWARD.jump.split()])
    assert [bool(firewall.differences(table)) for table in TABLES] == [False, True, True]
    firewall.install(parse_rules(TEXT), 2)
    assert saved(iptables) == fresh
    firewall.remove()


def test_when_one_table_fails_none_is_changed(inside: str, iptables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    firewall = Firewall(iptables)
    real = iptables_rules._service
    for earlier in (False, True):
        if earlier:
            firewall.install(parse_rules(TEXT), 2)
        before = [line for line in saved(iptables) if "NATMIRROR" in line]

        def broken(chains: dict[Chain, list[str]], *rest: object) -> None:
            real(chains, *rest)  # type: ignore[arg-type]
            chains[PRE].append("-j NO-SUCH-TARGET")

        monkeypatch.setattr(iptables_rules, "_service", broken)
        with pytest.raises(HostError, match="restore"):
            firewall.install(parse_rules(TEXT), 2)
        monkeypatch.undo()
        assert [line for line in saved(iptables) if "NATMIRROR" in line] == before
    firewall.remove()


def test_cleanup_removes_both_backends_rules(inside: str) -> None:
    for backend in ("nft", "legacy"):
        Firewall(backend).install(parse_rules(TEXT), 2)
    assert len(cleanup()) == 2 * len(CHAINS)
    assert [line for backend in ("nft", "legacy") for line in saved(backend) if "NATMIRROR" in line] == []
    assert cleanup() == []


def test_cleanup_creates_no_table(inside: str) -> None:
    assert cleanup() == []
    assert run(inside, ["cat", "/proc/net/ip_tables_names"]) == ""


def test_the_cleanup_command_removes_what_a_killed_run_has_left(scene: Scene, iptables: str) -> None:
    balancer = scene.balance(RULES, iptables=iptables)
    balancer.kill()
    said = scene.lab.run("lb", [sys.executable, "-m", "natmirror", "cleanup"])
    assert "nft: table ip natmirror" in said
    assert f"{iptables}: NATMIRROR-GUARD" in said.splitlines()[-1], "the guard goes last"
    traces = scene.traces()
    assert (traces["rules"], traces["table"]) == ([], False)
    assert "nothing" in scene.lab.run("lb", [sys.executable, "-m", "natmirror", "cleanup"])


def test_fragments_reach_the_queue_whole(scene: Scene, iptables: str) -> None:
    """A request arrives in IP fragments. Only a reassembled packet has ports for NAT; no connection is tracked for
    that."""
    scene.record("c1", "c2", "m")
    balancer = scene.balance(RULES, iptables=iptables)
    scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.fragments"], cwd=str(RULES.parent.parent))
    balancer.wait_for_status(
        lambda status: status["counters"].get("flows_opened", 0) >= 1, "the reassembled SYN to be seen"
    )
    count = "/proc/sys/net/netfilter/nf_conntrack_count"
    assert scene.lab.run("lb", ["sh", "-c", f"! test -e {count} || cat {count}"]).strip() in ("", "0")
