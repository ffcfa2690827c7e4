"""The counters of all sessions with each master, those that have ended and those that are open."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import TypeVar

from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.shown import MirrorSessions
from natmirror.openflow.session import SwitchSession
from natmirror.openflow.shown import SessionCounters
from natmirror.reasons import EndReason

T = TypeVar("T")

Key = tuple[str, str]
"""A service's name, and a master's."""


class SessionTotals:
    """The counters of all masters, by service and name."""

    def __init__(self) -> None:
        self._past: dict[Key, MirrorSessions] = {}

    def count_not_opened(self, service: str, mirror: str, reason: EndReason) -> None:
        """Count a session that could not be opened."""
        counts = self._past.setdefault((service, mirror), no_sessions())["not_opened"]
        counts[reason] = counts.get(reason, 0) + 1

    def add(self, master: MasterSession, session: SwitchSession) -> None:
        """Add a session that has ended."""
        self._past[_key(master)] = _added(self._past.get(_key(master), no_sessions()), session.counters())

    def sums(self, open_ones: Iterable[tuple[MasterSession, SwitchSession]]) -> dict[Key, MirrorSessions]:
        """Return the counters of all sessions of each master, including those that are open."""
        found = deepcopy(self._past)  # the result must not change while another thread writes it as JSON
        for master, session in open_ones:
            found[_key(master)] = _added(found.get(_key(master), no_sessions()), session.counters())
        return found


def no_sessions() -> MirrorSessions:
    """Return the counters of a master without sessions."""
    return {"messages_passed": {}, "messages_withheld": {}, "requests": {}, "orders": {}, "not_opened": {}}


def add_sessions(one: MirrorSessions | None, other: MirrorSessions | None) -> MirrorSessions | None:
    """Return the sums of both. If one is None, return the other."""
    if one is None or other is None:
        return one or other
    return _added(one, other, other["not_opened"])


def _key(master: MasterSession) -> Key:
    return master.service_name, master.mirror.name


def _added(
    sums: MirrorSessions, more: SessionCounters, not_opened: Mapping[EndReason, int] = MappingProxyType({})
) -> MirrorSessions:
    return {
        "messages_passed": add_counts((sums["messages_passed"], more["messages_passed"])),
        "messages_withheld": add_counts((sums["messages_withheld"], more["messages_withheld"])),
        "requests": add_counts((sums["requests"], more["requests"])),
        "orders": add_counts((sums["orders"], more["orders"])),
        "not_opened": add_counts((sums["not_opened"], not_opened)),
    }


def add_counts(counts: Iterable[Mapping[T, int]]) -> dict[T, int]:
    """Return the sums of counters by name. A name that has only zeros stays."""
    found: dict[T, int] = {}
    for one in counts:
        for name, count in one.items():
            found[name] = found.get(name, 0) + count
    return found
