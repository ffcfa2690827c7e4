"""What the systemd unit says."""

from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd" / "natmirror.service"


def settings(name: str) -> list[str]:
    """All words of all lines that give a setting."""
    lines = (line.partition("=") for line in UNIT.read_text().splitlines())
    return [word for key, _, value in lines if key == name for word in value.split()]
