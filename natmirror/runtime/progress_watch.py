"""Says whether production goes on, by a number that grows while it does, such as that of acknowledged bytes."""

from collections import deque

_REGULAR = 3
"""Pauses that have to be known before a silence says anything."""
_REMEMBERED = 20
# Seconds
_MIN_SILENCE = 4.0  # between two looks: the silence itself is longer
_SILENCE_FACTOR = 2
"""Production has stopped if the number has not grown for this many times the longest but one of the last pauses: the
longest may have been an interruption."""


class ProgressWatch:
    """Compares the number with those of earlier calls. Time is an argument, in seconds of any steady clock."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The number at the last look."""
        self._grown_at = self._looked_at = 0.0
        self._pauses: deque[float] = deque(maxlen=_REMEMBERED)

    def look(self, number: int, now: float) -> None:
        """Take the number as it is now; call this every few seconds."""
        self._looked_at = now
        if number != self.number:
            if self.number is not None:
                self._pauses.append(now - self._grown_at)
            self.number, self._grown_at = number, now

    @property
    def stopped_at(self) -> float | None:
        """Return when production was last seen to go on, if it has been silent for longer than it usually is; else
        None."""
        if len(self._pauses) < _REGULAR:
            return None
        has_stopped = self._looked_at - self._grown_at >= max(_MIN_SILENCE, _SILENCE_FACTOR * sorted(self._pauses)[-2])
        return self._grown_at if has_stopped else None
