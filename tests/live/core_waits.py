"""What a busy machine adds to each time that a test measures: its programs have waited for a core meanwhile."""

import os
from contextlib import suppress
from pathlib import Path

from natmirror.lab.process import Program

_STEAL = 8  # the place of the time for which the machine's own host ran others, in /proc/stat's first line


class CoreWaits:
    """The waits of programs that run, from now on. On a quiet machine they are a few milliseconds, so that a test may
    allow them beside what it asserts of natmirror."""

    def __init__(self, *programs: Program) -> None:
        self._pids = [program.pid for program in programs]
        self._stolen = _stolen()
        self._before = self._waited()

    def add(self, program: Program) -> None:
        """Count the waits of another program, from its start on."""
        self._pids.append(program.pid)

    def seconds(self) -> float:
        """Return the waits of that thread of each program which has waited most, together with the whole machine's."""
        waited: dict[int, int] = {}
        for (pid, thread), time in self._waited().items():
            waited[pid] = max(waited.get(pid, 0), time - self._before.get((pid, thread), 0))
        return sum(waited.values()) / 1e9 + _stolen() - self._stolen

    def _waited(self) -> dict[tuple[int, str], int]:
        """Return the nanoseconds for which each process's threads have waited (proc_pid_schedstat(5))."""
        found = {}
        for pid in self._pids:
            for thread in Path(f"/proc/{pid}/task").glob("*"):
                with suppress(OSError):  # it has ended
                    found[pid, thread.name] = int((thread / "schedstat").read_text().split()[1])
        return found


def _stolen() -> float:
    return int(Path("/proc/stat").read_text().split(maxsplit=_STEAL + 1)[_STEAL]) / os.sysconf("SC_CLK_TCK")
