"""Commands that hold until they are taken back: a weight, a pause, a drain that is waited for, and one that is kept."""

import os
import sys
from itertools import cycle
from typing import Any

import pytest
from click.testing import CliRunner

from natmirror.cli.commands import main
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.nat.schedulers import Maglev
from natmirror.rules import parse_rules
from tests.helpers.support import at
from tests.live.scene import CLIENTS, SOON_FORGOTTEN, Records, Scene, assert_all_well

pytestmark = [pytest.mark.live, pytest.mark.beside]

RULES = (
    SOON_FORGOTTEN
    + "switches: [10.10.0.0/24]\nservices:\n  - name: openflow\n    address: 10.10.0.100\n    port: 6653\n"
    "    pool:\n      hash: address-port\n      backends:\n"
    "        - {name: c1, address: 10.20.0.11}\n        - {name: c2, address: 10.20.0.12}\n"
    "    mirrors: [{name: master, address: 10.20.0.13}]\n"
)
HELD = 20


def run(balancer: LoadBalancer, *words: str) -> str:
    done = CliRunner().invoke(main, [*words, "--api", str(balancer.api)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def backend(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(one) for one in status["backends"] if one["name"] == name)


def expected(called: Records, name: str, weight: int) -> int:
    """Return how many of a client's connections a backend gets that has this weight, by Maglev."""
    pool = parse_rules(RULES.replace(f"{{name: {name},", f"{{name: {name}, weight: {weight},")).services[0].pool
    assert pool is not None
    maglev = Maglev(pool)
    ends = (at(source, line["port"]) for source, line in zip(cycle(CLIENTS), called.lines(), strict=False))
    return sum(maglev.derive(end).name == name for end in ends)


def test_what_commands_set_holds_until_it_is_taken_back(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    rules, state = scene.rules(RULES), {**os.environ, "STATE_DIRECTORY": str(scene.file("state"))}
    balancer = scene.balance(rules, env=state)

    # A weight holds for new connections.
    until = scene.file("until")
    held, records = scene.client(connections=HELD, until=until, started=scene.file("started"), size=200)
    balancer.wait_for_status(lambda status: len(status["flows"]) == HELD, "the connections")
    before = {name: backend(balancer.status(), name)["connections"] for name in ("c1", "c2")}
    run(balancer, "weight", "openflow/c1", "19")
    assert "c1 has weight 19, by a command" in run(balancer, "weight", "openflow/c1")
    called = scene.run_client(connections=100, requests=1)
    assert_all_well(called, 100)
    more = backend(balancer.status(), "c1")["connections"] - before["c1"]
    assert more == expected(called, "c1", 19), "as Maglev gives them; that are 95 in the mean"
    assert sum(backend(balancer.status(), name)["flows"] for name in ("c1", "c2")) >= HELD
    run(balancer, "weight", "openflow/c1", "rules")

    # A paused mirror gets nothing, and a resumed one new connections.
    run(balancer, "mirror", "pause", "openflow/master")
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs"] == 0, "the legs to end")
    mirror = balancer.status()["mirrors"][0]
    assert (mirror["legs_ended"]["mirror-paused"], mirror["state"]) == (HELD, "paused")
    assert_all_well(scene.run_client(connections=5, requests=5), 5)
    mirror = balancer.status()["mirrors"][0]
    assert mirror["lost_bytes"]["mirror-paused"] > 0
    run(balancer, "mirror", "resume", "openflow/master")
    opened = mirror["legs_opened"]
    assert_all_well(scene.run_client(connections=5, requests=5), 5)
    assert balancer.status()["mirrors"][0]["legs_opened"] == opened + 5

    # A drain waits until its backend is empty.
    words = ("drain", "openflow/c1", "--wait", "--api", str(balancer.api))
    waiting = scene.start("lb", sys.executable, "-m", "natmirror", *words, name="drain")
    waiting.wait_for_text(" left\n")
    until.touch()
    scene.finish(held)
    assert_all_well(records, HELD)
    waiting.wait_for_text("empty after ", 30.0)

    # A backend comes and goes without a change of the rules file.
    run(balancer, "undrain", "openflow/c1")
    assert "is in its pool" in run(balancer, "backend", "add", "openflow/c3", "10.20.0.13", "--persist")
    assert "+ openflow: backend c3" in run(balancer, "rules")
    run(balancer, "backend", "remove", "openflow/c1")
    run(balancer, "backend", "remove", "openflow/c2")
    assert "openflow/c3 at 10.20.0.13:6653 is added by a command" in run(balancer, "reload")
    assert_all_well(scene.run_client(connections=10, requests=2), 10)
    assert backend(balancer.status(), "c3")["connections"] == 10
    run(balancer, "backend", "add", "openflow/c1", "10.20.0.11")
    run(balancer, "backend", "add", "openflow/c2", "10.20.0.12")

    # What is kept holds after a restart, and the rest does not.
    run(balancer, "weight", "openflow/c1", "7")
    run(balancer, "drain", "openflow/c2", "--persist")
    assert balancer.stop() == 0
    again = scene.balance(rules, env=state)
    kept = again.status()["overrides"]
    assert [(one["kind"], one["backend"], one["kept"]) for one in kept] == [("add", "c3", True), ("drain", "c2", True)]
    assert_all_well(scene.run_client(connections=20, requests=1), 20)
    got = [backend(again.status(), name)["connections"] for name in ("c1", "c2", "c3")]
    assert (got[1], got[0] + got[2], min(got[0], got[2]) > 0) == (0, 20, True)
