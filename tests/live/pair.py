"""Two hosts behind keepalived, the traffic through them, and the events that strike the active one."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from natmirror.lab.controllers.programs import PORT as OPENFLOW_PORT
from natmirror.lab.controllers.programs import Pinger
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.pair_host import PairHost
from natmirror.lab.process import Program, wait_for, wait_listen
from natmirror.lab.topology import SERVICE, Lab
from tests.helpers.support import assert_adds_up
from tests.live.apps.wire import LENGTH
from tests.live.scene import CLIENTS, ROOT, STATE, Records, Scene, assert_all_well

SWITCHES = 5
CONNECTIONS = 200
PORT = 7000
PAUSE = 0.1
SIZE = 200
REQUEST_LEN = SIZE + LENGTH.size
LINES = f"""
  - name: lines
    address: {SERVICE}
    port: {PORT}
    pool:
      balance: maglev
      hash: address-port
      backends:
        - {{name: c1, address: 10.20.0.11}}
        - {{name: c2, address: 10.20.0.12}}
    mirrors:
      - {{name: master, address: 10.20.0.13}}

ha:
"""
RULES = (ROOT / "rules" / "pair.yaml").read_text().replace("\nha:\n", LINES)


@dataclass(slots=True)
class Traffic:
    """Connections with constant traffic: some where the client speaks first, some where the controller does."""

    client: Program
    records: Records
    until: Path
    progress: Path
    controllers: list[Pinger]
    master: Pinger
    switches: list[OpenVSwitch]
    recorders: dict[str, Records]
    peers: list[list[str]] = field(default_factory=list)

    def pongs(self, switch: OpenVSwitch) -> list[tuple[int, float]]:
        return [pong for controller in self.controllers for pong in controller.pongs(switch.datapath_id)]

    def wait_until_all_go_on(self, since: float) -> None:
        """Return whether each connection has made progress after ``since``."""

        def clients_go_on() -> bool:
            return self.progress.exists() and float(self.progress.read_text()) > since

        wait_for(clients_go_on, "all connections to go on", 30.0)
        for switch in self.switches:
            wait_for(lambda switch=switch: self._last(switch) > since, f"s{switch.number} to go on", 30.0)  # type: ignore[misc]

    def _last(self, switch: OpenVSwitch) -> float:
        return max((at for _, at in self.pongs(switch)), default=0.0)

    def silences(self, since: float) -> list[float]:
        """Return the longest time without an answer since then, for each OpenFlow session."""
        longest = []
        for switch in self.switches:
            times = [at for _, at in self.pongs(switch)]
            longest.append(max(b - a for a, b in itertools.pairwise(times) if b > since))
        return longest


@dataclass(slots=True)
class Pair:
    """Both hosts, and the traffic through them."""

    scene: Scene
    members: dict[str, PairHost]
    traffic: Traffic
    moves: list[tuple[str, float, list[float]]] = field(default_factory=list)

    def move(self, what: str, go: Callable[[], None], to: str) -> None:
        """Strike the active host with an event, and wait until all traffic passes through the other one."""
        began_at = time.monotonic()
        go()
        self.members[to].wait_for_role("master")
        self.traffic.wait_until_all_go_on(time.monotonic())
        self.moves.append((what, began_at, self.traffic.silences(began_at)))

    def end(self) -> int:
        """End the connections and return the bytes of all clients. Assert that each stream arrived whole and no other
        program ended a connection."""
        traffic = self.traffic
        assert [switch.peers() for switch in traffic.switches] == traffic.peers, "each session is still the same one"
        assert all(
            controller.ended_sessions(switch.datapath_id) == 0
            for controller in traffic.controllers
            for switch in traffic.switches
        )
        for switch in traffic.switches:
            numbers = [number for number, _ in traffic.pongs(switch)]
            assert numbers == list(range(1, len(numbers) + 1)), "each ping was answered once and in order"
        traffic.until.touch()
        self.scene.finish(traffic.client)
        sent = assert_all_well(traffic.records, CONNECTIONS)
        wait_for(lambda: len(self._at_backends()) == CONNECTIONS, "all streams to be recorded")
        assert self._at_backends() == sent
        self._print()
        self._print_legs()
        return sum(count for count, _ in sent.values())

    def assert_ledgers_share(self, sent: int) -> None:
        """Assert that each byte is in the ledger of a host that passed it, at most twice where a client repeated it."""
        ledgers = [mirror for member in self.members.values() for mirror in member.balancer.status()["mirrors"]]
        counted = sum(mirror["client_bytes"] for mirror in ledgers if mirror["service"] == "lines")
        assert sent <= counted <= sent + len(self.moves) * CONNECTIONS * REQUEST_LEN

    def _at_backends(self) -> dict[int, tuple[int, str]]:
        return {**self.traffic.recorders["c1"].by_port(), **self.traffic.recorders["c2"].by_port()}

    def _print(self) -> None:
        waits = [line["waits"] for line in self.traffic.records.lines()]
        ends = [began_at for _, began_at, _ in self.moves[1:]] + [float("inf")]
        for (what, began_at, silences), end in zip(self.moves, ends, strict=True):
            gaps = [
                max((seconds for at, seconds in own if began_at - 2 * PAUSE <= at < end), default=PAUSE)
                for own in waits
            ]
            print(
                f"{what}: {CONNECTIONS} connections: median {statistics.median(gaps):.2f} s, worst {max(gaps):.2f} s"
                f" without progress; {SWITCHES} OpenFlow sessions: median {statistics.median(silences):.2f} s, worst"
                f" {max(silences):.2f} s"
            )

    def _print_legs(self) -> None:
        for host, member in self.members.items():
            for mirror in member.balancer.status()["mirrors"]:
                print(
                    f"{host}, legs of {mirror['service']}: {mirror['legs_opened']} opened, {mirror['legs']} left, ended"
                    f" {mirror['legs_ended']}; {mirror['acked_bytes']} of {mirror['client_bytes']} bytes arrived, lost"
                    f" {mirror['lost_bytes']}"
                )


@contextmanager
def running(rules: str) -> Iterator[Pair]:
    """Start both hosts with these rules; their ``ha.state``, if they have one, is at STATE."""
    with Lab(switches=SWITCHES, pair=True) as lab:
        scene = Scene(lab)
        if STATE in rules:
            lab.add_controller("state", int(STATE.rpartition(".")[2]))
            scene.redis()
        for address in CLIENTS[1:]:
            lab.address("s1", "eth0", address)
        for host in ("lb1", "lb2"):
            # As many firewalls do, with the setting that natmirror's own check advises for them.
            lab.run(host, ["iptables", "-I", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"])
            lab.run(host, ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_be_liberal=1"])
        file = scene.rules(rules)
        members = {host: PairHost(lab, host, file) for host in ("lb1", "lb2")}
        members["lb1"].wait_for_role("master")
        members["lb2"].wait_for_role("backup")
        pair = Pair(scene, members, _start_traffic(scene))
        yield pair
        for member in members.values():
            assert_adds_up(member.balancer.status())
        for program in reversed(scene.programs):
            program.end()


def _start_traffic(scene: Scene) -> Traffic:
    lab = scene.lab
    c1, c2, master = (Pinger(lab, host) for host in ("c1", "c2", "m"))
    recorders = {host: Records(scene.file(f"{host}.jsonl")) for host in ("c1", "c2", "m")}
    for host, records in recorders.items():
        scene.app(host, "recorder", PORT, records.file)
    for host in recorders:
        wait_listen(lab.ns(host), PORT)
    until, progress = scene.file("until"), scene.file("progress")
    records = Records(scene.file("client.jsonl"))
    words = ["--connections", CONNECTIONS, "--size", SIZE, "--until", until, "--progress", progress, "--pause", PAUSE]
    words += ["--sources", ",".join(CLIENTS)]
    client = scene.app("s1", "client", SERVICE, PORT, records.file, *words)
    switches = [OpenVSwitch(lab, number) for number in range(1, SWITCHES + 1)]
    for switch in switches:
        switch.connect(f"tcp:{SERVICE}:{OPENFLOW_PORT}")
    traffic = Traffic(client, records, until, progress, [c1, c2], master, switches, recorders)
    traffic.wait_until_all_go_on(0.0)
    traffic.peers = [switch.peers() for switch in switches]
    return traffic


EVENTS: dict[str, tuple[Callable[[PairHost], None], Callable[[PairHost], None]]] = {
    "killed, cables down": (PairHost.crash, PairHost.boot),
    "stopped": (PairHost.stop, PairHost.start),
    "switches' cable pulled": (lambda member: member.pull("sw0"), lambda member: member.plug("sw0")),
    "pool's cable pulled": (lambda member: member.pull("pl0"), lambda member: member.plug("pl0")),
    "natmirror alone stopped": (PairHost.stop_natmirror, PairHost.start_natmirror),
    "natmirror alone killed": (lambda member: member.balancer.kill(), PairHost.start_natmirror),
}
