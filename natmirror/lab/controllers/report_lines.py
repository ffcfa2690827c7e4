"""Writing and reading the lines in which the lab's own controllers report their events.

The lines: ``switch DPID`` when a switch has sent its features, ``ports DPID 1,2,4294967294`` when its session is
complete, ``packet-in DPID IN_PORT LENGTH DIGEST`` for each PACKET_IN, ``port-status DPID PORT REASON`` for each
PORT_STATUS, ``gone DPID`` when the session has ended.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator

_DIGEST_LEN = 12  # hexadecimal digits


def print_line(*words: object) -> None:
    """Print a line in one piece, since several threads may print at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def print_ports(datapath: int, ports: Iterable[int]) -> None:
    """Print a switch's ports."""
    print_line("ports", datapath, ",".join(map(str, sorted(ports))))


def print_packet_in(datapath: int, in_port: int, frame: bytes) -> None:
    """Print a PACKET_IN."""
    print_line("packet-in", datapath, in_port, len(frame), hashlib.sha256(frame).hexdigest()[:_DIGEST_LEN])


def reported(text: str, kind: str, datapath: int) -> Iterator[str]:
    """Yield the values in the complete lines of this kind about a switch."""
    start = f"{kind} {datapath}"
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and (line.startswith(f"{start} ") or line == f"{start}\n"):
            yield line[len(start) :].strip()


def reported_ports(text: str, datapath: int) -> tuple[int, ...]:
    """Return the ports reported last, sorted; an empty tuple where no session is complete."""
    *_, last = ["", *reported(text, "ports", datapath)]
    return tuple(int(port) for port in last.split(",") if port)
