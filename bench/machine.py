"""The machine: its description for the results, and its division among contenders and load."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.counters import machine_seconds
from natmirror import __version__

_VERSIONS = {
    "haproxy": ["haproxy", "-v"],
    "nginx": ["nginx", "-v"],
    "iptables": ["iptables", "--version"],
    "gcc": ["gcc", "--version"],
}
_LOOK = 0.5
_CORES = sorted(os.sched_getaffinity(0))
CONTENDER_CORES = set(_CORES[: max(1, len(_CORES) // 2)])
"""The cores of a contender's programs."""
LOAD_CORES = set(_CORES) - CONTENDER_CORES or CONTENDER_CORES
"""The cores of clients, servers and mirrors."""
_TIMEOUT = 10.0


def describe() -> dict[str, Any]:
    """Return processor, memory, kernel and versions, and how many cores are busy before the benchmark begins."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(_first("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "virtual": "hypervisor" in _first("/proc/cpuinfo", "flags").split(),
        "kernel": platform.release(),
        "busy_cores_before": round(_busy_cores(), 2),
        "versions": {
            "natmirror": __version__,
            "python": platform.python_version(),
            **{name: _version(argv) for name, argv in _VERSIONS.items()},
        },
    }


@contextmanager
def running_on(cores: set[int]) -> Iterator[None]:
    """Pin all programs that are started in this context to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def give_weight(pid: int) -> None:
    """Have the kernel give a program of ours, which leads a session, ten times the usual share of its cores, as
    CPUWeight=1000 in the unit does. Without autogroups (sched(7)) nothing changes."""
    with suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text("-10")


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown 0"


def _busy_cores() -> float:
    before = machine_seconds()
    time.sleep(_LOOK)
    return (machine_seconds() - before) / _LOOK


def _version(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "missing"
    number = re.search(r"\d+\.\d[\w.+~-]*(?: \(nf_tables\)| \(legacy\))?", done.stdout or done.stderr)
    return number.group() if number else "unknown"
