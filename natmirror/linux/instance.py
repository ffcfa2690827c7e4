"""The lock that allows one natmirror in a network namespace, and the search for the process that holds it.

The lock is an abstract Unix socket. Its name belongs to the network namespace, as queues and iptables rules do, and is
free again when the process ends, even if it is killed (unix(7)). A client that connects learns the process id of the
listener (SO_PEERCRED), even of a stopped one, because the connection need not be accepted.
"""

import logging
import os
import socket
import struct
import time
from contextlib import suppress
from errno import EADDRINUSE
from pathlib import Path

from natmirror.errors import HostError
from natmirror.linux.iptables_rules import NAT_QUEUE
from natmirror.linux.rights import has_net_admin

log = logging.getLogger("natmirror")

_NAME = "@natmirror"  # as ss(8) shows it
_ADDRESS = "\0natmirror"
_BACKLOG = 1024
_AT_ONCE = 2 * _BACKLOG
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_KERNEL_QUEUES = Path("/proc/net/netfilter/nfnetlink_queue")
_TIMEOUT = 1.0  # seconds; a natmirror listens at once
_PAUSE = 0.02
_COMMAND_LEN = 200
_SILENT = "a process that does not answer"


class InstanceLock:
    """The lock of this run. HostError where another natmirror runs in this network namespace.

    If a process that is not natmirror holds the lock, natmirror starts without it. Then the queues exclude a second
    natmirror, since only one process can be bound to each.
    """

    def __init__(self) -> None:
        until = time.monotonic() + _TIMEOUT
        while not self._take() and self._wait_for_holder(is_last=time.monotonic() > until):
            time.sleep(_PAUSE)

    def _take(self) -> bool:
        """Take the lock; return whether it was free."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(_ADDRESS)
            self._socket.listen(_BACKLOG)
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            if error.errno != EADDRINUSE:
                raise HostError(f"cannot take the lock {_NAME}: {error.strerror or error}") from None
            return False
        return True

    def _wait_for_holder(self, *, is_last: bool) -> bool:
        """Return whether to try again, because the holder of the lock may be about to listen or to end. HostError where
        the holder is another natmirror."""
        owner: str | None
        try:
            pid, uid = _holder()
        except ConnectionRefusedError:
            if not is_last:
                return True
            shown, owner = _SILENT, queue_owner(NAT_QUEUE)
        except BlockingIOError:
            shown, owner = _SILENT, queue_owner(NAT_QUEUE)
        else:
            shown = _shown(pid)
            owner = _described(pid) if _is_natmirror(pid, uid) else None
        if owner is not None:
            raise HostError(
                f"natmirror is already running in this network namespace, {owner}: natmirror reload applies other"
                " rules; stop it before another one starts"
            )
        log.warning("%s holds the lock %s but is not natmirror: starting without the lock", shown, _NAME)
        return False

    def close_connections(self) -> None:
        """Close the connections of processes that looked for the holder, so that the backlog has room for others."""
        with suppress(OSError):
            for _ in range(_AT_ONCE):
                self._socket.accept()[0].close()

    def close(self) -> None:
        """Release the lock."""
        self._socket.close()


def running() -> str | None:
    """Return the natmirror that runs in this network namespace, as ``pid 4711``, or None. It is the process that holds
    the lock, or else the first queue."""
    try:
        pid, uid = _holder()
    except ConnectionRefusedError:
        return queue_owner(NAT_QUEUE)
    except BlockingIOError:
        return queue_owner(NAT_QUEUE) or _SILENT
    return _shown(pid) if _is_natmirror(pid, uid) else queue_owner(NAT_QUEUE)


def _holder() -> tuple[int, int]:
    """Return the process id and the user id of the lock's holder. ConnectionRefusedError where no process listens,
    BlockingIOError where the holder's backlog is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.connect(_ADDRESS)
        pid, uid, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _is_natmirror(pid: int, uid: int) -> bool:
    """Return whether a process can be a natmirror: its user is root or ours, or it has the capability that queues
    need."""
    return uid in (0, os.geteuid()) or bool(has_net_admin(pid))


def queue_owner(queue: int) -> str | None:
    """Return the process that is bound to a queue, as text. A netlink socket's port id is usually its process id
    (netlink(7))."""
    try:
        lines = _KERNEL_QUEUES.read_text().splitlines()
    except OSError:
        return None
    for number, port, *_ in map(str.split, lines):
        if int(number) == queue:
            return _shown(int(port)) if Path(f"/proc/{port}").exists() else f"the process bound to NFQUEUE {number}"
    return None


def _shown(pid: int) -> str:
    return f"pid {pid}" if pid else "in another PID namespace"


def _described(pid: int) -> str:
    """Return a process with its systemd unit and its command, where they can be read."""
    unit = _read(pid, "cgroup").strip().rpartition("/")[2]
    command = " ".join(_read(pid, "cmdline").replace("\0", " ").split())
    known = [unit] if unit.endswith(".service") else []
    known += [command[:_COMMAND_LEN]] if command else []
    return f"{_shown(pid)} ({', '.join(known)})" if pid and known else _shown(pid)


def _read(pid: int, name: str) -> str:
    """Return a file of a process's directory in /proc; empty where it cannot be read."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
