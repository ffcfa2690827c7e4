"""Captures all packets on a link, until SIGTERM.

python -m natmirror.lab.sniffer LINK FILE
"""

import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import pcapy

from natmirror.lab.process import Program
from natmirror.lab.topology import Lab

_SNAP_LEN = 262_144
_TIMEOUT_MS = 50
_BUFFER_LEN = 16 << 20  # bytes; the usual 2 MiB are full after some tenths of a second without a core
_QUIET = 0.2  # seconds without a packet after which the capture is complete
_LONGEST_END = 2.0  # seconds that the end waits for this; if the sniffer were killed, the last packet would be cut


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

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal until
        until = time.monotonic() + _LONGEST_END

    signal.signal(signal.SIGTERM, end)
    print("capturing", flush=True)
    ready = True
    while (ready or until == float("inf")) and time.monotonic() < until:
        ready = bool(select.select([reader.getfd()], [], [], _QUIET)[0])
        reader.dispatch(512, writer.dump)


if __name__ == "__main__":
    main()
