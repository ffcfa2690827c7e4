"""The descriptors of a running natmirror, and a limit on them."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from natmirror.lab.process import wait_for
from natmirror.linux.descriptors import RESERVED


def descriptors(pid: int) -> dict[int, str]:
    """Return what a process has open, by descriptor."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed already
            found[int(path.name)] = str(path.readlink())
    return found


@contextmanager
def limited(pid: int, limit: int) -> Iterator[None]:
    """Let a process get no descriptor from this number on."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        if Path(f"/proc/{pid}/fd").exists():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def full(pid: int) -> int:
    """Wait until no thread of natmirror uses the reserve; return the lowest free descriptor."""
    found: dict[int, str] = {}

    def is_whole() -> bool:
        nonlocal found
        found = descriptors(pid)
        return list(found.values()).count(os.devnull) >= RESERVED

    wait_for(is_whole, "the reserve of descriptors")
    return min(set(range(len(found) + 1)) - found.keys())
