"""A service manager, as natmirror sees it."""

import os
import socket
import time
from pathlib import Path


class Manager:
    """Plays systemd: receives watchdog notifications."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))

    def environment(self, watchdog_timeout: float) -> dict[str, str]:
        """Return the environment of a program that it starts with this watchdog, in seconds."""
        about = {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(watchdog_timeout * 1e6))}
        return {**os.environ, **about}

    def longest_wait(self, seconds: float) -> float:
        """Wait this number of seconds for a watchdog notification."""
        began_at = last_at = time.monotonic()
        longest = 0.0
        while (left := began_at + seconds - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                is_beat = self.socket.recv(4096) == b"WATCHDOG=1"
            except TimeoutError:
                break
            if is_beat:
                longest, last_at = max(longest, time.monotonic() - last_at), time.monotonic()
        return max(longest, time.monotonic() - last_at)
