"""natmirror status, while a backend and a mirror die, the rules file breaks, and the host stops forwarding."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from tests.helpers.declared import assert_answers_are_declared
from tests.live.scene import Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

RULES = """switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      when-down: keep
      health: {check: tcp, interval: 500ms, timeout: 300ms, rise: 1, fall: 2}
      backends:
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12}
    mirrors:
      - {name: master, address: 10.20.0.13, reconnect: next-segment}
"""


def screen(scene: Scene, balancer: LoadBalancer) -> list[str]:
    command = [sys.executable, "-m", "natmirror", "status", "--api", str(balancer.api)]
    return scene.lab.run("lb", command).splitlines()


def codes(status: dict[str, Any]) -> list[str]:
    return [one["code"] for one in status["condition"]["problems"] if not one["mended"]]


def is_ok(status: dict[str, Any]) -> bool:
    return bool(status["condition"]["state"] == "ok")


def has_rates(status: dict[str, Any]) -> bool:
    """Return whether there are connections and copies of the last ten seconds."""
    rate = sum(one["connections_per_second"] for one in status["backends"])
    return bool(rate > 0 and status["mirrors"][0]["acked_bytes_per_second"] > 0)


def wait_for_codes(balancer: LoadBalancer, *expected: str) -> None:
    what = ", ".join(expected)
    balancer.wait_for_status(lambda status: set(expected) <= set(codes(status)), f"the problems {what}")


def test_the_status_tells_what_is_wrong_now(alone: Scene) -> None:
    scene = alone
    programs = scene.record("c1", "c2", "m")
    rules: Path = scene.rules(RULES)
    balancer = scene.balance(rules)
    until = scene.file("until")
    client, _ = scene.client(connections=6, sources="10.10.0.11", until=until)
    # 1. All is well, and there are rates.
    balancer.wait_for_status(has_rates, "rates")
    balancer.wait_for_status(lambda status: status["mirrors"][0]["state"] == "up", "the mirror to be up")
    balancer.wait_for_status(is_ok, "nothing to be wrong")
    assert screen(scene, balancer)[0].startswith("OK  natmirror ")
    assert_answers_are_declared(balancer.api)
    # 2. A backend dies and comes back.
    programs["c1"].end()
    wait_for_codes(balancer, "backend-down")
    first, *others = screen(scene, balancer)
    assert first.startswith("DEGRADED: ")
    told = "WARNING backend-down: backend openflow/c1 (10.20.0.11:6653) is down: connection refused ->"
    assert any(line.startswith(told) for line in others), others
    scene.record("c1")
    balancer.wait_for_status(is_ok, "the backend to be back")
    # 3. The mirror dies, loses bytes, and comes back.
    programs["m"].end(signal.SIGKILL)
    wait_for_codes(balancer, "mirror-down")
    [mirror] = balancer.status()["mirrors"]
    assert mirror["state"] == "down" and mirror["reason"] in ("mirror-reset", "refused"), "refused: the next attempt"
    assert mirror["lost_bytes_last_hour"] == mirror["lost_bytes"]
    assert_answers_are_declared(balancer.api)
    scene.record("m")
    balancer.wait_for_status(lambda status: status["mirrors"][0]["state"] == "up", "the mirror to be back", 40.0)
    # 4. The rules file cannot be used any more.
    rules.write_text(RULES + "nonsense: 1\n")
    wait_for_codes(balancer, "rules-file")
    rules.write_text(RULES)
    balancer.wait_for_status(lambda status: "rules-file" not in codes(status), "the file to be read again")
    # 5. The host does not forward.
    scene.lab.sysctl("lb", ip_forward=0)
    balancer.wait_for_status(lambda status: status["condition"]["state"] == "not-fit", "the host to be unfit")
    first, second, *_ = screen(scene, balancer)
    assert first.startswith("NOT FIT: ")
    assert second.startswith("FAILURE no-forwarding: ") and "-> run: sysctl -w net.ipv4.ip_forward=1" in second
    scene.lab.sysctl("lb", ip_forward=1)
    balancer.wait_for_status(lambda status: "no-forwarding" not in codes(status), "the host to forward")
    until.touch()
    client.popen.wait(60.0)
