"""The ring keeps the latest events, numbers them over restarts, and joins what repeats."""

import logging

import pytest

from natmirror.events import Event, EventKind, EventRing, EventSeverity
from natmirror.events.query import MAX_EVENTS
from natmirror.events.ring import MAX_OF_A_KIND, WINDOW
from tests.helpers.clock import Clock

DOWN, UP = EventKind.BACKEND_DOWN, EventKind.BACKEND_UP


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(clock: Clock) -> EventRing:
    return EventRing(lambda: clock.now)


def add(ring: EventRing, backend: str, kind: EventKind = DOWN) -> None:
    ring.add(kind, EventSeverity.WARNING, f"web/{backend} is down", service="web", backend=backend)


def test_numbers_grow_with_the_time_and_within_a_millisecond(ring: EventRing, clock: Clock) -> None:
    add(ring, "c1")
    add(ring, "c2")
    clock.now += 1.5
    add(ring, "c3")
    first = int(clock.now * 1000) - 1500
    assert [one.number for one in ring.all()] == [first, first + 1, first + 1500]
    assert [one.backend for one in ring.after(first)] == ["c2", "c3"]


def test_numbers_grow_over_a_restart_after_which_the_clock_is_behind(ring: EventRing, clock: Clock) -> None:
    add(ring, "c1")
    again = EventRing(lambda: clock.now - 100.0)
    again.restore(ring.all())
    add(again, "c2")
    assert [one.number - ring.all()[0].number for one in again.all()] == [0, 1]


def test_only_the_latest_events_are_kept(ring: EventRing) -> None:
    for number in range(MAX_EVENTS + 3):
        add(ring, f"c{number}")
    assert len(ring.all()) == MAX_EVENTS
    assert ring.all()[0].backend == "c3"


def test_what_repeats_is_joined_and_pushes_nothing_else_out(ring: EventRing, clock: Clock) -> None:
    add(ring, "c1", UP)
    for number in range(MAX_OF_A_KIND + 90):
        clock.now += 1.0
        ring.add(DOWN, EventSeverity.WARNING, f"time {number}", service="web", backend="c1", count=2)
    ring.join_repeated()
    assert len(ring.all()) == 1 + MAX_OF_A_KIND
    clock.now += WINDOW
    ring.join_repeated()
    last = ring.all()[-1]
    assert last.text == f"time {MAX_OF_A_KIND + 89} (the last of 90 such events in a row)"
    assert last.count == 180
    assert len(ring.all()) == 2 + MAX_OF_A_KIND
    add(ring, "c1")
    assert ring.all()[-1].count == 1, "a new window has begun"


def test_events_about_different_things_are_not_joined(ring: EventRing) -> None:
    for number in range(MAX_OF_A_KIND + 5):
        ring.add(
            EventKind.FINDING_BEGAN, EventSeverity.WARNING, "silent", code="mirror-silent", subject=f"web/m{number}"
        )
    assert len(ring.all()) == MAX_OF_A_KIND + 5


def test_the_end_of_a_run_keeps_what_has_repeated(ring: EventRing) -> None:
    for _ in range(MAX_OF_A_KIND + 2):
        add(ring, "c1")
    ring.join_repeated(at_end=True)
    assert ring.all()[-1].count == 2


def test_an_event_is_logged_with_its_fields_unless_its_caller_does(
    ring: EventRing, caplog: pytest.LogCaptureFixture
) -> None:
    add(ring, "c1")
    ring.add(EventKind.STOPPED, EventSeverity.INFO, "stopped", is_logged=False)
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "web/c1 is down")
    event = record.__dict__["event"]
    assert isinstance(event, Event)
    assert event.backend == "c1"
