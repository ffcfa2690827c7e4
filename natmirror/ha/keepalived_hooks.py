"""``natmirror health`` and ``natmirror role``: keepalived runs one every second, the other at every change of state.

Therefore this file imports very little, and talks to the running natmirror without any library. Neither command
needs root or the API: each has a socket of its own beside the API's. Any user may read health; the mode of the other
socket decides which users may report roles.
"""

import os
import sys

from natmirror.ha.exit_codes import MEANINGS, MISUSED, NOT_RUNNING, STUCK

DEFAULT_API = "/run/natmirror/api.sock"
API_VARIABLE = "NATMIRROR_API"
"""The variable of the environment that has the path of the API's socket."""
ROLES = {"MASTER": "master", "BACKUP": "backup", "FAULT": "fault", "STOP": "fault", "DELETED": "fault"}
"""Our roles by keepalived's names of its states."""

_TIMEOUT = 0.8  # seconds; keepalived runs the check every second
_ROLE_TIMEOUT = 5.0
_MAX_ANSWER_LEN = 4096
_MAX_CLOCK_ERROR = 10.0  # seconds
_PID_BITS = 22  # proc(5): pid_max is at most 2^22
USAGE = {
    "health": "natmirror health [--api SOCKET] [--json]",
    "role": "natmirror role [--api SOCKET] master|backup|fault\n"
    "       natmirror role [--api SOCKET] TYPE NAME STATE PRIORITY",
}


def main(command: str, arguments: list[str]) -> int:
    """Run ``natmirror health`` or ``natmirror role`` with these arguments; return the exit code."""
    api, rest = _split(arguments)
    if command == "health" and api and rest in ([], ["--json"]):
        return health(api, as_json=bool(rest))
    role = ROLES.get(rest[-2] if len(rest) == 4 else rest[0].upper()) if len(rest) in (1, 4) else None
    if command == "role" and api and role is not None:
        return report_role(api, role)
    print(f"usage: {USAGE[command]}", file=sys.stderr)
    return 0 if rest in (["--help"], ["-h"]) else MISUSED


def health(api: str, *, as_json: bool = False) -> int:
    """Ask the natmirror with this API for its health; print it as one line, and return the exit code."""
    try:
        answer = _read(health_socket(api), _TIMEOUT).decode()
        code, reason = answer.split(" ", 1)
        found = int(code)
        if found not in MEANINGS:
            raise ValueError(f"an answer of another version: {answer}")
    except TimeoutError:
        found, reason = STUCK, f"no answer in {_TIMEOUT:g} s"
    except OSError as error:
        found, reason = NOT_RUNNING, f"{health_socket(api)}: {error.strerror or error}"
    except ValueError as error:
        found, reason = NOT_RUNNING, f"{health_socket(api)}: {error}"
    if as_json:
        import json

        print(json.dumps({"code": found, "meaning": MEANINGS[found], "reason": reason.strip()}))
    else:
        print(f"{MEANINGS[found]}: {reason.strip()}" if reason.strip() else MEANINGS[found])
    return found


def health_socket(api: str) -> str:
    """Return the path of the health socket. The API's socket does not serve for this, because not all users may open
    it, and because health is needed while the API's process is busy or dead."""
    return f"{api}.health"


def role_socket(api: str) -> str:
    """Return the path of the socket that takes reports of the role."""
    return f"{api}.role"


def report_role(api: str, role: str) -> int:
    """Report keepalived's role to the natmirror with this API; return 0 where natmirror accepts it."""
    path = role_socket(api)
    try:
        answer = _send(path, f"{role} {_sequence_of_this_process()}".encode(), _ROLE_TIMEOUT).decode()
    except OSError as error:
        print(f"natmirror: no natmirror answers on {path}: {error}; is it running, with this --api?", file=sys.stderr)
        return NOT_RUNNING
    if answer:
        print(f"natmirror: {path} refuses the role {role}: {answer}", file=sys.stderr)
        return NOT_RUNNING
    return 0


def newest_sequence() -> int:
    """Return a number above those of all reports that can have been made so far."""
    import time

    ticks = (time.clock_gettime(time.CLOCK_BOOTTIME) + _MAX_CLOCK_ERROR) * os.sysconf("SC_CLK_TCK")
    return int(ticks) << _PID_BITS


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the path of the API's socket, and the other arguments. The last --api counts, as in the other commands."""
    api, rest = os.environ.get(API_VARIABLE) or DEFAULT_API, []
    left = iter(arguments)
    for one in left:
        if one == "--api":
            api = next(left, "")
        elif one.startswith("--api="):
            api = one.removeprefix("--api=")
        else:
            rest.append(one)
    return api, rest


def _sequence_of_this_process() -> int:
    """Return a number that grows from one process to the next: keepalived starts one process for each change, and their
    reports may overtake one another.

    The number consists of the process's start time in kernel ticks (proc(5), the 22nd field of stat), and its id.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            pid, _, rest = file.read().partition(b" ")
        return int(rest.rpartition(b")")[2].split()[19]) << _PID_BITS | int(pid)
    except (OSError, ValueError, IndexError):
        return 0


def _read(path: str, timeout: float) -> bytes:
    """Return what the stream socket sends until it closes the connection."""
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        answer = b""
        while len(answer) < _MAX_ANSWER_LEN and (part := connection.recv(_MAX_ANSWER_LEN)):
            answer += part
        return answer


def _send(path: str, report: bytes, timeout: float) -> bytes:
    """Send a datagram, and return the one that answers it."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.settimeout(timeout)
        connection.bind("")  # the kernel chooses an abstract name, to which the answer is sent
        connection.connect(path)
        connection.send(report)
        return connection.recv(_MAX_ANSWER_LEN)
