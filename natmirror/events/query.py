"""Selects events: since a number or a time, of some kinds, and from a severity on."""

from collections.abc import Iterable
from dataclasses import dataclass

from natmirror.events.event import Event, read_time
from natmirror.events.kinds import EventKind, EventSeverity

MAX_EVENTS = 4096
"""Events that are kept in memory, and that one answer can have."""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events to show. ``since`` is an event's number, to show those after it, or a time (RFC 3339), to show those
    from then on."""

    since: str | None = None
    kinds: frozenset[EventKind] = frozenset()
    """Empty: all kinds."""
    severity: EventSeverity = EventSeverity.INFO
    """The lowest severity."""
    limit: int = MAX_EVENTS
    """At most so many, the latest ones."""

    def select(self, events: Iterable[Event]) -> list[Event]:
        """Return the events to show, the oldest first. ValueError where ``since`` is malformed."""
        after, begin_at = self._begin()
        rank = self.severity.rank
        found = [
            one
            for one in events
            if one.number > after
            and one.at >= begin_at
            and one.severity.rank >= rank
            and (not self.kinds or one.kind in self.kinds)
        ]
        return found[-self.limit :]

    def _begin(self) -> tuple[int, float]:
        if self.since is None:
            return 0, 0.0
        if self.since.isdecimal():
            return int(self.since), 0.0
        try:
            return 0, read_time(self.since)
        except ValueError:
            raise ValueError(
                f"expected the number of an event or a time such as 2026-11-30T03:00:00Z, found {self.since}"
            ) from None
