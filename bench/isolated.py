"""The time that natmirror's C code takes for a packet, without kernel, queue or Python."""

import json
import subprocess

from bench.programs import Programs
from natmirror.errors import HostError

ISOLATED = "isolated"
YARDSTICK = "hash"
TITLES = {
    YARDSTICK: "one keyed hash of a connection's endpoints (the yardstick)",
    "parse": "parse a packet",
    "lookup_10": "find a flow among 10",
    "lookup_100k": "find a flow among 100,000",
    "request_10": "a 64-byte request: parse, find, track, rewrite; 10 flows",
    "request_100k": "the same, 100,000 flows in turn",
    "reply_10": "a 64-byte reply, likewise; 10 flows",
    "full_sum_64k": "a request of 65,000 bytes whose checksum has to be computed",
    "open": "a SYN: choose a backend, open the flow, and remove it again",
    "mirrored_10": "a 64-byte request, its copy, and the mirror's acknowledgement; 10 flows",
    "mirrored_100k": "the same, 100,000 flows in turn",
}
"""The title of each measure, by its name in the program's output."""

_TIMEOUT = 120.0


def measure(programs: Programs) -> dict[str, float]:
    """Return the nanoseconds of each measure, by name; HostError where the program fails."""
    try:
        done = subprocess.run([str(programs.isolated)], capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise HostError(f"the C code alone: {error}") from None
    return dict(json.loads(done.stdout))
