"""What the workers report, as events."""

from typing import Any

import pytest

from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.fastpath import Refusals
from natmirror.mirror.faults import Work, WorkChanged
from natmirror.runtime.worker_events import WorkerEvents


@pytest.fixture
def ring() -> EventRing:
    return EventRing(lambda: 1000.0)


@pytest.fixture
def events(ring: EventRing) -> WorkerEvents:
    nothing: Any = None
    return WorkerEvents(nothing, nothing, None, ring, lambda: None)


def test_a_client_over_its_limit_is_named(events: WorkerEvents, ring: EventRing) -> None:
    events.on_over_limit(1, Refusals(3, 1700, bytes((10, 10, 0, 66)), 1500))
    [one] = ring.all()
    assert (one.kind, one.code, one.count) == (EventKind.LIMIT_REACHED, "over-limit", 1700)
    assert one.text.startswith(
        "packet thread 1: 10.10.0.66 takes more than its share of this thread: 1500 of its packets were dropped, or"
        " passed without mirroring, and 200 of 2 other hosts"
    )


def test_work_that_is_switched_off_and_on_is_named(events: WorkerEvents, ring: EventRing) -> None:
    events.on_work_changed(0, WorkChanged(Work.COPY, is_off=True))
    events.on_work_changed(0, WorkChanged(None, is_off=False))
    assert [(one.kind, one.severity, one.code) for one in ring.all()] == [
        (EventKind.MIRRORING_OFF, EventSeverity.ERROR, "copies"),
        (EventKind.MIRRORING_ON, EventSeverity.INFO, "all"),
    ]
