"""Selects events: since a number or a time, of a kind, and from a severity on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from natmirror.events.event import Event, read_time
from natmirror.events.kinds import EventKind, EventSeverity

MAX_EVENTS = 4096
"""Events that are kept in memory."""
SINCE = "an event's number, or a time such as 2026-11-30T03:00:00Z (UTC without an offset)"
MAX_NUMBER = 10**18 - 1
"""The highest number of an event."""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events to show. ``since`` is an event's number, to show those after it, or a time (RFC 3339), to show those
    from then on."""

    since: str | None = None
    kind: EventKind | None = None
    """None: all kinds."""
    severity: EventSeverity = EventSeverity.INFO
    """The lowest severity."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the query that the API's parameters make; see api/resources.py."""
        kind = values.get("kind")
        return cls(
            since=values.get("since"),
            kind=None if kind is None else EventKind(kind),
            severity=EventSeverity(values.get("severity") or EventSeverity.INFO),
        )

    def select(self, events: Iterable[Event]) -> list[Event]:
        """Return the events to show, the oldest first. ValueError where ``since`` is malformed."""
        after, begin_at = (0, 0.0) if self.since is None else read_since(self.since)
        rank = self.severity.rank
        return [
            one
            for one in events
            if one.number > after and one.at >= begin_at and one.severity.rank >= rank and self.kind in (None, one.kind)
        ]


def read_since(text: str) -> tuple[int, float]:
    """Return what ``since`` stands for: a number after which, and a time from which on events are shown. ValueError
    where it is neither."""
    if text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_NUMBER)):
        return int(text), 0.0
    try:
        return 0, read_time(text)
    except ValueError:
        raise ValueError(f"expected {SINCE}, found {text:.50}") from None
