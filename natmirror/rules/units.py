"""Sizes, durations and rates as a rules file writes them."""

from dataclasses import dataclass

UNITS = {"KiB": 10, "MiB": 20, "GiB": 30}
"""The units of sizes, as powers of two."""
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""The units of durations, in seconds."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of things in each period."""

    most: int
    unit: str
    """The period: one of the units of durations."""

    @property
    def per_second(self) -> float:
        return self.most / SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.most}/{self.unit}"


def show_duration(seconds: float) -> str:
    """Return a duration in the largest unit that it is at least one of and that shows it exactly."""
    for unit, length in reversed(SECONDS.items()):
        shown = f"{seconds / length:g}"
        if seconds >= length and float(shown) * length == seconds:
            return f"{shown}{unit}"
    return f"{seconds:g}s"


def show_size(size: int) -> str:
    """Return a size in the largest unit that it is a multiple of."""
    for unit, shift in reversed(UNITS.items()):
        if size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)
