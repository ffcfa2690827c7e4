"""Faults and odd packets that must not stop natmirror, nor cost other connections anything."""

import sys

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from tests.live.scene import MASTER, ROOT, RULES, Scene, assert_all_well, tcp_packets

pytestmark = pytest.mark.live


def test_a_second_natmirror_gives_up_and_leaves_the_first_ones_rules_alone(scene: Scene) -> None:
    first = scene.balance()
    scene.record("c1", "c2", "m")
    rules = scene.traces()["rules"]
    second = scene.start("lb", sys.executable, "-m", "natmirror", "--rules", str(RULES))
    wait_for(lambda: not second.running(), "the second to give up")
    assert second.popen.returncode == 1
    where = f"in this network namespace, pid {first.program.pid} ({sys.executable} -m natmirror --rules {RULES}"
    assert second.text.splitlines()[-1].startswith(f"natmirror: natmirror is already running {where}")
    assert "Traceback" not in second.text
    assert scene.traces()["rules"] == rules
    assert_all_well(scene.run_client(requests=3), 1)
    assert first.program.running()


def test_a_narrow_link_to_the_mirror_makes_narrow_segments(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    scene.lab.run("lb", ["ip", "route", "add", "10.20.0.13/32", "dev", "pl0", "mtu", "900"])
    scene.lab.run("lb", ["ip", "link", "set", "pl0", "gso_max_size", "900"])  # capture what the wire carries
    sniffer, capture = scene.sniff("m", "eth0")
    balancer = scene.balance()
    sent = assert_all_well(scene.run_client(connections=5, requests=20, size=20_000), 5)
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs_ended"] == {"closed": 5}, "the legs to end")
    assert scene.at_master() == scene.at_backends() == sent
    sniffer.end()
    assert 800 < max(ip.len for ip in tcp_packets(capture) if ip.dst == MASTER) <= 900
    scene.lab.run("lb", ["ip", "link", "set", "pl0", "gso_max_size", "65536"])
    scene.lab.run("lb", ["ip", "route", "del", "10.20.0.13/32"])


def test_the_client_learns_of_a_narrow_link_to_the_backend_with_the_services_address(scene: Scene) -> None:
    """Our kernel's fragmentation-needed error names the backend, which the client does not know."""
    scene.record("c1", "m")
    scene.lab.run("lb", ["ip", "route", "add", "10.20.0.11/32", "dev", "pl0", "mtu", "900"])
    balancer = scene.balance(scene.rules(RULES.read_text().replace("- {name: c2, address: 10.20.0.12}", "")))
    sent = assert_all_well(scene.run_client(connections=5, requests=5, size=50_000), 5)
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs_ended"] == {"closed": 5}, "the legs to end")
    assert scene.at_backends() == scene.at_master() == sent
    assert balancer.status()["counters"]["icmp_errors_translated"] > 0
    scene.lab.run("lb", ["ip", "route", "del", "10.20.0.11/32"])
    scene.lab.run("s1", ["ip", "route", "flush", "cache"])


def test_strange_packets_are_counted_and_harm_no_connection(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance()
    scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.strange"], cwd=str(ROOT))
    sent = assert_all_well(scene.run_client(connections=20, requests=5), 20)
    balancer.wait_for_status(
        lambda status: status["mirrors"][0]["legs_ended"].get("closed", 0) == 20, "the legs to end"
    )
    assert sent.items() <= scene.at_master().items()
    assert balancer.status()["machine"]["internal_errors"] == 0


def test_a_flood_that_fills_the_queue_is_counted_and_passes(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(scene.with_threads(RULES, 2))
    balancer.program.send_signal(19)  # SIGSTOP: no thread reads the queue
    scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.flood", "20000"], cwd=str(ROOT))
    balancer.program.send_signal(18)  # SIGCONT

    def lost(balancer: LoadBalancer) -> int:
        queues = balancer.status()["machine"]["queues"].values()
        return sum(queue["packets_dropped_queue_full"] + queue["packets_dropped_buffer_full"] for queue in queues)

    wait_for(lambda: lost(balancer) > 1000, "the kernel's losses to be told")
    assert_all_well(scene.run_client(connections=20, requests=5), 20)
    assert balancer.program.running()
