"""Captures all packets on a link, until SIGTERM.

python -m natmirror.lab.sniffer LINK FILE
"""

import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pcapy

from natmirror.lab.process import Program
from natmirror.lab.topology import Lab

_SNAP_LEN = 262_144
_TIMEOUT_MS = 50
_BUFFER_LEN = 16 << 20  # bytes; the usual 2 MiB are full after some tenths of a second without a core
_QUIET = 0.2  # seconds without a packet after which the capture is complete
_LONGEST_END = 2.0  # seconds of packets that the end waits for; killed meanwhile, the sniffer would cut the last one


def start_sniffer(lab: Lab, host: str, link: str, file: Path) -> Program:
    """Capture on a host's link, or on ``any``. Return once the capture runs."""
    command = [sys.executable, "-m", "natmirror.lab.sniffer", link, str(file)]
    sniffer = lab.start(host, command, name="sniffer")
    sniffer.wait_for_text("capturing")
    return sniffer


def main() -> None:
    """Write a capture file; print "capturing" once the capture runs."""
    link, file = sys.argv[1:3]
    reader = pcapy.create(link)
    reader.set_snaplen(_SNAP_LEN)
    reader.set_promisc(1)
    reader.set_timeout(_TIMEOUT_MS)
    reader.set_buffer_size(_BUFFER_LEN)
    reader.activate()
    reader.setnonblock(1)
    writer = reader.dump_open(file)
    until = float("inf")
    is_late = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal until
        until = time.time() + _LONGEST_END

    def take(header: Any, packet: bytes) -> None:
        nonlocal is_late
        seconds, microseconds = header.getts()
        is_late = seconds + microseconds * 1e-6 > until
        if not is_late:
            writer.dump(header, packet)

    signal.signal(signal.SIGTERM, end)
    print("capturing", flush=True)
    while True:
        is_ending = until < float("inf")  # before the wait, so that all of it is after the signal
        ready = bool(select.select([reader.getfd()], [], [], _QUIET)[0])
        reader.dispatch(512, take if is_ending else writer.dump)
        if is_ending and (is_late or not ready):
            break


if __name__ == "__main__":
    main()
