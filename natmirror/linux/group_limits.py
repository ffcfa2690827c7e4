"""Limits of natmirror's control group (cgroup v2) by which the kernel holds it back: CPU time, memory, processes."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from natmirror.findings import Finding, HostCode

OWN = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
"""Where the control groups of version 2 are, usually."""
_LOOKS = 7
"""Looks that are compared: with one every 10 s, those of a minute."""
_MIN_THROTTLED = 0.25
"""The share of periods with too little CPU time, from which on packets wait often."""
_COUNTED = {
    "cpu.stat": ("nr_periods", "nr_throttled"),
    "memory.events": ("high", "max"),
    "pids.events": ("max",),
}
"""The counters that natmirror reads, by file (the kernel's admin-guide/cgroup-v2.rst)."""


def own_group(own: Path = OWN, cgroups: Path = CGROUPS) -> Path | None:
    """Return the directory of this process's control group; None where it is unknown."""
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            number, _, path = line.split(":", 2)
            if number == "0":  # cgroup v2
                return cgroups / path.lstrip("/")
    return None


class GroupLimits:
    """Tells which limits the kernel has enforced within the last looks."""

    def __init__(self, own: Path = OWN, cgroups: Path = CGROUPS) -> None:
        self._own = own
        self._cgroups = cgroups
        self._seen: deque[dict[str, int]] = deque(maxlen=_LOOKS)

    def look(self) -> Iterator[Finding]:
        """Yield a finding for each limit that was reached since the oldest of the last looks."""
        group = own_group(self._own, self._cgroups)
        self._seen.append({} if group is None else _counters(group))
        first, last = self._seen[0], self._seen[-1]
        grown = {name: count - first[name] for name, count in last.items() if name in first}
        periods, throttled = grown.get("cpu.stat nr_periods", 0), grown.get("cpu.stat nr_throttled", 0)
        if throttled > _MIN_THROTTLED * periods:
            yield HostCode.CPU_THROTTLED.found(group=group, count=throttled, periods=periods)
        if reached := grown.get("memory.events high", 0) + grown.get("memory.events max", 0):
            yield HostCode.MEMORY_SHORT.found(group=group, count=reached)
        if refused := grown.get("pids.events max", 0):
            yield HostCode.PROCESSES_REFUSED.found(group=group, count=refused)


def _counters(group: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for file, names in _COUNTED.items():
        with suppress(OSError, ValueError):
            values = dict(line.split() for line in (group / file).read_text(encoding="ascii").splitlines())
            found |= {f"{file} {name}": int(values[name]) for name in names if name in values}
    return found
