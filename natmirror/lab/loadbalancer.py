"""natmirror itself on the lab's load-balancer host, as a process of its own."""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from natmirror.lab.process import Program, wait_for
from natmirror.lab.topology import Lab


class LoadBalancer:
    """A running natmirror: started with ``rules``, ready when the constructor returns."""

    def __init__(self, lab: Lab, rules: Path | str, *, on_stop: str = "remove", iptables: str | None = None) -> None:
        self.status_file = lab.directory / "status.json"
        self.status_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "natmirror", "--rules", str(rules), "--on-stop", on_stop]
        command += ["--status-file", str(self.status_file)]
        if iptables is not None:
            command += ["--iptables", iptables]
        self.program: Program = lab.start("lb", command, name="natmirror")
        self.program.wait_for_text("ready: ")

    def status(self) -> dict[str, Any]:
        """The state as natmirror last wrote it; empty before the first time."""
        try:
            status: dict[str, Any] = json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {}
        return status

    def wait_for_status(self, condition: Callable[[dict[str, Any]], bool], what: str, timeout: float = 10.0) -> None:
        """Wait until the state fulfils a condition."""
        wait_for(lambda: condition(self.status() or {"flows": [], "mirrors": [], "counters": {}}), what, timeout)

    def wait_until_acknowledged(self, timeout: float = 15.0) -> None:
        """Wait until the mirrors have acknowledged all that clients have sent before this call."""
        called_at = time.time()
        self.wait_for_status(
            lambda status: (
                status.get("time", 0.0) > called_at
                and all(mirror["pending_bytes"] == 0 for mirror in status["mirrors"])
            ),
            "the mirrors to acknowledge everything",
            timeout,
        )

    def stop(self) -> int:
        """A clean stop; gives the exit code."""
        return self.program.end(signal.SIGTERM, 15.0)

    def kill(self) -> None:
        """A stop that leaves it no time to do anything."""
        self.program.end(signal.SIGKILL)
