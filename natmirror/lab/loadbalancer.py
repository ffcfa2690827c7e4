"""natmirror on the lab's load-balancer host, as a process of its own."""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from natmirror.api.client import ask, ask_list
from natmirror.lab.process import PATIENCE, Program, wait_for
from natmirror.lab.topology import Lab


class LoadBalancer:
    """A natmirror that runs on ``host`` with ``rules``, ready when the constructor returns. ``through`` is a command
    to which natmirror's own command is appended."""

    def __init__(
        self,
        lab: Lab,
        rules: Path | str,
        *,
        host: str = "lb",
        on_stop: str | None = "remove",
        iptables: str | None = None,
        api: Path | None = None,
        through: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.api = api or lab.directory / "api.sock"
        self._last: dict[str, Any] = {}
        command = [*through, sys.executable, "-m", "natmirror", "--rules", str(rules), "--api", str(self.api)]
        if on_stop is not None:
            command += ["--on-stop", on_stop]
        if iptables is not None:
            command += ["--iptables", iptables]
        self.program: Program = lab.start(host, command, name="natmirror", env=env)
        self.program.wait_for_text("ready: ")

    def status(self) -> dict[str, Any]:
        """Return the state that natmirror reports, with the flows; after its end, the last state before."""
        if self.program.running():
            self._last = {**ask("status", self.api), "flows": ask_list("flows", self.api)}
        return self._last

    def ended(self) -> list[dict[str, Any]]:
        """Return the latest legs that ended."""
        return ask_list("ended", self.api)

    def wait_for_status(
        self, condition: Callable[[dict[str, Any]], bool], what: str, timeout: float = PATIENCE
    ) -> None:
        """Wait until ``condition`` holds for the state."""
        wait_for(lambda: condition(self.status()), what, timeout)

    def wait_until_acknowledged(self, timeout: float = PATIENCE) -> None:
        """Wait until the mirrors have acknowledged all bytes that clients sent before this call."""
        self.wait_for_status(
            lambda status: all(mirror["pending_bytes"] == 0 for mirror in status["mirrors"]),
            "the mirrors to acknowledge everything",
            timeout,
        )

    def stop(self) -> int:
        """Stop it with a SIGTERM, and return the exit code."""
        if self.program.running():
            self.status()
        return self.program.end(signal.SIGTERM, 15.0)

    def kill(self) -> None:
        """Kill it with a SIGKILL."""
        self.program.end(signal.SIGKILL)
