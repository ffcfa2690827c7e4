"""A Debian root that its own systemd has booted: a container with the network of the lab's load-balancer host."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from natmirror.lab.process import wait_for

BOOT = Path(__file__).with_name("boot")
_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CPUSET = ("cpuset.cpus", "cpuset.mems")  # in version 1, a new group has none
_BOOT_TIMEOUT = 60.0


class Machine:
    """``root`` has been booted when the constructor returns; ``namespace`` is its network namespace. close() ends all
    that runs in it."""

    def __init__(self, root: Path, namespace: str, log: Path) -> None:
        self.root = root
        self._groups = [_make_group(hierarchy) for hierarchy in _hierarchies()]
        enter = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{namespace}"]
        boot = [
            "unshare",
            *_NAMESPACES,
            "--propagation",
            "private",
            "--fork",
            "--kill-child",
            "sh",
            str(BOOT),
            str(root),
        ]
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [*enter, *boot],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._join_groups,
            )
        try:
            wait_for(lambda: self._children() != [] or self._popen.poll() is not None, "the machine's first process")
            assert self._popen.poll() is None, log.read_text()
            [self._first] = self._children()
            for group in self._groups:  # in version 2, a group with processes has no groups below it that are limited
                (group.parent / "cgroup.procs").write_text(str(self._popen.pid))
            wait_for(self._is_up, f"the machine to boot ({log})", _BOOT_TIMEOUT)
        except BaseException:
            self.close()
            raise

    def run(self, *argv: str, check: bool = True, directory: str = "/") -> str:
        """Run a program as root inside, and return its output, with what it says on stderr."""
        done = self.attempt(*argv, directory=directory)
        if check and done.returncode:
            journal = self.attempt("journalctl", "--no-pager", "--lines=30").stdout
            raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stdout}\njournal:\n{journal}")
        return done.stdout

    def attempt(self, *argv: str, directory: str = "/") -> "subprocess.CompletedProcess[str]":
        """Run a program as root inside, which may fail."""
        enter = ["nsenter", f"--target={self._first}", "--net", *_NAMESPACES]
        inside = [*enter, "env", "--ignore-environment", f"--chdir={directory}", _PATH]
        return subprocess.run(
            [*inside, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120.0,
            check=False,
        )

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def journal(self, unit: str, *options: str) -> str:
        """Return the journal of a unit since the boot."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--boot", "--no-pager", "--output=cat", f"--unit={unit}", *options)

    def group(self, unit: str, controller: str) -> Path:
        """Return the directory of a unit's control group: of this controller, or of version 2."""
        [group] = [one for one in self._groups if one.parent.name == controller] or self._groups[:1]
        return group / "system.slice" / unit

    def pids(self, unit: str) -> list[int]:
        """Return the processes of a unit, by their ids on this host."""
        return [int(pid) for pid in (self.group(unit, "systemd") / "cgroup.procs").read_text().split()]

    def power_off(self) -> None:
        """Shut down as an operator does, and wait for the end."""
        self.attempt("systemctl", "poweroff")
        self._popen.wait(_BOOT_TIMEOUT)

    def close(self) -> None:
        """End all processes inside, and remove the control groups."""
        self._popen.send_signal(signal.SIGKILL)
        self._popen.wait()
        wait_for(lambda: all(map(_remove_group, self._groups)), "the machine's processes to end")

    def _join_groups(self) -> None:
        for group in self._groups:
            (group / "cgroup.procs").write_text("0")

    def _children(self) -> list[int]:
        with suppress(FileNotFoundError):
            pid = self._popen.pid
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def _is_up(self) -> bool:
        assert self._popen.poll() is None, self._log.read_text()
        return self.attempt("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}


def _hierarchies() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(fields[4]) for fields in mounts if fields[fields.index("-") + 1] in {"cgroup", "cgroup2"}]


def _make_group(hierarchy: Path) -> Path:
    group = hierarchy / f"natmirror-{os.getpid()}"
    group.mkdir()
    for name in _CPUSET:
        if (hierarchy / name).exists():
            (group / name).write_text((hierarchy / name).read_text())
    return group


def _remove_group(group: Path) -> bool:
    """Remove a control group and those below; return whether that succeeded, because no process is left in them."""
    try:
        for directory, _, _ in os.walk(group, topdown=False):
            os.rmdir(directory)
    except OSError:
        return False
    return True
