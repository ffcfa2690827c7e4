"""The file of known switches: after a restart natmirror knows the switches of the connections that it picks up."""

from pathlib import Path
from typing import Any

from natmirror.runtime.whole_file import read_list, write_list

_FORMAT = 1
_NAME = "switches"


def load(path: Path) -> list[dict[str, Any]]:
    """Return the switches in a file, none where there is no file. HostError where it cannot be read or is malformed."""
    return read_list(path, _NAME, _FORMAT, "known switches")


def save(path: Path, switches: list[dict[str, Any]]) -> None:
    """Write the switches, all or none of them, whenever the machine fails. HostError where that is impossible."""
    write_list(path, _NAME, _FORMAT, switches)
