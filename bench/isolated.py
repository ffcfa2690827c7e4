"""natmirror's C code alone: what it takes for a packet, without kernel, queue or Python."""

import json
import subprocess

from bench.programs import Programs
from natmirror.errors import HostError

ISOLATED = "isolated"
YARDSTICK = "hash"
TITLES = {
    YARDSTICK: "one keyed hash of a connection's ends (the yardstick)",
    "parse": "parse",
    "lookup_10": "look a flow up, of 10",
    "lookup_100k": "look a flow up, of 100,000",
    "request_10": "a 64-byte request's whole way: parse, look up, track, rewrite; 10 flows",
    "request_100k": "the same, 100,000 flows in turn",
    "reply_10": "a 64-byte reply's whole way, 10 flows",
    "full_sum_64k": "a request of 65,000 bytes whose checksum has to be computed",
    "open": "a SYN: choose a backend, open the flow; and take it away again",
    "mirrored_10": "a 64-byte request, its copy, and the mirror's acknowledgement; 10 flows",
    "mirrored_100k": "the same, 100,000 flows in turn",
}
"""What is measured, by its name in the program's answer."""

_TIMEOUT = 120.0


def measure(programs: Programs) -> dict[str, float]:
    """Nanoseconds of each, by name; HostError where it fails."""
    try:
        done = subprocess.run([str(programs.isolated)], capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise HostError(f"the C code alone: {error}") from None
    return dict(json.loads(done.stdout))
