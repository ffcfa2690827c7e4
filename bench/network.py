"""The benchmark's network: a lab with tuned hosts, servers that run all the time, and the load's clients."""

import json
import resource
import subprocess
import time
from types import TracebackType
from typing import Self

from bench.programs import Programs
from natmirror.errors import HostError
from natmirror.lab.process import Program, wait_for, wait_listen
from natmirror.lab.topology import CONTROLLER_SIDE, CONTROLLERS, SWITCH_SIDE, Lab

PORT = 6653
PORTS = 4
"""The number of ports on which the backend listens. A proxy has only 64k ports of its own for each of them."""
SILENT_PORT = 7000
BACKEND = f"{CONTROLLER_SIDE}.{CONTROLLERS['c1']}"
MIRRORS = [f"{CONTROLLER_SIDE}.{CONTROLLERS['m'] + index}" for index in range(3)]
"""The addresses of the three mirrors, which are one host."""

_FIRST_SOURCE = 120
_SOURCES = 16  # client addresses: 100,000 connections need several, and closed ones keep their ports for a minute
_SOURCE = f"{SWITCH_SIDE}.{_FIRST_SOURCE}"
_END_MARGIN = 40.0  # seconds that a client may take besides its measure: more than its own limits together
_TUNING = {
    "core/somaxconn": "65535",
    "ipv4/tcp_max_syn_backlog": "65535",
    "ipv4/ip_local_port_range": "1025 65535",
    "ipv4/tcp_tw_reuse": "1",  # frees the ports of connections that a proxy or the client has closed sooner
}
_CONNTRACK_TUNING = {"netfilter/nf_conntrack_tcp_timeout_time_wait": "5"}  # so closed connections do not fill the table
_WANTED_FILES = 400_000
_SPARE_FILES = 2000  # of a process's limit, for files besides idle connections, and for an uneven share of a worker


def raise_files_limit() -> int:
    """Let this process and its children open as many files as the system allows; return the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, _WANTED_FILES), max(hard, _WANTED_FILES)))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _shares(count: int) -> list[int]:
    """Divide connections among processes, by the limit of open files."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES
    return [min(room, count - start) for start in range(0, count, room)]


class Network:
    """A lab with a server on the backend and on the mirrors' host; a context manager.

    Mirrors answer as the backend does, except on SILENT_PORT, where they only read. The servers hold up to ``flows``
    connections.
    """

    def __init__(self, programs: Programs, *, flows: int = 0) -> None:
        self.programs = programs
        self._workers = max(1, len(_shares(flows)))
        self.lab = Lab()

    def __enter__(self) -> Self:
        self.lab.__enter__()
        try:
            self._set_up()
        except BaseException:
            self.lab.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lab.close()

    def measure(self, name: str, to: str, *, connections: int, seconds: float, **more: object) -> dict[str, float]:
        """Run one of the load's clients on the switch and return the figures that it prints; HostError where it
        fails."""
        command = self.client(name, to, connections=connections, seconds=seconds, **more)
        try:
            return dict(json.loads(self.lab.run("s1", command, timeout=seconds + _END_MARGIN)))
        except subprocess.TimeoutExpired:
            raise HostError(f"the load did not end within {seconds + _END_MARGIN:g} s") from None
        except HostError as error:
            raise HostError(str(error).partition(": ")[2] or str(error)) from None

    def hold(self, to: str, count: int, seconds: float, *, port: int = PORT) -> tuple[list[Program], int, float]:
        """Open ``count`` connections that send no data, in at most ``seconds``. Return the programs that keep them
        open, the number of open connections, and the seconds that opening them took."""
        start = time.monotonic()
        programs = [
            self.lab.start("s1", self.client("idle", to, connections=share, seconds=seconds, port=port), name="idle")
            for share in _shares(count)
        ]

        def are_open() -> bool:
            return all("\n" in program.text or not program.running() for program in programs)

        wait_for(are_open, "the idle connections", seconds + _END_MARGIN)
        took = time.monotonic() - start
        for program in programs:
            if not program.running():
                raise HostError(f"the idle connections: {program.text.strip()}")
        return programs, sum(json.loads(program.text.splitlines()[0])["open"] for program in programs), took

    def client(self, name: str, to: str, **options: object) -> list[str]:
        """Return the command of one of the load's clients."""
        known = {"to": to, "port": PORT, "from": _SOURCE, "sources": _SOURCES, **options}
        return self._load(name, known)

    def _load(self, name: str, options: dict[str, object]) -> list[str]:
        words = (word for key, value in options.items() for word in (f"--{key}", str(value)))
        return [str(self.programs.load), name, *words]

    def _set_up(self) -> None:
        for host in ("s1", "lb", "c1", "m"):
            self._tune(host, _TUNING)
        self._tune("lb", _CONNTRACK_TUNING)
        for number in range(_SOURCES):
            self.lab.address("s1", "eth0", f"{SWITCH_SIDE}.{_FIRST_SOURCE + number}")
        for address in MIRRORS[1:]:
            self.lab.address("m", "eth0", address)
        serve = self._load("serve", {"port": PORT, "ports": PORTS, "workers": self._workers})
        self.lab.start("c1", serve)
        self.lab.start("m", serve)
        self.lab.start("m", [*self._load("serve", {"port": SILENT_PORT, "ports": 1, "workers": 1}), "--silent"])
        for host, port in (("c1", PORT), ("m", PORT), ("m", SILENT_PORT)):
            wait_listen(self.lab.ns(host), port)

    def _tune(self, host: str, values: dict[str, str]) -> None:
        """Set values below /proc/sys/net; some of them exist only once a kernel module is loaded."""
        for name, value in values.items():
            path = f"/proc/sys/net/{name}"
            self.lab.run(host, ["sh", "-c", f"test ! -e {path} || echo {value} > {path}"])
