"""The comments of a capture: what they say, how often, and at which packets they stand."""

from typing import Any

from natmirror.capture.sides import CLIENT as CLIENT_SIDE
from natmirror.capture.sides import Place, Side
from natmirror.events.event import show_time
from tests.helpers.captured import SECOND, START, Written, answer, connection, ended

COPY = Side(Place.COPY, "m")
PORT = 40001


def test_each_comment_is_made_once() -> None:
    written = Written()
    for _ in range(3):
        written.learn(connection("syn-sent", m="waits-for-handshake"))
    written.learn(connection(m="not-sampled"))
    written.learn(connection(m="not-sampled"))
    written.learn(connection("time-wait", m="not-sampled"))
    written.learn()
    written.learn(connection("syn-sent"))  # the port again
    assert written.told == [
        "10.10.0.11:40001 to openflow, with the backend c1\nchosen by maglev",
        "10.10.0.11:40001: not copied to m",
        "10.10.0.11:40001: time-wait",
        "10.10.0.11:40001 to openflow, with the backend c1\nchosen by maglev",
    ]


def test_why_a_backend_was_chosen_is_not_said_of_one_that_was_not() -> None:
    written = Written()
    written.learn({**connection(backend="c2"), "pinned": True})
    assert written.told == ["10.10.0.11:40001 to openflow, with the backend c2\npinned"]


def test_a_short_connection_is_told_though_it_is_over_and_an_earlier_one_is_not() -> None:
    written = Written()
    written.story.explained(answer(connection("time-wait")), is_first=True)
    assert written.told == []
    written.learn()
    written.learn(connection("time-wait", m="closed"))
    assert written.told == ["10.10.0.11:40001 to openflow, with the backend c1\nchosen by maglev"]


def test_a_connection_that_gets_another_backend() -> None:
    written = Written()
    written.learn(connection("syn-sent"))
    written.learn(connection("syn-sent", backend="c2"))
    written.learn(connection("established", backend="c2"))
    assert written.told[1:] == ["10.10.0.11:40001: now with the backend c2"]


def test_connections_from_before_the_capture() -> None:
    written = Written()
    written.story.explained(answer(connection()), is_first=True)
    assert written.told == ["10.10.0.11:40001 to openflow, with the backend c1, open since before the capture"]


def test_legs_that_ended_before_are_left_out() -> None:
    written = Written()
    written.story.ended([ended("2023-11-14T22:13:19.9+00:00"), ended("2023-11-14T22:13:20.5+00:00", "stalled")])
    assert [line for line in written.told if "stalled" in line] == written.told != []


def test_a_comment_waits_for_its_side_then_for_its_connection_then_for_any_packet() -> None:
    def taken(at: float, port: int, side: Side) -> list[str]:
        written = Written()
        written.learn(connection(m=None))
        written.story.take(START, PORT, CLIENT_SIDE)
        return written.story.take(START + round(at * SECOND), port, side)

    copied = ["10.10.0.11:40001: copied to m"]
    assert taken(1, PORT, COPY) == copied
    assert taken(1, PORT, CLIENT_SIDE) == taken(1, 1, COPY) == []
    assert taken(10, PORT, CLIENT_SIDE) == copied
    assert taken(10, 1, CLIENT_SIDE) == []
    assert taken(20, 1, CLIENT_SIDE) == copied


def test_what_has_found_no_packet_is_left_over() -> None:
    written = Written()
    written.learn(connection(m=None))
    assert len(written.story.rest()) == 2 and written.story.rest() == []


def test_events_and_other_rules_stand_at_the_next_packet() -> None:
    written = Written()
    story = written.story
    assert story.since == "2023-11-14T22:13:20.000+00:00"
    event: dict[str, Any] = {"number": 7, "time": show_time(START / SECOND + 1), "kind": "backend-down"}
    story.events([{**event, "severity": "warning", "text": "backend openflow/c1 is down"}])
    assert story.since == "7"
    assert story.take(START, PORT, COPY) == []
    assert story.take(START + SECOND, 1, COPY) == ["warning backend-down: backend openflow/c1 is down"]
    for version in ("a", "a", "b"):
        story.status({"loaded_rules": {"version": version}})
    assert story.take(START, PORT, COPY) == ["other rules run now: version b"]


def test_a_natmirror_that_does_not_answer_is_said_once() -> None:
    written = Written()
    for _ in range(3):
        written.story.silence("gone")
    written.story.answer()
    written.story.answer()
    assert [line.partition(",")[0] for line in written.told] == ["no answer from natmirror", "natmirror answers again"]
