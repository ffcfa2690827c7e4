"""What tests read of other processes, and do to them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from natmirror.threads import PREFIX

# linux/ptrace.h, linux/wait.h
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000


@contextmanager
def wedged(thread: int) -> Iterator[None]:
    """Stop one thread of another process, and no other."""
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        if libc.ptrace(PTRACE_DETACH, thread, None, None):  # the thread has ended: its tracer learns that first
            os.waitpid(thread, WALL)


def thread_of(pid: int, name: str) -> int:
    """Return the thread of another natmirror that has this name."""
    files = Path(f"/proc/{pid}/task").glob("*/comm")
    [thread] = [int(file.parent.name) for file in files if file.read_text() == f"{PREFIX}{name}\n"]
    return thread


def status_of(pid: int) -> dict[str, str]:
    """Return what the kernel shows of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
