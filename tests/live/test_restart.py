"""Connections that survive a restart of natmirror."""

import sys

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from tests.live.scene import RULES, Scene, assert_all_well

pytestmark = pytest.mark.live

CONNECTIONS = 20


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_connections_go_on_through_a_restart_and_later_ones_are_mirrored(scene: Scene, iptables: str, end: str) -> None:
    """The new run has another number of threads."""
    scene.record("c1", "c2", "m")
    balancer = scene.balance(on_stop="keep", iptables=iptables)
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=CONNECTIONS, until=until, started=started, size=200)
    balancer.wait_for_status(lambda status: _mirrored(status) == CONNECTIONS, "all connections to be mirrored")
    if end == "kill":
        balancer.kill()
    else:
        assert balancer.stop() == 0
        assert "20 connections to services with a pool will wait for the next start" in balancer.program.text
        assert "the iptables rules stay" in balancer.program.text
    asked = scene.start("lb", sys.executable, "-m", "natmirror", "status", "--api", str(balancer.api), name="status")
    asked.wait_for_text("start it again, or remove the rules with natmirror cleanup")
    assert f"its iptables rules are still there ({iptables}: NATMIRROR-" in asked.text
    assert scene.traces()["rules"] != [], "the rules hold production's packets back meanwhile"
    again = LoadBalancer(scene.lab, scene.with_threads(RULES, 4), iptables=iptables)
    scene.balancers.append(again)
    again.wait_for_status(
        lambda status: status["counters"].get("flows_picked_up", 0) == CONNECTIONS, "the flows to be picked up", 20.0
    )
    later = assert_all_well(scene.run_client(connections=5, requests=5, seed=7), 5)
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, CONNECTIONS)
    assert scene.at_backends() == sent | later
    counters = again.status()["counters"]
    assert (counters["flows_opened"], counters.get("direct_connections", 0)) == (5, 0)
    again.wait_until_acknowledged()
    again.wait_for_status(lambda status: status["mirrors"][0]["legs_ended"] == {"closed": 5}, "the later legs to end")
    at_master = scene.at_master()
    assert {port: got for port, got in at_master.items() if port in later} == later


def _mirrored(status: dict[str, list[dict[str, object]]]) -> int:
    return sum(any(leg["state"] == "established" for leg in flow["legs"]) for flow in status["flows"])  # type: ignore[attr-defined]
