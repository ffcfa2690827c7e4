"""The role that keepalived has given this host, since when, and which functions follow it."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypedDict

RELEASE_DELAY = 1.0
"""Seconds after which a host that has lost the addresses gets no more of their packets."""


class HostRole(StrEnum):
    """What a host of a pair is."""

    MASTER = "master"
    """It has the virtual addresses, and the packets with them."""
    BACKUP = "backup"
    """It would take them."""
    FAULT = "fault"
    """It could not: keepalived has found something wrong, or has ended."""


class RoleSource(StrEnum):
    """How this host knows its role."""

    KEEPALIVED = "keepalived"
    """keepalived has reported it."""
    ADDRESSES = "addresses"
    """The host's addresses show it: keepalived has not reported it."""


class RoleEntry(TypedDict):
    """This host's role in the pair."""

    role: HostRole
    """The host's role."""
    since: str
    """When it took the role, in UTC (ISO 8601)."""
    source: RoleSource
    """How natmirror knows it."""


class CurrentRole:
    """The role of this host; functions that follow it are called in the order in which they were added.

    ``time_of_day`` returns the time of day, as text.
    """

    def __init__(self, time_of_day: Callable[[], str]) -> None:
        self.role = HostRole.BACKUP
        self.is_reported = False
        """Whether keepalived has reported the role itself; else the host's addresses show it."""
        self._time_of_day = time_of_day
        self._since = time_of_day()
        self._order = 0
        self._listeners: list[Callable[[HostRole], None]] = []

    def on_role(self, listener: Callable[[HostRole], None]) -> None:
        """Call a function with the role, now and whenever it changes."""
        self._listeners.append(listener)
        listener(self.role)

    def set_by_addresses(self, role: HostRole) -> None:
        """Take a role that keepalived has not reported, but that this host's addresses show."""
        self.is_reported = False
        self._change(role)

    def set_by_keepalived(self, role: HostRole, order: int = 0) -> bool:
        """Take a role that keepalived reports; return whether it has changed. ``order`` grows from one report to the
        next: one with a lower order than the latest is late, and ignored; 0 where the order is not known."""
        if 0 < order < self._order:
            return False
        self._order, self.is_reported = max(order, self._order), True
        return self._change(role)

    def show(self) -> RoleEntry:
        """Return the role as values for JSON."""
        source = RoleSource.KEEPALIVED if self.is_reported else RoleSource.ADDRESSES
        return {"role": self.role, "since": self._since, "source": source}

    def _change(self, role: HostRole) -> bool:
        if role is self.role:
            return False
        self.role, self._since = role, self._time_of_day()
        for listener in self._listeners:
            listener(role)
        return True
