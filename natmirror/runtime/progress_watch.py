"""Says whether production goes on, by a number that grows while it does."""

from collections import deque
from collections.abc import Callable

_REGULAR = 3
"""Pauses that have to be known before a silence says anything."""
_REMEMBERED = 20
# Seconds
_MIN_SILENCE = 2.5  # between two looks: the silence itself is longer
_SILENCE_FACTOR = 2
"""Production has stopped if the number has not grown for this many times the longest but one of the last pauses: the
longest may have been an interruption."""


class ProgressWatch:
    """Compares the number with those of earlier calls. Time is an argument, in seconds of any steady clock. Any thread
    may ask whether production has stopped; ``on_stop`` is called when it has, in the thread that looks."""

    def __init__(self) -> None:
        self.on_stop: Callable[[], None] = lambda: None
        self.forget()

    def forget(self) -> None:
        """Forget what was seen: another host passes production now, or has passed it."""
        self._number: int | None = None
        self._grown_at = self._looked_at = 0.0
        self._has_failed = False  # since then
        self._pauses: deque[float] = deque(maxlen=_REMEMBERED)

    def look(self, number: int, now: float, *, has_failed: bool = False) -> None:
        """Take the number as it is now; call this every second or so. ``has_failed``: it is known that production does
        not pass, so that such a pause is not usual."""
        self._has_failed |= has_failed
        had_stopped, self._looked_at = self.stopped_at is not None, now
        if number != self._number:
            if self._number is not None and not self._has_failed:
                self._pauses.append(now - self._grown_at)
            self._number, self._grown_at, self._has_failed = number, now, has_failed
        if not had_stopped and self.stopped_at is not None:
            self.on_stop()

    @property
    def is_regular(self) -> bool:
        """Return whether production has gone on for so long that a silence of it says something."""
        return len(self._pauses) >= _REGULAR

    @property
    def stopped_at(self) -> float | None:
        """Return when production was last seen to go on, if it has been silent for longer than it usually is; else
        None."""
        if not self.is_regular:
            return None
        has_stopped = self._looked_at - self._grown_at >= max(_MIN_SILENCE, _SILENCE_FACTOR * sorted(self._pauses)[-2])
        return self._grown_at if has_stopped else None
