"""Which parts of a sequence space have arrived beyond the first gap: disjoint ranges, in order."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from natmirror.net import seq

_MAX_RANGES = 256
"""Beyond them what lies furthest ahead is not kept: it is sent again, which costs more, but is right (RFC 2018 §8).
What comes before all others always has a place, or the first gap would never be filled."""


class Ranges:
    """Ranges (first number, one past the last) above a floor that the caller keeps."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] | tuple[()] = ()  # thousands of legs have none

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __reversed__(self) -> Iterator[tuple[int, int]]:
        return reversed(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, start: int, end: int) -> bool:
        """Take a range in, merged with those that it touches; whether it brought anything new."""
        if not seq.lt(start, end):
            return False
        ranges = self._ranges
        base = ranges[0][0] if ranges else start
        first = bisect_left(ranges, seq.diff(start, base), key=lambda one: seq.diff(one[1], base))
        last = bisect_right(ranges, seq.diff(end, base), lo=first, key=lambda one: seq.diff(one[0], base))
        if first < last:
            if seq.le(ranges[first][0], start) and seq.le(end, ranges[first][1]):
                return False
            start = start if seq.lt(start, ranges[first][0]) else ranges[first][0]
            end = seq.latest(ranges[last - 1][1], end)
        elif first == len(ranges) >= _MAX_RANGES:
            return False
        if isinstance(ranges, tuple):
            self._ranges = [(start, end)]
        else:
            ranges[first:last] = [(start, end)]
            del ranges[_MAX_RANGES:]
        return True

    def cut(self, floor: int) -> None:
        """Forget everything below ``floor``."""
        ranges = self._ranges
        if isinstance(ranges, tuple) or not seq.lt(ranges[0][0], floor):
            return
        gone = self._after(ranges, floor)
        del ranges[:gone]
        if not ranges:
            self._ranges = ()
        elif seq.lt(ranges[0][0], floor):
            ranges[0] = (floor, ranges[0][1])

    def clear(self) -> None:
        """Forget everything."""
        self._ranges = ()

    def gap(self, at: int) -> tuple[int, int | None]:
        """The first number from ``at`` on that lies in no range, and where the next range begins, if one does."""
        place = self._after(self._ranges, at)
        if place < len(self._ranges) and seq.le(self._ranges[place][0], at):
            at = self._ranges[place][1]  # ranges do not touch
            place += 1
        return at, self._ranges[place][0] if place < len(self._ranges) else None

    @staticmethod
    def _after(ranges: Sequence[tuple[int, int]], at: int) -> int:
        """The place of the first range that ends after number ``at``."""
        return bisect_right(ranges, 0, key=lambda one: seq.diff(one[1], at))
