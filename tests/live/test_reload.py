"""Rules that change while connections run."""

import signal
import statistics
import time
from pathlib import Path

import pytest

from natmirror.api.client import send_command
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from natmirror.lab.topology import SERVICE, Lab
from tests.live.scene import Scene, assert_all_well

pytestmark = [pytest.mark.live, pytest.mark.beside]

CONNECTIONS = 40
MAX_GROWTH = 4 << 20  # bytes: more than an allocator keeps, less than a leak of 450 reloads


def text(number: int) -> str:
    """Return the rules with this number: weights, backends, services and clients differ; the master is the same."""
    second = "        - {name: c2, address: 10.20.0.12}\n" if number % 3 else ""
    more = ", 10.11.0.0/24" if number % 5 == 0 else ""
    other = (
        f"  - name: other-{number}\n    address: {SERVICE}\n    port: {7000 + number}\n"
        f"    pool: {{backends: [{{name: b-{number}, address: 10.20.0.11, port: {7000 + number}}}]}}\n"
    )
    return (
        f"switches: [10.10.0.0/24{more}]\nservices:\n"
        f"  - name: openflow\n    address: {SERVICE}\n    port: 6653\n    pool:\n      hash: address-port\n"
        f"      backends:\n        - {{name: c1, address: 10.20.0.11, weight: {1 + number % 4}}}\n{second}"
        "    mirrors: [{name: master, address: 10.20.0.13}]\n" + (other if number % 2 else "")
    )


class Counting:
    """Install rules on both sides that count packets that pass without being rewritten."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        unlisted_backends = {"s1": ["-s", "10.20.0.0/24"], **{host: ["-d", SERVICE] for host in ("c1", "c2", "m")}}
        self._rules = {host: ["PREROUTING", "-p", "tcp", *match] for host, match in unlisted_backends.items()}
        for host, rule in self._rules.items():
            lab.run(host, ["iptables", "-t", "raw", "-A", *rule])

    def packets(self) -> dict[str, int]:
        """Return the count of each rule."""
        found = {}
        for host in self._rules:
            *_, line = self._lab.run(host, ["iptables", "-t", "raw", "-nvxL", "PREROUTING"]).strip().splitlines()
            found[host] = int(line.split()[0])
        return found

    def close(self) -> None:
        """Remove the rules."""
        for host, rule in self._rules.items():
            self._lab.run(host, ["iptables", "-t", "raw", "-D", *rule])


def resident(balancer: LoadBalancer) -> int:
    """Return natmirror's resident memory in bytes."""
    status = Path(f"/proc/{balancer.program.popen.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) << 10


@pytest.mark.parametrize("times", [12, pytest.param(500, marks=pytest.mark.soak)])
def test_reloads_under_load_cost_no_connection(scene: Scene, times: int) -> None:
    scene.record("c1", "c2", "m")
    rules = scene.rules(text(1))
    balancer = scene.balance(rules)
    counting = Counting(scene.lab)
    try:
        until, started = scene.file("until"), scene.file("started")
        staying, records = scene.client(connections=CONNECTIONS, until=until, started=started, size=200)
        balancer.wait_for_status(lambda status: len(status["flows"]) == CONNECTIONS, "all connections")
        coming, took, memory = [], [], 0
        began_at = time.monotonic()
        for number in range(2, times + 2):
            if number % (times // 6) == 0:
                coming.append(scene.client(connections=20, requests=10, seed=number))
            rules.write_text(text(number))
            before = time.monotonic()
            assert send_command("reload", {}, balancer.api)["changes"]
            took.append(time.monotonic() - before)
            memory = memory or (number > 50) * resident(balancer)
            time.sleep(max(0.0, began_at + 0.11 * (number - 1) - time.monotonic()))  # the load's pace, no event
        whole = time.monotonic() - began_at
        growth = resident(balancer) - memory if memory else 0
        for client, _ in coming:
            scene.finish(client)
        until.touch()
        scene.finish(staying)
        sent = assert_all_well(records, CONNECTIONS)
        for _, some in coming:
            sent |= assert_all_well(some, 20)
        assert scene.at_backends() == sent
        scene.wait_for_master(*sent)
        assert scene.at_master() == sent
        assert counting.packets() == dict.fromkeys(("s1", "c1", "c2", "m"), 0)
    finally:
        counting.close()
    milliseconds = sorted(1000 * seconds for seconds in took)
    print(
        f"\n{times} reloads in {whole:.1f} s under {CONNECTIONS} connections and {20 * len(coming)} new ones: each"
        f" {statistics.median(milliseconds):.0f} ms (at most {milliseconds[-1]:.0f}); memory grew by {growth >> 10} KiB"
    )
    assert growth < MAX_GROWTH


def test_removed_backends_and_services_keep_their_connections(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    rules = scene.rules(text(1))
    balancer = scene.balance(rules)
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=20, until=until, started=started, size=200)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 20, "all connections")
    rules.write_text(text(1).replace("        - {name: c2, address: 10.20.0.12}\n", ""))
    assert send_command("reload", {}, balancer.api)["changes"] == ["- openflow: backend c2 10.20.0.12:6653 weight 1"]
    balancer.program.wait_for_text("- openflow: backend c2")
    states = {backend["name"]: (backend["state"], bool(backend["flows"])) for backend in balancer.status()["backends"]}
    assert states["c2"] == ("removed", True)
    later = assert_all_well(scene.run_client(connections=10, requests=5, seed=7), 10)
    assert later.items() <= scene.recorders["c1"].by_port().items()
    assert "10.20.0.12" in str(scene.traces()["rules"])
    until.touch()
    scene.finish(client)
    assert_all_well(records, 20)
    balancer.wait_for_status(
        lambda status: "c2" not in [backend["name"] for backend in status["backends"]], "c2 to be forgotten", 30.0
    )
    wait_for(lambda: "10.20.0.12" not in str(scene.traces()["rules"]), "its iptables rules to go")


def test_wrong_rules_change_nothing_and_the_signal_does_the_same_as_the_command(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    rules = scene.rules(text(1))
    balancer = scene.balance(rules)
    before = scene.traces()["rules"]
    rules.write_text(text(1).replace("10.20.0.12", "10.20.0.300"))
    with pytest.raises(HostError, match=r"rules\.yaml:10: services\[0\]\.pool\.backends\[1\]\.address: expected"):
        send_command("reload", {}, balancer.api)
    rules.write_text(f"max-flows: 2000\n{text(1)}")
    with pytest.raises(HostError, match="max-flows: cannot change while natmirror runs; restart natmirror"):
        send_command("reload", {}, balancer.api)
    balancer.program.send_signal(signal.SIGHUP)
    wait_for(lambda: balancer.program.text.count("the rules stay as they were") == 3, "the signal's reload")
    assert scene.traces()["rules"] == before
    rules.write_text(text(2))
    balancer.program.send_signal(signal.SIGHUP)
    balancer.program.wait_for_text("reloaded ")
    assert "+ openflow: backend c1 10.20.0.11:6653 weight 3" in balancer.program.text
    assert_all_well(scene.run_client(connections=5, requests=5), 5)


def test_a_mirror_is_removed_and_comes_back(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    rules = scene.rules(text(1))
    balancer = scene.balance(rules)
    counting = Counting(scene.lab)
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=20, until=until, started=started, size=200)
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs"] == 20, "all copies")
    rules.write_text(text(1).replace("    mirrors: [{name: master, address: 10.20.0.13}]\n", ""))
    tried = send_command("reload", {"dry_run": True}, balancer.api)
    assert any(line.startswith("- ") and "master" in line for line in tried["changes"]), tried["changes"]
    assert tried["costs"] == ["20 connections of openflow lose their copy to master"]
    assert balancer.status()["mirrors"][0]["legs"] == 20, "nothing has changed"
    send_command("reload", {}, balancer.api)
    wait_for(lambda: [leg["reason"] for leg in balancer.ended()] == ["mirror-removed"] * 20, "the legs to end")
    assert balancer.status()["mirrors"] == []
    rules.write_text(text(1))
    send_command("reload", {}, balancer.api)
    later = assert_all_well(scene.run_client(connections=10, requests=5, seed=7), 10)
    scene.wait_for_master(*later)
    assert later.items() <= scene.at_master().items()
    until.touch()
    scene.finish(client)
    assert_all_well(records, 20)
    assert counting.packets() == dict.fromkeys(("s1", "c1", "c2", "m"), 0), "a packet of the master's to no leg passed"
    counting.close()
