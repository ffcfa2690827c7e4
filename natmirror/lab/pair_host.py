"""A host of a pair in the lab: natmirror, and the real keepalived with the file that natmirror has written for it."""

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for
from natmirror.lab.topology import CONTROLLER_SIDE, SERVICE, VIRTUAL, Lab

VIRTUAL_ADDRESSES = {SERVICE, f"{CONTROLLER_SIDE}.{VIRTUAL}"}


class Keepalived:
    """A running keepalived on a host; everything that it writes is in the lab's own directory."""

    def __init__(self, lab: Lab, host: str, rules: Path | str, api: Path) -> None:
        if shutil.which("keepalived") is None:
            raise HostError("keepalived is missing: install the package keepalived")
        file = lab.directory / f"{host}-keepalived.conf"
        command = lab.directory / "natmirror"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m natmirror "$@"\n')
        command.chmod(0o755)  # root's own, wherever this checkout lies: keepalived runs nothing else as root
        write = [str(command), "keepalived", "--rules", str(rules), "--script-user", "root", "--command", str(command)]
        lab.run(host, [*write, "--api", str(api), "--output", str(file)])
        lab.run(host, ["keepalived", "--config-test", f"--use-file={file}"])
        self._pid_files = [lab.directory / f"{host}-{name}.pid" for name in ("keepalived", "vrrp")]
        parent, child = map(str, self._pid_files)
        words = ["--vrrp", "--dont-fork", "--log-console", "--log-detail", "--no-syslog"]
        words += [f"--use-file={file}", f"--pid={parent}", f"--vrrp_pid={child}"]
        self.program: Program = lab.start(host, ["keepalived", *words], name="keepalived")

    def stop(self) -> int:
        """A clean stop: it tells the other host that it ends."""
        return self.program.end()

    def kill(self) -> None:
        """Both its processes at once: it tells nobody, and leaves the addresses where they are."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            parent, child = (int(file.read_text()) for file in self._pid_files)
            os.kill(child, signal.SIGSTOP)  # or it would take the addresses away while its parent dies
            for process in (parent, child):
                os.kill(process, signal.SIGKILL)
        self.program.popen.wait()


class PairHost:
    """One of a pair's two hosts, ``lb1`` or ``lb2``, with both programs running when the constructor returns."""

    def __init__(self, lab: Lab, host: str, rules: Path | str) -> None:
        self.lab = lab
        self.host = host
        self._rules = rules
        self.api = lab.directory / f"{host}.sock"
        self.start()

    def start(self) -> None:
        """Start both, natmirror first: keepalived takes no address before it is fit."""
        self.start_natmirror()
        self.keepalived = Keepalived(self.lab, self.host, self._rules, self.api)

    def start_natmirror(self) -> None:
        """Start natmirror alone."""
        self.balancer = LoadBalancer(self.lab, self._rules, host=self.host, api=self.api, on_stop="keep")

    def stop_natmirror(self) -> None:
        """A clean stop of natmirror alone; HostError where it is none."""
        if self.balancer.stop():
            raise HostError(f"{self.host}: natmirror did not stop cleanly: {self.balancer.program.text}")

    def has_addresses(self) -> bool:
        """Return whether it has the virtual addresses."""
        return self.lab.addresses(self.host) >= VIRTUAL_ADDRESSES

    def wait_for_role(self, role: str, timeout: float = 20.0) -> None:
        """Wait until keepalived has given its natmirror the role, and the addresses agree."""

        def has_come() -> bool:
            pair = self.balancer.status()["pair"]
            is_set = (pair["role"], pair["source"]) == (role, "keepalived")
            return is_set and self.has_addresses() is (role == "master")

        try:
            wait_for(has_come, f"{self.host} to be {role}", timeout)
        except HostError as error:
            raise HostError(f"{error}; keepalived said:\n{self.keepalived.program.text}") from None

    def pull(self, link: str) -> None:
        """Pull one of its cables, ``sw0`` or ``pl0``."""
        self.lab.pull(self.host, link)

    def plug(self, link: str) -> None:
        """Put it back."""
        self.lab.plug(self.host, link)

    def crash(self) -> None:
        """The whole host dies: no cable, no program, no farewell."""
        for link in ("sw0", "pl0"):
            self.pull(link)
        self.keepalived.kill()
        self.balancer.kill()

    def boot(self) -> None:
        """What has crashed comes back: its programs first, then its cables."""
        self.start()
        for link in ("sw0", "pl0"):
            self.plug(link)

    def stop(self) -> None:
        """A clean stop of both, keepalived first, as a host that is shut down stops them."""
        if self.keepalived.stop():
            raise HostError(f"{self.host}: keepalived did not stop cleanly: {self.keepalived.program.text}")
        self.stop_natmirror()
