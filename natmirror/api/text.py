"""Numbers as an operator reads them."""

from collections.abc import Mapping

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def size(count: int) -> str:
    """Return a number of bytes."""
    for unit, name in _UNITS:
        if count >= 10 * unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """Return seconds as days, hours, minutes and seconds."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{left:02}"


def listed(counters: Mapping[str, int]) -> str:
    """Return the counters that are not 0, by name."""
    return ", ".join(f"{name} {count}" for name, count in counters.items() if count) or "none"
