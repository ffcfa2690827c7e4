"""File descriptors for calls that open several: a reserve of this process, and a check that enough are free."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_USERS = 6
"""Threads that may need descriptors at the same time: for repairs, for checks of the host, for health checks, for
recordings, for the known switches, and for answers about health."""
_PIPES = 4  # starting a child process opens this number; netlink sockets and their event loop take fewer descriptors
_SHARE = 2 * _PIPES
RESERVED = _SHARE * _USERS
"""The size of the reserve while no thread uses it."""


class _Reserve:
    """Descriptors that are reserved, but while threads use them: each releases its share only, since it may hang."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size = 0
        self._uses: Counter[int] = Counter()  # that last, by thread
        self._held: list[int] = []

    def resize(self, size: int) -> None:
        with self._lock:
            self._size = size
            self._balance()

    def begin_use(self) -> None:
        with self._lock:
            self._uses[threading.get_ident()] += 1
            self._balance()

    def end_use(self) -> None:
        with self._lock:
            self._uses -= Counter([threading.get_ident()])
            self._balance()

    def _balance(self) -> None:
        wanted = max(0, self._size - _SHARE * len(self._uses))
        while len(self._held) > wanted:
            os.close(self._held.pop())
        with suppress(OSError):
            while len(self._held) < wanted:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


_reserve = _Reserve()


def keep_reserve() -> None:
    """Reserve what enough() needs from now on, so that there is enough also once this process has reached its
    limit."""
    _reserve.resize(RESERVED)


def give_up_reserve() -> None:
    """Close the reserve."""
    _reserve.resize(0)


@contextmanager
def released() -> Iterator[None]:
    """Release this thread's share of the reserve as long as the context lasts."""
    _reserve.begin_use()
    try:
        yield
    finally:
        _reserve.end_use()


@contextmanager
def enough() -> Iterator[None]:
    """Release this thread's share of the reserve as long as the context lasts. OSError if descriptors would run out
    halfway through a call that opens several.

    Python's Popen before 3.11.4 (gh-87474) and pyroute2's IPRoute then leak the descriptors that they have opened, so
    each attempt would make the shortage worse.
    """
    with released():
        with ExitStack() as opened:
            for _ in range(_PIPES):
                for end in os.pipe():
                    opened.callback(os.close, end)
        yield
