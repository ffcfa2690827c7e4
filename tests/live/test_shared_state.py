"""Pinned connections of two hosts behind keepalived: with Redis they keep their backends, without it they are lost."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from natmirror.api.client import send_command
from natmirror.lab.pair_host import PairHost
from natmirror.lab.process import Program, wait_for
from natmirror.lab.topology import SERVICE, Lab, leftovers
from natmirror.nat.schedulers import Maglev
from natmirror.rules import parse_rules
from tests.helpers.support import assert_adds_up, at
from tests.live.core_waits import CoreWaits
from tests.live.scene import CLIENTS, PORT, STATE, Records, Scene

pytestmark = pytest.mark.live

EACH = 60  # connections opened before the pool changes, and as many after
PAUSE = 2.0  # seconds between two requests of a connection: longer than a move takes
RULES = f"""
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: {SERVICE}
    port: {PORT}
    pool:
      hash: address-port
      backends:
        - {{name: c1, address: 10.20.0.11}}
        - {{name: c2, address: 10.20.0.12}}
ha:
  hosts:
    - {{name: lb1, switch-side: 10.10.0.1, pool-side: 10.20.0.1, priority: 110}}
    - {{name: lb2, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 100}}
  switch-side: {{interface: sw0, addresses: [{SERVICE}/24], vrrp-id: 51}}
  pool-side: {{interface: pl0, addresses: [10.20.0.100/24], vrrp-id: 52}}
"""
WITH_STATE = f"{RULES}  state: redis://{STATE}\n"


@dataclass(slots=True)
class Crowd:
    """Connections with constant traffic."""

    program: Program
    records: Records
    until: Path
    progress: Path

    def goes_on(self, since: float) -> bool:
        return self.progress.exists() and float(self.progress.read_text()) > since


@dataclass(slots=True)
class Pair:
    """Both hosts, and the traffic through them."""

    scene: Scene
    file: Path
    members: dict[str, PairHost] = field(default_factory=dict)
    crowds: list[Crowd] = field(default_factory=list)
    redis: Program | None = None
    backends: list[Program] = field(default_factory=list)

    def programs(self) -> list[Program]:
        """Return the programs that a connection's packets pass: clients, the active host's natmirror, backends."""
        return [*(crowd.program for crowd in self.crowds), self.members["lb1"].balancer.program, *self.backends]

    def status(self, host: str) -> dict[str, Any]:
        return self.members[host].balancer.status()

    def call(self, seed: int) -> None:
        """Start more connections, which go on until the end."""
        scene = self.scene
        until, progress, records = scene.file("until"), scene.file("progress"), Records(scene.file("client.jsonl"))
        words = ["--connections", EACH, "--size", 200, "--until", until, "--progress", progress, "--seed", seed]
        words += ["--pause", PAUSE]
        client = scene.app("s1", "client", SERVICE, PORT, records.file, *words, "--sources", ",".join(CLIENTS))
        crowd = Crowd(client, records, until, progress)
        self.crowds.append(crowd)
        wait_for(lambda: crowd.goes_on(0.0), "all connections to be answered")

    def start_redis(self) -> None:
        self.redis = self.scene.redis()

    def stop_redis(self) -> None:
        assert self.redis is not None
        self.redis.end()

    def wait_for_state(self, host: str, records: int) -> None:
        """Wait until a host has the records of the active host's pinned connections."""

        def knows() -> bool:
            shared = self.status(host)["shared_state"]
            return bool(shared["state"] == "complete" and shared["records"] == records)

        wait_for(knows, f"{host} to know {records} records")

    def pinned_flows(self) -> int:
        return int(self.status("lb1")["pinned_flows"])

    def pinned_ports(self, rules: str = RULES) -> set[int]:
        """Return the ports of the pinned connections."""
        pool = parse_rules(rules).services[0].pool
        assert pool is not None
        maglev, found = Maglev(pool), set()
        for flow in self.status("lb1")["flows"]:
            address, _, port = flow["client"].partition(":")
            if maglev.derive(at(address, int(port))).name != flow["backend"]:
                found.add(int(port))
        return found

    def wait_for_quiet(self) -> None:
        """Wait until the latest connections have just been answered, and pause."""
        since = time.monotonic()
        wait_for(lambda: self.crowds[-1].goes_on(since), "an answer")

    def wait_until_all_go_on(self, *crowds: Crowd) -> None:
        since = time.monotonic()
        wait_for(lambda: all(crowd.goes_on(since) for crowd in crowds), "all connections to go on", 30.0)

    def crash(self) -> None:
        self.members["lb1"].crash()
        self.members["lb2"].wait_for_role("master")

    def finish(self) -> list[dict[str, Any]]:
        """End all connections; return the records of those that ended before."""
        for crowd in self.crowds:
            crowd.until.touch()
        for crowd in self.crowds:
            wait_for(lambda crowd=crowd: not crowd.program.running(), "the clients to end", 30.0)  # type: ignore[misc]
        lines = [line for crowd in self.crowds for line in crowd.records.lines()]
        sent = {line["port"]: (line["bytes"], line["sha256"]) for line in lines if line["error"] is None}
        wait_for(lambda: len(self.scene.at_backends()) >= len(sent), "all streams to be recorded")
        recorded = self.scene.at_backends()
        assert {port: recorded.get(port) for port in sent} == sent, "each stream is whole"
        return [line for line in lines if line["error"] is not None]

    def waits(self, before: float) -> list[float]:
        """Return the seconds that connections waited for answers before that time."""
        lines = [line for crowd in self.crowds for line in crowd.records.lines()]
        return [seconds - PAUSE for line in lines for at, seconds in line["waits"] if at + seconds < before]


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    rules = request.param
    with Lab(pair=True) as lab:
        scene = Scene(lab)
        for address in CLIENTS[1:]:
            lab.address("s1", "eth0", address)
        lab.add_controller("state", 30)
        file = scene.rules(rules)
        pair = Pair(scene, file)
        if "state:" in rules:
            pair.start_redis()
        pair.members |= {host: PairHost(lab, host, file) for host in ("lb1", "lb2")}
        pair.backends += scene.record("c1", "c2", "m").values()
        pair.members["lb1"].wait_for_role("master")
        pair.members["lb2"].wait_for_role("backup")
        yield pair
        for program in reversed(scene.programs):
            program.end()
    assert leftovers() == []


def change_the_pool(pair: Pair) -> int:
    """Open connections before and after a change of the pool; return the number of pinned ones."""
    pair.call(1)
    assert pair.pinned_flows() == 0
    send_command("drain", {"service": "openflow", "backend": "c1"}, pair.members["lb1"].api)
    pair.call(2)
    return pair.pinned_flows()


@pytest.mark.parametrize("pair", [RULES], indirect=True, ids=["alone"])
def test_without_shared_state_a_move_costs_exactly_the_pinned_connections(pair: Pair) -> None:
    pinned = change_the_pool(pair)
    assert 0 < pinned < EACH
    assert pair.status("lb1")["shared_state"]["state"] == "off"
    expected = pair.pinned_ports()
    assert len(expected) == pinned
    pair.wait_for_quiet()
    pair.crash()
    pair.wait_until_all_go_on(pair.crowds[0])
    lost = pair.finish()
    print(f"without shared state: {pinned} of {2 * EACH} connections were pinned, {len(lost)} were lost")
    assert {line["port"] for line in lost} == expected


@pytest.mark.parametrize("pair", [WITH_STATE], indirect=True, ids=["redis"])
def test_with_redis_a_move_costs_no_connection_even_after_an_outage_of_redis(pair: Pair) -> None:
    pinned = change_the_pool(pair)
    pair.wait_for_state("lb2", pinned)
    core_waits = CoreWaits(*pair.programs())
    pair.stop_redis()
    for host in ("lb1", "lb2"):
        wait_for(lambda host=host: pair.status(host)["shared_state"]["state"] == "connecting", "the outage")  # type: ignore[misc]
    pair.call(3)
    core_waits.add(pair.crowds[-1].program)
    pinned = pair.pinned_flows()
    pair.start_redis()
    pair.wait_for_state("lb2", pinned)
    pair.wait_for_quiet()
    crashed_at, without_core = time.monotonic(), core_waits.seconds()
    pair.crash()
    pair.wait_until_all_go_on(*pair.crowds)
    assert pair.status("lb2")["pinned_flows"] == pinned
    lost = pair.finish()
    waits = pair.waits(crashed_at)
    print(
        f"with Redis, after an outage: {pinned} of {3 * EACH} were pinned, {len(lost)} were lost;"
        f" longest wait before the move {max(waits, default=0.0):.2f} s; the programs were {without_core:.2f} s without"
        " a core"
    )
    assert lost == []
    assert max(waits, default=0.0) < PAUSE / 4 + without_core, "no packet cares"


@pytest.mark.soak
@pytest.mark.parametrize("pair", [RULES, WITH_STATE], indirect=True, ids=["alone", "redis"])
def test_rules_changed_on_both_hosts_cost_only_pinned_connections(pair: Pair) -> None:
    pair.call(1)
    [file] = pair.scene.lab.directory.glob("*rules.yaml")
    before = file.read_text()
    after = before.replace("{name: c2, address: 10.20.0.12}", "{name: c2, address: 10.20.0.12, weight: 3}")
    file.write_text(after)
    for host in ("lb1", "lb2"):  # the active one first
        send_command("reload", {}, pair.members[host].api)
    pair.call(2)
    pinned, expected = pair.pinned_flows(), pair.pinned_ports(after)
    assert 0 < pinned == len(expected) < EACH
    is_shared = pair.redis is not None
    if is_shared:
        pair.wait_for_state("lb2", pinned)
    pair.wait_for_quiet()
    pair.crash()
    pair.wait_until_all_go_on(*(pair.crowds if is_shared else pair.crowds[1:]))
    lost = pair.finish()
    print(
        f"{'with' if is_shared else 'without'} Redis, rules changed by reload: {pinned} of {2 * EACH} were pinned,"
        f" {len(lost)} were lost"
    )
    assert {line["port"] for line in lost} == (set() if is_shared else expected)


WITHOUT_C1 = WITH_STATE.replace("        - {name: c1, address: 10.20.0.11}\n", "")


@pytest.mark.parametrize(
    "how",
    ["lb1 first", *(pytest.param(how, marks=pytest.mark.soak) for how in ("lb2 first", "lb2 restarts"))],
)
@pytest.mark.parametrize("pair", [WITH_STATE], indirect=True, ids=["redis"])
def test_a_backend_that_both_hosts_have_removed_keeps_its_connections_through_a_move(pair: Pair, how: str) -> None:
    pair.call(1)
    assert pair.pinned_flows() == 0
    pair.file.write_text(WITHOUT_C1)

    def has_room() -> bool:
        return "10.20.0.11" in pair.scene.lab.run("lb2", ["iptables-save", "-t", "mangle"])

    for host in ("lb2", "lb1") if how == "lb2 first" else ("lb1",):
        send_command("reload", {}, pair.members[host].api)
    pinned = pair.pinned_flows()
    assert 0 < pinned < EACH
    if how == "lb1 first":
        send_command("reload", {}, pair.members["lb2"].api)
        assert has_room()
    if how == "lb2 restarts":
        pair.members["lb2"].stop_natmirror()
        pair.members["lb2"].start_natmirror()
    pair.wait_for_state("lb2", pinned)
    wait_for(has_room, "lb2 to be given the replies of c1")
    pair.wait_for_quiet()
    pair.crash()
    pair.wait_until_all_go_on(*pair.crowds)
    assert pair.status("lb2")["pinned_flows"] == pinned
    assert pair.finish() == []


@pytest.mark.parametrize("pair", [WITH_STATE], indirect=True, ids=["redis"])
def test_a_command_holds_on_both_hosts_and_a_host_that_starts_later_learns_it(pair: Pair) -> None:
    lb1, lb2 = pair.members["lb1"], pair.members["lb2"]
    c1 = {"service": "openflow", "backend": "c1"}

    def wait_for_overrides(host: str, *expected: tuple[str, str]) -> None:
        def holds() -> bool:
            return sorted((one["kind"], one["backend"]) for one in pair.status(host)["overrides"]) == list(expected)

        wait_for(holds, f"{expected} on {host}")

    for host in ("lb1", "lb2"):
        wait_for(lambda host=host: pair.status(host)["shared_state"]["state"] == "complete", host)  # type: ignore[misc]
    done = send_command("drain", c1, lb1.api)["done"]
    assert done.endswith("the other host follows through the shared state")
    wait_for_overrides("lb2", ("drain", "c1"))
    added = {"service": "openflow", "backend": "c3", "address": "10.20.0.13"}
    send_command("add", added, lb2.api)
    wait_for_overrides("lb1", ("add", "c3"), ("drain", "c1"))
    wait_for(lambda: "10.20.0.13" in pair.scene.lab.run("lb1", ["iptables-save", "-t", "mangle"]), "the kernel's rules")
    lb2.stop_natmirror()
    send_command("undrain", c1, lb1.api)
    send_command("weight", {**c1, "weight": 5}, lb1.api)
    lb2.start_natmirror()
    wait_for_overrides("lb2", ("add", "c3"), ("weight", "c1"))
    assert [one["state"] for one in pair.status("lb2")["backends"]] == ["unchecked"] * 3
    send_command("remove", {"service": "openflow", "backend": "c3"}, lb1.api)
    wait_for_overrides("lb2", ("weight", "c1"))


MIRRORED = WITH_STATE.replace("\nha:\n", "\n    mirrors:\n      - {name: master, address: 10.20.0.13}\nha:\n")


@pytest.mark.soak
@pytest.mark.parametrize("event", ["crash", "stop"])
@pytest.mark.parametrize("pair", [MIRRORED], indirect=True, ids=["mirrored"])
def test_legs_go_on_through_the_other_host(pair: Pair, event: str) -> None:
    pinned = change_the_pool(pair)
    lb1, lb2 = pair.members["lb1"], pair.members["lb2"]
    lb1.balancer.wait_until_acknowledged()
    pair.wait_for_state("lb2", 2 * EACH + pinned)  # a leg each, and the pinned bindings
    getattr(lb1, event)()
    lb2.wait_for_role("master")
    pair.wait_until_all_go_on(*pair.crowds)
    lb2.balancer.wait_until_acknowledged()
    [mirror] = pair.status("lb2")["mirrors"]
    assert pair.finish() == []
    wait_for(lambda: len(pair.scene.at_master()) == 2 * EACH, "all legs to end", 30)
    sent = {port: record for crowd in pair.crowds for port, record in crowd.records.by_port().items()}
    at_master = pair.scene.at_master()
    whole = [port for port, record in sent.items() if at_master.get(port) == record]
    status = pair.status("lb2")
    print(
        f"{event}: {mirror['legs_resumed']} of {2 * EACH} legs went on, {mirror['legs_opened']} began again;"
        f" {len(whole)} streams"
        f" were whole at the master; lb2 counts {_bytes(status['mirrors'][0])}"
    )
    assert_adds_up(status)
    assert len(whole) == 2 * EACH


def _bytes(mirror: dict[str, Any]) -> str:
    return f"{mirror['acked_bytes']} of {mirror['client_bytes']} bytes arrived, lost {mirror['lost_bytes']}"


@pytest.mark.soak
@pytest.mark.parametrize("pair", [MIRRORED], indirect=True, ids=["mirrored"])
def test_legs_go_on_when_the_only_remaining_host_restarts(pair: Pair) -> None:
    """No host has the virtual addresses meanwhile, and neighbours with an ARP entry go on sending to the old host."""
    pinned = change_the_pool(pair)
    lb1, lb2 = pair.members["lb1"], pair.members["lb2"]
    lb1.balancer.wait_until_acknowledged()
    pair.wait_for_state("lb2", 2 * EACH + pinned)
    lb2.crash()
    began_at = time.monotonic()
    lb1.stop_natmirror()
    lb1.start_natmirror()
    lb1.wait_for_role("master")
    pair.wait_until_all_go_on(*pair.crowds)
    took = time.monotonic() - began_at
    lb1.balancer.wait_until_acknowledged()
    status = pair.status("lb1")
    [mirror] = status["mirrors"]
    print(
        f"restarted, alone: {mirror['legs_resumed']} of {2 * EACH} legs went on,"
        f" ended {mirror['legs_ended']}; {took:.2f} s"
    )
    assert_adds_up(status)
    assert (mirror["legs_resumed"], mirror["legs_ended"]) == (2 * EACH, {})
    assert pair.finish() == []
