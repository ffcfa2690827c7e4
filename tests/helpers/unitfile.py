"""The settings of the systemd unit."""

from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd" / "natmirror.service"


def lines(name: str) -> list[str]:
    """Return the value of each line that sets ``name``."""
    parted = (line.partition("=") for line in UNIT.read_text().splitlines())
    return [value for key, _, value in parted if key == name]


def settings(name: str) -> list[str]:
    """Return all words of all lines that set ``name``."""
    return [word for line in lines(name) for word in line.split()]
