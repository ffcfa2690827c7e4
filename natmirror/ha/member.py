"""This host of a pair: its role, its readiness, and the release of its role at a stop."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from natmirror.ha.health_server import HealthServer
from natmirror.ha.keepalived_hooks import health_socket, newest_sequence, role_socket
from natmirror.ha.readiness import Readiness
from natmirror.ha.role import CurrentRole, HostRole, RoleEntry
from natmirror.ha.role_server import RoleServer
from natmirror.linux.addresses import own_addresses
from natmirror.rules import Pair

log = logging.getLogger("natmirror")

_RELEASE_TIMEOUT = 4.0
"""Seconds that a stop waits for the other host to take over: two of keepalived's health checks, and its report."""


class PairEntry(RoleEntry):
    """The pair that this host belongs to."""

    hosts: list[str]
    """The names of both hosts in the rules."""
    store: str | None
    """The URL of the store, without a password; null if the rules have no ``ha.state``."""


class PairMember:
    """A host of a pair, or a host without a pair. It belongs to the main thread, except for the sockets.

    ``rounds`` returns the number of rounds that each packet thread has completed.
    """

    def __init__(self, pair: Pair | None, threads: int, rounds: Callable[[], Sequence[int]]) -> None:
        self.readiness = Readiness(threads)
        self._pair = pair
        self._rounds = rounds
        self._release_deadline: float | None = None
        self._contradicted = False
        self._current_role = CurrentRole(_time_of_day)

    @property
    def is_in_pair(self) -> bool:
        """Return whether the rules have a section ha."""
        return self._pair is not None

    @property
    def is_active(self) -> bool:
        """Return whether production passes this host: it is alone, or the pair's master."""
        return self._pair is None or self._current_role.role is HostRole.MASTER

    def on_role(self, listener: Callable[[HostRole], None]) -> None:
        """Call a function with this host's role, now and at each change, in the main thread.

        Before open() every host is a backup.
        """
        self._current_role.on_role(listener)

    def open(self, held: ExitStack, api_path: Path, in_main_thread: Callable[[Callable[[], None]], None]) -> None:
        """Serve the sockets for health and role from now on, and infer the role from the host's addresses: keepalived
        reports only changes, so it reports nothing to a natmirror that has just started. ``in_main_thread`` calls a
        function in the main thread; TimeoutError where that does not answer."""
        held.callback(HealthServer(Path(health_socket(str(api_path))), self.health).close)

        def report(role: HostRole, sequence: int) -> None:
            in_main_thread(partial(self.set_role, role, sequence))

        held.callback(RoleServer(Path(role_socket(str(api_path))), report).close)
        if self._pair is not None:
            self._current_role.set_by_addresses(self._read_role() or HostRole.BACKUP)

    def role_by_addresses(self) -> HostRole | None:
        """Return the role that this host's addresses show, for compare(); from any thread. None: it has only some of
        the pair's addresses, or there is no pair. HostError where the addresses cannot be read."""
        return None if self._pair is None else self._read_role()

    def compare(self, shown: HostRole | None) -> None:
        """Correct the role if the addresses contradict it twice in a row. ``shown`` is what role_by_addresses() has
        returned.

        A report from keepalived may be lost, or keepalived may have ended and removed the addresses.
        """
        role = self._current_role.role
        contradicts = shown is not None and (shown is HostRole.MASTER) != (role is HostRole.MASTER)
        if shown is not None and contradicts and self._contradicted:
            log.warning(
                "by its addresses this host is %s now, but keepalived has not reported it: check that keepalived runs,"
                " and that its configuration calls natmirror role",
                shown,
            )
            self._current_role.set_by_addresses(shown)
        self._contradicted = contradicts

    def set_role(self, role: HostRole, sequence: int) -> None:
        """Obey keepalived's report of a role. The number of a report grows from one to the next; 0: unknown, so it is
        the latest.

        ValueError where the rules have no pair, or the number is that of a process which has not started yet: all
        reports after such a one would be ignored.
        """
        if not 0 <= sequence < newest_sequence():
            raise ValueError(f"the number of the report, {sequence}, is not possible yet on this host")
        if self._pair is None:
            raise ValueError("the rules have no section ha: this host is not one of a pair, and has no role")
        if self._current_role.set_by_keepalived(role, sequence):
            log.warning("this host is %s now, as keepalived reports", role)

    def begin_release(self, now: float) -> None:
        """Become unfit, so that the other host takes over while packets still pass here: this host is going to stop."""
        self.readiness.not_ready = "natmirror is stopping"
        if self._pair is not None and self._current_role.role is HostRole.MASTER:
            log.info("stopping: waiting up to %g s for the other host to take over", _RELEASE_TIMEOUT)
            self._release_deadline = now + _RELEASE_TIMEOUT

    def release_deadline(self, now: float) -> float | None:
        """Return the time at which the wait for the other host ends at the latest, in monotonic seconds; None if there
        is nothing to wait for."""
        until = self._release_deadline
        return until if until is not None and now < until and self._current_role.role is HostRole.MASTER else None

    def health(self) -> tuple[int, str]:
        """Return the exit code of ``natmirror health``, and the reason; from any thread. The main thread calls it
        every second, because only two calls can show that a packet thread is stuck."""
        return self.readiness.check(self._rounds(), time.monotonic())

    def show(self) -> PairEntry | None:
        """Return the pair as values for JSON, None where there is no pair."""
        if self._pair is None:
            return None
        hosts = [host.name for host in self._pair.hosts]
        return {**self._current_role.show(), "hosts": hosts, "store": self._pair.state_shown}

    def _read_role(self) -> HostRole | None:
        """Return the role that the addresses show, None where the host has only some of the pair's addresses."""
        assert self._pair is not None, "the caller checks that there is a pair"
        own = own_addresses()
        found = [address.ip in own for address in self._pair.addresses]
        return HostRole.MASTER if all(found) else None if any(found) else HostRole.BACKUP


def _time_of_day() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
