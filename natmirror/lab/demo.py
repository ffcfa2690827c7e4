"""The demo: real switches, three real controllers, natmirror between them, and a proof at the end."""

import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from natmirror.api.list_tables import FLOWS, table
from natmirror.errors import HostError
from natmirror.lab.controllers.programs import PORT, Controller, OsKen
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.lab.topology import CONTROLLERS, SERVICE, Lab

_MASTER = "m"
_REFRESH = 0.5
_PLAIN_REFRESH = 2.0
_CONNECT_TIMEOUT = 20.0


def run(rules: Path, seconds: float, switches: int) -> int:
    """Build the lab, show natmirror's flows and legs for ``seconds``, and print the proof. Return the exit code: 0 if
    every fact holds."""
    console = Console(highlight=False)
    interrupt_at_sigterm()
    try:
        with Lab(switches=switches) as lab:
            return _show(lab, rules, seconds, switches, console)
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


def _show(lab: Lab, rules: Path, seconds: float, count: int, console: Console) -> int:
    names = ", ".join(f"s{number}" for number in range(1, count + 1))
    console.print(
        f"Switches: {names}. They know one controller address, {SERVICE}:{PORT}. natmirror forwards each connection to"
        " one of the controllers c1 and c2, and copies the switches' bytes to the master."
    )
    programs: dict[str, Controller] = {host: OsKen(lab, host) for host in CONTROLLERS}
    balancer = LoadBalancer(lab, _inside(lab, rules))
    for line in balancer.program.text.splitlines():
        console.print(f"natmirror: {line}", soft_wrap=True)
    switches = [OpenVSwitch(lab, number) for number in range(1, count + 1)]
    for switch in switches:
        switch.connect(f"tcp:{SERVICE}:{PORT}")
    wait_for(lambda: all(_serving(programs, switch) for switch in switches), "the switches' sessions", _CONNECT_TIMEOUT)
    _watch(balancer, switches, seconds, console)
    return _prove(balancer, programs, switches, console)


def _inside(lab: Lab, rules: Path) -> Path:
    """Return the rules with the file of known switches moved into the lab's directory."""
    text = rules.read_text()
    inside = re.sub(r"^known-switches:.*$", f"known-switches: {lab.directory}/switches.json", text, flags=re.MULTILINE)
    if inside == text:
        return rules
    copy = lab.directory / rules.name
    copy.write_text(inside)
    return copy


def _serving(programs: dict[str, Controller], switch: OpenVSwitch) -> list[str]:
    """Return the pool's controllers that have a session with a switch."""
    return [host for host, program in programs.items() if host != _MASTER and program.knows(switch.datapath_id)]


def _watch(balancer: LoadBalancer, switches: list[OpenVSwitch], seconds: float, console: Console) -> None:
    """Make traffic between the switches' hosts, and show the state, for ``seconds``."""
    until = time.monotonic() + seconds
    refresh = _REFRESH if console.is_terminal else _PLAIN_REFRESH
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while (left := until - time.monotonic()) > 0:
            for switch in switches:
                switch.forget_flows()
                switch.ping()
            if console.is_terminal:
                live.update(Text(table(FLOWS, balancer.status()["flows"], console.width)), refresh=True)
            else:
                console.print(line(balancer.status()["flows"]), soft_wrap=True)
            time.sleep(min(refresh, left))


def line(flows: list[dict[str, Any]]) -> str:
    """Return a line for each leg of the flows."""
    shown = [
        f"{flow['client']} -> {flow['backend']} {flow['state']}, leg to {leg['mirror']} {leg['state']}:"
        f" {leg['acked_bytes']} of {leg['client_bytes']} bytes acknowledged, lag {leg['lag_bytes']} bytes"
        for flow in flows
        for leg in flow["legs"]
    ]
    return "\n".join(sorted(shown)) or "no flows"


def _prove(
    balancer: LoadBalancer, programs: dict[str, Controller], switches: list[OpenVSwitch], console: Console
) -> int:
    connected = {switch.host: f"{SERVICE}:{PORT}" in switch.peers() for switch in switches}
    balancer.wait_until_acknowledged()
    [mirror] = balancer.status()["mirrors"]
    code = balancer.stop()
    facts = [fact for switch in switches for fact in _facts(programs, switch, connected[switch.host])]
    facts += [
        (
            0 < mirror["client_bytes"] == mirror["acked_bytes"],
            f"the switches sent {mirror['client_bytes']} bytes; the master acknowledged {mirror['acked_bytes']}",
        ),
        (
            mirror["consumed_bytes"] > 0,
            f"natmirror consumed the {mirror['consumed_bytes']} bytes that the master sent",
        ),
        (code == 0, "natmirror stopped cleanly and removed its iptables rules"),
    ]
    for holds, fact in facts:
        console.print(f"{'[green]yes[/]' if holds else '[red]NO [/]'} {fact}", soft_wrap=True)
    if not all(holds for holds, _ in facts):
        print(balancer.program.text, file=sys.stderr)
        return 1
    return 0


def _facts(programs: dict[str, Controller], switch: OpenVSwitch, connected: bool) -> list[tuple[bool, str]]:
    """Return the facts about one switch, each with whether it holds."""
    master, serving = programs[_MASTER], _serving(programs, switch)
    here = programs[serving[0]].packet_ins(switch.datapath_id) or [] if serving else []
    with suppress(HostError):  # the master may not have printed yet what it has acknowledged
        master.wait_for_packet_ins(switch.datapath_id, len(here))
    there = master.packet_ins(switch.datapath_id) or []
    controllers = " and ".join(serving) or "no controller"
    same = "the same" if here == there else "not the same:"
    return [
        (connected, f"{switch.host} is connected to {SERVICE}:{PORT}, as its own kernel shows"),
        (len(serving) == 1, f"{switch.host} has its session with {controllers}"),
        (
            master.knows(switch.datapath_id),
            f"the master logged a session with {switch.host}, datapath {switch.datapath_id}",
        ),
        (
            bool(here) and here == there,
            f"{controllers} got {len(here)} PACKET_INs from {switch.host}; the master got {same} {len(there)}",
        ),
    ]
