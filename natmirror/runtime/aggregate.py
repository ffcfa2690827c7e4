"""One snapshot of several engines."""

from collections.abc import Iterable, Sequence
from typing import Any

_MAXIMA = ("lag_seconds", "rtt_seconds")


def aggregate(snapshots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of what Engine.snapshot() returns, for engines that share their clients and their memory."""
    first, *others = snapshots
    whole = {
        name: _sum([snapshot[name] for snapshot in snapshots])
        for name in ("counters", "drops", "packets_decided_in_python", "flows", "pinned_flows", "answers_not_kept")
    }
    return (
        {
            **first,
            **whole,
            "backends": _rows([row for snapshot in snapshots for row in snapshot["backends"]]),
            "mirrors": _rows([row for snapshot in snapshots for row in snapshot["mirrors"]]),
            "faults": {
                "internal_errors": _sum([snapshot["faults"]["internal_errors"] for snapshot in snapshots]),
                "off": [entry for snapshot in snapshots for entry in snapshot["faults"]["off"]],
            },
        }
        if others
        else first
    )


def _rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the same things, each summed up; an engine may lack some, just after a reload of the rules."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["service"], row["name"], row["address"]), []).append(row)
    return [_row(same) for same in found.values()]


def _row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if key in row]
        found[key] = max(values) if key in _MAXIMA else _sum(values)
    return found


def _sum(values: Sequence[Any]) -> Any:
    """Of numbers, of what has the same name in dictionaries; of names just one."""
    if isinstance(values[0], dict):
        names = sorted({name for value in values for name in value})
        return {name: _sum([value[name] for value in values if name in value]) for name in names}
    return values[0] if isinstance(values[0], str) else sum(values)
