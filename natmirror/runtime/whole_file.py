"""Small files that are always whole: a new version is written beside the old one, and then takes its name."""

import glob
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from natmirror.errors import HostError


def read_list(path: Path, name: str, version: int, what: str) -> list[Any]:
    """Return the list ``name`` in a file of natmirror's, an empty one where there is no file. HostError where it cannot
    be read or is no file of this ``version`` with ``what``."""
    try:
        found = json.loads(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise HostError(f"{path}: {error}") from None
    if not isinstance(found, dict) or found.get("format") != version or not isinstance(found.get(name), list):
        raise HostError(f"{path}: expected a file of {what} in natmirror's format {version}")
    return list(found[name])


def write_list(path: Path, name: str, version: int, items: list[Any]) -> None:
    """Write a list for read_list(), all or nothing of it, whenever the machine fails. HostError where that is
    impossible."""
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside_name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
        beside = Path(beside_name)
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump({"format": version, name: items}, file)
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
    """Remove what an earlier run that was killed in write_list() has left."""
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
