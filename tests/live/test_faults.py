"""Internal errors in mirroring, live: production passes, and the status says what is off."""

import sys
from typing import Any

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from tests.live.scene import Scene, assert_all_well, rules

pytestmark = pytest.mark.live


def with_a_mistake(scene: Scene, where: str, **settings: str) -> LoadBalancer:
    return scene.balance(rules(scene, **settings), through=[sys.executable, "-m", "tests.live.apps.faulty", where])


def errors(balancer: LoadBalancer) -> dict[str, int]:
    return dict(balancer.status()["faults"]["internal_errors"])


def off(balancer: LoadBalancer) -> set[str]:
    return {entry["work"] for entry in balancer.status()["faults"]["off"]}


def test_a_stream_that_cannot_be_copied_passes(scene: Scene) -> None:
    """With throttling Python decides each packet of the client, and each one fails there."""
    scene.record("c1", "c2", "m")
    balancer = with_a_mistake(scene, "natmirror.mirror.mirroring:Mirroring.feed", when_behind="throttle")
    sent = assert_all_well(scene.run_client(connections=20, requests=16, seed=1), 20)
    assert scene.at_backends() == sent
    assert errors(balancer)["copies"] >= 3
    assert "copies" in off(balancer)
    [mirror] = balancer.status()["mirrors"]
    assert set(mirror["legs_ended"]) <= {"internal-error", "mirroring-off"}
    assert mirror["client_bytes"] == sum(mirror["lost_bytes"].values()) + mirror["acked_bytes"]
    assert "a deliberate mistake" in balancer.program.text


def test_timers_that_fail_end_legs_and_nothing_else(scene: Scene) -> None:
    scene.record("c1", "c2")
    scene.lab.run("m", ["iptables", "-A", "INPUT", "-p", "tcp", "-j", "DROP"])  # each SYN is due again
    try:
        balancer = with_a_mistake(scene, "natmirror.tcp.leg:Leg.handle_timer")
        client, records = scene.client(connections=8, requests=40, pause=0.1, seed=2)
        balancer.wait_for_status(lambda status: "copies" in off(balancer), "a fault too many", 30.0)
        scene.finish(client)
        sent = assert_all_well(records, 8)
        assert scene.at_backends() == sent
    finally:
        scene.lab.run("m", ["iptables", "-D", "INPUT", "-p", "tcp", "-j", "DROP"])


def test_a_command_that_fails_in_a_thread_costs_that_command_alone(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = with_a_mistake(scene, "natmirror.engine.engine:Engine.set_path_mtu")
    sent = assert_all_well(scene.run_client(connections=20, requests=4, seed=3), 20)
    balancer.wait_until_acknowledged()
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs"] == 0, "the legs to end")
    assert scene.at_master() == scene.at_backends() == sent
    assert balancer.status()["machine"]["internal_errors"] > 0


def test_a_command_switches_mirroring_on_again(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = with_a_mistake(scene, "natmirror.mirror.mirroring:Mirroring.open")
    assert_all_well(scene.run_client(connections=20, requests=2, seed=4), 20)
    assert off(balancer)
    shown: Any = scene.lab.run(
        "lb", [sys.executable, "-m", "natmirror", "resume-mirroring", "--api", str(balancer.api)]
    )
    assert "mirrored again" in shown
    balancer.wait_for_status(lambda status: not status["faults"]["off"], "mirroring to be on")
    assert "on again; connections" in balancer.program.text
