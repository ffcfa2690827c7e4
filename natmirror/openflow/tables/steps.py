"""Long work in small steps: a generator that yields after each step, and returns the result.

One message can change 4,000 rules, which takes tens of milliseconds. Packets may be waiting: so the work stops after
each step for its caller to look. A model whose work was not finished must be closed or lost.
"""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]

PER_STEP = 64
"""Rules that are changed in one step: about 0.4 ms."""


def finish(steps: Steps[T]) -> T:
    """Do all steps; return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
