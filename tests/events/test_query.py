"""Events as JSON, and the selection of some."""

import pytest

from natmirror.events import Event, EventEntry, EventKind, EventQuery, EventSeverity
from natmirror.events.event import decode, encode, read_time, show_time
from tests.helpers.declared import assert_declared

AT = read_time("2026-11-30T03:00:00Z")
EVENTS = [
    Event(1, AT, EventKind.BACKEND_DOWN, EventSeverity.WARNING, "web/c1 is down: no answer", "web", "c1"),
    Event(2, AT + 1, EventKind.COPIES_LOST, EventSeverity.WARNING, "lost", "web", mirror="m", code="refused", count=7),
    Event(9, AT + 60, EventKind.BACKEND_UP, EventSeverity.INFO, "web/c1 is up", "web", "c1"),
    Event(10, AT + 61, EventKind.THREAD_ENDED, EventSeverity.ERROR, "packet thread 0 has ended: Fehler\u2026"),
]


@pytest.mark.parametrize("event", EVENTS)
def test_a_line_gives_the_event_back(event: Event) -> None:
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == event
    assert_declared(EventEntry, event.entry())


def test_times_are_written_as_rfc_3339_has_it() -> None:
    assert show_time(AT) == "2026-11-30T03:00:00.000+00:00"
    assert read_time("2026-11-30T04:00:00+01:00") == read_time("2026-11-30 03:00") == AT


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"7", b'{"number": 1}', b"\xff", encode(EVENTS[0])[:40], b"[" * 9999]
)
def test_a_line_that_is_no_event_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(line)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (EventQuery(), [1, 2, 9, 10]),
        (EventQuery("2"), [9, 10]),
        (EventQuery("2026-11-30T03:00:01Z"), [2, 9, 10]),
        (EventQuery("2026-11-30T04:00:30+01:00"), [9, 10]),
        (EventQuery(kind=EventKind.BACKEND_UP), [9]),
        (EventQuery(severity=EventSeverity.WARNING), [1, 2, 10]),
        (EventQuery(severity=EventSeverity.ERROR), [10]),
        (EventQuery("1", severity=EventSeverity.WARNING), [2, 10]),
    ],
)
def test_a_query_selects(query: EventQuery, numbers: list[int]) -> None:
    assert [one.number for one in query.select(EVENTS)] == numbers


@pytest.mark.parametrize("since", ["yesterday", "", "-1", "03:00", "1h"])
def test_a_malformed_time_is_an_error(since: str) -> None:
    with pytest.raises(ValueError, match=f"such as 2026-11-30T03:00:00Z .*, found {since}"):
        EventQuery(since).select(EVENTS)
