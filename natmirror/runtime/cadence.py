"""When to tell what goes on: the first time at once, then at longer and longer intervals, with all that came since."""

from dataclasses import dataclass

_INTERVALS = (0.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds between two events about the same: the first at once, then longer and longer."""
_QUIET_TIME = 600.0
"""After so many seconds without it, the next time is an event at once again."""


@dataclass(slots=True)
class Cadence:
    """When to tell one thing. Time is an argument, in seconds of any steady clock."""

    _since: float = 0.0
    _last_at: float = 0.0
    _step: int = 0

    def note(self, now: float, *, is_first: bool) -> None:
        """Note that it has come again. ``is_first``: for the first time since it was told."""
        if now - self._last_at > _QUIET_TIME:
            self._step = 0
        if is_first:
            self._since = now
        self._last_at = now

    def is_due(self, now: float) -> bool:
        """Return whether it is time to tell what has come."""
        return now - self._since >= _INTERVALS[self._step]

    def note_told(self) -> None:
        """Note that it was told."""
        self._step = min(self._step + 1, len(_INTERVALS) - 1)
