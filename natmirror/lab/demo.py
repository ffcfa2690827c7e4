"""The demo: real switches, three real controllers, and natmirror between them. A controller is killed, the master
freezes and comes back, and captures of the links say at the end what each of them got."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from natmirror.api.list_tables import FLOWS, table
from natmirror.lab.controllers.programs import PORT, Controller, OsKen
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.page_relay import PageRelay
from natmirror.lab.process import wait_for
from natmirror.lab.proof import Facts, Witness, prove
from natmirror.lab.topology import CONTROLLERS, SERVICE, SWITCH_SIDE, Lab
from natmirror.rules import load_rules

_MASTER = "m"
_SILENCE = ["PREROUTING", "-p", "tcp", "-j", "DROP"]
_REFRESH = 0.5
_TIMEOUT = 30.0


def run(rules: Path, seconds: float, switches: int, *, page: bool) -> int:
    """Build the lab, show what happens there, with ``seconds`` of traffic between the events, and print the proof.
    With ``page``, go on until Ctrl-C before that. Return the exit code: 0 if every fact holds."""
    console = Console(highlight=False)
    interrupt_at_sigterm()
    try:
        with Lab(switches=switches) as lab:
            return Demo(lab, rules, seconds, switches, console).play(page=page)
    except KeyboardInterrupt:
        console.print("interrupted: the lab was removed")
        return 130


def interrupt_at_sigterm() -> None:
    """Have a SIGTERM end the demo as Ctrl-C does, but only in this process: pyroute2 ends the children that it forks
    with a SIGTERM, and these must not remove the lab."""
    owner = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            os._exit(128 + number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


class Demo:
    """The lab with its programs, and what happens there."""

    def __init__(self, lab: Lab, rules: Path, seconds: float, count: int, console: Console) -> None:
        self._lab, self._seconds, self._console = lab, seconds, console
        self._began_at = time.monotonic()
        self._facts = Facts()
        names = ", ".join(f"s{number}" for number in range(1, count + 1))
        self._tell(
            f"Switches: {names}. They know one controller address, {SERVICE}:{PORT}. natmirror forwards each connection"
            " to one of the controllers c1 and c2, and copies the switches' bytes to the master."
        )
        self._programs: dict[str, Controller] = {host: OsKen(lab, host) for host in CONTROLLERS}
        self._switches = [OpenVSwitch(lab, number) for number in range(1, count + 1)]
        self._facts.switches = self._switches
        self._witness = Witness(lab, [switch.host for switch in self._switches])
        self._page = load_rules(rules).api
        self._balancer = LoadBalancer(lab, _inside(lab, rules))

    def play(self, *, page: bool) -> int:
        """Have it all happen. Return the exit code."""
        with ExitStack() as held:
            if self._page is not None:
                relay = held.enter_context(PageRelay(self._lab, "lb", (str(self._page.address), self._page.port)))
                self._tell(f"The status page: {relay.address}")
            self._connect()
            self._kill_controller()
            self._freeze_master()
            if page:
                self._tell("It goes on until Ctrl-C.")
                self._wait_for_interrupt()
            return prove(self._balancer, self._witness, self._facts, self._console)

    # What happens

    def _connect(self) -> None:
        for switch in self._switches:
            switch.connect(f"tcp:{SERVICE}:{PORT}")
        wait_for(lambda: all(self._serving(one) for one in self._switches), "the switches' sessions", _TIMEOUT)
        told = " and ".join(f"{one.host} with {self._serving(one)}" for one in self._switches)
        self._tell(f"The sessions are open: {told}. The master gets a copy of each.")
        self._watch(self._seconds)

    def _kill_controller(self) -> None:
        serving = {one.host: self._serving(one) for one in self._switches}
        victim = min(set(serving.values()), key=[*serving.values()].count)
        self._balancer.wait_until_acknowledged()
        self._facts.clients, self._facts.killed = self._clients(), victim
        killed_at = time.monotonic()
        self._programs[victim].program.end(signal.SIGKILL)
        self._tell(f"The controller {victim} is killed. Its switches have to connect again, to the same address.")
        moved = [one for one in self._switches if serving[one.host] == victim]
        wait_for(lambda: all(self._serving(one) not in ("", victim) for one in moved), "new sessions", _TIMEOUT)
        self._facts.moved = {one.host: self._serving(one) for one in moved}
        self._facts.seconds_without = time.monotonic() - killed_at
        told = " and ".join(f"{host} has one with {to}" for host, to in self._facts.moved.items())
        self._tell(f"New sessions after {self._facts.seconds_without:.1f} s: {told}. The master gets their copies too.")
        self._watch(self._seconds)
        self._programs[victim] = OsKen(self._lab, victim)
        self._tell(f"{victim} runs again. New connections may go to it; open ones stay where they are.")

    def _freeze_master(self) -> None:
        self._lab.run(_MASTER, ["iptables", "-t", "raw", "-A", *_SILENCE])
        self._tell("The master freezes: its host answers nothing. Production does not wait for it.")
        answered, pings = self._watch(self._seconds)
        self._facts.pings = answered, pings
        self._facts.lag = self._mirror()["lag_seconds"]
        self._tell(
            f"The master is {self._facts.lag:.1f} s behind. {answered} of {pings} pings between the switches' hosts"
            " were answered meanwhile, each by way of a controller."
        )
        self._lab.run(_MASTER, ["iptables", "-t", "raw", "-D", *_SILENCE])
        back_at = time.monotonic()
        self._balancer.wait_until_acknowledged(_TIMEOUT)
        self._tell(f"The master is back, and has caught up within {time.monotonic() - back_at:.1f} s.")
        self._watch(min(self._seconds, 2.0))

    # Traffic

    def _watch(self, seconds: float) -> tuple[int, int]:
        """Make traffic between the switches' hosts, and show the state, for ``seconds``. Return how many of how many
        pings were answered."""
        until = time.monotonic() + seconds
        answered = pings = 0
        with self._shown() as show:
            while not pings or time.monotonic() < until:
                for switch in self._switches:
                    switch.forget_flows()
                    answered += switch.ping()
                    pings += 1
                show()
                time.sleep(max(0.0, min(_REFRESH, until - time.monotonic())))
        if not self._console.is_terminal:
            self._console.print(line(self._balancer.status()["flows"]), soft_wrap=True)
        return answered, pings

    @contextmanager
    def _shown(self) -> Iterator[Callable[[], None]]:
        """Yield a function that shows the flows now, if a terminal is there to be drawn on."""
        if not self._console.is_terminal:
            yield lambda: None
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            yield lambda: live.update(
                Text(table(FLOWS, self._balancer.status()["flows"], self._console.width)), refresh=True
            )

    def _wait_for_interrupt(self) -> None:
        try:
            while True:
                self._watch(60.0)
        except KeyboardInterrupt:
            self._tell("Interrupted: here is what happened.")

    # What is known

    def _tell(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began_at:5.1f} s[/]  {text}", soft_wrap=True)

    def _serving(self, switch: OpenVSwitch) -> str:
        """Return the backend of a switch's open connection, once its controller knows the switch; else nothing."""
        for flow in self._balancer.status()["flows"]:
            backend = str(flow["backend"])
            is_open = flow["state"] == "established" and flow["client"].startswith(
                f"{SWITCH_SIDE}.{10 + switch.number}:"
            )
            if is_open and self._programs[backend].knows(switch.datapath_id):
                return backend
        return ""

    def _clients(self) -> dict[str, str]:
        """Return the open connection of each switch, as the client's address and port."""
        return {one.host: client for one in self._switches for client in one.endpoints_to(f"{SERVICE}:{PORT}")}

    def _mirror(self) -> dict[str, Any]:
        [mirror] = self._balancer.status()["mirrors"]
        return dict(mirror)


def _inside(lab: Lab, rules: Path) -> Path:
    """Return the rules with the file of known switches moved into the lab's directory."""
    text = rules.read_text()
    inside = re.sub(r"^known-switches:.*$", f"known-switches: {lab.directory}/switches.json", text, flags=re.MULTILINE)
    if inside == text:
        return rules
    copy = lab.directory / rules.name
    copy.write_text(inside)
    return copy


def line(flows: list[dict[str, Any]]) -> str:
    """Return a line for each leg of the flows."""
    shown = [
        f"{flow['client']} -> {flow['backend']} {flow['state']}, leg to {leg['mirror']} {leg['state']}:"
        f" {leg['acked_bytes']} of {leg['client_bytes']} bytes acknowledged, lag {leg['lag_bytes']} bytes"
        for flow in flows
        for leg in flow["legs"]
    ]
    return "\n".join(sorted(shown)) or "no flows"
