"""The role that keepalived has given this host, since when, and the functions to call when it changes."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypedDict

RELEASE_DELAY = 1.0
"""Seconds that a host waits, after it has lost the addresses, before it releases its flows and legs: for so long their
packets may still arrive here."""


class HostRole(StrEnum):
    """The role of a host in a pair, in VRRP's words."""

    MASTER = "master"
    """The active host: it has the virtual addresses, and so gets the packets."""
    BACKUP = "backup"
    """The standby host, which can take over."""
    FAULT = "fault"
    """A host that cannot take over: keepalived has found a fault, or has stopped."""


class RoleSource(StrEnum):
    """How this host knows its role."""

    KEEPALIVED = "keepalived"
    """keepalived has reported the role."""
    ADDRESSES = "addresses"
    """natmirror infers the role from the host's addresses, because keepalived has not reported it."""


class RoleEntry(TypedDict):
    """This host's role in the pair."""

    role: HostRole
    """The host's role."""
    since: str
    """The time since which it has had the role, in UTC (RFC 3339)."""
    source: RoleSource
    """The source from which natmirror knows the role."""


class CurrentRole:
    """The role of this host. At a change it calls its listeners in the order in which they were added.

    ``time_of_day`` returns the time of day, as text.
    """

    def __init__(self, time_of_day: Callable[[], str]) -> None:
        self.role = HostRole.BACKUP
        self.is_reported = False
        """Whether keepalived has reported the role; otherwise it was inferred from the host's addresses."""
        self._time_of_day = time_of_day
        self._since = time_of_day()
        self._sequence = 0
        self._listeners: list[Callable[[HostRole], None]] = []

    def on_role(self, listener: Callable[[HostRole], None]) -> None:
        """Call a function with the role, now and at each change."""
        self._listeners.append(listener)
        listener(self.role)

    def set_by_addresses(self, role: HostRole) -> None:
        """Set a role that keepalived has not reported, but that this host's addresses show."""
        self.is_reported = False
        self._change(role)

    def set_by_keepalived(self, role: HostRole, sequence: int = 0) -> bool:
        """Set a role that keepalived reports; return whether it has changed. ``sequence`` grows from one report to the
        next: a report with a lower number than the latest is late, and ignored. 0: unknown, so it is the latest."""
        if 0 < sequence < self._sequence:
            return False
        self._sequence, self.is_reported = max(sequence, self._sequence), True
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
