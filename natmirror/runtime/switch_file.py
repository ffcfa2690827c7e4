"""The file of known switches: after a restart natmirror knows the switches of the connections that it picks up."""

import json
import os
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
    """Write the switches, all or none of them. HostError where that fails."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps({"format": _FORMAT, "switches": switches}), encoding="ascii")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise HostError(f"{path}: {error.strerror or error}") from None
