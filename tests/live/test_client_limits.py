"""Real clients meet the limits per client: one is refused, the other waits, and open connections go on."""

import re
import sys

import pytest

from natmirror.lab.process import wait_for
from tests.live.scene import PORT, SOON_FORGOTTEN, Scene, assert_all_well

pytestmark = [pytest.mark.live, pytest.mark.beside]

GREEDY, QUIET = "10.10.0.11", "10.10.0.21"
MOST = 5
RULES = f"""{SOON_FORGOTTEN}switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: {PORT}
    per-client: {{max-connections: {MOST}}}
    pool:
      backends: [{{name: c1, address: 10.20.0.11}}, {{name: c2, address: 10.20.0.12}}]
"""
CALL = "import socket; socket.create_connection(('10.10.0.100', {port}), 20, ('{client}', 0)); print('connected')"
THREE_CALLS = f"""
import socket, threading
begin = threading.Barrier(3)
def call(): begin.wait(); {CALL}
for _ in range(3): threading.Thread(target=call).start()
"""
"""At the same time."""


def sent_again(scene: Scene) -> int:
    """Return how many SYNs the clients' host has ever sent again, as it does on a busy machine."""
    lines = scene.lab.run("s1", ["cat", "/proc/net/netstat"]).splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["TCPSynRetrans"])


def test_a_client_over_its_limits_is_refused_or_waits_and_open_connections_go_on(scene: Scene) -> None:
    scene.record("c1", "c2")
    rules = scene.rules(RULES)
    balancer = scene.balance(rules)
    # 1. A client has all its connections: its next one is refused at once, another client's is not.
    until = scene.file("until")
    client, records = scene.client(connections=MOST, sources=GREEDY, until=until, size=200)
    balancer.wait_for_status(lambda status: len(status["flows"]) == MOST, "all connections of the client")
    before = sent_again(scene)
    refused = scene.start("s1", sys.executable, "-c", CALL.format(port=PORT, client=GREEDY))
    refused.wait_for_text("ConnectionRefusedError")
    refusals = 1 + sent_again(scene) - before
    quiet = assert_all_well(scene.run_client(connections=MOST, requests=5, sources=QUIET), MOST)
    # 2. What natmirror shows.
    command = [sys.executable, "-m", "natmirror", "explain", GREEDY, "--api", str(balancer.api)]
    text = scene.lab.run("lb", command)
    assert f"the client has {MOST} of {MOST} connections; its next SYN is refused" in text
    [limit] = balancer.status()["client_limits"]
    assert (limit["refused_syns"], limit["limited_clients"], limit["last_client"]) == (refusals, 1, GREEDY)
    told = f"service openflow: {GREEDY} has reached max-connections {MOST} of per-client: "
    balancer.program.wait_for_text(told)
    [logged] = re.findall(rf"{re.escape(told)}(\d+) SYN", balancer.program.text)
    assert 1 <= int(logged) <= refusals
    # 3. A reload lowers the limit, and ends nothing.
    rules.write_text(RULES.replace(f"{{max-connections: {MOST}}}", "{max-connections: 1, new-connections: 3/m}"))
    scene.lab.run("lb", [sys.executable, "-m", "natmirror", "reload", "--api", str(balancer.api)])
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, MOST)
    assert scene.at_backends() == sent | quiet
    balancer.wait_for_status(lambda status: not status["flows"], "the connections to be forgotten", 30.0)
    # 4. The rate: two more connections, and the next one waits until its SYN is sent again.
    rules.write_text(RULES.replace(f"{{max-connections: {MOST}}}", "{new-connections: 1/s}"))
    scene.lab.run("lb", [sys.executable, "-m", "natmirror", "reload", "--api", str(balancer.api)])
    calls = scene.start("s1", sys.executable, "-c", THREE_CALLS.format(port=PORT, client=GREEDY))
    wait_for(lambda: not calls.running(), "the calls to end")
    assert calls.text.splitlines() == ["connected"] * 3, calls.text
    drops = balancer.status()["drops"]
    assert drops["client-max-connections"] == refusals and drops["client-new-connections"] > 0
    balancer.program.wait_for_text("has reached new-connections 1/s of per-client")
