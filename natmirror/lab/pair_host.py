"""A host of a pair in the lab: natmirror, and a real keepalived with the configuration that natmirror writes for it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import PATIENCE, Program, wait_for
from natmirror.lab.topology import CONTROLLER_SIDE, SERVICE, VIRTUAL, Lab

_REAL_TIME = ("chrt", "--rr", "1")
VIRTUAL_ADDRESSES = {SERVICE, f"{CONTROLLER_SIDE}.{VIRTUAL}"}


def _in_real_time() -> Sequence[str]:
    """Return the words before a command that give it and its children a core before other programs; none where the
    kernel refuses that. The lab's hosts share the cores of one machine: a keepalived that had none for 0.6 s, or whose
    health checks had none for two seconds, would give its addresses away."""
    with suppress(FileNotFoundError):
        if subprocess.run([*_REAL_TIME, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return _REAL_TIME
    return ()


class Keepalived:
    """A keepalived that runs on a host; all its files are in the lab's directory."""

    def __init__(self, lab: Lab, host: str, rules: Path | str, api: Path) -> None:
        if shutil.which("keepalived") is None:
            raise HostError("keepalived is missing: install the package keepalived")
        file = lab.directory / f"{host}-keepalived.conf"
        command = lab.directory / "natmirror"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m natmirror "$@"\n')
        # keepalived runs as root only programs that root owns, and the checkout may be another user's
        command.chmod(0o755)
        write = [str(command), "keepalived", "--rules", str(rules), "--script-user", "root", "--command", str(command)]
        lab.run(host, [*write, "--api", str(api), "--output", str(file)])
        lab.run(host, ["keepalived", "--config-test", f"--use-file={file}"])
        self._pid_files = [lab.directory / f"{host}-{name}.pid" for name in ("keepalived", "vrrp")]
        parent, child = map(str, self._pid_files)
        words = ["--vrrp", "--dont-fork", "--log-console", "--log-detail", "--no-syslog"]
        words += [f"--use-file={file}", f"--pid={parent}", f"--vrrp_pid={child}"]
        self.program: Program = lab.start(host, [*_in_real_time(), "keepalived", *words], name="keepalived")

    def stop(self) -> int:
        """Stop it with a SIGTERM, so that it informs the other host, and return the exit code."""
        return self.program.end()

    def kill(self) -> None:
        """Kill both its processes at once: the other host is not informed, and the addresses stay."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            parent, child = (int(file.read_text()) for file in self._pid_files)
            os.kill(child, signal.SIGSTOP)  # else it would remove the addresses when its parent ends
            for process in (parent, child):
                os.kill(process, signal.SIGKILL)
        self.program.popen.wait()


class PairHost:
    """One host of a pair, ``lb1`` or ``lb2``; both programs run when the constructor returns. natmirror keeps its files
    in ``state_directory``, if there is one."""

    def __init__(self, lab: Lab, host: str, rules: Path | str, state_directory: Path | None = None) -> None:
        self.lab = lab
        self.host = host
        self._rules = rules
        self._env = None if state_directory is None else {**os.environ, "STATE_DIRECTORY": str(state_directory)}
        self.api = lab.directory / f"{host}.sock"
        self.start()

    def start(self) -> None:
        """Start both programs, natmirror first: keepalived takes no address before natmirror is fit."""
        self.start_natmirror()
        self.keepalived = Keepalived(self.lab, self.host, self._rules, self.api)

    def start_natmirror(self) -> None:
        self.balancer = LoadBalancer(self.lab, self._rules, host=self.host, api=self.api, on_stop="keep", env=self._env)

    def stop_natmirror(self) -> None:
        """Stop natmirror alone; HostError where its exit code is not 0."""
        if self.balancer.stop():
            raise HostError(f"{self.host}: natmirror did not stop cleanly: {self.balancer.program.text}")

    def has_addresses(self) -> bool:
        """Return whether this host has the virtual addresses."""
        return self.lab.addresses(self.host) >= VIRTUAL_ADDRESSES

    def wait_for_role(self, role: str, timeout: float = PATIENCE) -> None:
        """Wait until keepalived has reported the role to natmirror, and the host's addresses match it."""

        def has_come() -> bool:
            pair = self.balancer.status()["pair"]
            is_set = (pair["role"], pair["source"]) == (role, "keepalived")
            return is_set and self.has_addresses() is (role == "master")

        try:
            wait_for(has_come, f"{self.host} to be {role}", timeout)
        except HostError as error:
            raise HostError(f"{error}; keepalived said:\n{self.keepalived.program.text}") from None

    def pull(self, link: str) -> None:
        """Pull one of the host's cables, ``sw0`` or ``pl0``."""
        self.lab.pull(self.host, link)

    def plug(self, link: str) -> None:
        """Plug a pulled cable in again."""
        self.lab.plug(self.host, link)

    def crash(self) -> None:
        """Crash the host: pull its cables and kill its programs."""
        for link in ("sw0", "pl0"):
            self.pull(link)
        self.keepalived.kill()
        self.balancer.kill()

    def boot(self) -> None:
        """Boot a crashed host: start its programs, then plug its cables in."""
        self.start()
        for link in ("sw0", "pl0"):
            self.plug(link)

    def stop(self) -> None:
        """Stop both programs, keepalived first, as a host does that is shut down."""
        if self.keepalived.stop():
            raise HostError(f"{self.host}: keepalived did not stop cleanly: {self.keepalived.program.text}")
        self.stop_natmirror()
