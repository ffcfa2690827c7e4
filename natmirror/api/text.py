"""Numbers as an operator reads them."""

from collections.abc import Mapping

_LONG_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
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


def age(seconds: float) -> str:
    """Return seconds in one unit: ``12 s``, ``3 min``."""
    for length, unit in _LONG_UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def moment(text: str) -> str:
    """Return a time of the API, in UTC (RFC 3339), without its fraction of a second."""
    return text.partition(".")[0].replace("T", " ") + "Z"


def counted(number: int, noun: str) -> str:
    """Return a number of things, whose plural ends with s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def sizes(counters: Mapping[str, int]) -> str:
    """Return numbers of bytes by name."""
    return ", ".join(f"{name} {size(count)}" for name, count in counters.items() if count) or "nothing"


def listed(counters: Mapping[str, int]) -> str:
    """Return the counters that are not 0, by name."""
    return ", ".join(f"{name} {count}" for name, count in counters.items() if count) or "none"
