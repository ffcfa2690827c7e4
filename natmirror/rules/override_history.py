"""When each override was set or ended last: of two hosts that share them, the latest command holds.

The clocks of the hosts may differ. A command counts as later than all that its own host knows of, so that it always
holds there; commands on both hosts within the difference of their clocks may hold in another order than they came.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from natmirror.rules.overrides import Override, OverrideKey, OverrideKind, Overrides, read_override

_STEP = 0.001  # seconds

Entry = Mapping[str, Any]
"""An override or its end, as values for JSON: an end has only its key, its time, and ``ended``."""


class OverrideHistory:
    """The times of the overrides that have ended; those that hold have their own."""

    def __init__(self) -> None:
        self._ended: dict[OverrideKey, float] = {}

    def next_at(self, value: Overrides, key: OverrideKey, now: float) -> float:
        """Return the time of a command that is given now, in seconds since 1970."""
        return max(now, self._known_at(value, key) + _STEP)

    def note(self, before: Overrides, after: Overrides, now: float) -> list[Entry]:
        """Note what a command has changed; return the entries for other hosts."""
        gone = [key for key in before.by_key if key not in after.by_key]
        for key in gone:
            self._ended[key] = self.next_at(before, key, now)
        fresh = [one for one in after if before.by_key.get(one.key) != one]
        return [*(_end(key, self._ended[key]) for key in gone), *(one.plain() for one in fresh)]

    def entries(self, value: Overrides) -> list[Entry]:
        """Return the entries of all overrides that hold, and of the ends of others."""
        ends = [_end(key, at) for key, at in list(self._ended.items()) if key not in value.by_key]
        return [*ends, *(one.plain() for one in value)]

    def later(self, value: Overrides, entries: Iterable[Entry]) -> dict[OverrideKey, Override | None]:
        """Return the overrides that other hosts have set (None: ended) later than this one. Leave out malformed
        ones."""
        found: dict[OverrideKey, Override | None] = {}
        for key, at, one in _well_formed(entries):
            if at > self._known_at(value, key):
                found[key] = one
                if one is None:
                    self._ended[key] = at
        return found

    def earlier(self, value: Overrides, entries: Iterable[Entry]) -> list[Entry]:
        """Return this host's entries in place of those, of other hosts, that are earlier."""
        overtaken = {key for key, at, _ in _well_formed(entries) if at < self._known_at(value, key)}
        return [one for one in self.entries(value) if _read(one)[0] in overtaken]

    def _known_at(self, value: Overrides, key: OverrideKey) -> float:
        one = value.by_key.get(key)
        return max(self._ended.get(key, float("-inf")), float("-inf") if one is None else one.at)


def _end(key: OverrideKey, at: float) -> Entry:
    kind, service, name = key
    return {"kind": str(kind), "service": service, "name": name, "at": at, "ended": True}


def _well_formed(entries: Iterable[Entry]) -> Iterator[tuple[OverrideKey, float, Override | None]]:
    for entry in entries:
        with suppress(KeyError, TypeError, ValueError):
            yield _read(entry)


def _read(entry: Entry) -> tuple[OverrideKey, float, Override | None]:
    if entry.get("ended") is not True:
        one = read_override(entry)
        return one.key, one.at, one
    at = float(entry["at"])
    if not at < float("inf"):
        raise ValueError("expected a time, found none")
    return (OverrideKind(entry["kind"]), str(entry["service"]), str(entry["name"])), at, None
