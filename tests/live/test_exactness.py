"""The mirror gets every byte: under loss, in bulk, when it is slower than production, after a pause. If it cannot, the
loss is bounded, counted and reported."""

import signal
from pathlib import Path

import dpkt
import pytest

from natmirror.net.packet import SYN
from natmirror.net.seq import diff
from tests.live.scene import PORT, RULES, Scene, assert_all_well, rules, tcp_packets, wait_for_ends

pytestmark = pytest.mark.live

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize("percent", [1, 3, 10])
def test_under_loss_two_hundred_of_two_hundred_streams_are_identical(scene: Scene, percent: float) -> None:
    scene.record("c1", "c2", "m")
    scene.lose("m", percent)
    for backend in ("c1", "c2"):
        scene.lose(backend, 1)
    balancer = scene.balance(rules(scene, linger="20s"))
    sent = assert_all_well(scene.run_client(connections=200, requests=50, size=500, vary=True), 200)
    assert wait_for_ends(balancer, 200) == {"closed": 200}
    assert scene.at_backends() == scene.at_master() == sent
    [mirror] = balancer.status()["mirrors"]
    assert mirror["retransmits"] > 200 * 50 * percent / 100 / 2
    assert mirror["lost_bytes"] == {}


def test_uploads_through_a_lossy_path_arrive_whole(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    scene.lose("m", 1)
    balancer = scene.balance(rules(scene, buffer="256MiB", linger="20s"))
    sent = assert_all_well(scene.run_client(connections=2, requests=4, size=2 * MIB), 2)
    assert wait_for_ends(balancer, 2) == {"closed": 2}
    assert scene.at_backends() == scene.at_master() == sent


def test_a_slower_master_that_throttles_gets_everything(scene: Scene) -> None:
    scene.record("c1", "c2")
    scene.record("m", rate=2 * MIB)
    sniffer, capture = scene.sniff("s1", "eth0")
    balancer = scene.balance(rules(scene, when_behind="throttle", buffer="256KiB"))
    sent = assert_all_well(scene.run_client(connections=4, requests=2, size=2 * MIB), 4)
    assert wait_for_ends(balancer, 4) == {"closed": 4}
    assert scene.at_backends() == scene.at_master() == sent
    assert balancer.status()["mirrors"][0]["lost_bytes"] == {}
    sniffer.end()
    edges = right_edges(capture)
    assert len(edges) == 4
    for port, shown in edges.items():
        assert shown == sorted(shown), f"the window of port {port} was never taken back"


def right_edges(capture: Path) -> dict[int, list[int]]:
    """Return the right edges of the receive window offered to each client port, relative to the first number, in
    order."""
    scales: dict[int, int] = {}
    firsts: dict[int, int] = {}
    edges: dict[int, list[int]] = {}
    for ip in tcp_packets(capture):
        tcp = ip.data
        if tcp.sport != PORT:
            continue
        if tcp.flags & SYN:
            options = dict(dpkt.tcp.parse_opts(tcp.opts))
            scales[tcp.dport], firsts[tcp.dport] = options[3][0], tcp.ack
        else:
            edge = diff(tcp.ack, firsts[tcp.dport]) + (tcp.win << scales[tcp.dport])
            edges.setdefault(tcp.dport, []).append(edge)
    return edges


def test_a_slower_master_that_does_not_throttle_loses_its_leg_and_no_client_waits(scene: Scene) -> None:
    scene.record("c1", "c2")
    scene.record("m", rate=256 * KIB)
    balancer = scene.balance(rules(scene, buffer="256KiB"))
    sent = assert_all_well(scene.run_client(connections=2, requests=4, size=2 * MIB), 2)
    assert scene.at_backends() == sent
    assert wait_for_ends(balancer, 2) == {"buffer-full": 2}
    balancer.wait_for_status(lambda status: status["flows"] == [], "the flows to be forgotten")
    status = balancer.status()
    [mirror] = status["mirrors"]
    assert mirror["lost_bytes"] == {"buffer-full": mirror["client_bytes"] - mirror["acked_bytes"]}
    assert status["mirror_memory"]["used_bytes"] == 0


def test_a_master_frozen_for_five_seconds_gets_every_byte(scene: Scene) -> None:
    scene.record("c1", "c2")
    master = scene.record("m")["m"]
    balancer = scene.balance()
    until = scene.file("until")
    client, records = scene.client(connections=20, until=until, size=2500)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 20, "all connections")
    master.send_signal(signal.SIGSTOP)
    try:
        balancer.wait_for_status(lambda status: status["mirrors"][0]["lag_seconds"] > 5, "five seconds' lag", 60.0)
    finally:
        master.send_signal(signal.SIGCONT)
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, 20)
    assert wait_for_ends(balancer, 20) == {"closed": 20}
    assert scene.at_backends() == scene.at_master() == sent


def test_a_master_that_stays_frozen_is_dropped_and_its_memory_is_freed(scene: Scene) -> None:
    scene.record("c1", "c2")
    master = scene.record("m")["m"]
    balancer = scene.balance(rules(scene, stall_timeout="2s"))
    until = scene.file("until")
    client, records = scene.client(connections=20, until=until, size=2500)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 20, "all connections")
    master.send_signal(signal.SIGSTOP)
    balancer.wait_for_status(lambda status: status["mirror_memory"]["used_bytes"] > 100 * KIB, "a backlog", 60.0)
    assert wait_for_ends(balancer, 20) == {"stalled": 20}
    assert {leg["reason"] for leg in balancer.ended()} == {"stalled"}
    status = balancer.status()
    assert (status["mirror_memory"]["used_bytes"], len(status["flows"])) == (0, 20)
    until.touch()
    scene.finish(client)
    assert scene.at_backends() == assert_all_well(records, 20)


def test_when_all_legs_together_buffer_too_much_one_is_dropped_and_production_goes_on(scene: Scene) -> None:
    scene.record("c1", "c2")
    scene.record("m", rate=64 * KIB)
    text = RULES.read_text().replace("services:", "mirror-memory: 1MiB\nservices:", 1)
    balancer = scene.balance(scene.rules(text))
    sent = assert_all_well(scene.run_client(connections=8, requests=2, size=2 * MIB), 8)
    assert scene.at_backends() == sent
    balancer.wait_for_status(
        lambda status: status["mirrors"][0]["legs_ended"].get("memory-full", 0) > 0, "a dropped leg"
    )
    memory = balancer.status()["mirror_memory"]
    assert memory["used_bytes"] <= memory["limit_bytes"] == MIB


def test_a_master_with_another_route_back_gets_legs_from_the_hosts_address(scene: Scene, iptables: str) -> None:
    scene.record("c1", "c2", "m")
    scene.lab.run("m", ["ip", "route", "del", "default"])
    try:
        balancer = scene.balance(rules(scene, source="10.20.0.1"), iptables=iptables)
        sent = assert_all_well(scene.run_client(connections=50, requests=10, vary=True), 50)
        assert wait_for_ends(balancer, 50) == {"closed": 50}
    finally:
        scene.lab.run("m", ["ip", "route", "add", "default", "via", "10.20.0.1"])
    lines = scene.recorders["m"].lines()
    assert {line["address"] for line in lines} == {"10.20.0.1"}
    assert sorted(line["sha256"] for line in lines) == sorted(digest for _, digest in sent.values())
    assert scene.at_backends() == sent


def test_only_some_clients_are_mirrored_and_the_others_are_counted(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(rules(scene, only="[10.10.0.12/32]"))
    sent = assert_all_well(scene.run_client(connections=5, requests=2), 5)
    balancer.wait_for_status(lambda status: status["flows"] == [], "the flows to be forgotten")
    [mirror] = balancer.status()["mirrors"]
    assert mirror["lost_bytes"] == {"not-selected": sum(count for count, _ in sent.values())}
    assert scene.at_master() == {}
