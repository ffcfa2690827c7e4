"""What commands have set over the rules, as text for the status screen."""

from collections.abc import Iterable, Mapping
from typing import Any

from natmirror.api.text import moment


def override_rows(overrides: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return a row for each override: its subject, and what was set, when, and for how long."""
    return [(_subject(one), f"{_what(one)}, by a command since {moment(one['since'])}{_end(one)}") for one in overrides]


def _subject(one: Mapping[str, Any]) -> str:
    if one["mirror"] is not None:
        return f"mirror {one['service']}/{one['mirror']}"
    return f"{one['service']}/{one['backend']}"


def _what(one: Mapping[str, Any]) -> str:
    match one["kind"]:
        case "weight":
            return f"weight {one['weight']}"
        case "pause":
            return "paused"
        case "add":
            return f"added at {one['address']}"
        case "remove":
            return "removed"
        case _:
            resets = "" if one["resets_at"] is None else f", resets what is left at {moment(one['resets_at'])}"
            return f"drained{resets}"


def _end(one: Mapping[str, Any]) -> str:
    return ", also over a restart" if one["kept"] else ""
