"""The demo: a real switch, three real controllers, natmirror between them, and the proof at the end."""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live

from natmirror.lab import controllers
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import Program, wait_for
from natmirror.lab.topology import SERVICE, Lab
from natmirror.report import legs_table

_REFRESH = 0.5
_PLAIN_REFRESH = 2.0
_CONNECT_TIMEOUT = 20.0


def run(rules: Path, seconds: float) -> int:
    """Build the lab, show for ``seconds`` what natmirror does, print what was proved; 0 when all of it holds."""
    console = Console(highlight=False)
    leave_at_sigterm()
    try:
        with Lab() as lab:
            return _show(lab, rules, seconds, console)
    except KeyboardInterrupt:
        console.print("interrupted; the lab is taken down")
        return 130


def leave_at_sigterm() -> None:
    """A SIGTERM ends the demo as Ctrl-C does: in this process, and not in the children that pyroute2 forks and ends
    itself, which would take the lab down behind our back."""
    owner = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            os._exit(128 + number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)


def _show(lab: Lab, rules: Path, seconds: float, console: Console) -> int:
    console.print(
        f"A switch (s1) that knows one controller address, {SERVICE}:{controllers.PORT}; behind it the controllers"
        " c1 and c2, and the master, which gets a copy of everything."
    )
    programs = {host: controllers.start_osken(lab, host) for host in ("c1", "c2", "m")}
    balancer = LoadBalancer(lab, rules)
    for line in balancer.program.text.splitlines():
        console.print(f"natmirror: {line}", soft_wrap=True)
    switch = OpenVSwitch(lab, 1)
    switch.connect(f"tcp:{SERVICE}:{controllers.PORT}")
    wait_for(lambda: _knows(programs, "c1", switch) or _knows(programs, "c2", switch), "a session", _CONNECT_TIMEOUT)
    _watch(lab, balancer, switch, seconds, console)
    return _prove(balancer, programs, switch, console)


def _knows(programs: dict[str, Program], host: str, switch: OpenVSwitch) -> bool:
    return f"switch {switch.datapath_id}\n" in programs[host].text


def _watch(lab: Lab, balancer: LoadBalancer, switch: OpenVSwitch, seconds: float, console: Console) -> None:
    """Let the switch's hosts talk, and show the state, until the time is over."""
    until = time.monotonic() + seconds
    refresh = _REFRESH if console.is_terminal else _PLAIN_REFRESH
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while (left := until - time.monotonic()) > 0:
            switch.forget_flows()
            switch.ping()
            if console.is_terminal:
                live.update(legs_table(balancer.status()["flows"]), refresh=True)
            else:
                console.print(line(balancer.status()["flows"]), soft_wrap=True)
            time.sleep(min(refresh, left))


def line(flows: list[dict[str, Any]]) -> str:
    """Flows and legs as one line."""
    shown = [
        f"{flow['client']} -> {flow['backend']} {flow['state']}, leg to {leg['mirror']} {leg['state']}:"
        f" {leg['acked_bytes']} of {leg['client_bytes']} bytes acknowledged, lag {leg['lag_bytes']}"
        for flow in flows
        for leg in flow["legs"]
    ]
    return "; ".join(shown) or "no flows"


def _prove(balancer: LoadBalancer, programs: dict[str, Program], switch: OpenVSwitch, console: Console) -> int:
    connected = f"{SERVICE}:{controllers.PORT}" in switch.peers()
    serving = [host for host in ("c1", "c2") if _knows(programs, host, switch)]
    copied = _knows(programs, "m", switch)
    balancer.wait_until_acknowledged()
    [mirror] = balancer.status()["mirrors"]
    code = balancer.stop()
    packet_ins = {host: program.text.count("packet-in") for host, program in programs.items()}
    facts = [
        (connected, f"the switch's own kernel says that it is connected to {SERVICE}:{controllers.PORT}"),
        (len(serving) == 1, f"it is served by {' and '.join(serving) or 'nobody'}"),
        (
            0 < mirror["client_bytes"] == mirror["acked_bytes"],
            f"it sent {mirror['client_bytes']} bytes, and the master acknowledged {mirror['acked_bytes']} of them",
        ),
        (copied, f"the master's own log knows datapath {switch.datapath_id}"),
        (
            bool(serving) and 0 < packet_ins[serving[0]] == packet_ins["m"],
            "PACKET_INs seen: " + ", ".join(f"{host} {count}" for host, count in packet_ins.items()),
        ),
        (mirror["consumed_bytes"] > 0, f"{mirror['consumed_bytes']} bytes of the master's answers were consumed"),
        (code == 0, "natmirror stopped cleanly, and took its iptables rules away"),
    ]
    for holds, fact in facts:
        console.print(f"{'[green]yes[/]' if holds else '[red]NO [/]'} {fact}", soft_wrap=True)
    if not all(holds for holds, _ in facts):
        print(balancer.program.text, file=sys.stderr)
        return 1
    return 0
