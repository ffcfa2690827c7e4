"""The listening sockets for the rules keys ``metrics`` and ``api``, which the API's process serves.

An address that cannot be bound costs only what it would serve: production passes, and natmirror tries again.
"""

import logging
import socket
import time
from contextlib import suppress
from errno import EADDRINUSE

from natmirror.rules import ListenAddress, Rules
from natmirror.runtime.chores import ChoreFailure

log = logging.getLogger("natmirror")

KEYS = ("metrics", "api")
"""The rules keys, in the order of the API's process."""

_BACKLOG = 64
_NONE = -1
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h


class ApiAddresses:
    """The sockets of the present rules. follow() may be called in any thread, everything else in the API's."""

    def __init__(self, rules: Rules) -> None:
        self._sockets: dict[str, tuple[ListenAddress, socket.socket]] = {}
        self._failures: dict[str, tuple[str, float]] = {}
        self.follow(rules)

    def follow(self, rules: Rules) -> None:
        """Have the next update() open the addresses of these rules."""
        self._wanted: dict[str, ListenAddress | None] = {key: getattr(rules, key) for key in KEYS}

    def update(self) -> bool:
        """Open the sockets that the rules want, and close all others; return whether that changed any.

        The API's process keeps a closed one open until it ends: call this again before it is started again."""
        outdated = [key for key, (where, _) in self._sockets.items() if where != self._wanted[key]]
        for key in outdated:
            self._sockets.pop(key)[1].close()
        has_changed = bool(outdated)
        for key, wanted in self._wanted.items():
            if wanted is None:
                self._failures.pop(key, None)
            elif key not in self._sockets and (bound := self._bound(key, wanted, outdated)) is not None:
                self._sockets[key] = wanted, bound
                has_changed = True
        return has_changed

    def close(self) -> None:
        """Close all sockets."""
        for _, bound in self._sockets.values():
            bound.close()
        self._sockets.clear()

    def descriptors(self) -> list[int]:
        """Return the descriptors of the sockets in the order of KEYS; -1: none."""
        return [self._sockets[key][1].fileno() if key in self._sockets else _NONE for key in KEYS]

    def failures(self) -> list[ChoreFailure]:
        """Return the addresses that cannot be bound, as values for JSON; from any thread."""
        now = time.monotonic()
        return [
            {"name": f"the address of {key}", "error": why, "failing_seconds": round(now - since, 3)}
            for key, (why, since) in list(self._failures.items())
        ]

    def _bound(self, key: str, wanted: ListenAddress, outdated: list[str]) -> socket.socket | None:
        try:
            bound = _listen(wanted, notes_arrivals=key == "metrics")
        except OSError as error:
            if outdated and error.errno == EADDRINUSE:  # by the API's process, most likely
                return None
            why = f"cannot listen on {wanted}: {error.strerror or error}"
            before = self._failures.get(key)
            if before is None or before[0] != why:
                log.error("%s in the rules: %s; correct it and reload; natmirror tries again", key, why)
            self._failures[key] = why, time.monotonic() if before is None else before[1]
            return None
        if self._failures.pop(key, None) is not None:
            log.info("%s in the rules: listens on %s now", key, wanted)
        if key == "api":
            log.info("the status page: http://%s/", wanted)
        return bound


def _listen(where: ListenAddress, *, notes_arrivals: bool) -> socket.socket:
    """Return a listening socket. With ``notes_arrivals`` and as long as the socket is open, the kernel notes when each
    packet arrives on this host: the metrics' histogram of added latency needs that, and it costs some 20 ns a packet.
    """
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((str(where.address), where.port))
        bound.listen(_BACKLOG)
        if notes_arrivals:
            with suppress(OSError):
                bound.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        bound.close()
        raise
    return bound
