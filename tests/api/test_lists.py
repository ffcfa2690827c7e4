"""Pages of lists: order, limit and cursor."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.api.lists import CursorError, SortedPage, parse_cursor

values = st.one_of(st.none(), st.integers(-3, 3), st.floats(-3, 3))


def pages(rows: list[Any], sort: str, limit: int, at_once: int = 3) -> list[Any]:
    """Return all rows, page by page."""
    found: list[Any] = []
    cursor = None
    while True:
        page = SortedPage(sort, limit, cursor)
        for first in range(0, len(rows), at_once):
            page.add(rows[first : first + at_once], 0.0)
        items, end = page.finish()
        assert len(items) <= limit
        found += [json.loads(item) for item in items]
        if end is None:
            return found
        assert len(items) == limit
        cursor = parse_cursor(str(end), sort)


@given(st.lists(values, max_size=40), st.integers(1, 7), st.sampled_from(["n", "-n"]))
def test_pages_have_all_rows_in_order_once(given: list[Any], limit: int, sort: str) -> None:
    rows = [([0, number], {"n": value, "number": number}) for number, value in enumerate(given)]
    found = pages(rows, sort, limit)
    numbered = [value for value in given if value is not None]
    assert [row["n"] for row in found] == sorted(numbered, reverse=sort == "-n") + [None] * (len(given) - len(numbered))
    assert sorted(row["number"] for row in found) == list(range(len(given)))


def test_clients_are_sorted_as_addresses() -> None:
    clients = ["10.0.0.9:80", "10.0.0.10:9", "10.0.0.10:10", "9.0.0.1:1"]
    rows = [([number], {"client": client}) for number, client in enumerate(clients)]
    assert [row["client"] for row in pages(rows, "client", 2)] == [clients[3], *clients[:3]]


@pytest.mark.parametrize("text", ["", "x", "bnVsbA", "WzEsMl0", "W1tdLFtdLFtdXQ", "\u00e4", "W" * 5000])
def test_a_word_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        parse_cursor(text, None)


def test_a_cursor_belongs_to_its_order() -> None:
    page = SortedPage("n", 1, None)
    page.add([([1], {"n": 1}), ([2], {"n": 2})], 0.0)
    cursor = str(page.finish()[1])
    with pytest.raises(CursorError, match="the same sort as before: n"):
        parse_cursor(cursor, "-n")
    other = SortedPage("n", 1, parse_cursor(cursor, "n"))
    with pytest.raises(CursorError):
        other.add([(["text"], {"n": 1})], 0.0)


def test_a_row_shows_the_moments_of_its_durations() -> None:
    page = SortedPage("n", 1, None)
    page.add([([1], {"n": 1, "idle_seconds": 2.5, "legs": [{"lag_seconds": 0.0}]})], 1_000_000_002.5)
    [row] = page.finish()[0]
    assert json.loads(row)["last_packet_at"] == "2001-09-09T01:46:40.000+00:00"
    assert json.loads(row)["legs"] == [{"lag_seconds": 0.0, "lag_since": None}]
