"""The contenders: the programs and kernel functions that the benchmark compares on the path from client to backend.

The option ``--way`` and the key ``way`` of a sample hold a contender's name.
"""

import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench.machine import CONTENDER_CORES
from bench.network import BACKEND, MIRRORS, PORT, PORTS, SILENT_PORT, Network
from bench.results import Ledger
from natmirror.api.client import ask
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_listen
from natmirror.lab.topology import SERVICE

_STOP_TIMEOUT = 20.0
_DRAIN_TIMEOUT = 10.0
_DRAIN_POLL = 0.05
MAX_FLOWS = 150_000
_SPARE_FILES = 400  # descriptors for everything except idle connections
_NGINX_EVENNESS = 0.6  # the usable part of its workers' limits: connections are not spread evenly over the workers
_COMPLAINTS = ("error", "warning", "traceback", "exception", "alert", "emerg", "cannot")

HAPROXY = """
global
  maxconn {flows}
defaults
  mode tcp
  maxconn {flows}
  timeout connect 5s
  timeout client 10m
  timeout server 10m
listen service
  bind {service}:{port} backlog 65535
{servers}
"""
NGINX = """
load_module modules/ngx_stream_module.so;
daemon off;
user root;
pid {directory}/nginx.pid;
error_log stderr;
worker_processes {workers};
events {{ worker_connections {connections}; }}
stream {{
  upstream pool {{ {servers} }}
  server {{ listen {service}:{port} backlog=65535; proxy_pass pool;
    proxy_connect_timeout 5s; proxy_timeout 10m; proxy_half_close on; }}
}}
"""
RULES = """
switches: [10.10.0.0/24]
services:
  - name: bench
    address: {service}
    port: {port}
    pool: {{backends: [{{name: c1, address: {backend}}}]}}
"""


class Contender:
    """A contender: its ``name`` for programs, its ``title`` for people, and the ``target`` that clients connect to."""

    name: str
    title: str
    target = SERVICE

    def start(self, network: Network) -> None:
        """Start it, and wait until it is ready; HostError where that fails."""

    def stop(self) -> None:
        """Stop it, and remove everything that start() has set up."""

    def check(self) -> None:
        """Raise HostError if it no longer runs."""

    def max_flows(self) -> int:
        """Return how many connections it can hold at once."""
        return MAX_FLOWS

    def complaints(self) -> list[str]:
        """Return the lines of its log that report trouble."""
        return []


class Forwarding(Contender):
    """The kernel routes the packets; clients connect to the backend's own address."""

    name, title, target = "forward", "kernel forwarding, no NAT", BACKEND


class KernelDnat(Contender):
    """The kernel's conntrack and DNAT."""

    name, title = "dnat", "kernel DNAT"
    _RULE = (
        *("PREROUTING", "-d", SERVICE, "-p", "tcp", "--dport", str(PORT)),
        *("-j", "DNAT", "--to-destination", f"{BACKEND}:{PORT}"),
    )

    def start(self, network: Network) -> None:
        self._lab = network.lab
        self._lab.run("lb", ["iptables", "-t", "nat", "-A", *self._RULE])

    def stop(self) -> None:
        self._lab.run("lb", ["iptables", "-t", "nat", "-D", *self._RULE], check=False)


class ProgramContender(Contender):
    """A contender that is a program on the load-balancer host."""

    program: Program | None = None

    def _log(self) -> list[str]:
        """Return the lines of its log, without the path of the lab's directory, which does not outlive the run."""
        return self.program.text.replace(f"{self.program.log.parent}/", "").splitlines() if self.program else []

    def _wait_listen(self, network: Network) -> None:
        try:
            wait_listen(network.lab.ns("lb"), PORT)
        except HostError:
            self.check()
            raise

    def stop(self) -> None:
        if self.program is not None:
            self._ended(self.program.end(signal.SIGTERM, _STOP_TIMEOUT))
            self.program = None

    def _ended(self, code: int) -> None:
        """Clean up after the program has ended, with this exit code."""

    def check(self) -> None:
        if self.program is None or not self.program.running():
            last_line = "".join(self._log()[-1:])
            code = self.program.popen.returncode if self.program else None
            raise HostError(f"the program has ended with exit code {code}; the last line of its log: {last_line!r}")

    def complaints(self) -> list[str]:
        return [line for line in self._log() if any(word in line.lower() for word in _COMPLAINTS)]


def _max_proxied() -> int:
    """Return how many connections a proxy's process can hold: each takes two descriptors."""
    return min(MAX_FLOWS, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES) // 2)


class HAProxy(ProgramContender):
    """HAProxy in TCP mode, with a thread for each of its cores."""

    name, title = "haproxy", "HAProxy, TCP mode"

    def max_flows(self) -> int:
        return _max_proxied()

    def start(self, network: Network) -> None:
        servers = "\n".join(f"  server s{number} {BACKEND}:{PORT + number}" for number in range(PORTS))
        config = network.lab.directory / "haproxy.cfg"
        config.write_text(
            HAPROXY.format(flows=_max_proxied() + _SPARE_FILES // 4, service=SERVICE, port=PORT, servers=servers)
        )
        self.program = network.lab.start("lb", ["haproxy", "-db", "-f", str(config)])
        self._wait_listen(network)


class Nginx(ProgramContender):
    """nginx's stream module, with a worker for each of its cores."""

    name, title = "nginx", "nginx stream"

    def max_flows(self) -> int:
        return int(_max_proxied() * len(CONTENDER_CORES) * _NGINX_EVENNESS)

    def start(self, network: Network) -> None:
        directory = network.lab.directory
        servers = " ".join(f"server {BACKEND}:{PORT + number};" for number in range(PORTS))
        config = directory / "nginx.conf"
        values = {
            "workers": len(CONTENDER_CORES),
            "connections": 2 * _max_proxied() + _SPARE_FILES // 2,
            "service": SERVICE,
            "port": PORT,
            "servers": servers,
        }
        config.write_text(NGINX.format(directory=directory, **values))
        command = ["nginx", "-c", str(config), "-e", "stderr", "-p", "/usr/share/nginx"]
        self.program = network.lab.start("lb", command)
        self._wait_listen(network)


class QueueContender(ProgramContender):
    """A program that translates the packets of an NFQUEUE."""

    _QUEUE = ("-j", "NFQUEUE", "--queue-num", "1")
    _RULES = (
        ("raw", "PREROUTING", "-d", SERVICE, "-p", "tcp", "--dport", str(PORT), *_QUEUE),
        ("mangle", "FORWARD", "-s", BACKEND, "-p", "tcp", "--sport", str(PORT), *_QUEUE),
    )

    def _command(self, network: Network) -> list[str]:
        raise NotImplementedError

    def start(self, network: Network) -> None:
        self._lab = network.lab
        self.program = network.lab.start("lb", self._command(network), name=self.name)
        self.program.wait_for_text("ready")
        self._rules("-A")

    def stop(self) -> None:
        self._rules("-D", check=False)
        super().stop()

    def _rules(self, command: str, *, check: bool = True) -> None:
        for table, *rule in self._RULES:
            self._lab.run("lb", ["iptables", "-t", table, command, *rule], check=check)


class Dpkt(QueueContender):
    """The simplest program: a Python callback for each packet."""

    name, title = "dpkt", "netfilterqueue + dpkt"

    def _command(self, network: Network) -> list[str]:
        script = Path(__file__).with_name("dpkt_nat.py")
        return [sys.executable, "-u", str(script), SERVICE, BACKEND, str(PORT)]


class BareLoop(QueueContender):
    """A loop in C without flows: the lowest cost of translation by NFQUEUE."""

    name, title = "bare-loop", "bare loop in C"

    def _command(self, network: Network) -> list[str]:
        return [str(network.programs.bare_loop), "1", SERVICE, BACKEND]


class Natmirror(ProgramContender):
    """natmirror with mirrors that have default settings. They answer as the backend does, or ``only_read``."""

    def __init__(self, mirrors: int, *, only_read: bool = False) -> None:
        self.mirrors = mirrors
        self._port = SILENT_PORT if only_read else PORT
        self.name = f"natmirror-{mirrors}" + "-silent" * only_read
        words = {0: "no mirror", 1: "1 mirror"}
        self.title = f"natmirror, {words.get(mirrors, f'{mirrors} mirrors')}" + " that only reads" * only_read

    def start(self, network: Network) -> None:
        text = RULES.format(service=SERVICE, port=PORT, backend=BACKEND)
        places = (
            f"{{name: m{number}, address: {MIRRORS[number]}, port: {self._port}}}" for number in range(self.mirrors)
        )
        lines = [f"      - {place}" for place in places]
        path = network.lab.directory / f"{self.name}.yaml"
        path.write_text(text + "\n".join(["    mirrors:"] * bool(lines) + lines) + "\n")
        self._lab = network.lab
        balancer = LoadBalancer(network.lab, path)
        self.program, self._api = balancer.program, balancer.api

    def _ended(self, code: int) -> None:
        """Remove the rules that a crashed natmirror leaves: they would drop the next contender's packets."""
        if code:
            self._lab.run("lb", [sys.executable, "-m", "natmirror", "cleanup"])

    def status(self) -> dict[str, Any]:
        return dict(ask("status", self._api))

    def settled(self) -> tuple[dict[str, Any], float]:
        """Wait until its mirrors have acknowledged everything, or for _DRAIN_TIMEOUT; return its status then, and the
        seconds waited."""
        start = time.monotonic()
        while True:
            status, waited = self.status(), time.monotonic() - start
            if waited > _DRAIN_TIMEOUT or not any(mirror["pending_bytes"] for mirror in status["mirrors"]):
                return status, waited
            time.sleep(_DRAIN_POLL)


def ledger(before: dict[str, Any], after: dict[str, Any], waited: float) -> Ledger:
    """Return what mirrors got between two states, summed over all mirrors."""
    total = Ledger(wait_seconds=round(waited, 3))
    for old, new in zip(before["mirrors"], after["mirrors"], strict=True):
        total.client_bytes += new["client_bytes"] - old["client_bytes"]
        total.acked_bytes += new["acked_bytes"] - old["acked_bytes"]
        total.pending_bytes += new["pending_bytes"]
        total.legs_opened += new["legs_opened"] - old["legs_opened"]
        for ours, key in ((total.lost_bytes, "lost_bytes"), (total.legs_ended, "legs_ended")):
            for reason, count in new[key].items():
                if more := count - old[key].get(reason, 0):
                    ours[reason] = ours.get(reason, 0) + more
    return total


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Return the counters that changed between two states, and by how much: the engine's, drops, queues and outbox."""
    old, new = _flat(before), _flat(after)
    return {key: value - old.get(key, 0) for key, value in new.items() if value != old.get(key, 0)}


def _flat(status: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix] = value

    walk("", {key: status[key] for key in ("counters", "drops", "machine") if key in status})
    return found


def all_contenders() -> list[Contender]:
    """Return all contenders, in the order of the tables."""
    others = [Forwarding(), KernelDnat(), HAProxy(), Nginx(), Dpkt(), BareLoop()]
    return [*others, Natmirror(0), Natmirror(1), Natmirror(1, only_read=True), Natmirror(3)]
