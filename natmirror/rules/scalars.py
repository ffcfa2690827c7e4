"""Names, ports, sizes and durations as rules files write them."""

import re
from pathlib import Path

from natmirror.rules.units import SECONDS, UNITS, show_size
from natmirror.rules.yaml_reader import Value

_SIZE = re.compile(r"(\d{1,12}) ?(KiB|MiB|GiB)?")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|m|h|d)")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def read_absolute_path(value: Value) -> Path:
    """Read the absolute path of a file."""
    expected = "an absolute path of a file"
    path = Path(value.scalar(expected))
    if not path.is_absolute():
        raise value.error(expected)
    return path


def read_matching(value: Value, pattern: re.Pattern[str], expected: str) -> str:
    """Read a text that a pattern fits as a whole; else the error says what was ``expected``."""
    text = value.scalar(expected)
    if not pattern.fullmatch(text):
        raise value.error(expected)
    return text


def read_name(value: Value) -> str:
    """Read a name."""
    return read_matching(value, _NAME, "a name of letters, digits, dots, dashes and underscores")


def read_port(value: Value) -> int:
    """Read a port's number."""
    return value.integer(1, 65535)


def read_size(value: Value, bounds: tuple[int, int]) -> int:
    """Read a number of bytes, within bounds."""
    low, high = bounds
    expected = f"a size from {show_size(low)} to {show_size(high)}, such as 16MiB"
    match = _SIZE.fullmatch(value.scalar(expected))
    if not match:
        raise value.error(expected)
    size = int(match[1]) << UNITS.get(match[2], 0)
    if not low <= size <= high:
        raise value.error(expected)
    return size


def read_duration(value: Value) -> float:
    """Read a duration, in seconds."""
    expected = "a duration from 1ms to 30d, such as 5s"
    match = _DURATION.fullmatch(value.scalar(expected))
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if not 0.001 <= seconds <= 30 * SECONDS["d"]:
        raise value.error(expected)
    return seconds


def read_percent(value: Value) -> float:
    """Read a percentage, as a share from 0 to 1."""
    expected = "a percentage from 0% to 100%"
    match = _PERCENT.fullmatch(value.scalar(expected))
    if not match or float(match[1]) > 100:
        raise value.error(expected)
    return float(match[1]) / 100
