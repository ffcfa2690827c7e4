"""What a start of natmirror needs of this machine: rights, the TUN device, queues, descriptors, memory, a clock."""

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from natmirror.linux.cores import thread_count
from natmirror.linux.iptables_rules import NAT_QUEUE, WATCH_QUEUE, queue_number
from natmirror.rules import Rules
from natmirror.rules.shards import Shard

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""What natmirror needs, with the numbers in linux/capability.h."""

_TUN = "/dev/net/tun"
_OF_PROGRAM, _OF_THREAD, _OF_BACKEND = 128, 16, 2
"""Descriptors: those of the program and its reserve, of a thread's queues, and of health checks."""
_STA_UNSYNC = 0x0040  # linux/timex.h
_TIMEX_LEN, _STATUS_AT = 208, 40  # struct timex of a 64-bit machine


def queue_numbers(rules: Rules) -> Iterator[int]:
    """Yield the numbers of the queues that natmirror binds with these rules."""
    count = thread_count(rules)
    firsts = [NAT_QUEUE, *([WATCH_QUEUE] if any(service.pool is None for service in rules.services) else [])]
    for number in range(count):
        for first in firsts:
            yield queue_number(first, Shard(number, count))


def missing_capabilities() -> list[str]:
    """Return what this process lacks of CAPABILITIES."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return [name for name, number in CAPABILITIES.items() if not effective >> number & 1]


def open_tun() -> None:
    """Open the device of TUN interfaces, which makes none. OSError where that is refused."""
    os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))


def descriptor_limit(pid: int | None) -> int:
    """Return how many descriptors a process may have; None: one that this process starts. OSError where that cannot be
    read."""
    if pid is None:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def descriptors_needed(rules: Rules) -> int:
    """Return how many descriptors natmirror may need with these rules."""
    backends = sum(len(service.pool.members) for service in rules.services if service.pool)
    return _OF_PROGRAM + _OF_THREAD * thread_count(rules) + _OF_BACKEND * backends


def total_memory() -> int:
    """Return the bytes of memory of this host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def clock_is_set() -> bool:
    """Return whether a program keeps the clock right, as the kernel knows it (adjtimex(2)). OSError where it does not
    say."""
    timex = ctypes.create_string_buffer(_TIMEX_LEN)
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return not int.from_bytes(timex.raw[_STATUS_AT : _STATUS_AT + 4], "little") & _STA_UNSYNC
