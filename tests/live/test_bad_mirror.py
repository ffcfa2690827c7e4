"""A master that dies, freezes, vanishes or shouts: production does not notice."""

import signal

import pytest

from natmirror.lab.process import Program
from tests.live.scene import MASTER, Scene, assert_all_well, tcp_packets

pytestmark = pytest.mark.live


@pytest.mark.parametrize("fault", ["killed", "frozen", "black-holed", "absent"])
def test_production_does_not_notice_a_bad_master(scene: Scene, iptables: str, fault: str) -> None:
    scene.record("c1", "c2")
    masters: dict[str, Program] = scene.record("m") if fault != "absent" else {}
    sniffer, capture = scene.sniff("s1", "eth0")
    balancer = scene.balance(iptables=iptables)
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=50, until=until, started=started, size=5000)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 50, "all connections")
    if fault == "killed":
        masters["m"].send_signal(signal.SIGKILL)
    elif fault == "frozen":
        masters["m"].send_signal(signal.SIGSTOP)
    elif fault == "black-holed":
        scene.lab.run("m", ["ip", "link", "set", "eth0", "down"])
    before = _client_bytes(balancer.status())
    balancer.wait_for_status(lambda status: _client_bytes(status) > before + 2_000_000, "traffic to go on", 30.0)
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, 50)
    if fault == "black-holed":
        scene.lab.run("m", ["ip", "link", "set", "eth0", "up"])
        scene.lab.run("m", ["ip", "route", "add", "default", "via", "10.20.0.1"])
    assert scene.at_backends() == sent
    sniffer.end()
    packets = tcp_packets(capture)
    assert [packet for packet in packets if packet.src == MASTER] == []
    assert [packet for packet in packets if packet.data.flags & 0x04] == [], "no RST for anybody"


def test_a_master_that_answers_ten_times_as_much_is_consumed(scene: Scene) -> None:
    scene.record("c1", "c2")
    scene.record("m", answers=10)
    balancer = scene.balance()
    sent = assert_all_well(scene.run_client(connections=20, requests=50, size=20), 20)
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: status["mirrors"][0]["ended"] == {"closed": 20}, "the legs to end")
    assert scene.at_master() == scene.at_backends() == sent
    assert balancer.status()["mirrors"][0]["consumed_bytes"] == 20 * 50 * 32 * 10


def _client_bytes(status: dict[str, list[dict[str, int]]]) -> int:
    return sum(flow["client_bytes"] for flow in status["flows"])
