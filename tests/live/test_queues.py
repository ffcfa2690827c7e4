"""Several threads: each has its own clients, and together they behave as one thread does."""

import socket
import sys

import pytest

from natmirror.lab.process import wait_for
from tests.live.scene import CLIENTS, ROOT, RULES, Scene, assert_all_well, ip_packets, rules, wait_for_ends

pytestmark = pytest.mark.live

COUNTS = [1, 2, 4]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("source", ["client", "10.20.0.1"])
def test_each_thread_has_its_clients_and_the_master_gets_every_byte(scene: Scene, count: int, source: str) -> None:
    scene.record("c1", "c2", "m")
    scene.lose("m", 1)
    balancer = scene.balance(scene.with_threads(rules(scene, source=source), count))
    sent = assert_all_well(scene.run_client(connections=80, requests=20, size=3000, vary=True), 80)
    assert wait_for_ends(balancer, 80) == {"closed": 80}
    status = balancer.status()
    assert sorted(got for got in scene.at_master().values()) == sorted(sent.values())
    assert scene.at_backends() == sent
    queues = status["machine"]["queues"]
    assert sorted(queues) == [str(6653 + 2 * number) for number in range(count)]
    for counters in queues.values():
        assert counters["packets_received"] > 80 / count * 20 * 3
    assert status["counters"]["flows_opened"] == 80
    assert sum(backend["connections"] for backend in status["backends"]) == 80
    assert balancer.stop() == 0


@pytest.mark.parametrize("count", COUNTS)
def test_a_routers_icmp_error_reaches_the_thread_that_sent_the_packet(scene: Scene, count: int) -> None:
    scene.record("c1", "c2")
    sniffers = [scene.sniff(host, "eth0") for host in ("c1", "c2")]
    balancer = scene.balance(scene.with_threads(RULES, count))
    until = scene.file("until")
    client, records = scene.client(connections=8, until=until)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 8, "all connections")
    ends = [flow["client"] for flow in balancer.status()["flows"]]
    assert {end.split(":")[0] for end in ends} == set(CLIENTS)
    scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.router", *ends], cwd=str(ROOT))
    balancer.wait_for_status(
        lambda status: status["counters"].get("icmp_errors_translated") == 8, "the errors to be translated"
    )
    until.touch()
    scene.finish(client)
    assert_all_well(records, 8)
    errors = []
    for sniffer, capture in sniffers:
        sniffer.end()
        errors += [ip for ip in ip_packets(capture) if ip.p == socket.IPPROTO_ICMP]
    inner = [ip.data.data.data for ip in errors]  # behind it eight bytes: the ports come first
    about = {f"{socket.inet_ntoa(ip.dst)}:{int.from_bytes(bytes(ip.data)[2:4], 'big')}" for ip in inner}
    assert about == set(ends)


def test_a_flood_of_syns_costs_no_connection_and_opens_no_leg(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(scene.rules(f"max-flows: 1024\n{RULES.read_text()}"))
    until = scene.file("until")
    client, records = scene.client(connections=20, until=until)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 20, "all connections")

    def have_evicted() -> bool:
        """Send a flood. Without a core for a while, natmirror gets a part of it: the queue is full."""
        scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.flood", "20000"], cwd=str(ROOT))
        return bool(balancer.status()["counters"].get("flows_evicted", 0) > 10_000)

    wait_for(have_evicted, "evictions")
    flooded = balancer.status()
    assert len(flooded["flows"]) <= 20 + 2 * 257
    assert sum(flow["state"] == "established" for flow in flooded["flows"]) == 20
    assert flooded["mirrors"][0]["legs_opened"] == 20
    assert flooded["counters"].get("direct_connections", 0) < 1000, "late answers to what had to go take no room"
    before = sum(flow["client_bytes"] for flow in flooded["flows"])
    balancer.wait_for_status(
        lambda status: sum(flow["client_bytes"] for flow in status["flows"]) > before + 20_000, "traffic to go on"
    )
    assert_all_well(scene.run_client(connections=20, requests=5), 20)
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, 20)
    wait_for_ends(balancer, 40)
    assert sent.items() <= scene.at_master().items()
    assert balancer.status()["counters"].get("flows_untracked", 0) == 0
