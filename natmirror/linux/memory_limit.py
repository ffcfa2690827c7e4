"""The memory that natmirror may take at most with its rules, and the limit that the service manager has set for it."""

from contextlib import suppress
from pathlib import Path

from natmirror.linux.group_limits import CGROUPS, OWN, own_group
from natmirror.rules import MAX_THREADS, Rules

_PROGRAM = 256 << 20  # the program itself, its log, orders and records that wait to be written
_THREAD = 64 << 20  # a batch of packets, free pieces of buffers, tables of past legs and of switches
_FLOW = 2304  # a row, and Python's objects of a mirrored connection, with other SYNs inside it
_API = 512 << 20  # the process that serves the API, which limits itself
_JUDGES = 128 << 20  # besides the quarter of mirror-memory that they have


def most_memory(rules: Rules) -> int:
    """Return the bytes that natmirror may take at most; docs/running.md explains the sum."""
    threads = (rules.threads or MAX_THREADS) * _THREAD
    is_judged = any(mirror.is_compared for service in rules.services for mirror in service.mirrors)
    programs = _PROGRAM + _API + (_JUDGES if is_judged else 0)
    return programs + threads + rules.mirror_memory + _FLOW * rules.max_flows


def memory_limit(own: Path = OWN, cgroups: Path = CGROUPS) -> int | None:
    """Return the limit of this process's control group (MemoryMax= of a systemd unit), in bytes; None: there is
    none, or it cannot be read."""
    with suppress(OSError, ValueError):
        if (group := own_group(own, cgroups)) is not None:
            return int((group / "memory.max").read_text(encoding="ascii"))
    return None
