"""What systemd is told of a run, and its watchdog: sd_notify(3), a datagram for each."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

_SEND_TIMEOUT = 1.0
_LOOKS = 4  # at the threads in the time that the watchdog waits; sd_watchdog_enabled(3) wants two at least


class Notifier:
    """Speaks to the service manager that ``environment`` names, or to nobody.

    A manager that does not listen costs nothing but what it is not told.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.is_heard = bool(self._address)
        self.watchdog_interval = _watchdog_interval(environment) if self.is_heard else None
        """Seconds between two looks at the threads, each of which may be a beat; None: no watchdog waits for beats."""

    def ready(self) -> None:
        """The start is over."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def beat(self) -> None:
        """What the watchdog waits for."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line that ``systemctl status`` shows."""
        self._tell(f"STATUS={text}")

    def _tell(self, what: str) -> None:
        if not self.is_heard:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.settimeout(_SEND_TIMEOUT)
            way.sendto(what.encode(), address)


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


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    meant_for = environment.get("WATCHDOG_PID") or str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC", "")
    if meant_for != str(os.getpid()) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6 / _LOOKS
