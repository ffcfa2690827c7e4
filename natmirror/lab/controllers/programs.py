"""Real controllers for the lab, with one interface: backends or masters, for OpenFlow 1.0 and 1.3."""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import ClassVar

from natmirror.errors import HostError
from natmirror.lab.controllers import report_lines
from natmirror.lab.openvswitch import PORTS
from natmirror.lab.process import PATIENCE, Program, wait_accept, wait_for, wait_listen
from natmirror.lab.topology import Lab

PORT = 6653
_MAX_DATAPATHS = 16  # datapaths in FAUCET's configuration
_PROMETHEUS_PORT = 9302


class Controller:
    """A controller that runs on a lab host; it listens when the constructor returns."""

    VERSIONS: ClassVar[tuple[str, ...]] = ("1.0", "1.3")
    REQUIRES: ClassVar[str] = ""
    _REMEDY: ClassVar[str] = "pip install 'natmirror[demo]'"

    def __init__(self, lab: Lab, host: str, version: str = "1.3") -> None:
        if version not in self.VERSIONS:
            raise HostError(f"{type(self).__name__} does not speak OpenFlow {version}")
        if not self._installed():
            raise HostError(f"{self.REQUIRES} is missing; run: {self._REMEDY}")
        self._lab = lab
        self.host = host
        self.version = version
        self.program = self._start()
        wait_listen(lab.ns(host), PORT)

    def knows(self, datapath: int) -> bool:
        """Return whether the controller has got the switch's features."""
        raise NotImplementedError

    def ports(self, datapath: int) -> tuple[int, ...] | None:
        """Return the switch's ports, sorted; an empty tuple until its session is complete; None where the controller
        does not report them."""
        raise NotImplementedError

    def packet_in_count(self, datapath: int) -> int:
        """Return the number of PACKET_INs that the controller got from a switch."""
        raise NotImplementedError

    def packet_ins(self, datapath: int) -> list[str] | None:
        """Return port, length and digest of each PACKET_IN, in order; None where they are not reported."""
        return None

    def ended_sessions(self, datapath: int) -> int | None:
        """Return the number of a switch's sessions that have ended; None where that is not reported."""
        return None

    def wait_until_known(self, datapath: int, timeout: float = PATIENCE) -> None:
        """Wait until the controller has the switch's features, and its ports if it reports them."""
        self._wait(lambda: self.knows(datapath) and self.ports(datapath) != (), f"datapath {datapath}", timeout)

    def wait_for_packet_ins(self, datapath: int, count: int, timeout: float = PATIENCE) -> None:
        """Wait until the controller has got ``count`` PACKET_INs."""
        self._wait(lambda: self.packet_in_count(datapath) >= count, f"{count} PACKET_INs", timeout)

    def end(self) -> int:
        """Stop the controller, and return its exit code."""
        return self.program.end()

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            wait_for(condition, f"{what} at {self.host}", timeout)
        except HostError as error:
            raise HostError(f"{error}; its output:\n{self.program.text}") from None

    def _installed(self) -> bool:
        return importlib.util.find_spec(self.REQUIRES) is not None

    def _start(self) -> Program:
        raise NotImplementedError


class _ReportingController(Controller):
    """One of the lab's own controllers, which report their events in the lines of report_lines.py."""

    _MODULE: ClassVar[str]

    def knows(self, datapath: int) -> bool:
        return any(True for _ in report_lines.reported(self.program.text, "switch", datapath))

    def ports(self, datapath: int) -> tuple[int, ...]:
        return report_lines.reported_ports(self.program.text, datapath)

    def packet_in_count(self, datapath: int) -> int:
        return len(self.packet_ins(datapath))

    def packet_ins(self, datapath: int) -> list[str]:
        return list(report_lines.reported(self.program.text, "packet-in", datapath))

    def ended_sessions(self, datapath: int) -> int:
        return len(list(report_lines.reported(self.program.text, "gone", datapath)))

    def unanswered(self) -> list[str]:
        """Return the kinds of the questions that got no answer."""
        return re.findall(r"^unanswered (\S+)$", self.program.text, re.MULTILINE)

    def _start(self) -> Program:
        words = [
            sys.executable,
            "-m",
            f"natmirror.lab.controllers.{self._MODULE}",
            self.version,
            str(PORT),
            *self._arguments(),
        ]
        return self._lab.start(self.host, words, name=self._MODULE)

    def _arguments(self) -> Sequence[str]:
        return ()


class OsKen(_ReportingController):
    """os-ken with learning_switch.py."""

    REQUIRES = "os_ken"
    _MODULE = "learning_switch"


class Inquirer(_ReportingController):
    """os-ken with inquirer.py, which asks its switch everything and waits ``wait`` seconds for the answers.

    ``echo``: seconds between ECHO_REQUESTs, and the number of unanswered ones above which it closes the connection.
    """

    REQUIRES = "os_ken"
    _MODULE = "inquirer"

    def __init__(
        self, lab: Lab, host: str, version: str = "1.3", *, wait: float = 5.0, echo: tuple[float, int] | None = None
    ) -> None:
        self._wait_seconds, self._echo = wait, echo
        super().__init__(lab, host, version)

    def answers(self) -> dict[str, tuple[bool, float]]:
        """Return for each kind whether the xid was the question's, and the seconds that the answer took."""
        found = re.findall(r"^answer (\S+) (yes|no) (\S+)$", self.program.text, re.MULTILINE)
        return {kind: (matches == "yes", float(seconds)) for kind, matches, seconds in found}

    def wait_until_inquired(self, datapath: int, timeout: float = PATIENCE) -> tuple[int, int]:
        """Wait until all questions are answered or timed out. Return how many were answered, and how many asked."""
        self._wait(lambda: bool(self._inquired(datapath)), f"all answers of datapath {datapath}", timeout)
        answered, asked = self._inquired(datapath)[-1].split()
        return int(answered), int(asked)

    def _inquired(self, datapath: int) -> list[str]:
        return list(report_lines.reported(self.program.text, "inquired", datapath))

    def _arguments(self) -> Sequence[str]:
        return [str(self._wait_seconds), *map(str, self._echo or ())]


class Pinger(_ReportingController):
    """os-ken with pinger.py, which sends an ECHO_REQUEST every 100 ms, so that it speaks first."""

    REQUIRES = "os_ken"
    _MODULE = "pinger"
    INTERVAL = 0.1

    def pongs(self, datapath: int) -> list[tuple[int, float]]:
        """Return the number of each answered request, and the answer's time on the monotonic clock."""
        words = (line.split() for line in report_lines.reported(self.program.text, "pong", datapath))
        return [(int(number), float(at)) for number, at in words]

    def _arguments(self) -> Sequence[str]:
        return [str(self.INTERVAL)]


class StrictHub(_ReportingController):
    """twink with strict_hub.py, which asks one question after another and matches answers by xid only."""

    REQUIRES = "twink"
    _REMEDY = "pip install 'natmirror[test]'"
    _MODULE = "strict_hub"


class OvsTestController(Controller):
    """Open vSwitch's test controller, which logs its messages; it does not ask for ports."""

    REQUIRES = "ovs-testcontroller"

    def knows(self, datapath: int) -> bool:
        """Return whether the log has the switch's FEATURES_REPLY."""
        return bool(self._peers(datapath))

    def ports(self, datapath: int) -> tuple[int, ...] | None:
        """Return the ports in a FEATURES_REPLY of OpenFlow 1.0; None in 1.3, which has none there."""
        if self.version != "1.0":
            return None
        [_, *rest] = re.split(rf"OFPT_FEATURES_REPLY .*dpid:{datapath:016x}", self.program.text) or [""]
        reply = re.split(r"^\d{4}-", rest[-1], maxsplit=1, flags=re.MULTILINE)[0] if rest else ""
        names = re.findall(r"^ (\d+|LOCAL)\(.*\): addr:", reply, re.MULTILINE)
        return tuple(sorted(0xFFFE if name == "LOCAL" else int(name) for name in names))

    def packet_in_count(self, datapath: int) -> int:
        """Return the number of PACKET_INs in the log."""
        text = self.program.text
        return sum(text.count(f"|{peer}: received: OFPT_PACKET_IN") for peer in self._peers(datapath))

    def _peers(self, datapath: int) -> set[str]:
        """Return the connections, by their names in the log, on which the switch has sent its features."""
        pattern = rf"\|([^|\s]+): received: OFPT_FEATURES_REPLY .*dpid:{datapath:016x}"
        return set(re.findall(pattern, self.program.text))

    def _installed(self) -> bool:
        if shutil.which(self.REQUIRES) is None:
            raise HostError("ovs-testcontroller is missing: install the package openvswitch-testcontroller")
        return True

    def _start(self) -> Program:
        control = self._lab.directory / f"{self.host}-testcontroller.ctl"
        protocol = f"OpenFlow{self.version.replace('.', '')}"
        words = ["-O", protocol, f"ptcp:{PORT}", f"--unixctl={control}", "-vsyslog:off", "-vvconn:console:dbg"]
        program = self._lab.start(self.host, [self.REQUIRES, *words])
        wait_accept(control)
        self._lab.run(self.host, ["ovs-appctl", "-t", str(control), "vlog/disable-rate-limit", "vconn"])
        return program


class Faucet(Controller):
    """FAUCET, with an OpenFlow library of its own: it programs one VLAN for all ports before any packet arrives.

    ``forget``: about how many seconds it remembers a host that is silent; FAUCET varies that by chance.
    """

    VERSIONS = ("1.3",)
    REQUIRES = "faucet"

    def __init__(
        self, lab: Lab, host: str, version: str = "1.3", *, switch_ports: Sequence[int] = PORTS, forget: int = 300
    ) -> None:
        self._config = _faucet_config(switch_ports, forget)
        super().__init__(lab, host, version)

    def knows(self, datapath: int) -> bool:
        """Return whether FAUCET has programmed the switch."""
        return f" {_faucet_name(datapath)} Cold start configuring DP\n" in self.program.text

    def ports(self, datapath: int) -> tuple[int, ...]:
        """Return the configured ports that FAUCET reports as up."""
        pattern = rf" {re.escape(_faucet_name(datapath))} Port (\d+) \(\S+\) up\b"
        return tuple(sorted({int(port) for port in re.findall(pattern, self.program.text)}))

    def packet_in_count(self, datapath: int) -> int:
        """Return the number of PACKET_INs in FAUCET's metrics."""
        url = f"http://127.0.0.1:{_PROMETHEUS_PORT}/metrics"
        ask = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
        metrics = self._lab.run(self.host, [sys.executable, "-c", ask])
        found = re.findall(rf'^of_packet_ins_total{{.*dp_id="0x{datapath:x}".*}} (\S+)$', metrics, re.MULTILINE)
        return int(sum(map(float, found)))

    def _start(self) -> Program:
        config = self._lab.directory / f"{self.host}-faucet.yaml"
        config.write_text(self._config)
        environment = {
            "FAUCET_CONFIG": str(config),
            "FAUCET_LOG": "STDOUT",
            "FAUCET_EXCEPTION_LOG": "STDERR",
            "FAUCET_PROMETHEUS_ADDR": "127.0.0.1",
            "FAUCET_PROMETHEUS_PORT": str(_PROMETHEUS_PORT),
            "PYTHONUNBUFFERED": "1",
        }
        words = [sys.executable, "-m", "faucet", f"--ryu-ofp-tcp-listen-port={PORT}", "--ryu-config-file=/dev/null"]
        return self._lab.start(self.host, words, name="faucet", env={**os.environ, **environment})


def _faucet_name(datapath: int) -> str:
    return f"DPID {datapath} (0x{datapath:x}) s{datapath}"


def _faucet_config(ports: Sequence[int], forget: int) -> str:
    text = "vlans:\n  lab: {vid: 100}\ndps:\n"
    links = ", ".join(f"{port}: {{native_vlan: lab}}" for port in ports)
    neighbours = min(30, forget // 3)  # FAUCET's default; less than half is its limit
    settings = f"timeout: {forget}, arp_neighbor_timeout: {neighbours}, nd_neighbor_timeout: {neighbours}"
    for datapath in range(1, _MAX_DATAPATHS + 1):
        text += f"  s{datapath}: {{dp_id: {datapath}, hardware: Open vSwitch, {settings}, interfaces: {{{links}}}}}\n"
    return text


KINDS: tuple[type[Controller], ...] = (OsKen, Inquirer, StrictHub, OvsTestController, Faucet)
