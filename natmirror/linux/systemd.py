"""What systemd is told of a run, and its watchdog: sd_notify(3), a datagram for each."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from natmirror.errors import HostError

log = logging.getLogger("natmirror")

_SEND_TIMEOUT = 1.0
_LOOKS = 4  # at the threads in the time that the watchdog waits; sd_watchdog_enabled(3) wants two at least


class Notifier:
    """Speaks to the service manager that ``environment`` names, or to nobody.

    A manager that does not listen costs nothing but what it is not told.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.is_heard = bool(self._address)
        self._beats = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if self.is_heard else None
        self.watchdog_interval = _watchdog_interval(environment) if self.is_heard else None
        """Seconds between two looks at the threads, each of which may be a beat; None: no watchdog waits for beats."""

    def ready(self) -> None:
        """The start is over."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def beat(self) -> None:
        """Say what the watchdog waits for. It takes no descriptor, and never waits."""
        if self._beats is not None:
            with suppress(OSError):
                self._beats.sendto(b"WATCHDOG=1", self._place())

    def status(self, text: str) -> None:
        """One line that ``systemctl status`` shows."""
        self._tell(f"STATUS={text}")

    def _tell(self, what: str) -> None:
        if not self.is_heard:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.settimeout(_SEND_TIMEOUT)
            way.sendto(what.encode(), self._place())

    def _place(self) -> str:
        return "\0" + self._address[1:] if self._address.startswith("@") else self._address


class Heartbeat:
    """Calls ``beat`` while all threads go on, however little they have to do."""

    def __init__(self, beat: Callable[[], None], threads: int) -> None:
        self._beat = beat
        self._last = [-1] * threads

    def look(self, counts: Sequence[int]) -> list[int]:
        """At how often each thread has gone through its loop. Beats where all have since the last beat; else gives the
        numbers of those that stand still."""
        still = [number for number, count in enumerate(counts) if count == self._last[number]]
        if not still:
            self._last = list(counts)
            self._beat()
        return still


class Feeder:
    """Feeds the watchdog in a thread of its own, which looks at the packets' threads and at nothing else: a disk, a
    program or a reader of the log that hangs is no reason to end what passes packets.

    ``rounds`` gives how often each of them has gone through its loop; they are looked at every ``interval`` seconds.
    """

    def __init__(self, heartbeat: Heartbeat, rounds: Callable[[], Sequence[int]], interval: float) -> None:
        self._heartbeat = heartbeat
        self._rounds = rounds
        self._interval = interval
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin. HostError where the host has no thread left."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostError(f"cannot start the thread watchdog: {error}") from None

    def stop(self) -> None:
        """End."""
        self._is_over.set()

    def look(self) -> None:
        """Look once, and beat where all threads go on."""
        for number in self._heartbeat.look(self._rounds()):
            log.error("thread %d has stood still since the last beat for the watchdog", number)

    def _run(self) -> None:
        while not self._is_over.wait(self._interval):
            try:
                self.look()
            except Exception:  # no memory, for one: the next look is soon
                log.exception("watchdog: a look at the threads failed")


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    meant_for = environment.get("WATCHDOG_PID") or str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC", "")
    if meant_for != str(os.getpid()) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6 / _LOOKS
