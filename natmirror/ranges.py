"""Which parts of a sequence space have arrived beyond the first gap: disjoint ranges, in order."""

from collections.abc import Iterator

from natmirror import seq

_MAX_RANGES = 256  # nobody loses more than that of one window; whoever makes more of them, makes us work


class Ranges:
    """Ranges (first number, one past the last) above a floor that the caller keeps."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: tuple[tuple[int, int], ...] = ()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, start: int, end: int) -> bool:
        """Take a range in, merged with those that it touches; whether it brought anything new."""
        if not seq.lt(start, end):
            return False
        before: list[tuple[int, int]] = []
        after: list[tuple[int, int]] = []
        for old in self._ranges:
            if seq.lt(old[1], start):
                before.append(old)
            elif seq.lt(end, old[0]):
                after.append(old)
            elif seq.le(old[0], start) and seq.le(end, old[1]):
                return False
            else:
                start = old[0] if seq.lt(old[0], start) else start
                end = seq.latest(old[1], end)
        if len(before) + len(after) >= _MAX_RANGES:
            return False
        self._ranges = (*before, (start, end), *after)
        return True

    def cut(self, floor: int) -> None:
        """Forget everything below ``floor``."""
        while self._ranges and seq.lt(self._ranges[0][0], floor):
            (_, end), *rest = self._ranges
            self._ranges = tuple(rest)
            if seq.lt(floor, end):
                self._ranges = ((floor, end), *rest)
                return

    def clear(self) -> None:
        """Forget everything."""
        self._ranges = ()

    def gap(self, at: int) -> tuple[int, int | None]:
        """The first number from ``at`` on that lies in no range, and where the next range begins, if one does."""
        for start, end in self._ranges:
            if seq.lt(at, start):
                return at, start
            if seq.lt(at, end):
                at = end
        return at, None
