"""Two hosts behind keepalived: the active one fails, and every connection continues through the other one."""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from natmirror.ha import exit_codes, keepalived_hooks
from natmirror.ha.member import PairMember
from natmirror.lab.pair_host import PairHost
from natmirror.lab.process import wait_for
from tests.helpers.declared import assert_answers_are_declared
from tests.live.pair import CONNECTIONS, EVENTS, RULES, SWITCHES, Pair, running

pytestmark = pytest.mark.live

UNPRIVILEGED = 65_534


@pytest.fixture
def pair() -> Iterator[Pair]:
    with running(RULES) as pair:
        yield pair


def test_the_active_host_dies(pair: Pair) -> None:
    lb2 = pair.members["lb2"]
    assert not lb2.has_addresses()
    assert "NATMIRROR-PRE" in pair.scene.lab.run("lb2", ["iptables-save", "-t", "raw"]), "its rules are in"
    queues = pair.scene.lab.run("lb2", ["cat", "/proc/net/netfilter/nfnetlink_queue"]).splitlines()
    assert len(queues) == len(lb2.balancer.status()["machine"]["queues"]), "its queues are bound"
    pair.move("killed, cables down", pair.members["lb1"].crash, to="lb2")
    master, traffic = pair.traffic.master, pair.traffic
    wait_for(
        lambda: all(master.ended_sessions(switch.datapath_id) == 1 for switch in traffic.switches),
        "the master to hear that the dead host's legs are over",
    )
    status = lb2.balancer.status()
    assert status["counters"]["flows_picked_up"] >= CONNECTIONS + SWITCHES
    for mirror in status["mirrors"]:
        assert mirror["client_bytes"] > 0, "it is known what the mirrors miss"
        assert set(mirror["lost_bytes"]) == {"picked-up"}, "and why"
    assert_answers_are_declared(lb2.balancer.api)
    pair.end()


def by_traffic(pair: Pair, host: str) -> dict[str, bool]:
    """Return the services that are silent at a host, and whether that makes it unfit."""
    findings = pair.members[host].balancer.status()["findings"]
    return {one["subject"]: one["makes_unfit"] for one in findings if one["code"] == "service-silent"}


def health(member: PairHost) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return keepalived_hooks.health(str(member.api))


def test_a_fault_moves_the_addresses_only_if_the_other_host_does_better(pair: Pair) -> None:
    lab, lb1, lb2 = pair.scene.lab, pair.members["lb1"], pair.members["lb2"]

    def forward(host: str, value: int) -> None:
        lab.run(host, ["sysctl", "-qw", f"net.ipv4.ip_forward={value}"])

    forward("lb2", 0)
    wait_for(lambda: health(lb2) == exit_codes.HOST_FAILS, "the standby to see that it could not take over")
    lab.run("lb1", ["iptables", "-t", "raw", "-F"])
    began_at = time.monotonic()
    pair.traffic.wait_until_all_go_on(began_at)
    assert health(lb1) == exit_codes.FIT
    forward("lb2", 1)
    wait_for(lambda: health(lb2) == exit_codes.FIT, "the standby to be fit again")
    lb2.wait_for_role("backup")
    assert lb1.has_addresses(), "no other host has done better"

    pair.move("no forwarding", lambda: forward("lb1", 0), to="lb2")
    served_since = lb2.balancer.status()["pair"]["since"]
    assert health(lb1) == exit_codes.HOST_FAILS
    forward("lb1", 1)
    lb1.wait_for_role("backup")
    shown = lb2.balancer.status()["pair"]
    assert (shown["role"], shown["since"]) == ("master", served_since), "a host that is fit again takes no role"
    pair.end()


@pytest.mark.soak
def test_backends_that_one_host_does_not_reach_move_the_addresses_and_dead_ones_only_once(pair: Pair) -> None:
    lab, lb1, lb2 = pair.scene.lab, pair.members["lb1"], pair.members["lb2"]
    wrong = [["10.20.0.11", "dev", "pl0"], ["10.20.0.12", "dev", "pl0"]]

    def lead_astray() -> None:
        for one in wrong:
            lab.run("lb1", ["ip", "neigh", "replace", *one, "lladdr", "02:00:00:00:de:ad", "nud", "permanent"])

    pair.move("wrong neighbours", lead_astray, to="lb2")
    for one in wrong:
        lab.run("lb1", ["ip", "neigh", "del", *one])
    lb1.wait_for_role("backup")

    for host in ("c1", "c2"):
        lab.run(host, ["iptables", "-I", "INPUT", "-p", "tcp", "-j", "DROP"])
    lb1.wait_for_role("master")
    lb2.wait_for_role("backup")
    wait_for(lambda: "lines" in by_traffic(pair, "lb1"), "the other host to see it")
    assert not any(by_traffic(pair, "lb1").values()), "it keeps the addresses: no other host would do better"
    assert lb1.has_addresses()


@pytest.mark.soak
@pytest.mark.parametrize("event", EVENTS)
def test_every_connection_moves_to_the_other_host_and_back(pair: Pair, event: str) -> None:
    go, come_back = EVENTS[event]
    lb1, lb2 = pair.members["lb1"], pair.members["lb2"]
    pair.move(event, lambda: go(lb1), to="lb2")
    served_since = lb2.balancer.status()["pair"]["since"]
    come_back(lb1)
    lb1.wait_for_role("backup")
    shown = lb2.balancer.status()["pair"]
    assert (shown["role"], shown["since"]) == ("master", served_since), "a host that comes back takes no role"
    pair.move(f"{event}, back again", lambda: go(lb2), to="lb1")
    sent = pair.end()
    if event.endswith("cable pulled"):
        pair.assert_ledgers_share(sent)


def as_unprivileged(words: list[str]) -> int:
    """Return the exit code of ``natmirror`` with these arguments, run by a user without rights."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(UNPRIVILEGED)
        os.setuid(UNPRIVILEGED)
        os._exit(keepalived_hooks.main(words[0], words[1:]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_user_without_access_to_the_api_may_ask_for_health() -> None:
    """keepalived's scripts do that if their user is not natmirror's."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as held:
        Path(directory).chmod(0o755)
        api = Path(directory) / "api.sock"
        member = PairMember(None, 1, lambda: [1])
        member.open(held, api, lambda do: None)
        member.readiness.not_ready, member.readiness.rules_are_in_place = None, True
        assert as_unprivileged(["health", "--api", str(api)]) == exit_codes.FIT
        assert as_unprivileged(["role", "--api", str(api), "master"]) == exit_codes.NOT_RUNNING
        assert keepalived_hooks.main("role", ["--api", str(api), "master"]) == 0
