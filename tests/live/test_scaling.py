"""Three active hosts behind a router with a route to each: BIRD runs the configuration of docs/scaling.md unchanged.

The lab's ``lb`` is the router here; ``h1`` to ``h3`` are the hosts.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from natmirror.api.client import ask
from natmirror.lab.process import PATIENCE, Program, wait_for, wait_listen
from natmirror.lab.topology import CONTROLLER_SIDE, CONTROLLERS, SWITCH_SIDE, Lab, leftovers
from tests.helpers.support import assert_adds_up
from tests.live.scene import PORT, ROOT, RULES, Records, assert_all_well

pytestmark = pytest.mark.live

HOSTS = ("h1", "h2", "h3")
SERVICE = "192.0.2.100"
CORE = "10.30.0"
CONNECTIONS = 40
SOURCES = [f"{SWITCH_SIDE}.{number}" for number in range(11, 11 + CONNECTIONS)]
DOCUMENT = (ROOT / "docs" / "scaling.md").read_text()


def block(phrase: str) -> str:
    """Return the document's text that begins with this comment."""
    [found] = [text for text in DOCUMENT.split("```\n")[1::2] if phrase in "".join(text.splitlines(True)[:2])]
    return found


@dataclass
class Fleet:
    """The hosts and their programs."""

    lab: Lab
    birds: dict[str, Program] = field(default_factory=dict)
    announcers: dict[str, Program] = field(default_factory=dict)
    balancers: dict[str, Program] = field(default_factory=dict)
    last: dict[str, dict[str, Any]] = field(default_factory=dict)

    def plug(self, host: str, address: str) -> None:
        """Link a host to the network between router and hosts."""
        self.lab.cable(host, "core0", "net", f"{host}-core0")
        self.lab.run("net", ["ip", "link", "set", f"{host}-core0", "master", "core"])
        self.lab.address(host, "core0", address)

    def build(self) -> None:
        """Build the network of the document."""
        lab = self.lab
        lab.run("net", ["sh", "-c", "ip link add core type bridge && ip link set core up"])
        self.plug("lb", f"{CORE}.1")
        for address in SOURCES[1:]:
            lab.address("s1", "eth0", address)
        for number, host in enumerate(HOSTS, 1):
            lab.add_controller(host, 100 + number)
            self.plug(host, f"{CORE}.{10 + number}")
            lab.sysctl(host, ip_forward=1, conf__all__rp_filter=0, conf__eth0__rp_filter=0)
            lab.run(host, ["ip", "address", "add", f"{SERVICE}/32", "dev", "lo"])
            self.route(host)
        self.reply_to_host()

    def route(self, host: str) -> None:
        """Set a host's route to the clients."""
        self.lab.run(host, ["ip", "route", "replace", f"{SWITCH_SIDE}.0/24", "via", f"{CORE}.1"])

    def reply_to_host(self) -> None:
        """Make backends and master answer to the host that has passed the request on."""
        calls = ""
        for number, host in enumerate(HOSTS, 1):
            mac = self.lab.run(host, ["cat", "/sys/class/net/eth0/address"]).strip()
            calls += f"reply_to_host {number} {mac} {CONTROLLER_SIDE}.{100 + number}\n"
        for host in CONTROLLERS:
            self.lab.run(host, ["sh", "-ec", block("# on a backend") + calls])

    def start(self) -> None:
        """Start the programs of all hosts."""
        text = RULES.read_text().replace("address: 10.10.0.100", f"address: {SERVICE}")
        (self.lab.directory / "rules.yaml").write_text(text)
        self.bird("lb", "# /etc/bird/bird.conf on the router")
        for host in HOSTS:
            self.bird(host)
            self.balance(host)
        for host in HOSTS:
            self.balancers[host].wait_for_text("ready: ")
            self.announce(host)

    def balance(self, host: str) -> None:
        """Start natmirror on a host."""
        argv = [sys.executable, "-m", "natmirror", "--rules", str(self.lab.directory / "rules.yaml")]
        argv += ["--on-stop", "keep", "--api", str(self.api(host))]
        self.balancers[host] = self.lab.start(host, argv, name="natmirror")

    def bird(self, host: str, phrase: str = "# /etc/bird/bird.conf, the same on each host") -> None:
        """Start BIRD on a host."""
        config = self.lab.directory / f"{host}.conf"
        config.write_text(block(phrase))
        self.lab.run(host, ["bird", "-p", "-c", str(config)])
        argv = ["bird", "-f", "-c", str(config), "-s", str(self.socket(host)), "-P", f"{config}.pid"]
        self.birds[host] = self.lab.start(host, argv)

    def announce(self, host: str) -> None:
        """Start the document's announcer on a host, with the sockets of this host's BIRD and natmirror."""
        programs = self.lab.directory / f"{host}-bin"
        programs.mkdir()
        natmirror = f'exec {sys.executable} -m natmirror "$@" --api {self.api(host)}'
        (programs / "natmirror").write_text(f"#!/bin/sh\n{natmirror}\n")
        (programs / "birdcl").write_text(f'#!/bin/sh\nexec /usr/sbin/birdcl -s {self.socket(host)} "$@"\n')
        (programs / "natmirror-announce").write_text(block("# /usr/local/sbin/natmirror-announce"))
        for program in programs.iterdir():
            program.chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
        argv = [str(programs / "natmirror-announce")]
        self.announcers[host] = self.lab.start(host, argv, env={**os.environ, "PATH": path})

    def forget(self, host: str) -> None:
        """Do what the unit does after the announcer has ended."""
        [stop] = [line for line in DOCUMENT.splitlines() if line.startswith("ExecStopPost=-")]
        program, *words = stop.removeprefix("ExecStopPost=-").split()
        self.lab.run(host, [program, "-s", str(self.socket(host)), *words])

    def api(self, host: str) -> Path:
        return self.lab.directory / f"{host}.api"

    def socket(self, host: str) -> Path:
        return self.lab.directory / f"{host}.bird"

    def hops(self) -> set[str]:
        """Return the hosts through which the router has a route to the service."""
        routes = self.lab.run("lb", ["ip", "route", "show", SERVICE])
        return {host for number, host in enumerate(HOSTS, 1) if f"via {CORE}.{10 + number} " in routes}

    def wait_for_hops(self, *hosts: str) -> float:
        """Wait until the router has routes through exactly these hosts; return the seconds that it took."""
        begun = time.monotonic()
        wait_for(lambda: self.hops() == set(hosts), f"routes through {hosts}", 30.0)
        return time.monotonic() - begun

    def status(self, host: str) -> dict[str, Any]:
        self.last[host] = ask("status", self.api(host))
        return self.last[host]

    def picked_up(self, *hosts: str) -> int:
        """Return the number of connections that these hosts have picked up."""
        return sum(self.status(host)["counters"].get("flows_picked_up", 0) for host in hosts)

    def lose(self, host: str, how: str, do: Callable[[], object]) -> None:
        """Remove a host; assert that traffic goes on through the others."""
        others = [other for other in HOSTS if other != host]
        begun = time.monotonic()
        do()
        self.wait_for_hops(*others)
        took, before = time.monotonic() - begun, self.packets(*others)
        wait_for(lambda: self.packets(*others) > before + 4 * CONNECTIONS, "traffic through the others")
        print(f"{host}, {how}: its route gone after {took:.2f} s")

    def gain(self, host: str, do: Callable[[], object]) -> None:
        """Bring a host back; assert that it gets traffic."""
        do()
        print(f"{host} again: its route back after {self.wait_for_hops(*HOSTS):.2f} s")
        before = self.packets(host)
        wait_for(lambda: self.packets(host) > before + CONNECTIONS // 4, "traffic through it")

    def packets(self, *hosts: str) -> int:
        """Return the number of packets that these hosts have passed."""
        return sum(self.status(host)["counters"]["packets_decided_in_c"] for host in hosts)

    def set_links(self, host: str, state: str) -> None:
        """Pull a host's cables, or plug them in again."""
        for link in ("core0", "eth0"):
            self.lab.run(host, ["ip", "link", "set", link, state])
        if state == "up":
            self.route(host)

    def stop(self) -> None:
        """Assert that natmirror ends cleanly on each host."""
        for program in self.balancers.values():
            program.send_signal(signal.SIGCONT)
        assert [program.end(signal.SIGTERM, 15.0) for program in self.balancers.values()] == [0] * len(HOSTS)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Lab(owned=False) as lab:
        fleet = Fleet(lab)
        fleet.build()
        fleet.start()
        yield fleet
        fleet.stop()
    assert leftovers() == []


def test_connections_live_on_while_hosts_freeze_crash_and_are_cut_off(fleet: Fleet) -> None:
    lab = fleet.lab
    recorders = {host: Records(lab.directory / f"{host}.jsonl") for host in CONTROLLERS}
    for host, records in recorders.items():
        lab.start(host, [sys.executable, "-m", "tests.live.apps.recorder", str(PORT), str(records.file)], cwd=ROOT)
        wait_listen(lab.ns(host), PORT)
    print(f"\nall three announced after {fleet.wait_for_hops(*HOSTS):.2f} s")
    until, sent = lab.directory / "until", Records(lab.directory / "client.jsonl")
    argv = [sys.executable, "-m", "tests.live.apps.client", SERVICE, str(PORT), str(sent.file)]
    argv += ["--connections", str(CONNECTIONS), "--sources", ",".join(SOURCES), "--size", "200", "--until", str(until)]
    client = lab.start("s1", argv, cwd=ROOT)
    wait_for(lambda: sum(fleet.status(host)["mirrors"][0]["legs"] for host in HOSTS) == CONNECTIONS, "all legs")
    spread = {host: fleet.status(host)["flows"] for host in HOSTS}
    print(f"connections: {spread}")
    assert min(spread.values()) > 0

    fleet.lose("h1", "natmirror frozen", lambda: fleet.balancers["h1"].send_signal(signal.SIGSTOP))
    wait_for(lambda: fleet.picked_up("h2", "h3") >= spread["h1"], "its connections at the others")
    fleet.gain("h1", lambda: fleet.balancers["h1"].send_signal(signal.SIGCONT))
    fleet.lose("h3", "natmirror killed", lambda: fleet.balancers["h3"].end(signal.SIGKILL))
    fleet.gain("h3", lambda: fleet.balance("h3"))
    fleet.lose("h2", "links cut", lambda: fleet.set_links("h2", "down"))
    fleet.gain("h2", lambda: fleet.set_links("h2", "up"))

    until.touch()
    wait_for(lambda: not client.running(), "the client to end", 60.0)
    got = {port: line for host in ("c1", "c2") for port, line in recorders[host].by_port().items()}
    assert got == assert_all_well(sent, CONNECTIONS), "identical streams at the backends, none moved"
    for host in HOSTS:
        assert_adds_up(fleet.status(host))


def test_a_host_is_announced_only_while_its_health_is_fit(fleet: Fleet) -> None:
    fleet.wait_for_hops(*HOSTS)
    fleet.birds["h1"].end(signal.SIGKILL)
    fleet.wait_for_hops("h2", "h3")
    fleet.bird("h1")
    fleet.wait_for_hops(*HOSTS)
    assert fleet.announcers["h3"].end(timeout=PATIENCE) == 0
    fleet.wait_for_hops("h1", "h2")
    fleet.announcers["h1"].end(signal.SIGKILL)
    fleet.forget("h1")
    fleet.wait_for_hops("h2")
