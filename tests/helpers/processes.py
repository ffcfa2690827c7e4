"""What tests read of other processes, and do to them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from natmirror.lab.process import wait_for
from natmirror.threads import PREFIX

# linux/ptrace.h, linux/wait.h
PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 7, 17, 0x4206, 0x4207, 0x40000000
POLLS = {"x86_64": ("7", "219"), "aarch64": ("73", "128")}
"""The numbers of the system calls poll (ppoll) and restart_syscall, which goes on with one that was interrupted."""


@contextmanager
def wedged(thread: int, *, in_poll: bool = True) -> Iterator[None]:
    """Stop one packet thread of another natmirror, and no other thread: while it waits in poll(), because a thread that
    holds the interpreter's lock would stop all. Without ``in_poll`` stop any thread, while it waits in the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)

    def trace(request: int) -> None:
        assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())

    def is_stopped_there() -> bool:
        trace(PTRACE_INTERRUPT)
        os.waitpid(thread, WALL)
        call = Path(f"/proc/{thread}/syscall").read_text().split()[0]  # or -1, if it is in none
        if call in POLLS[os.uname().machine] or (call.isdecimal() and not in_poll):
            return True
        trace(PTRACE_CONT)
        return False

    trace(PTRACE_SEIZE)
    wait_for(is_stopped_there, "a thread that waits")
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


@contextmanager
def still(pid: int) -> Iterator[None]:
    """Stop all threads of another natmirror but its main thread, while they wait in the kernel."""
    with ExitStack() as held:
        for thread in sorted(int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()):
            if thread != pid:
                held.enter_context(wedged(thread, in_poll=False))
        yield


def status_of(pid: int) -> dict[str, str]:
    """Return what the kernel shows of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
