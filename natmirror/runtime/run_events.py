"""The events of the run as a whole: its start and stop, the end of a thread, and findings that begin and end."""

import os

from natmirror import __version__
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.findings import Finding, Severity
from natmirror.findings.code import Trait

_SEVERITIES = {Severity.FAILURE: EventSeverity.ERROR, Severity.WARNING: EventSeverity.WARNING}


def add_start(ring: EventRing, rules_path: str) -> None:
    """Add the event of a start, which the caller has logged."""
    text = f"natmirror {__version__} has started with {rules_path}, pid {os.getpid()}"
    ring.add(EventKind.STARTED, EventSeverity.INFO, text, is_logged=False)


def add_stop(ring: EventRing, cost: str | None) -> None:
    """Add the event of a stop, and what it costs connections."""
    text = f"natmirror has stopped{f': {cost}' if cost else ''}"
    ring.add(EventKind.STOPPED, EventSeverity.INFO, text, is_logged=False)


def add_end_of_thread(ring: EventRing, text: str) -> None:
    """Add the event of a packet thread that has failed, which the caller has logged."""
    ring.add(EventKind.THREAD_ENDED, EventSeverity.ERROR, text, is_logged=False)


def add_finding(ring: EventRing, one: Finding, has_begun: bool) -> None:
    """Add the event of a finding that begins or ends, which the registry has logged. What only tells for a while of
    something that is mended has an event of its own."""
    if one.code.trait is Trait.FADES:
        return
    if has_begun:
        severity = _SEVERITIES[one.code.severity]
        text = f"{one.problem}; {one.remedy}"
        ring.add(EventKind.FINDING_BEGAN, severity, text, code=one.code, subject=one.subject, is_logged=False)
    else:
        text = f"no longer so: {one.problem}"
        info = EventSeverity.INFO
        ring.add(EventKind.FINDING_ENDED, info, text, code=one.code, subject=one.subject, is_logged=False)
