"""Runs natmirror capture in the lab, and reads what it wrote with tshark."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for
from tests.helpers import tshark
from tests.live.scene import Scene

CLIENT = "10.10.0.11"


def start(scene: Scene, balancer: LoadBalancer, client: str, file: Path, *words: str) -> Program:
    """Start a capture; return once it runs."""
    command = (sys.executable, "-m", "natmirror", "capture", client, "-w", str(file), "--api", str(balancer.api))
    program = scene.start("lb", *command, *words, name="capture")
    program.wait_for_text("capturing ")
    return program


def finish(program: Program) -> str:
    """Interrupt a capture, and return what it has said."""
    program.send_signal(signal.SIGINT)
    wait_for(lambda: not program.running(), "the capture to end")
    assert program.popen.returncode == 0, program.text
    return program.text


def streams(file: Path) -> dict[tuple[str, bool], bytes]:
    """Return the bytes of each side at each interface: those that the client sent, and those for the client."""
    found: dict[tuple[str, bool], dict[int, bytes]] = {}
    names = ("frame.interface_name", "ip.src", "tcp.seq_raw", "tcp.payload")
    for interface, source, number, payload in tshark.fields(file, *names, only="tcp.len > 0"):
        parts, data = found.setdefault((interface, source == CLIENT), {}), bytes.fromhex(payload.replace(":", ""))
        parts[int(number)] = max(parts.get(int(number), b""), data, key=len)
    return {side: _joined(parts) for side, parts in found.items()}


def _joined(parts: dict[int, bytes]) -> bytes:
    """Return the bytes of segments, by their sequence numbers; those that were sent again only once."""
    joined, first = b"", min(parts)
    for number, data in sorted(parts.items()):
        joined += data[max(0, len(joined) - (number - first)) :]
    return joined


def comments(file: Path) -> Sequence[tuple[str, ...]]:
    """Return the interface and the comments of each packet that has some."""
    return tshark.fields(file, "frame.interface_name", "tcp.flags.str", "frame.comment", only="frame.comment")
