"""Selects events: since a number or a time, of some kinds, and from a severity on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from natmirror.events.event import Event, read_time
from natmirror.events.kinds import EventKind, EventSeverity

MAX_EVENTS = 4096
"""Events that are kept in memory, and that one answer can have."""
SINCE = "an event's number, or a time such as 2026-11-30T03:00:00Z (UTC without an offset)"
_MAX_DIGITS = 18


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

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the query that the API's parameters make; see api/resources.py."""
        kinds = values.get("kind")
        return cls(
            since=values.get("since"),
            kinds=frozenset(map(EventKind, kinds.split(","))) if kinds else frozenset(),
            severity=EventSeverity(values.get("severity") or EventSeverity.INFO),
            limit=values.get("limit") or MAX_EVENTS,
        )

    def select(self, events: Iterable[Event]) -> list[Event]:
        """Return the events to show, the oldest first. ValueError where ``since`` is malformed."""
        after, begin_at = (0, 0.0) if self.since is None else read_since(self.since)
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


def read_since(text: str) -> tuple[int, float]:
    """Return what ``since`` stands for: a number after which, and a time from which on events are shown. ValueError
    where it is neither."""
    if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
        return int(text), 0.0
    try:
        return 0, read_time(text)
    except ValueError:
        raise ValueError(f"expected {SINCE}, found {text:.50}") from None
