"""Events: what has happened to a running natmirror and around it, each with a stable kind, a time and a text.

Begin with kinds.py. Each part of the run adds its events to one ``EventRing`` (ring.py), which keeps the latest ones,
and joins those that repeat. event.py encodes them, query.py selects some. No I/O and no clock: times are arguments.
"""

from natmirror.events.event import Event, EventEntry
from natmirror.events.kinds import EventKind, EventSeverity
from natmirror.events.query import EventQuery
from natmirror.events.ring import EventRing

__all__ = ["Event", "EventEntry", "EventKind", "EventQuery", "EventRing", "EventSeverity"]
