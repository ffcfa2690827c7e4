"""The lab's network: switches on one side of a load-balancer host, controllers on the other side.

::

    s1 10.10.0.11 ──┐                                  ┌── c1 10.20.0.11
    s2 10.10.0.12 ──┤ switch side      controller side ├── c2 10.20.0.12
        …           ├──── 10.10.0.1  lb  10.20.0.1 ────┤
                    │     10.10.0.100                  └── m  10.20.0.13  (the master)

With ``pair`` there are two such hosts, ``lb1`` with .1 and ``lb2`` with .2. Then the controllers' gateway is
10.20.0.100, and keepalived decides which host has that address and 10.10.0.100.

Each host is a network namespace; two bridges, in a namespace of their own, connect them. The names of namespaces
contain the id of the process that made them, so that leftovers of a killed run differ from those in use.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from socket import AF_INET
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute, NetNS, netns

from natmirror.errors import HostError
from natmirror.lab.process import Program, kill_all_in, run

PREFIX = "nm-"
VIRTUAL = 100
SERVICE = f"10.10.0.{VIRTUAL}"
SWITCH_SIDE, CONTROLLER_SIDE = "10.10.0", "10.20.0"
CONTROLLERS = {"c1": 11, "c2": 12, "m": 13}

_serial = itertools.count(1)


class Lab:
    """The network and all programs in it; a context manager that leaves nothing behind.

    ``owned`` gives the load-balancer host the service address; ``pair`` makes two hosts. HostError without root.
    """

    def __init__(self, *, switches: int = 1, owned: bool = True, pair: bool = False) -> None:
        self._switches = switches
        self._owned = owned and not pair
        self._balancers = {"lb1": 1, "lb2": 2} if pair else {"lb": 1}
        self._gateway = VIRTUAL if pair else 1
        self._prefix = f"{PREFIX}{os.getpid()}-{next(_serial)}-"
        self._namespaces: list[str] = []
        self._programs: list[Program] = []
        self.directory = Path(tempfile.mkdtemp(prefix="natmirror-lab-"))

    def __enter__(self) -> Self:
        try:
            remove_leftovers()
            self._build()
        except PermissionError:
            self.close()
            raise HostError("network namespaces need root") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all programs and remove the namespaces."""
        for program in reversed(self._programs):
            program.end()
        for namespace in self._namespaces:
            _remove(namespace)
        self._programs.clear()
        self._namespaces.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ns(self, host: str) -> str:
        """Return the namespace of a host: ``s1``, ``lb``, ``c1``, ``c2``, ``m``."""
        return self._prefix + host

    def start(self, host: str, argv: Sequence[str], *, name: str | None = None, **options: Any) -> Program:
        """Start a program on a host; it ends with the lab."""
        log = self.directory / f"{host}-{name or Path(argv[0]).name}-{len(self._programs)}.log"
        program = Program(self.ns(host), argv, log, **options)
        self._programs.append(program)
        return program

    def run(self, host: str, argv: Sequence[str], **options: Any) -> str:
        """Run a program on a host to its end, and return its output."""
        return run(self.ns(host), argv, **options)

    def sysctl(self, host: str, **values: int | str) -> None:
        """Set values below net/ipv4; a double underscore in a name stands for a slash."""
        for name, value in values.items():
            path = "/proc/sys/net/ipv4/" + name.replace("__", "/")
            self.run(host, ["sh", "-c", f"echo {value} > {path}"])

    def add_host(self, host: str) -> str:
        """Add a host without links, and return its namespace."""
        name = self.ns(host)
        netns.create(name)
        self._namespaces.append(name)
        run(name, ["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up"])
        return name

    def cable(self, one: str, one_link: str, other: str, other_link: str) -> None:
        """Connect two hosts with a veth pair."""
        with NetNS(self.ns(one)) as here:
            here.link("add", ifname=one_link, kind="veth", peer={"ifname": other_link, "net_ns_fd": self.ns(other)})
            _up(here, one_link)
        with NetNS(self.ns(other)) as there:
            _up(there, other_link)

    def add_controller(self, host: str, last: int) -> None:
        """Add a host on the controllers' side, with this last byte of its address."""
        self._host(host, "pool", CONTROLLER_SIDE, last)

    def address(self, host: str, link: str, address: str) -> None:
        """Give a host's link an address with a prefix length of 24."""
        with NetNS(self.ns(host)) as here:
            here.addr("add", index=_index(here, link), address=address, prefixlen=24)

    def pull(self, host: str, link: str) -> None:
        """Pull a host's cable: both ends lose their carrier."""
        self._set_cable(host, link, "down")

    def plug(self, host: str, link: str) -> None:
        """Plug a pulled cable in again."""
        self._set_cable(host, link, "up")

    def addresses(self, host: str) -> set[str]:
        """Return a host's current addresses."""
        with NetNS(self.ns(host)) as here:
            return {str(address.get_attr("IFA_ADDRESS")) for address in here.get_addr(family=AF_INET)}

    def _set_cable(self, host: str, link: str, state: str) -> None:
        with NetNS(self.ns("net")) as cables:
            cables.link("set", index=_index(cables, f"{host}-{link}"), state=state)

    def _build(self) -> None:
        self.add_host("net")
        with NetNS(self.ns("net")) as cables:
            for bridge in ("switches", "pool"):
                cables.link("add", ifname=bridge, kind="bridge")
                _up(cables, bridge)
        for host, last in self._balancers.items():
            self.add_host(host)
            self._attach(host, "sw0", "switches", f"{SWITCH_SIDE}.{last}")
            self._attach(host, "pl0", "pool", f"{CONTROLLER_SIDE}.{last}")
            self.sysctl(host, ip_forward=1, conf__all__rp_filter=0, conf__sw0__rp_filter=0, conf__pl0__rp_filter=0)
        if self._owned:
            self.address("lb", "sw0", SERVICE)
        for number in range(1, self._switches + 1):
            self._host(f"s{number}", "switches", SWITCH_SIDE, 10 + number)
        for host, last in CONTROLLERS.items():
            self._host(host, "pool", CONTROLLER_SIDE, last)

    def _host(self, host: str, bridge: str, side: str, last: int) -> None:
        self.add_host(host)
        self._attach(host, "eth0", bridge, f"{side}.{last}")
        with NetNS(self.ns(host)) as here:
            here.route("add", dst="default", gateway=f"{side}.{self._gateway}")

    def _attach(self, host: str, link: str, bridge: str, address: str) -> None:
        port = f"{host}-{link}"
        self.cable(host, link, "net", port)
        with NetNS(self.ns("net")) as cables:
            cables.link("set", index=_index(cables, port), master=_index(cables, bridge))
        self.address(host, link, address)


def remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed."""
    for name in netns.listnetns():
        pid = name.removeprefix(PREFIX).split("-")[0]
        if name.startswith(PREFIX) and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _remove(name)


def leftovers() -> list[str]:
    """Return the namespaces that this process has made and not removed."""
    return [name for name in netns.listnetns() if name.startswith(f"{PREFIX}{os.getpid()}-")]


def _remove(namespace: str) -> None:
    kill_all_in(namespace)
    with suppress(FileNotFoundError):  # another run has removed it meanwhile
        netns.remove(namespace)


def _index(link_netlink: IPRoute, name: str) -> int:
    return int(link_netlink.link_lookup(ifname=name)[0])


def _up(link_netlink: IPRoute, name: str) -> None:
    link_netlink.link("set", index=_index(link_netlink, name), state="up")
