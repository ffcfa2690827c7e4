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
        """Return for how long the threads of all programs together, and the whole machine, have waited for a core."""
        waited = sum(time - self._before.get(thread, 0) for thread, time in self._waited().items())
        return waited / 1e9 + _stolen() - self._stolen

    def _waited(self) -> dict[str, int]:
        """Return the nanoseconds for which each thread has waited (proc_pid_schedstat(5))."""
        found = {}
        for file in (file for pid in self._pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")):
            with suppress(OSError):  # the thread has ended
                found[str(file)] = int(file.read_text().split()[1])
        return found


def _stolen() -> float:
    return int(Path("/proc/stat").read_text().split(maxsplit=_STEAL + 1)[_STEAL]) / os.sysconf("SC_CLK_TCK")
