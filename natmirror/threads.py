"""Threads whose names the kernel knows, so that ``top -H`` and the metrics tell them apart, and the processor time of
each."""

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PREFIX = "nm-"
"""The first characters of a thread's name in the kernel."""
MAIN, OTHERS = "main", "others"
"""The main thread, whose name in the kernel is the process's, and threads without a name of ours."""

_MAX_NAME_LEN = 15  # linux/sched.h: TASK_COMM_LEN without the NUL byte
_PR_SET_NAME = 15  # linux/prctl.h
_NICER = 10  # a ninth of the weight: see sched(7), "The nice value"

_libc = ctypes.CDLL(None)
_given = {MAIN}


class NamedThread(threading.Thread):
    """A daemon thread that calls ``target``, and has a name in the kernel too: its own, after ``nm-``. So its name has
    12 characters at most."""

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)

    def run(self) -> None:
        """Name the thread, and call its function."""
        name_thread(self.name)
        super().run()


def name_thread(name: str) -> None:
    """Name the calling thread, in Python and in the kernel."""
    shown = (PREFIX + name).encode()
    assert len(shown) <= _MAX_NAME_LEN, f"the kernel would cut the name {name}"
    _given.add(name)
    threading.current_thread().name = name
    _libc.prctl(_PR_SET_NAME, shown, 0, 0, 0)


def yield_to_packets() -> None:
    """Make the calling thread nicer than the packet threads, and so the programs that it starts.

    A packet thread that has just answered this one has used more than its equal share of their core. So the kernel
    would run this one first for as long again, while packets wait. Not nicer still: on a crowded core, a packet thread
    may wait for the interpreter lock that this one has.
    """
    with suppress(OSError):  # a service manager forbids it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)


def processor_seconds() -> dict[str, float]:
    """Return the processor time of this process's living threads by name, in seconds; that of threads with the same
    name together."""
    found: Counter[str] = Counter()
    for thread in threading.enumerate():
        name = MAIN if thread is threading.main_thread() else thread.name
        if thread.native_id is not None:
            with suppress(OSError):  # it has ended
                found[name if name in _given else OTHERS] += time.clock_gettime_ns(_clock_of(thread.native_id))
    return {name: nanoseconds / 1e9 for name, nanoseconds in sorted(found.items())}


def busy_seconds(thread: threading.Thread) -> float:
    """Return how long a thread has had, or waited for, a processor, in seconds; 0 where the kernel does not tell, and
    unless the thread runs."""
    try:
        had, waited, _ = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return (int(had) + int(waited)) / 1e9


def _clock_of(native_id: int) -> int:
    """Return the number of the clock that counts a thread's processor time (linux/posix-timers.h:
    make_thread_cpuclock()). pthread_getcpuclockid() gives the same, but crashes for a thread that has ended."""
    return ~native_id << 3 | 6
