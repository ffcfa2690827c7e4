"""``natmirror health`` and ``natmirror role``: what keepalived runs, at every second and at every change.

So it imports next to nothing, speaks to the running natmirror without any library, and needs no root: whoever can reach
the socket beside the API's may ask how it is. Roles are told through the API itself, whose rights say who may.
"""

import sys

from natmirror.ha.exit_codes import MEANINGS, MISUSED, NOT_RUNNING, STUCK

DEFAULT_API = "/run/natmirror/api.sock"
ROLES = {"MASTER": "master", "BACKUP": "backup", "FAULT": "fault", "STOP": "fault", "DELETED": "fault"}
"""The roles by keepalived's words for them."""

_TIMEOUT = 0.8  # keepalived asks every second
_ROLE_TIMEOUT = 5.0
_MAX_ANSWER_LEN = 4096
_PID_BITS = 22  # proc(5): pid_max is at most 2^22
_USAGE = {
    "health": "natmirror health [--api SOCKET]",
    "role": "natmirror role [--api SOCKET] master|backup|fault, or what keepalived adds: GROUP NAME MASTER PRIORITY",
}


def main(command: str, words: list[str]) -> int:
    """``natmirror health`` or ``natmirror role`` with these words; gives the exit code."""
    api, rest = _split(words)
    if command == "health" and api and not rest:
        return health(api)
    role = ROLES.get(rest[-2] if len(rest) == 4 else rest[0].upper()) if len(rest) in (1, 4) else None
    if command == "role" and api and role is not None:
        return tell_role(api, role)
    print(f"usage: {_USAGE[command]}", file=sys.stderr)
    return 0 if rest in (["--help"], ["-h"]) else MISUSED


def health(api: str) -> int:
    """Ask the natmirror with this API how it is; prints one line, gives its code."""
    try:
        answer = _exchange(health_socket(api), b"", _TIMEOUT).decode()
        code, reason = answer.split(" ", 1)
        found = int(code)
    except TimeoutError:
        found, reason = STUCK, f"no answer in {_TIMEOUT:g} s"
    except (OSError, ValueError) as error:
        found, reason = NOT_RUNNING, f"{health_socket(api)}: {error}"
    print(f"{MEANINGS[found]}: {reason.strip()}" if reason.strip() else MEANINGS[found])
    return found


def health_socket(api: str) -> str:
    """The socket on which health is told: the API's own is not for everybody, and may be busy with long lists."""
    return f"{api}.health"


def tell_role(api: str, role: str) -> int:
    """Tell the natmirror with this API what keepalived has made of it; gives 0 where it has heard."""
    body = f'{{"role": "{role}", "order": {_order_of_this_process()}}}'.encode()
    head = f"POST /v1/role HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        answer = _exchange(api, head.encode() + body, _ROLE_TIMEOUT).decode()
    except OSError as error:
        print(f"natmirror: no natmirror answers on {api}: {error}", file=sys.stderr)
        return NOT_RUNNING
    if answer.split(" ", 2)[1:2] != ["200"]:
        print(f"natmirror: natmirror on {api}: {answer.rpartition(chr(10))[2]}", file=sys.stderr)
        return NOT_RUNNING
    return 0


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The API's socket, and what else was given."""
    if words[:1] == ["--api"]:
        return (words[1] if len(words) > 1 else ""), list(words[2:])
    if words and words[0].startswith("--api="):
        return words[0].removeprefix("--api="), list(words[1:])
    return DEFAULT_API, list(words)


def _order_of_this_process() -> int:
    """Grows from one process to the next: keepalived starts one for each change, and they may overtake one another.

    When it was started, in the kernel's ticks (proc(5), the 22nd field of stat), and its id.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            pid, _, rest = file.read().partition(b" ")
        return int(rest.rpartition(b")")[2].split()[19]) << _PID_BITS | int(pid)
    except (OSError, ValueError, IndexError):
        return 0


def _exchange(path: str, words: bytes, timeout: float) -> bytes:
    import socket

    with socket.socket(socket.AF_UNIX) as way:
        way.settimeout(timeout)
        way.connect(path)
        if words:
            way.sendall(words)
        answer = b""
        while len(answer) < _MAX_ANSWER_LEN and (part := way.recv(_MAX_ANSWER_LEN)):
            answer += part
        return answer
