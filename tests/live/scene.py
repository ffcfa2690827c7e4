"""The lab of one test: natmirror in the middle, recorders as controllers, and clients."""

import json
import os
import re
import signal
import struct
import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from textwrap import dedent
from typing import Any

import dpkt

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for, wait_listen
from natmirror.lab.sniffer import start_sniffer
from natmirror.lab.topology import SERVICE, Lab
from tests.helpers.support import assert_adds_up

PORT = 6653
MASTER = IPv4Address("10.20.0.13").packed
TABLE = "table ip natmirror"
STATE = "10.20.0.30"
"""The address at which hosts share their state, if they do."""

CLIENTS = ("10.10.0.11", "10.10.0.21", "10.10.0.22", "10.10.0.24")
"""Addresses of the client host: one for each of up to four threads."""
THREADS = os.environ.get("NATMIRROR_LIVE_THREADS")
"""The number of threads with which all tests run; None: as the rules say."""
ROOT = Path(__file__).parents[2]
RULES = ROOT / "rules" / "lb.yaml"


@dataclass(slots=True)
class Records:
    """One program's records of its connections, by the client's port."""

    file: Path

    def by_port(self) -> dict[int, tuple[int, str]]:
        """Return the bytes and the digest of each connection."""
        return {line["port"]: (line["bytes"], line["sha256"]) for line in self.lines()}

    def lines(self) -> list[dict[str, Any]]:
        """Return all records."""
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []


@dataclass(slots=True)
class Scene:
    """Runs the lab's programs; close() ends them."""

    lab: Lab
    programs: list[Program] = field(default_factory=list)
    balancers: list[LoadBalancer] = field(default_factory=list)
    recorders: dict[str, Records] = field(default_factory=dict)
    clients: list[Records] = field(default_factory=list)
    losses: list[tuple[str, list[str]]] = field(default_factory=list)
    count: int = 0

    def file(self, name: str) -> Path:
        """Return a new file name."""
        self.count += 1
        return self.lab.directory / f"{len(list(self.lab.directory.iterdir()))}-{self.count}-{name}"

    def start(self, host: str, *argv: str, name: str = "program") -> Program:
        """Start a program on a host."""
        program = self.lab.start(host, argv, name=name, cwd=ROOT)
        self.programs.append(program)
        return program

    def redis(self) -> Program:
        """Start Redis on the host ``state``, which has the address STATE."""
        words = ["--bind", STATE, "--protected-mode", "no", "--save", "", "--dir", str(self.lab.directory)]
        program = self.start("state", "redis-server", *words, name="redis")
        wait_listen(self.lab.ns("state"), 6379)
        return program

    def app(self, host: str, name: str, *arguments: object) -> Program:
        """Start one of tests/live/apps on a host."""
        return self.start(host, sys.executable, "-m", f"tests.live.apps.{name}", *map(str, arguments), name=name)

    def record(self, *hosts: str, **options: Any) -> dict[str, Program]:
        """Start recorders on some hosts."""
        started = {}
        for host in hosts:
            self.recorders[host] = Records(self.file(f"{host}.jsonl"))
            started[host] = self.app(host, "recorder", PORT, self.recorders[host].file, *_flags(options))
        for host in hosts:
            wait_listen(self.lab.ns(host), PORT)
        return started

    def balance(self, rules: Path | str = RULES, **options: Any) -> LoadBalancer:
        """Start natmirror on the load-balancer host."""
        if THREADS and not re.search("^threads:", Path(rules).read_text(), re.MULTILINE):
            rules = self.with_threads(rules, int(THREADS))
        balancer = LoadBalancer(self.lab, rules, **options)
        self.balancers.append(balancer)
        return balancer

    def rules(self, text: str) -> Path:
        """Write a rules file."""
        path = self.file("rules.yaml")
        path.write_text(text)
        return path

    def with_threads(self, rules: Path | str, count: int) -> Path:
        """Return the same rules with this number of threads."""
        return self.rules(f"threads: {count}\n{dedent(Path(rules).read_text())}")

    def client(self, to: str = SERVICE, **options: Any) -> tuple[Program, Records]:
        """Start a client on the client host, and do not wait for it. It connects to the address ``to``."""
        options = {"sources": ",".join(CLIENTS), **options}
        records = Records(self.file("client.jsonl"))
        self.clients.append(records)
        return self.app("s1", "client", to, PORT, records.file, *_flags(options)), records

    def finish(self, client: Program, timeout: float = 60.0) -> None:
        """Wait until a client ends."""
        wait_for(lambda: not client.running(), "the client to end", timeout)
        assert client.popen.returncode == 0, client.text

    def run_client(self, **options: Any) -> Records:
        """Run a client to its end."""
        client, records = self.client(**options)
        self.finish(client)
        return records

    def lose(self, host: str, percent: float) -> None:
        """Make a host lose some of the TCP packets that it receives."""
        rule = ["PREROUTING", "-p", "tcp", "-m", "statistic", "--mode", "random"]
        rule += ["--probability", str(percent / 100), "-j", "DROP"]
        self.lab.run(host, ["iptables", "-t", "raw", "-A", *rule])
        self.losses.append((host, rule))

    def heal(self) -> None:
        """Make no host lose packets any more."""
        for host, rule in self.losses:
            self.lab.run(host, ["iptables", "-t", "raw", "-D", *rule])
        self.losses.clear()

    def sniff(self, host: str, link: str) -> tuple[Program, Path]:
        """Start a capture of a link's packets."""
        file = self.file(f"{host}-{link}.pcap")
        sniffer = start_sniffer(self.lab, host, link, file)
        self.programs.append(sniffer)
        return sniffer, file

    def at_backends(self) -> dict[int, tuple[int, str]]:
        """Return the records of c1 and c2 together."""
        return {port: got for host in ("c1", "c2") if host in self.recorders for port, got in self._got(host).items()}

    def at_master(self) -> dict[int, tuple[int, str]]:
        """Return the master's records."""
        return self._got("m")

    def wait_for_master(self, *ports: int) -> None:
        """Wait until the master has recorded the connections from these ports: its kernel acknowledges their bytes and
        their ends before."""
        wait_for(lambda: self.at_master().keys() >= {*ports}, "the master to have all streams")

    def _got(self, host: str) -> dict[int, tuple[int, str]]:
        return self.recorders[host].by_port()

    def traces(self) -> dict[str, object]:
        """Return what a run of natmirror may have left on the load-balancer host: iptables rules, a table, and
        queues."""
        queues = self.lab.run("lb", ["cat", "/proc/net/netfilter/nfnetlink_queue"])
        rules = [
            line
            for backend in ("nft", "legacy")
            for line in self.lab.run("lb", [f"iptables-{backend}-save"]).splitlines()
            if "NATMIRROR" in line or "NFQUEUE" in line
        ]
        return {"queues": queues, "rules": rules, "table": TABLE in self.lab.run("lb", ["nft", "list", "tables"])}

    def close(self) -> None:
        """End all programs; assert that natmirror stops cleanly."""
        codes = [balancer.stop() for balancer in self.balancers if balancer.program.running()]
        for program in reversed(self.programs):
            program.send_signal(signal.SIGCONT)
            program.end()
        self.heal()
        for balancer in self.balancers:
            if status := balancer.status():
                assert_adds_up(status)
        self._assert_the_ledger_tells_the_truth()
        assert all(code == 0 for code in codes), [balancer.program.text for balancer in self.balancers]

    def _assert_the_ledger_tells_the_truth(self) -> None:
        """Assert that the sums of a natmirror that saw all packets, with all legs closed, are the clients' and the
        master's own."""
        if len(self.balancers) != 1 or not self.clients or "m" not in self.recorders:
            return
        status = self.balancers[0].status()
        for mirror in status["mirrors"]:
            if set(mirror["legs_ended"]) == {"closed"} and not mirror["legs"] and not mirror["lost_bytes"]:
                sent = sum(count for records in self.clients for count, _ in records.by_port().values())
                at_master = sum(line["bytes"] for line in self.recorders["m"].lines())
                assert (mirror["client_bytes"], mirror["acked_bytes"]) == (sent, at_master)


def _flags(options: dict[str, Any]) -> list[str]:
    return [
        word
        for name, value in options.items()
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


def assert_all_well(records: Records, count: int) -> dict[int, tuple[int, str]]:
    """Assert that no connection of the client had an error; return what it sent."""
    lines = records.lines()
    assert [line for line in lines if line["error"]] == []
    assert len(lines) == count
    return records.by_port()


def without_mirrors() -> str:
    """Return the text of the usual rules without their mirrors."""
    text = RULES.read_text()
    return text[: text.index("    mirrors:")]


SOON_FORGOTTEN = "timeouts: {closed: 5s}\n"
"""A line of rules by which flows that have closed leave the table as soon as the rules allow."""


def rules(scene: Scene, **settings: str) -> str:
    """Return the usual rules with settings for the master."""
    words = "".join(f", {key.replace('_', '-')}: {value}" for key, value in settings.items())
    return str(scene.rules(SOON_FORGOTTEN + RULES.read_text().replace("10.20.0.13}", f"10.20.0.13{words}}}")))


def wait_for_ends(balancer: LoadBalancer, count: int, timeout: float = 60.0) -> dict[str, int]:
    """Wait until this number of legs has ended, and all flows with them; return the legs' counts by reason."""
    balancer.wait_for_status(
        lambda status: sum(status["mirrors"][0]["legs_ended"].values()) == count and not status["mirrors"][0]["legs"],
        "the legs to end",
        timeout,
    )
    ended: dict[str, int] = balancer.status()["mirrors"][0]["legs_ended"]
    return ended


def ip_packets(file: Path) -> list[dpkt.ip.IP]:
    """Return the IPv4 packets in a capture of an Ethernet link."""
    with file.open("rb") as raw:
        payloads = [dpkt.ethernet.Ethernet(frame).data for _, frame in dpkt.pcap.Reader(raw)]
    return [ip for ip in payloads if isinstance(ip, dpkt.ip.IP)]


def tcp_packets(file: Path) -> list[dpkt.ip.IP]:
    """Return the TCP packets."""
    return [ip for ip in ip_packets(file) if isinstance(ip.data, dpkt.tcp.TCP)]


def has_right_sums(ip: dpkt.ip.IP) -> bool:
    """Return whether both checksums of a TCP packet are right for a receiver, which accepts either zero."""
    head, tcp = bytes(ip)[: ip.hl * 4], bytes(ip.data)
    pseudo = ip.src + ip.dst + struct.pack("!HH", ip.p, len(tcp))
    return [dpkt.in_cksum(head), dpkt.in_cksum(pseudo + tcp)] == [0, 0]
