"""The proof at the demo's end: what the links' captures, the switches' kernels and natmirror's ledger say, side by
side."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from natmirror.lab.captured import delivered, digest
from natmirror.lab.controllers.programs import PORT
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.sniffer import start_sniffer
from natmirror.lab.topology import SERVICE, SWITCH_SIDE, Lab

_BACKENDS, _MASTER = ("c1", "c2"), "m"


@dataclass(slots=True)
class Facts:
    """What the demo has seen on the way. ``clients`` has each switch's connection before a controller was killed,
    ``moved`` the new controller of each switch that had that one."""

    switches: list[OpenVSwitch] = field(default_factory=list)
    clients: dict[str, str] = field(default_factory=dict)
    killed: str = ""
    moved: dict[str, str] = field(default_factory=dict)
    seconds_without: float = 0.0
    pings: tuple[int, int] = (0, 0)
    lag: float = 0.0


class Witness:
    """Captures on the links of the switches, the controllers and the master, from now on."""

    def __init__(self, lab: Lab, switches: Sequence[str]) -> None:
        self._switches = switches
        self._until = 0.0
        self._files = {host: lab.directory / f"{host}.pcap" for host in (*switches, *_BACKENDS, _MASTER)}
        self._sniffers = [start_sniffer(lab, host, "eth0", file) for host, file in self._files.items()]

    def end(self) -> None:
        """End the captures: what came later than this call does not count, since they do not end at the same time."""
        self._until = time.time()
        for sniffer in self._sniffers:
            sniffer.send_signal(signal.SIGTERM)
        for sniffer in self._sniffers:
            sniffer.end()

    def sent(self) -> dict[str, bytes]:
        """Return the bytes that switches have sent and know to be delivered, by connection."""
        return self._delivered(self._switches)

    def at_controllers(self) -> dict[str, bytes]:
        """Return the bytes that the controllers have acknowledged."""
        return self._delivered(_BACKENDS)

    def at_master(self) -> dict[str, bytes]:
        """Return the bytes that the master has acknowledged."""
        return self._delivered([_MASTER])

    def _delivered(self, hosts: Sequence[str]) -> dict[str, bytes]:
        return delivered([self._files[host] for host in hosts], PORT, f"{SWITCH_SIDE}.", self._until)


def prove(balancer: LoadBalancer, witness: Witness, facts: Facts, console: Console) -> int:
    """Stop natmirror, and print each fact, and whether it holds. Return the exit code: 0 if all do."""
    balancer.wait_until_acknowledged()
    seen = [*_seen_by_switches(facts)]
    witness.end()
    [mirror] = balancer.status()["mirrors"]
    code = balancer.stop()
    lost = sum(mirror["lost_bytes"].values())
    answered, pings = facts.pings
    shown = [
        *seen,
        *_captured(witness),
        (
            mirror["client_bytes"] == mirror["acked_bytes"] + lost and lost == 0,
            f"natmirror's ledger: {mirror['acked_bytes']} of {mirror['client_bytes']} bytes mirrored, {lost} lost",
        ),
        (
            answered == pings > 0,
            f"{answered} of {pings} pings were answered while the master was {facts.lag:.1f} s behind",
        ),
        (
            mirror["consumed_bytes"] > 0,
            f"natmirror consumed the {mirror['consumed_bytes']} bytes that the master sent",
        ),
        (code == 0, "natmirror stopped cleanly and removed its iptables rules"),
    ]
    for holds, fact in shown:
        console.print(f"{'[green]yes[/]' if holds else '[red]NO [/]'} {fact}", soft_wrap=True)
    if not all(holds for holds, _ in shown):
        print(balancer.program.text, file=sys.stderr)
        return 1
    return 0


def _seen_by_switches(facts: Facts) -> Iterator[tuple[bool, str]]:
    """Yield which connections survived, as the switches' own kernels show."""
    now = {one.host: one.endpoints_to(f"{SERVICE}:{PORT}") for one in facts.switches}
    for host, client in facts.clients.items():
        if host in facts.moved:
            told = f"{host} lost {facts.killed}, and was with {facts.moved[host]} {facts.seconds_without:.1f} s later"
            yield len(now[host]) == 1, f"{told}, by the same address {SERVICE}:{PORT}"
        else:
            yield now[host] == [client], f"{host} kept its connection through all of it, from {client}"


def _captured(witness: Witness) -> Iterator[tuple[bool, str]]:
    sent, controllers, master = witness.sent(), witness.at_controllers(), witness.at_master()
    count = sum(map(len, sent.values()))
    yield bool(count), f"the switches sent {count} bytes in {len(sent)} connections, SHA-256 {digest(sent)}"
    for who, got in (("the controllers", controllers), ("the master", master)):
        same = "the same" if got == sent else "NOT the same:"
        yield got == sent, f"{who} got {same} {sum(map(len, got.values()))} bytes, SHA-256 {digest(got)}"
