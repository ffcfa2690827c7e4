"""natmirror explain, while a client's backend dies and comes back, and one of two mirrors gets a sample."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from tests.helpers.openapi import assert_described
from tests.live.scene import PORT, SOON_FORGOTTEN, Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

CLIENT = "10.10.0.11"
AUDIT = "      - {name: audit, address: 10.20.0.14, sample: 10%}\n"
RULES = (
    SOON_FORGOTTEN
    + """switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      when-down: keep
      health: {check: tcp, interval: 1s, timeout: 300ms, rise: 1, fall: 3}
      backends:
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12}
    mirrors:
      - {name: master, address: 10.20.0.13}
"""
    + AUDIT
)
CALL = f"""
import socket, time
print("calling", flush=True)
while True:
    socket.create_connection(('10.10.0.100', {PORT}), 5, ('{CLIENT}', 0)).close()
    time.sleep(0.05)
"""
"""Calls until it is refused: so it is, before the checks of a backend that ends have failed."""


def explained(scene: Scene, balancer: LoadBalancer, *words: str) -> str:
    command = [sys.executable, "-m", "natmirror", "explain", CLIENT, "--api", str(balancer.api), *words]
    return scene.lab.run("lb", command)


def states(status: dict[str, Any]) -> dict[str, object]:
    return {backend["name"]: backend["state"] for backend in status["backends"]}


def test_explain_tells_where_a_client_goes_and_why(scene: Scene) -> None:
    programs = scene.record("c1", "c2", "m")
    rules = scene.rules(RULES)
    balancer = scene.balance(rules)
    # 1. Before: the client's first choice.
    balancer.wait_for_status(lambda status: set(states(status).values()) == {"up"}, "the checks to pass")
    before = explained(scene, balancer)
    own = before.partition("its first choice is ")[2][:2]
    other = {"c1": "c2", "c2": "c1"}[own]
    assert f"openflow 10.10.0.100:6653: a new connection goes to {own} (" in before
    assert f"  {own}: up for " in before and "  copied to master\n" in before and "no connection now" in before
    assert "  not copied to audit: not-sampled: the client is not in the percentage of clients" in before
    # 2. The backend dies, and refuses the client.
    refused = scene.start("s1", sys.executable, "-c", CALL)
    refused.wait_for_text("calling")
    programs[own].end()
    wait_for(lambda: not refused.running(), "a call to be refused")
    assert "ConnectionRefusedError" in refused.text
    balancer.wait_for_status(lambda status: states(status)[own] == "down", "the check to fail")
    during = explained(scene, balancer)
    assert f"a new connection goes to {other} (" in during
    assert f"  {own}: down for " in during and "; it refused this client's SYN " in during
    # 3. The client connects to the other one, and its own comes back: it stays, and so do its next connections.
    until = scene.file("until")
    client, _ = scene.client(connections=1, sources=CLIENT, until=until)
    balancer.wait_for_status(lambda status: any(leg["state"] == "established" for leg in legs(status)), "the copy")
    scene.record(own)
    balancer.wait_for_status(lambda status: states(status)[own] == "up", "the check to pass")
    after = explained(scene, balancer)
    assert f"a new connection goes to {other} (" in after
    assert f"  {own}: it refused this client's SYN " in after and "the client's new connections avoid it for " in after
    assert f"pinned: the rules alone would give it {own}. natmirror moves no open connection" in after
    assert "  restart: this host's own kernel resets it" in after and "its copy to master ends" in after
    assert "  reload of the file on disk: it loses nothing" in after
    # 4. A rules file that would take its copy away, and one that would be refused.
    rules.write_text(RULES.replace("10.20.0.13}", "10.20.0.15}"))
    answer = json.loads(explained(scene, balancer, "openflow", "--json"))
    assert_described("explain", answer)
    [connection] = [one for one in answer["connections"] if not one["is_over"]]
    assert connection["reload"] == ["loses its copy to master"]
    assert answer["client"] == CLIENT and [one["service"] for one in answer["services"]] == ["openflow"]
    rules.write_text(RULES.replace("10.20.0.13}", "nowhere}"))
    assert "  reload: it would be refused: " in explained(scene, balancer, "openflow")
    rules.write_text(RULES)
    # 5. One port, an unknown service, an address outside.
    answer = json.loads(ask(scene, balancer.api, connection["client"], "--json"))
    assert [one["client"] for one in answer["connections"]] == [connection["client"]]
    assert "there is no service web; the rules have openflow" in ask(scene, balancer.api, CLIENT, "web", fails=True)
    assert "10.99.0.1 is no client" in ask(scene, balancer.api, "10.99.0.1")
    until.touch()
    scene.finish(client)


def ask(scene: Scene, api: Path, *words: str, fails: bool = False) -> str:
    program = scene.start("lb", sys.executable, "-m", "natmirror", "explain", *words, "--api", str(api))
    assert (program.popen.wait(20.0) != 0) == fails
    return program.text


def legs(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [leg for flow in status["flows"] for leg in flow["legs"]]
