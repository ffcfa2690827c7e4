"""Whether this host is on duty: how fit this natmirror is, what keepalived has made of its host, and who is told."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from natmirror.ha.health_server import HealthServer
from natmirror.ha.keepalived_hooks import health_socket
from natmirror.ha.readiness import Readiness
from natmirror.ha.role import CurrentRole, HostRole
from natmirror.linux.addresses import own_addresses
from natmirror.rules import Pair

log = logging.getLogger("natmirror")

_HAND_OVER_TIMEOUT = 4.0
"""Seconds that a stop waits for the other host: two looks of keepalived's, and what it takes to tell us."""


class PairMember:
    """A host's part in a pair, or a host alone. It belongs to the main thread, but for the health that it tells.

    ``rounds`` gives how often each thread that passes packets has gone through its loop.
    """

    def __init__(self, pair: Pair | None, threads: int, rounds: Callable[[], Sequence[int]]) -> None:
        self.fitness = Readiness(threads)
        self._pair = pair
        self._rounds = rounds
        self._hand_over_until: float | None = None
        self._was_otherwise = False
        self._standing = CurrentRole(_time_of_day)

    def on_role(self, tell: Callable[[HostRole], None]) -> None:
        """Have a function told this host's role now and whenever it changes, in the main thread.

        Before open() each host is a backup.
        """
        self._standing.on_role(tell)

    def open(self, held: ExitStack, api_path: Path) -> None:
        """Tell whoever asks from now on, and find out what the host is: a keepalived that sees no change tells nothing
        to a natmirror that comes anew."""
        held.callback(HealthServer(Path(health_socket(str(api_path))), self._look).close)
        if self._pair is not None:
            self._standing.assume(self._role_by_addresses() or HostRole.BACKUP)

    def shown_role(self) -> HostRole | None:
        """Return the role that this host's addresses show, None where they show none: for compare(), from any thread.
        HostError where that cannot be found out."""
        return None if self._pair is None else self._role_by_addresses()

    def compare(self, shown: HostRole | None) -> None:
        """Now and then: a word of keepalived's may be lost, or keepalived may be gone, and its addresses with it. What
        shown_role() gives a second time counts."""
        role = self._standing.role
        is_otherwise = shown is not None and (shown is HostRole.MASTER) != (role is HostRole.MASTER)
        if shown is not None and is_otherwise and self._was_otherwise:
            log.warning("this host is %s now by its addresses, and keepalived has not told", shown)
            self._standing.assume(shown)
        self._was_otherwise = is_otherwise

    def tell(self, words: dict[str, Any]) -> None:
        """What keepalived says: ``{"role": …, "order": …}``; KeyError or ValueError where it is something else. Without
        an order it is the latest."""
        role, order = HostRole(str(words["role"])), words.get("order", 0)
        if not isinstance(order, int) or order < 0:
            raise ValueError(f"order: expected a number from 0 on, found {order!r:.40}")
        if self._pair is None:
            raise ValueError("the rules have no section ha: this host is alone and has no role")
        if self._standing.take(role, order):
            log.warning("this host is %s now", role)

    def begin_hand_over(self, now: float) -> None:
        """A stop is wanted: have the other host take the addresses while packets still pass here."""
        self.fitness.not_ready = "it stops"
        if self._pair is not None and self._standing.role is HostRole.MASTER:
            log.info("stopping: waiting up to %g s for the other host to take over", _HAND_OVER_TIMEOUT)
            self._hand_over_until = now + _HAND_OVER_TIMEOUT

    def hands_over(self, now: float) -> float | None:
        """When the wait for the other host ends at the latest; None: it is over, or has not begun."""
        until = self._hand_over_until
        return until if until is not None and now < until and self._standing.role is HostRole.MASTER else None

    def show(self) -> dict[str, Any] | None:
        """The pair as plain values; None for a host alone."""
        if self._pair is None:
            return None
        hosts = [host.name for host in self._pair.hosts]
        return {**self._standing.show(), "hosts": hosts, "state": self._pair.state_shown}

    def _role_by_addresses(self) -> HostRole | None:
        """None: it has some of the pair's addresses."""
        assert self._pair is not None, "somebody has looked"
        own = own_addresses()
        found = [address.ip in own for address in self._pair.addresses]
        return HostRole.MASTER if all(found) else None if any(found) else HostRole.BACKUP

    def _look(self) -> tuple[int, str]:
        return self.fitness.look(self._rounds(), time.monotonic())


def _time_of_day() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
