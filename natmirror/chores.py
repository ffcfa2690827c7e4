"""What a thread does again and again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

NEVER = 1 << 30
"""Seconds: longer than any run."""

_MAX_SHARE = 20  # a chore rests at least this many times as long as it took


@dataclass(slots=True)
class Chore:
    """Something to do every ``interval`` seconds."""

    interval: float
    do: Callable[[], None]
    due_at: float = 0.0

    def run_if_due(self, now: float) -> None:
        """Do it when its time has come; what takes long is done less often, so that packets keep nearly all of it."""
        if now >= self.due_at:
            self.do()
            done_at = time.monotonic()
            self.due_at = max(now + self.interval, done_at + _MAX_SHARE * (done_at - now))
