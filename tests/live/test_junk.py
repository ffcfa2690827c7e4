"""Junk from one client: C decides it, and the connections of others go on."""

import signal
import sys

import pytest

from bench.junk_peers import KINDS
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from tests.live.scene import CLIENTS, ROOT, RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

JUNK = "10.10.0.66"
COUNT = 20_000
IN_QUEUE = 7000
"""Packets that a queue has room for, beside those of others."""


def send_junk(scene: Scene, kind: str, count: int) -> None:
    scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.junk", JUNK, kind, str(count)], cwd=str(ROOT))


def test_a_clients_junk_takes_no_others_turn(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(scene.with_threads(RULES, 1))
    until = scene.file("until")
    client, records = scene.client(connections=10, until=until)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 10, "all connections")
    balancer.program.send_signal(signal.SIGSTOP)  # so that the errors come at once, however slow this machine is
    send_junk(scene, "icmp", IN_QUEUE)
    balancer.program.send_signal(signal.SIGCONT)
    balancer.wait_for_status(lambda status: status["packets_over_limit"] != {}, "junk to be over the limit")
    send_junk(scene, "ack", COUNT)
    balancer.wait_for_status(
        lambda status: status["counters"]["packets_without_flow"] > 500, "ACKs of no connection, which C decides"
    )
    status = balancer.status()
    assert status["packets_decided_in_python"].get("no-flow", 0) == 0
    assert set(status["packets_over_limit"]) == {"not-tcp"}
    assert status["drops"]["over-limit"] > 0
    before = sum(flow["client_bytes"] for flow in status["flows"])
    balancer.wait_for_status(
        lambda status: sum(flow["client_bytes"] for flow in status["flows"]) > before + 10_000, "traffic to go on"
    )
    wait_for(lambda: f"{JUNK} takes more than its share" in balancer.program.text, "the warning that names the client")
    until.touch()
    scene.finish(client)
    assert_all_well(records, 10)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "retransmissions"])  # its server has to answer
def test_no_connection_is_lost_to_junk(scene: Scene, kind: str) -> None:
    scene.record("c1", "c2", "m")
    scene.balance(scene.with_threads(RULES, 1))
    junk = scene.start("s1", sys.executable, "-m", "bench.junk_peers", "send", kind, "1000", "0", name="junk")
    junk.wait_for_text("\n")
    records = scene.run_client(sources=",".join(CLIENTS[1:]), connections=10, requests=10)
    junk.end()
    assert_all_well(records, 10)


def received(balancer: LoadBalancer) -> int:
    """Return the number of packets that natmirror has got from its queues."""
    return sum(int(queue["packets_received"]) for queue in balancer.status()["machine"]["queues"].values())


def test_a_limit_per_client_keeps_junk_out_of_the_queue(scene: Scene, iptables: str) -> None:
    scene.record("c1", "c2", "m")
    limited = scene.rules(f"limit-per-client: 500\n{RULES.read_text()}")
    balancer = scene.balance(scene.with_threads(limited, 1), iptables=iptables)
    send_junk(scene, "ack", COUNT)
    wait_for(lambda: received(balancer) >= 100, "some of the junk to come")
    assert received(balancer) < COUNT
    assert_all_well(scene.run_client(connections=10, requests=5), 10)
