"""The sums of a comparison by time, so that a verdict can be given on what was compared since a moment.

The latest five minutes are kept in periods of 10 s, the rest of a day in longer and longer ones: they need a bounded
amount of memory, and a moment that is long ago need not be met exactly.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from natmirror.openflow.comparison.results import AnswerResult, NotComparable

LEVELS = ((10.0, 30), (60.0, 55), (600.0, 30), (3600.0, 18))
"""The lengths of periods in seconds, and how many of each length are kept: 5 minutes, an hour, 6 hours, a day."""
PERIOD_COST = 2000
"""Bytes that Python needs for a period, at most and without the counts of differences."""
COUNT_COST = 100
"""Bytes that it needs for the count of one difference in a period."""

_Name = TypeVar("_Name")


@dataclass(slots=True)
class Period:
    """What was compared from ``begins_at`` to ``ends_at``, the time of the last report in it."""

    begins_at: float
    ends_at: float
    results: Counter[AnswerResult] = field(default_factory=Counter)
    not_comparable: Counter[NotComparable] = field(default_factory=Counter)
    differences: Counter[int] = field(default_factory=Counter)
    """By the signature's number (signatures.py)."""
    other_differences: int = 0
    """Differences for which there was no signature left."""
    lags: Counter[int] = field(default_factory=Counter)
    """The lags of answers, by their bucket (lags.py)."""
    table_seconds: float = 0.0
    differing_seconds: float = 0.0
    walked: int = 0
    alike: int = 0
    sessions_ended: int = 0

    def add(self, other: "Period") -> None:
        """Add what another period has."""
        self.begins_at = min(self.begins_at, other.begins_at)
        self.ends_at = max(self.ends_at, other.ends_at)
        _add(self.results, other.results)
        _add(self.not_comparable, other.not_comparable)
        _add(self.differences, other.differences)
        _add(self.lags, other.lags)
        self.other_differences += other.other_differences
        self.table_seconds += other.table_seconds
        self.differing_seconds += other.differing_seconds
        self.walked += other.walked
        self.alike += other.alike
        self.sessions_ended += other.sessions_ended

    def plus(self, other: "Period") -> "Period":
        """Return the sum of both: since() may be adding this one up."""
        made = Period(self.begins_at, self.ends_at)
        made.add(self)
        made.add(other)
        return made

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return PERIOD_COST + COUNT_COST * len(self.differences)


def _add(sums: Counter[_Name], more: Counter[_Name]) -> None:
    """Add counts; Counter.update() takes twice as long. Another thread may renumber ``more`` meanwhile."""
    for name, count in tuple(more.items()):
        sums[name] = sums.get(name, 0) + count


class Periods:
    """The periods of the last day."""

    def __init__(self) -> None:
        self._levels: tuple[deque[Period], ...] = tuple(deque() for _ in LEVELS)

    def __iter__(self) -> Iterator[Period]:
        """Return the periods, the oldest first."""
        for level in reversed(self._levels):
            yield from level

    def begin(self, now: float) -> bool:
        """Begin a period if the latest one is over; return whether it was."""
        latest = self._levels[0]
        if latest and now - latest[-1].begins_at < LEVELS[0][0]:
            return False
        latest.append(Period(now, now))
        self._merge_old()
        return True

    def at(self, now: float) -> Period:
        """Return the period of this moment."""
        self.begin(now)
        period = self._levels[0][-1]
        period.ends_at = max(period.ends_at, now)
        return period

    def renumber(self, old: int, new: int) -> None:
        """Count the differences of one signature as those of another one."""
        for period in self:
            if (count := period.differences.pop(old, 0)) > 0:
                period.differences[new] += count

    @property
    def begin_at(self) -> float:
        """When the oldest period begins."""
        return next((period.begins_at for period in self), float("-inf"))

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return sum(period.cost for period in self)

    def _merge_old(self) -> None:
        for level, (_, most) in enumerate(LEVELS):
            if len(self._levels[level]) <= most:
                return
            old = self._levels[level].popleft()
            if level + 1 == len(LEVELS):
                return
            length, longer = LEVELS[level + 1][0], self._levels[level + 1]
            if longer and longer[-1].begins_at // length == old.begins_at // length:
                longer[-1] = longer[-1].plus(old)
            else:
                longer.append(old)


def add_since(window: Period, periods: Iterable[Period]) -> None:
    """Add the periods, the oldest first, to what was compared since the moment at which the window begins: without the
    period in which the moment lies, if that had begun before. The window begins at the moment then, or where that
    period ends."""
    for period in periods:
        begins_at = window.begins_at
        if period.begins_at >= begins_at:
            window.add(period)
            window.begins_at = begins_at
        else:
            window.begins_at = max(begins_at, period.ends_at)
