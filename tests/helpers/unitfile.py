"""The settings of the systemd unit."""

from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd" / "natmirror.service"


def settings(name: str) -> list[str]:
    """Return all words of all lines that set ``name``."""
    lines = (line.partition("=") for line in UNIT.read_text().splitlines())
    return [word for key, _, value in lines if key == name for word in value.split()]
