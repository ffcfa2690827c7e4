"""The main job with plain TCP: every connection is served, the master gets every byte, and its answers reach no
client."""

import pytest

from tests.helpers.declared import assert_answers_are_declared
from tests.live.scene import MASTER, RULES, SOON_FORGOTTEN, Scene, assert_all_well, tcp_packets

pytestmark = pytest.mark.live


def test_two_hundred_connections_and_an_upload_arrive_whole_at_backend_and_master(scene: Scene, iptables: str) -> None:
    scene.record("c1", "c2", "m")
    sniffer, capture = scene.sniff("s1", "eth0")
    # On a busy machine the master may fall behind the backend by more than the default of 16 MiB.
    text = RULES.read_text().replace("10.20.0.13}", "10.20.0.13, buffer: 128MiB}")
    balancer = scene.balance(scene.rules(SOON_FORGOTTEN + text), iptables=iptables)
    many, many_records = scene.client(connections=200, requests=10, vary=True, seed=1)
    upload, upload_records = scene.client(size=64 << 20, seed=2)
    scene.finish(many)
    scene.finish(upload)
    sent = assert_all_well(many_records, 200) | assert_all_well(upload_records, 1)
    assert sum(count for count, _ in sent.values()) > 64 << 20
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: _legs(status) == 0, "the legs to end")
    assert scene.at_backends() == sent
    assert scene.at_master() == sent
    balancer.wait_for_status(lambda status: status["flows"] == [], "the flows to be forgotten")
    [mirror] = balancer.status()["mirrors"]
    assert mirror["legs_ended"] == {"closed": 201}
    assert_answers_are_declared(balancer.api)
    sniffer.end()
    packets = tcp_packets(capture)
    assert len(packets) > 4000
    assert [packet for packet in packets if packet.src == MASTER] == []
    assert balancer.stop() == 0
    assert "mirrored" in balancer.program.text


def test_round_robin_spreads_and_a_refusing_backend_costs_one_attempt(scene: Scene) -> None:
    scene.record("c2", "m")  # c1 refuses
    rules = scene.rules(
        """
        switches: [10.10.0.0/24]
        services:
          - name: test
            address: 10.10.0.100
            port: 6653
            pool:
              balance: round-robin
              backends: [{name: c1, address: 10.20.0.11}, {name: c2, address: 10.20.0.12}]
            mirrors: [{name: master, address: 10.20.0.13}]
        """
    )
    balancer = scene.balance(rules)
    [first] = scene.run_client(requests=3, seed=1).lines()
    assert "ConnectionRefusedError" in first["error"]
    sent = assert_all_well(scene.run_client(requests=3, seed=2), 1)
    balancer.wait_for_status(lambda status: _legs(status) == 0, "the leg to end")
    assert scene.at_backends() == scene.at_master() == sent


def _legs(status: dict[str, list[dict[str, int]]]) -> int:
    return sum(mirror["legs"] for mirror in status["mirrors"])
