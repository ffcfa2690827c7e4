"""Overrides: what the operator's commands have set over the rules, until a command takes it back.

All that hold are one value, Overrides. What they change follows from it alone: admission reads the drains and weights,
the engines run with applied() rules, the API shows the entries, and a file and the pair's store carry them on.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from natmirror.net.endpoint import endpoint_of, show
from natmirror.rules.model import Backend, Mirror, Rules, Service
from natmirror.rules.pool_keys import MAX_WEIGHT


class OverrideKind(StrEnum):
    """What a command has set over the rules."""

    DRAIN = "drain"
    """The backend gets no new connections."""
    WEIGHT = "weight"
    """The backend has another weight than the rules give it."""
    PAUSE = "pause"
    """The mirror gets no copies."""


OverrideKey = tuple[OverrideKind, str, str]
"""What an override is about: its kind, the service's name, and the backend's or mirror's name."""


@dataclass(frozen=True, slots=True)
class Override:
    """What a command has set for a backend or a mirror."""

    kind: OverrideKind
    service: str
    name: str
    """The backend's or mirror's name in the rules."""
    place: str
    """Its address and port: another host with its name is not meant."""
    at: float
    """When it was set, in seconds since 1970."""
    is_kept: bool = False
    """Whether it holds over a restart."""
    weight: int | None = None
    """Of a WEIGHT."""
    until: float | None = None
    """Of a DRAIN: when the remaining connections are reset, in seconds since 1970; None: never."""

    @property
    def key(self) -> OverrideKey:
        return self.kind, self.service, self.name

    @property
    def subject(self) -> str:
        """Its service and its backend or mirror, as commands name them."""
        return f"{self.service}/{self.name}"

    @property
    def is_of_mirror(self) -> bool:
        """Whether it is about a mirror, not a backend."""
        return self.kind is OverrideKind.PAUSE

    def plain(self) -> dict[str, Any]:
        """Return the override as values for JSON, for read_override()."""
        return {
            "kind": self.kind,
            "service": self.service,
            "name": self.name,
            "place": self.place,
            "at": self.at,
            "kept": self.is_kept,
            "weight": self.weight,
            "until": self.until,
        }


def read_override(plain: Any) -> Override:
    """Return the override that plain() has shown. KeyError, TypeError or ValueError where the values show none."""
    kind, until = OverrideKind(plain["kind"]), plain["until"]
    return Override(
        kind,
        str(plain["service"]),
        str(plain["name"]),
        str(plain["place"]),
        _time(plain["at"]),
        bool(plain["kept"]),
        _weight(plain["weight"]) if kind is OverrideKind.WEIGHT else None,
        None if until is None else _time(until),
    )


def _time(value: Any) -> float:
    if not math.isfinite(found := float(value)):
        raise ValueError("expected a time, found none")
    return found


def _weight(value: Any) -> int:
    if not 1 <= (found := int(value)) <= MAX_WEIGHT:
        raise ValueError(f"expected a weight from 1 to {MAX_WEIGHT}, found {found}")
    return found


@dataclass(frozen=True, slots=True)
class Overrides:
    """The overrides that hold. A method that changes one returns another value."""

    by_key: Mapping[OverrideKey, Override] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Override]:
        return iter(self.by_key.values())

    def get(self, kind: OverrideKind, service: str, name: str) -> Override | None:
        return self.by_key.get((kind, service, name))

    def including(self, one: Override) -> "Overrides":
        """Return these, with one in place of what it replaces."""
        return Overrides({**self.by_key, one.key: one})

    def without(self, key: OverrideKey) -> "Overrides":
        return Overrides({one.key: one for one in self if one.key != key})

    def fitting(self, rules: Rules) -> "Overrides":
        """Return those whose backend or mirror the rules have, with its name and at its place."""
        return Overrides({one.key: one for one in self if _fits(one, rules)})

    def applied(self, rules: Rules) -> Rules:
        """Return the rules with what the overrides change in them. Drains and weights change nothing there: the rules
        alone give the derived backends."""
        if not any(one.is_of_mirror for one in self):
            return rules
        return replace(rules, services=tuple(map(self._applied, rules.services)))

    def _applied(self, service: Service) -> Service:
        mirrors = tuple(
            replace(mirror, is_paused=self.get(OverrideKind.PAUSE, service.name, mirror.name) is not None)
            for mirror in service.mirrors
        )
        return service if mirrors == service.mirrors else replace(service, mirrors=mirrors)


def place_of(one: Backend | Mirror) -> str:
    """Return the place of a backend or mirror, for an Override."""
    return show(endpoint_of(one))


def _fits(one: Override, rules: Rules) -> bool:
    return any(found.name == one.name and place_of(found) == one.place for found in _subjects(one, rules))


def _subjects(one: Override, rules: Rules) -> Iterable[Backend | Mirror]:
    for service in rules.services:
        if service.name == one.service:
            if one.is_of_mirror:
                return service.mirrors
            return () if service.pool is None else service.pool.backends
    return ()
