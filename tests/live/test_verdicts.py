"""Verdicts that the kernel refuses or never gets, and queues that are no longer ours: production goes on."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from natmirror.api.client import ask
from natmirror.ha import keepalived_hooks
from natmirror.ha.exit_codes import FIT, STUCK
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for, wait_listen
from tests.live.haproxy import HAPROXY, WATCHED_RULES
from tests.live.scene import PORT, ROOT, RULES, Records, Scene, assert_all_well

pytestmark = pytest.mark.live

SHIM = ROOT / "tests" / "live" / "apps" / "netlink_shim.c"
FLOOD = 20_000
LONGEST_PAUSE = 0.02  # seconds between two attempts to send a verdict
SHORT_PAUSES = 10
"""The first pauses are shorter."""


def queues_of(balancer: LoadBalancer) -> list[dict[str, int]]:
    """Return the counters of each queue."""
    return list(ask("status", balancer.api)["machine"]["queues"].values())


def sum_of(balancer: LoadBalancer, name: str) -> int:
    """Return the sum of a counter over all queues."""
    return sum(int(queue[name]) for queue in queues_of(balancer))


class Faulty:
    """natmirror under traffic, and the files that make the test library fail its queues."""

    def __init__(self, scene: Scene, rules: Path = RULES, connections: int = 20) -> None:
        self.scene = scene
        self.connections = connections
        self.switches = scene.file("shim")
        self.switches.mkdir()
        library = self.switches / "shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True)
        env = {**os.environ, "LD_PRELOAD": str(library), "NETLINK_SHIM": str(self.switches)}
        self.balancer: LoadBalancer = scene.balance(rules, env=env)
        self.until = scene.file("until")
        self.client: Program
        self.records: Records
        self.client, self.records = scene.client(connections=connections, until=self.until)
        self.balancer.wait_for_status(lambda status: len(status["flows"]) == connections, "all connections")

    def switch(self, name: str, *, on: bool) -> None:
        path = self.switches / name
        if on:
            path.touch()
        else:
            path.unlink()

    def flood(self) -> None:
        """More SYNs than a queue holds."""
        self.scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.flood", str(FLOOD)], cwd=str(ROOT))

    def held(self) -> int:
        """Return the number of packets that the kernel holds for natmirror."""
        lines = self.scene.lab.run("lb", ["cat", "/proc/net/netfilter/nfnetlink_queue"]).splitlines()
        return sum(int(line.split()[2]) for line in lines)

    def health(self) -> tuple[int, str]:
        """Ask in this process: before a program has started, the answer may be another one."""
        with redirect_stdout(io.StringIO()) as said:
            code = keepalived_hooks.health(str(self.balancer.api))
        return code, said.getvalue()

    def counted(self, name: str) -> int:
        return sum_of(self.balancer, name)

    def has_health(self, code: int, why: str = "") -> bool:
        """Return whether health has this exit code, and names this reason."""
        found, said = self.health()
        return found == code and why in said

    def wait_for_health(self, code: int, why: str = "") -> None:
        wait_for(lambda: self.has_health(code, why), f"health to be {code} {why}")

    def lose_verdicts(self) -> bool:
        """Have the kernel not get some verdicts; return whether health says so, as it does for the second until the
        next check."""
        checks = self.counted("checks_with_lost_verdicts")
        self.switch("swallow", on=True)
        wait_for(lambda: self.held() >= self.connections, "verdicts to be lost")
        self.switch("swallow", on=False)
        is_said = False

        def is_over() -> bool:
            nonlocal is_said
            is_said = self.has_health(STUCK, "did not get the verdicts")
            return is_said or self.counted("checks_with_lost_verdicts") > checks

        wait_for(is_over, "a check that finds it")
        return is_said

    def assert_goes_on(self) -> None:
        """Assert that new connections work, old ones went on, and the kernel holds no packet."""
        assert_all_well(self.scene.run_client(connections=20, requests=5), 20)
        self.until.touch()
        self.scene.finish(self.client)
        assert_all_well(self.records, self.connections)
        wait_for(lambda: self.held() == 0, "the kernel's queues to be empty")
        self.wait_for_health(FIT)


@pytest.fixture
def faulty(scene: Scene) -> Iterator[Faulty]:
    scene.record("c1", "c2", "m")
    faulty = Faulty(scene)
    yield faulty
    for name in ("refuse", "swallow", "unbind-6653", "deaf"):
        (faulty.switches / name).unlink(missing_ok=True)


def test_verdicts_that_the_kernel_refuses_for_two_seconds_leave_then(faulty: Faulty) -> None:
    faulty.switch("refuse", on=True)
    faulty.flood()
    time.sleep(2)
    assert faulty.held() > 1000
    faulty.switch("refuse", on=False)
    faulty.assert_goes_on()
    assert faulty.counted("verdict_sends_refused") > 0
    for name in ("verdicts_not_sent", "rebinds", "checks_with_lost_verdicts"):
        assert faulty.counted(name) == 0, name


def test_health_reports_refusals_that_last(faulty: Faulty) -> None:
    began_at = time.monotonic()
    faulty.switch("refuse", on=True)
    faulty.wait_for_health(STUCK, "refused verdicts")
    attempts = [int(one["verdict_sends_refused"]) for one in queues_of(faulty.balancer)]
    pauses = (time.monotonic() - began_at) / LONGEST_PAUSE
    faulty.switch("refuse", on=False)
    assert max(attempts) < pauses + SHORT_PAUSES, "it pauses between its attempts"
    faulty.wait_for_health(FIT)
    faulty.assert_goes_on()
    assert (faulty.counted("verdicts_not_sent"), faulty.counted("rebinds")) == (0, 0)


def test_packets_whose_verdicts_were_lost_are_found_and_released(faulty: Faulty) -> None:
    wait_for(faulty.lose_verdicts, "health to say so")  # again where this test had no core in that second
    faulty.assert_goes_on()
    assert faulty.counted("checks_with_lost_verdicts") > 0
    assert faulty.counted("rebinds") == 0


def test_a_queue_whose_kernel_does_not_answer_is_bound_again(faulty: Faulty) -> None:
    faulty.switch("swallow", on=True)
    faulty.flood()
    faulty.wait_for_health(STUCK, "has not answered")
    wait_for(lambda: faulty.counted("rebinds") > 0, "the queue to be bound again")
    faulty.switch("swallow", on=False)
    faulty.assert_goes_on()


def test_a_queue_that_was_unbound_is_bound_again(faulty: Faulty) -> None:
    faulty.switch("unbind-6653", on=True)
    wait_for(lambda: faulty.counted("rebinds") > 0, "the queue to be bound again")
    faulty.assert_goes_on()


def test_a_queue_that_cannot_be_read_is_bound_again_when_it_can(faulty: Faulty) -> None:
    faulty.switch("deaf", on=True)
    faulty.wait_for_health(STUCK)
    faulty.switch("deaf", on=False)
    wait_for(lambda: faulty.counted("rebinds") > 0, "the queue to be bound again")
    faulty.assert_goes_on()


def test_no_load_makes_a_queue_that_works_look_broken(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    until = scene.file("until")
    balancer = scene.balance(scene.with_threads(RULES, 2))
    client, records = scene.client(connections=20, until=until, size=200_000, pause=0)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 20, "all connections")
    flood = [scene.app("s1", "flood", 10 * FLOOD) for _ in range(2)]
    wait_for(lambda: not any(one.running() for one in flood), "the floods to end", 60.0)
    for seconds in (0.5, 2.5):
        balancer.program.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        balancer.program.send_signal(signal.SIGCONT)
    time.sleep(4)  # for several checks of the queues
    for name in ("checks_with_lost_verdicts", "rebinds", "verdicts_not_sent", "verdicts_late"):
        assert sum_of(balancer, name) == 0, name
    until.touch()
    scene.finish(client, 90.0)
    assert len(records.lines()) == 20


def test_packets_of_a_watched_queue_that_is_bound_again_pass_while_natmirror_is_frozen(scene: Scene) -> None:
    scene.record("c1", "m")
    config = scene.file("haproxy.cfg")
    config.write_text(HAPROXY)
    scene.start("lb", "haproxy", "-db", "-f", str(config), name="haproxy")
    wait_listen(scene.lab.ns("lb"), PORT)
    faulty = Faulty(scene, scene.rules("threads: 1\n" + WATCHED_RULES), connections=1)
    faulty.switch(f"unbind-{PORT + 1}", on=True)
    wait_for(lambda: faulty.counted("rebinds") == 1, "the queue to be bound again")
    faulty.wait_for_health(FIT)
    faulty.switch("refuse", on=True)
    faulty.balancer.program.send_signal(signal.SIGSTOP)
    client, records = scene.client(connections=20, requests=5)
    wait_for(lambda: faulty.held() >= 20, "packets to wait for the process that passes them")
    faulty.switch("refuse", on=False)
    scene.finish(client)
    assert_all_well(records, 20)
    faulty.balancer.program.send_signal(signal.SIGCONT)
    faulty.assert_goes_on()
    assert faulty.counted("checks_with_lost_verdicts") == 0
