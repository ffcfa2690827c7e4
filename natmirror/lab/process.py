"""Programs in a namespace: started, waited for, and ended by process id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from natmirror.errors import HostError

_LISTEN = "0A"  # TCP_LISTEN as /proc/net/tcp writes it
# Seconds
PATIENCE = 30.0
"""What a program of the lab may need for something on a busy machine; on others hardly any of it passes."""
_POLL = 0.01
_END_TIMEOUT = 5.0


def wait_for(condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Wait until ``condition()`` holds; HostError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise HostError(f"waited {timeout:g} s for {what}")
        time.sleep(_POLL)


class Program:
    """A program that runs in a namespace; its output goes to ``log``."""

    def __init__(self, namespace: str, argv: Sequence[str], log: Path, **options: Any) -> None:
        self.log = log
        self._file: IO[bytes] = log.open("ab")
        try:
            self.popen = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *argv],
                stdout=self._file,
                stderr=subprocess.STDOUT,
                stdin=options.pop("stdin", subprocess.DEVNULL),
                start_new_session=True,  # Ctrl-C goes to us alone: we end the programs in order
                **options,
            )
        except FileNotFoundError:
            raise HostError("the program ip is missing: install the package iproute2") from None

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def text(self) -> str:
        """The program's output so far."""
        return self.log.read_text(errors="replace")

    def running(self) -> bool:
        return self.popen.poll() is None

    def wait_for_text(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until the program has printed ``text``; HostError where it ends before."""

        def printed() -> bool:
            if text in self.text:
                return True
            if not self.running():
                raise HostError(f"{self.log.name}: ended with exit code {self.popen.returncode}:\n{self.text}")
            return False

        wait_for(printed, f"{text!r} in {self.log}", timeout)

    def send_signal(self, number: int) -> None:
        """Send the program a signal, if it still runs."""
        if self.running():
            self.popen.send_signal(number)

    def end(self, number: int = signal.SIGTERM, timeout: float = _END_TIMEOUT) -> int:
        """Send a signal, kill the program if it does not end in ``timeout`` seconds, and return its exit code."""
        self.send_signal(number)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._file.close()
        return self.popen.returncode


def run(namespace: str, argv: Sequence[str], *, timeout: float = 60.0, check: bool = True, **options: Any) -> str:
    """Run a program to its end, and return its output. HostError where it fails."""
    command = ["ip", "netns", "exec", namespace, *argv]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL, **options
    )
    if check and done.returncode:
        output = (done.stderr or done.stdout).strip()
        raise HostError(f"{' '.join(argv)} ended with exit code {done.returncode}: {output}")
    return done.stdout


def wait_listen(namespace: str, port: int, timeout: float = PATIENCE) -> None:
    """Wait until a program listens on a TCP port."""
    entry = f":{port:04X} "

    def listens() -> bool:
        lines = run(namespace, ["cat", "/proc/net/tcp", "/proc/net/tcp6"], check=False).splitlines()
        return any(entry in line and line.split()[3] == _LISTEN for line in lines)

    wait_for(listens, f"a listener on port {port} in {namespace}", timeout)


def wait_accept(path: Path, timeout: float = PATIENCE) -> None:
    """Wait until a program accepts connections on a Unix socket; the socket's file exists before."""

    def accepts() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(path)) == 0

    wait_for(accepts, f"a listener on {path}", timeout)


def pids_in(namespace: str) -> list[int]:
    """Return the ids of the processes in a namespace."""
    try:
        inode = os.stat(f"/var/run/netns/{namespace}").st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.stat(entry / "ns/net").st_ino == inode:
                found.append(int(entry.name))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


def kill_all_in(namespace: str) -> None:
    """Kill all processes in a namespace of ours, such as daemons that programs have left."""
    for pid in pids_in(namespace):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_for(lambda: not pids_in(namespace), f"the processes of {namespace} to end")
