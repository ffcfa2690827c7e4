"""The parts of a stream that arrived beyond its first gap, as disjoint ranges of sequence numbers in order."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from natmirror.net import seq

_MAX_RANGES = 256
"""Limit on ranges. Beyond it the last ones are forgotten, and the sender repeats their data (RFC 2018 §8 allows that).
A range before all others always finds room, or the first gap would never be filled."""


class Ranges:
    """Disjoint ranges above a floor that the caller keeps, each its first number and one past its last."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        # Thousands of legs have no ranges, and an empty tuple takes no memory.
        self._ranges: list[tuple[int, int]] | tuple[()] = ()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __reversed__(self) -> Iterator[tuple[int, int]]:
        return reversed(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, start: int, end: int) -> bool:
        """Add a range, merged with those that it touches; return whether it holds a new number."""
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
        """Forget the numbers below ``floor``."""
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
        self._ranges = ()

    def gap(self, at: int) -> tuple[int, int | None]:
        """Return the first number from ``at`` on that lies in no range, and the first number of the range after it, or
        None."""
        index = self._after(self._ranges, at)
        if index < len(self._ranges) and seq.le(self._ranges[index][0], at):
            at = self._ranges[index][1]  # ranges do not touch
            index += 1
        return at, self._ranges[index][0] if index < len(self._ranges) else None

    @staticmethod
    def _after(ranges: Sequence[tuple[int, int]], at: int) -> int:
        """Return the index of the first range that ends after number ``at``."""
        return bisect_right(ranges, 0, key=lambda one: seq.diff(one[1], at))
