"""The lab of these measurements: two switches with four hosts each, production's controller, and any number of others
as masters at the same time. Masters cannot disturb each other, so that one run judges all of them."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from natmirror.lab.controllers import report_lines
from natmirror.lab.controllers.programs import PORT, Faucet
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import Program, wait_for, wait_listen
from natmirror.lab.topology import CONTROLLER_SIDE, SERVICE, Lab
from tests.live.verdict.catalogue import FAUCET, FAUCET_BUG
from tests.live.verdict.traffic import PORTS, Traffic

SWITCHES = (1, 2)
SERVICE_NAME = "openflow"
_FORGET = {FAUCET.name: 16, FAUCET_BUG.name: 200}  # seconds, by the variant
_FIRST = 20  # last byte of the first master's address
_ROOT = Path(__file__).parents[3]
_RULES = """\
switches: [10.10.0.0/24]
known-switches: {known}
services:
  - name: {service}
    address: {address}
    port: {port}
    pool:
      backends: [{{name: c1, address: 10.20.0.11}}]
    mirrors:
"""
_MIRROR = "      - {{name: {name}, address: {address}, protocol: openflow, reconnect: next-message, {verdict}}}\n"


class Master:
    """A variant of the learning switch on a host of its own."""

    def __init__(self, lab: Lab, host: str, version: str, variant: str) -> None:
        words = [sys.executable, "-m", "tests.live.verdict.controller", version, str(PORT), variant]
        if variant == "crash":  # what a service manager does
            again = " ".join([*words[:-1], "same"])
            words = ["sh", "-c", f"{' '.join(words)}; sleep 1; exec {again}"]
        self.name = variant
        self.program: Program = lab.start(host, words, name=variant, cwd=_ROOT)
        self._namespace = lab.ns(host)

    def wait_until_it_listens(self) -> None:
        wait_listen(self._namespace, PORT, 60.0)

    def knows(self, switch: int) -> bool:
        """Return whether the session with a switch is complete."""
        return report_lines.reported_ports(self.program.text, switch) != ()

    def packet_in_count(self) -> int:
        return self.program.text.count("\npacket-in ")

    def first_effect(self) -> int | None:
        """Return how many PACKET_INs the controller had got when its bug had an effect; None as long as it has none."""
        for line in self.program.text.splitlines():
            if line.startswith("effect "):
                return int(line.split()[1])
        return None


class FaucetMaster:
    """FAUCET in place of a learning switch; with a bug, it remembers hosts for much longer."""

    def __init__(self, lab: Lab, host: str, version: str, variant: str) -> None:
        self.name = variant
        self._faucet = Faucet(lab, host, version, switch_ports=PORTS, forget=_FORGET[variant])

    def wait_until_it_listens(self) -> None:
        """Its constructor has waited."""

    def knows(self, switch: int) -> bool:
        """Return whether FAUCET has programmed a switch."""
        return self._faucet.knows(switch)

    def first_effect(self) -> int | None:
        """Return 0 for the bug, since FAUCET does not report it."""
        return 0 if self.name == FAUCET_BUG.name else None


class Stage:
    """Production and masters, with natmirror between them and the switches; sessions are complete when the constructor
    returns. A context manager that stops the traffic."""

    def __init__(
        self,
        lab: Lab,
        version: str,
        masters: Sequence[str],
        *,
        production: str = "same",
        twin: str | None = None,
        rate: float = 20.0,
        seed: int = 1,
        addresses: int = 1,
        warm_up: str = "0s",
    ) -> None:
        self.lab, self.version, self.twin = lab, version, twin
        self.masters: dict[str, Master | FaucetMaster] = {}
        self.production = _start(lab, "c1", version, production)
        text = _RULES.format(known=lab.directory / "known.json", service=SERVICE_NAME, address=SERVICE, port=PORT)
        for number, (name, variant) in enumerate(_named(masters)):
            lab.add_controller(name, _FIRST + number)
            self.masters[name] = _start(lab, name, version, variant)
            verdict = f"verdict: on, warm-up: {warm_up}" + (f", twin: {twin}" if twin and twin != name else "")
            text += _MIRROR.format(name=name, address=f"{CONTROLLER_SIDE}.{_FIRST + number}", verdict=verdict)
        for master in (self.production, *self.masters.values()):
            master.wait_until_it_listens()
        rules = lab.directory / "verdict.yaml"
        rules.write_text(text)
        self.listing = lab.directory / "listing.sock"
        through = [sys.executable, "-m", "tests.live.verdict.listing", str(self.listing)]
        self.balancer = LoadBalancer(lab, rules, through=through)
        protocols = f"OpenFlow{version.replace('.', '')}"
        self.switches = [OpenVSwitch(lab, number, protocols=protocols, ports=PORTS) for number in SWITCHES]
        self.traffic = Traffic(lab, self.switches, rate=rate, seed=seed, addresses=addresses)
        for switch in self.switches:
            switch.connect(f"tcp:{SERVICE}:{PORT}")
        for master in (self.production, *self.masters.values()):
            wait_for(
                lambda one=master: all(one.knows(number) for number in SWITCHES),  # type: ignore[misc]
                f"{master.name} to know the switches",
                30.0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.traffic.stop()


def _start(lab: Lab, host: str, version: str, variant: str) -> Master | FaucetMaster:
    return (FaucetMaster if variant in _FORGET else Master)(lab, host, version, variant)


def _named(variants: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield a name for each variant; the second of the same variant has another one."""
    seen: dict[str, int] = {}
    for variant in variants:
        seen[variant] = seen.get(variant, 0) + 1
        yield (variant if seen[variant] == 1 else f"{variant}{seen[variant]}"), variant
