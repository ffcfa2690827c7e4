"""What keepalived has made of this host, since when, and whom that concerns."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

SETTLE_TIME = 1.0
"""Seconds after which a host that has lost the addresses gets no more of their packets."""


class HostRole(StrEnum):
    """What a host of a pair is."""

    MASTER = "master"
    """It has the virtual addresses, and the packets with them."""
    BACKUP = "backup"
    """It would take them."""
    FAULT = "fault"
    """It could not: keepalived has found something wrong, or has ended."""


class CurrentRole:
    """The role of this host, and who is told of a change: functions that get it, in the order in which they asked.

    ``wall`` gives the time of day, as text.
    """

    def __init__(self, wall: Callable[[], str]) -> None:
        self.role = HostRole.BACKUP
        self.is_told = False
        """Whether keepalived has said so itself; else it is what this host's addresses say."""
        self._wall = wall
        self._since = wall()
        self._order = 0
        self._concerned: list[Callable[[HostRole], None]] = []

    def on_role(self, tell: Callable[[HostRole], None]) -> None:
        """Have a function told what the role is, now and whenever it changes."""
        self._concerned.append(tell)
        tell(self.role)

    def assume(self, role: HostRole) -> None:
        """A role that nobody has told, but that this host's addresses show."""
        self.is_told = False
        self._change(role)

    def take(self, role: HostRole, order: int = 0) -> bool:
        """A role that keepalived tells; ``order`` grows from one word of its to the next, and an older word than the
        latest is nothing but late; 0 where nobody knows. Gives whether the role has changed."""
        if 0 < order < self._order:
            return False
        self._order, self.is_told = max(order, self._order), True
        return self._change(role)

    def show(self) -> dict[str, Any]:
        """As plain values."""
        return {"role": str(self.role), "since": self._since, "told_by": "keepalived" if self.is_told else "addresses"}

    def _change(self, role: HostRole) -> bool:
        if role is self.role:
            return False
        self.role, self._since = role, self._wall()
        for tell in self._concerned:
            tell(role)
        return True
