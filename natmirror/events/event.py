"""An event, and how it is written as JSON: in the API's answers and, one event a line, in the file of events."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from natmirror.events.kinds import EventKind, EventSeverity

MAX_TIME = 253_402_300_800.0
"""The year 10000, in seconds since 1970: RFC 3339 writes no later time."""


class EventEntry(TypedDict):
    """Something that has happened."""

    number: int
    """The event's number. Numbers grow from one event to the next, also over a restart, but not by one."""
    time: str
    """When it happened, in UTC (RFC 3339)."""
    kind: EventKind
    """What happened."""
    severity: EventSeverity
    """How bad it is."""
    service: str | None
    """The service's name, if the event is about one."""
    backend: str | None
    """The backend's name, if the event is about one."""
    mirror: str | None
    """The mirror's name, if the event is about one."""
    code: str | None
    """A word for the cause, if there is one: the code of a finding, an end reason, or what ``kind`` says."""
    text: str
    """What happened, as a sentence."""
    count: int
    """How many times it happened, or how many legs or connections it is about."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened at a time, in seconds since 1970."""

    number: int
    at: float
    kind: EventKind
    severity: EventSeverity
    text: str
    service: str | None = None
    backend: str | None = None
    mirror: str | None = None
    code: str | None = None
    count: int = 1

    def entry(self) -> EventEntry:
        """Return the event as values for JSON."""
        return {
            "number": self.number,
            "time": show_time(self.at),
            "kind": self.kind,
            "severity": self.severity,
            "service": self.service,
            "backend": self.backend,
            "mirror": self.mirror,
            "code": self.code,
            "text": self.text,
            "count": self.count,
        }


def show_time(at: float) -> str:
    """Return a time as RFC 3339 writes it, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def read_time(text: str) -> float:
    """Return a time that RFC 3339 or ISO 8601 writes, in seconds since 1970; without an offset it is in UTC. ValueError
    where it is none."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def encode(event: Event) -> bytes:
    """Return the event as a line of a file."""
    return json.dumps(event.entry()).encode("ascii") + b"\n"


def decode(line: bytes | str) -> Event:
    """Return the event in a line of a file. ValueError where it has none."""
    try:
        event = from_entry(json.loads(line))
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no event: {error!r}") from None
    # Numbers follow the time of day in milliseconds (EventRing), so that none is ever above the last time's
    if not (0 < event.number < MAX_TIME * 1000 and 0 <= event.at < MAX_TIME and event.count >= 0):
        raise ValueError(f"no event: number {event.number}, time {event.at}, count {event.count}")
    return event


def from_entry(found: dict[str, Any]) -> Event:
    """Return the event that an entry shows. ValueError, KeyError, TypeError or OverflowError where it shows none."""
    words = {
        name: None if found[name] is None else str(found[name]) for name in ("service", "backend", "mirror", "code")
    }
    return Event(
        int(found["number"]),
        read_time(found["time"]),
        EventKind(found["kind"]),
        EventSeverity(found["severity"]),
        str(found["text"]),
        count=int(found["count"]),
        **words,
    )
