"""The file of known switches: after a restart natmirror knows the switches of the connections that it picks up."""

import glob
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from natmirror.errors import HostError

_FORMAT = 1


def load(path: Path) -> list[dict[str, Any]]:
    """Return the switches in a file, none where there is no file. HostError where it cannot be read or is malformed."""
    try:
        found = json.loads(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise HostError(f"{path}: {error}") from None
    if not isinstance(found, dict) or found.get("format") != _FORMAT or not isinstance(found.get("switches"), list):
        raise HostError(f"{path}: expected a file of known switches in natmirror's format {_FORMAT}")
    return list(found["switches"])


def save(path: Path, switches: list[dict[str, Any]]) -> None:
    """Write the switches, all or none of them, whenever the machine fails. HostError where that is impossible."""
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
        beside = Path(name)
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump({"format": _FORMAT, "switches": switches}, file)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        if beside is not None:
            with suppress(OSError):
                beside.unlink()
        raise HostError(f"{path}: {error.strerror or error}") from None


def remove_unfinished(path: Path) -> None:
    """Remove what an earlier run that was killed in save() has left."""
    with suppress(OSError):
        for left in path.parent.glob(f"{glob.escape(_prefix(path))}*"):
            left.unlink()


def _prefix(path: Path) -> str:
    return f".{path.name}."


def _sync_directory(path: Path) -> None:
    """Make a new name in a directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
