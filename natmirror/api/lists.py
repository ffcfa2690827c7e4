"""A page of a list: its order, its limit, and the cursor that leads to the next page.

Each row comes with its position: a list of numbers and words, in the order in which natmirror walks through its flows.
A page in this order goes on behind the position of the last row, so natmirror walks no further than the limit, and
flows that begin or end meanwhile move no other row. A sorted page needs a whole walk, and keeps the rows that may stand
on it. Its cursor has the last row's value and position, so a row whose value changes meanwhile may come twice or not.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from natmirror.api.times import with_moments

Position = list[Any]
Row = tuple[Position, dict[str, Any]]
_Key = tuple[bool, Any, Position]


class CursorError(ValueError):
    """A cursor that this list did not give."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The end of a page: the value by which its last row was sorted, None without an order, and the row's position."""

    sort: str | None
    value: Any
    position: Position

    def __str__(self) -> str:
        return urlsafe_b64encode(json.dumps([self.sort, self.value, self.position]).encode()).decode().rstrip("=")


def parse_cursor(text: str, sort: str | None) -> Cursor:
    """Return the cursor that a page with this order gave; CursorError where it is no such cursor."""
    try:
        found_sort, value, position = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError):
        raise CursorError("expected the value of next in the answer before this one") from None
    if found_sort != sort:
        raise CursorError(f"expected the same sort as before: {found_sort}")
    if not isinstance(position, list):
        raise CursorError("expected the value of next in the answer before this one")
    return Cursor(sort, value, position)


class SortedPage:
    """The first ``limit`` rows behind a cursor, sorted by a column: ``-`` before its name has the largest first. Rows
    without a value come last."""

    def __init__(self, sort: str, limit: int, after: Cursor | None) -> None:
        self._sort = sort
        self._column = sort.removeprefix("-")
        self._is_descending = sort.startswith("-")
        self._limit = limit
        self._after = None if after is None else self._key(after.value, after.position)
        self._last: _Key | None = None  # no row behind it can stand on the page
        self._kept: list[tuple[_Key, Any, Position, bytes]] = []

    def add(self, rows: Iterable[Row], now: float) -> None:
        """Take rows of the time ``now``, in seconds since 1970. CursorError where the cursor does not fit them."""
        try:
            for position, row in rows:
                value = row[self._column]
                key = self._key(value, position)
                is_next = self._after is None or self._is_behind(key, self._after)
                if is_next and (self._last is None or not self._is_behind(key, self._last)):
                    self._kept.append((key, value, position, json.dumps(with_moments(row, now)).encode()))
        except TypeError:
            raise CursorError("expected the value of next in the answer before this one") from None
        if len(self._kept) > 2 * self._limit + 1:
            self._cut()
            self._last = self._kept[-1][0]

    def finish(self) -> tuple[list[bytes], Cursor | None]:
        """Return the rows as JSON, and the cursor behind them, or None if they are the last."""
        self._cut()
        rows = [row for _, _, _, row in self._kept[: self._limit]]
        if len(self._kept) <= self._limit:
            return rows, None
        _, value, position, _ = self._kept[self._limit - 1]
        return rows, Cursor(self._sort, value, position)

    def _key(self, value: Any, position: Position) -> _Key:
        return (value is None) != self._is_descending, _comparable(value), position

    def _is_behind(self, key: _Key, other: _Key) -> bool:
        return key < other if self._is_descending else key > other

    def _cut(self) -> None:
        """Leave the rows of the page, and the one behind it."""
        self._kept.sort(key=lambda one: one[0], reverse=self._is_descending)
        del self._kept[self._limit + 1 :]


def _comparable(value: Any) -> Any:
    """Return what sorts a value: addresses and ports as numbers, None as nothing."""
    if value is None:
        return ()
    if isinstance(value, str):
        words = value.replace(":", ".").split(".")
        is_endpoint = len(words) == 5 and all(word.isascii() and word.isdigit() for word in words)
        return (0, *map(int, words)) if is_endpoint else (1, value)
    return (value,)
