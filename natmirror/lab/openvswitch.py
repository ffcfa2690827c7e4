"""An Open vSwitch for each switch host, with the user-space datapath, and hosts behind it that make traffic."""

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from natmirror.errors import HostError
from natmirror.lab.process import Program, wait_accept
from natmirror.lab.topology import Lab

_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_QUIET = ["-vsyslog:off", "-vconsole:off"]
DATA_SIDE = "10.40.0"
PORTS = (1, 2)
_ANSWER_WITHIN = 5  # seconds; on a busy machine a switch or its controller may stand still for some


class OpenVSwitch:
    """Open vSwitch on the lab's switch ``s<number>``, with a bridge br0 and hosts ``h<number>1``, ``h<number>2`` and so
    on: one for each of ``ports``.

    Its datapath id is ``number``, unless another one is given.
    """

    def __init__(
        self,
        lab: Lab,
        number: int,
        *,
        protocols: str = "OpenFlow13",
        datapath_id: int | None = None,
        ports: Sequence[int] = PORTS,
    ) -> None:
        if not _SCHEMA.exists() or shutil.which("ovs-vswitchd") is None:
            raise HostError("Open vSwitch is missing: install the package openvswitch-switch")
        self._lab = lab
        self.number = number
        self.datapath_id = number if datapath_id is None else datapath_id
        self.ports = tuple(ports)
        self.host = f"s{number}"
        self.directory = lab.directory / f"ovs-{self.host}"
        self.directory.mkdir()
        self._database = f"unix:{self.directory}/db.sock"
        names = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        self._environment = {**os.environ, **dict.fromkeys(names, str(self.directory))}
        self._protocols = protocols
        self._add_hosts()
        self._start()

    def connect(self, target: str) -> None:
        """Set the controller, such as ``tcp:10.10.0.100:6653``."""
        self._vsctl("set-controller", "br0", target, "--", "set", "controller", "br0", "connection-mode=out-of-band")

    def disconnect(self) -> None:
        """Remove the controller, so that the connection to it closes."""
        self._vsctl("del-controller", "br0")

    def peers(self) -> list[str]:
        """Return the peers of the established connections, from the switch host's kernel, as ``address:port``."""
        lines = self._lab.run(self.host, ["ss", "-Htn", "state", "established"]).splitlines()
        return [line.split()[3] for line in lines]

    def endpoints_to(self, peer: str) -> list[str]:
        """Return this host's addresses and ports of the established connections to a peer, from its kernel."""
        lines = self._lab.run(self.host, ["ss", "-Htn", "state", "established"]).splitlines()
        return [line.split()[2] for line in lines if line.split()[3] == peer]

    def ping(self, *, count: int = 1) -> bool:
        """Have one host ping the other through the switch: the first packets cause PACKET_INs. Return whether all
        were answered."""
        there = f"{DATA_SIDE}.{self.number}2"
        command = ["ping", "-q", "-c", str(count), "-i", "0.2", "-W", str(_ANSWER_WITHIN), there]
        return " 0% packet loss" in self._lab.run(f"h{self.number}1", command, check=False)

    def forget_flows(self) -> None:
        """Delete the flows that controllers have added, except the table-miss flow."""
        self._ofctl("del-flows", "priority=1", options=["--strict"])
        for port in self.ports:
            self._ofctl("del-flows", f"in_port={port}")

    def flows(self) -> list[str]:
        """Return the switch's flows in the words of ovs-ofctl, without their statistics."""
        lines = self._ofctl("dump-flows", options=["--no-names", "--no-stats"]).splitlines()
        return [line.strip() for line in lines if "actions=" in line]

    def flap(self, port: int) -> None:
        """Take a port down and up again, by its configuration: the controller gets a PORT_STATUS for each."""
        for state in ("down", "up"):
            self._ofctl("mod-port", str(port), state)

    def appctl(self, *words: str) -> str:
        """Give the switch's process a command of ovs-appctl, and return its output."""
        return self._run(["ovs-appctl", f"--target={self.directory}/vswitchd.ctl", *words])

    def freeze(self) -> None:
        """Stop the switch's process: it keeps its connection, and sends nothing."""
        self._vswitchd.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the stopped process."""
        self._vswitchd.send_signal(signal.SIGCONT)

    def _add_hosts(self) -> None:
        for port in self.ports:
            host = f"h{self.number}{port}"
            self._lab.add_host(host)
            self._lab.cable(host, "eth0", self.host, f"p{port}")
            self._lab.address(host, "eth0", f"{DATA_SIDE}.{self.number}{port}")
            self._lab.sysctl(host, neigh__eth0__mcast_solicit=_ANSWER_WITHIN)  # one ARP request a second

    def _start(self) -> None:
        run, database = self.directory, str(self.directory / "conf.db")
        self._run(["ovsdb-tool", "create", database, str(_SCHEMA)])
        self._daemon(
            [
                "ovsdb-server",
                database,
                f"--remote=punix:{run}/db.sock",
                f"--unixctl={run}/ovsdb.ctl",
                f"--log-file={run}/ovsdb.log",
                *_QUIET,
            ]
        )
        wait_accept(run / "db.sock")
        self._vsctl("--no-wait", "init")
        self._vswitchd = self._daemon(
            [
                "ovs-vswitchd",
                self._database,
                f"--unixctl={run}/vswitchd.ctl",
                f"--log-file={run}/vswitchd.log",
                *_QUIET,
            ]
        )
        bridge = [
            *("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", f"protocols={self._protocols}"),
            *("fail_mode=secure", f"other-config:datapath-id={self.datapath_id:016x}"),
        ]
        for port in self.ports:
            bridge += ["--", "add-port", "br0", f"p{port}", "--", "set", "interface", f"p{port}"]
            bridge += [f"ofport_request={port}"]
        self._vsctl(*bridge)

    def _daemon(self, argv: list[str]) -> Program:
        return self._lab.start(self.host, argv, env=self._environment)

    def _vsctl(self, *words: str) -> str:
        return self._run(["ovs-vsctl", f"--db={self._database}", "--timeout=20", *words])

    def _ofctl(self, command: str, *words: str, options: Sequence[str] = ()) -> str:
        management = f"unix:{self.directory}/br0.mgmt"
        return self._run(["ovs-ofctl", "-O", self._protocols, *options, command, management, *words])

    def _run(self, argv: list[str]) -> str:
        return self._lab.run(self.host, argv, env=self._environment)
