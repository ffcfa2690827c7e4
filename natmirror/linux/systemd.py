"""Notifications to systemd about a run's state, and beats for its watchdog: one datagram each, as sd_notify(3) says."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path

from natmirror.errors import HostError
from natmirror.threads import NamedThread

log = logging.getLogger("natmirror")

_SEND_TIMEOUT = 1.0  # seconds
_CHECKS = 4  # of the threads in one watchdog timeout; sd_watchdog_enabled(3) recommends at least two
_OWN_VARIABLES = (
    *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES"),
    *("MAINPID", "MANAGERPID", "FDSTORE", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"),
)


def is_service(environment: Mapping[str, str]) -> bool:
    """Return whether a service manager runs this process. A terminal that one started passes INVOCATION_ID on to what
    runs in it, so that alone does not count."""
    return "NOTIFY_SOCKET" in environment or ("INVOCATION_ID" in environment and not os.isatty(0))


def take_variables(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Remove from ``environment`` the variables that a service manager means for this process alone; return them.

    A program that inherited NOTIFY_SOCKET would notify the manager in natmirror's name (systemd's own programs do so
    when they end), and would wait while the socket's queue is full.
    """
    return {name: environment.pop(name) for name in _OWN_VARIABLES if name in environment}


def state_directory(environment: Mapping[str, str]) -> Path | None:
    """Return the directory in which the service manager has this process keep its state, or None (systemd.exec(5):
    several are separated by colons)."""
    name = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(name) if name.startswith("/") else None


def is_journal(environment: Mapping[str, str], descriptor: int = 2) -> bool:
    """Return whether a descriptor, stderr by default, leads to systemd's journal (systemd.exec(5): JOURNAL_STREAM)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Notifier:
    """Notifies the service manager that ``environment`` names, if there is one.

    A manager that does not read its socket delays nothing: notifications are lost then.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.has_manager = bool(self._address)
        self._beats = (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if self.has_manager else None
        )
        self.watchdog_interval = _watchdog_interval(environment) if self.has_manager else None
        """Seconds between two checks of the threads, each followed by a beat if they all run; None: no watchdog."""

    def ready(self) -> None:
        """Report that natmirror has started."""
        self._notify("READY=1")

    def stopping(self) -> None:
        """Report that natmirror is stopping."""
        self._notify("STOPPING=1")

    def beat(self) -> None:
        """Send the watchdog a beat. It opens no descriptor, and never waits."""
        if self._beats is not None:
            with suppress(OSError):
                self._beats.sendto(b"WATCHDOG=1", self._socket_name())

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._notify(f"STATUS={text}")

    def _notify(self, what: str) -> None:
        if not self.has_manager:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.settimeout(_SEND_TIMEOUT)
            connection.sendto(what.encode(), self._socket_name())

    def _socket_name(self) -> str:
        return "\0" + self._address[1:] if self._address.startswith("@") else self._address


class Heartbeat:
    """Calls ``beat`` while all threads complete rounds of their loops; even idle ones do."""

    def __init__(self, beat: Callable[[], None], threads: int) -> None:
        self._beat = beat
        self._last = [-1] * threads

    def check(self, counts: Sequence[int]) -> list[int]:
        """Beat if all threads have completed a round since the last beat; else return the numbers of those that have
        not. ``counts`` has the number of rounds that each has completed."""
        stalled = [number for number, count in enumerate(counts) if count == self._last[number]]
        if not stalled:
            self._last = list(counts)
            self._beat()
        return stalled


class WatchdogFeeder:
    """Feeds the watchdog in a thread of its own. It checks only the packet threads: a disk, a program or a reader of
    the log that hangs is no reason to end natmirror while packets pass.

    ``rounds`` returns the number of rounds of each packet thread; they are checked every ``interval`` seconds.
    """

    def __init__(self, heartbeat: Heartbeat, rounds: Callable[[], Sequence[int]], interval: float) -> None:
        self._heartbeat = heartbeat
        self._rounds = rounds
        self._interval = interval
        self._is_over = threading.Event()
        self._thread = NamedThread(self._run, "watchdog")

    def start(self) -> None:
        """Start the thread. HostError where the host refuses another thread."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostError(f"cannot start the thread watchdog: {error}") from None

    def stop(self) -> None:
        """End the thread."""
        self._is_over.set()

    def check(self) -> None:
        """Check the threads once; beat if they all run."""
        for number in self._heartbeat.check(self._rounds()):
            log.error(
                "thread %d has not run since the last watchdog beat; systemd restarts natmirror if that lasts", number
            )

    def _run(self) -> None:
        while not self._is_over.wait(self._interval):
            try:
                self.check()
            except Exception:  # e.g. no memory: the next check is soon
                log.exception("watchdog: internal error in a check of the threads; checking again")


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    meant_for = environment.get("WATCHDOG_PID") or str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC", "")
    if meant_for != str(os.getpid()) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6 / _CHECKS
