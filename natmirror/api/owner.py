"""The process behind the API's socket, as a client sees it before it asks: why it cannot answer, and what to do."""

import grp
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from natmirror.errors import HostError, NoAnswerError

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_STOPPED = {"T": "is stopped", "t": "is held by a debugger"}  # proc(5)
_TIMEOUT = 5.0  # seconds


def require_owner(path: Path) -> None:
    """Raise NoAnswerError where no process listens on the socket, HostError where this user may not open it, or where
    natmirror is stopped: then it would answer much later, or not at all.

    The kernel names the process that has listened last (SO_PEERCRED): the one that serves the API, a child of
    natmirror, or natmirror itself while there is none yet.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_TIMEOUT)
            client.connect(str(path))
            pid, _, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except PermissionError:
        raise HostError(f"you may not open {path}: {_who_may(path)}") from None
    except FileNotFoundError:
        raise NoAnswerError(f"no natmirror answers on {path}: there is no such socket") from None
    except ConnectionRefusedError:
        raise NoAnswerError(f"no natmirror answers on {path}: the process that made the socket has ended") from None
    except OSError as error:
        raise NoAnswerError(f"no natmirror answers on {path}: {error.strerror or error}") from None
    state, parent = _status(pid)
    if b"natmirror.api" in _command(pid):
        pid, (state, _) = parent, _status(parent)
    if (what := _STOPPED.get(state)) is not None:
        raise HostError(
            f"natmirror, pid {pid}, {what}, and its rules in the kernel hold the packets of services with a pool:"
            f" continue it with kill -CONT {pid}, or restart it"
        )


def _status(pid: int) -> tuple[str, int]:
    """Return the letter of a process's state, and the id of its parent; nothing where they cannot be read."""
    with suppress(OSError, ValueError):
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return state, int(parent)
    return "", 0


def _command(pid: int) -> list[bytes]:
    """Return a process's command line; empty where it cannot be read."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def _who_may(path: Path) -> str:
    """Return what a user can do who may not open the socket."""
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):  # nor may they look into its directory
        group = "natmirror"
    if group == "root":
        return "only root may; use sudo"
    user = os.environ.get("USER") or f"user id {os.geteuid()}"
    return f"join the group {group} (as root: usermod -aG {group} {user}; then log in again), or use sudo"
