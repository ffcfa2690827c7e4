"""Overrides: what the operator's commands have set over the rules, until a command takes it back.

All that hold are one value, Overrides. What they change follows from it alone: admission reads the drains and weights,
the engines run with applied() rules, the API shows the entries, and a file and the pair's store carry them on.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Any

from natmirror.errors import RulesError
from natmirror.net.endpoint import endpoint_of, parse_endpoint, show
from natmirror.rules.added_backend import checked_backend
from natmirror.rules.kinds import Balance
from natmirror.rules.model import Backend, Mirror, Pool, Rules, Service
from natmirror.rules.pool_keys import MAX_WEIGHT


class OverrideKind(StrEnum):
    """What a command has set over the rules."""

    DRAIN = "drain"
    """The backend gets no new connections."""
    WEIGHT = "weight"
    """The backend has another weight than the rules give it."""
    PAUSE = "pause"
    """The mirror gets no copies."""
    ADD = "add"
    """The pool has a backend that the rules file does not have."""
    REMOVE = "remove"
    """The pool does not have a backend that the rules file has."""


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
    backend: Backend | None = None
    """Of an ADD."""

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
            "weight": self.weight if self.backend is None else self.backend.weight,
            "until": self.until,
            "max_connections": None if self.backend is None else self.backend.max_connections,
        }


def read_override(plain: Any) -> Override:
    """Return the override that plain() has shown. KeyError, TypeError or ValueError where the values show none."""
    kind, name, place, until = OverrideKind(plain["kind"]), str(plain["name"]), str(plain["place"]), plain["until"]
    return Override(
        kind,
        str(plain["service"]),
        name,
        place,
        _time(plain["at"]),
        bool(plain["kept"]),
        _weight(plain["weight"]) if kind is OverrideKind.WEIGHT else None,
        None if until is None else _time(until),
        _backend(name, place, plain) if kind is OverrideKind.ADD else None,
    )


def _backend(name: str, place: str, plain: Any) -> Backend:
    address, port = parse_endpoint(place)
    most = plain["max_connections"]
    return Backend(name, IPv4Address(address), port, _weight(plain["weight"]), None if most is None else int(most))


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

    def changed_by(self, changes: Mapping[OverrideKey, Override | None]) -> "Overrides":
        """Return these with others set, or (None) taken back."""
        changed = {**self.by_key, **changes}
        return Overrides({key: one for key, one in changed.items() if one is not None})

    def fitting(self, rules: Rules) -> "Overrides":
        """Return those whose backend or mirror the rules have, with its name and at its place, and the added backends
        that may still be beside those of the rules."""
        found = Overrides({one.key: one for one in self._of(OverrideKind.REMOVE) if has_subject(rules, one)})
        for one in self._of(OverrideKind.ADD):
            if _may_be_added(one, found.applied(rules)):
                found = found.including(one)
        for service in found.applied(rules).services:
            if service.pool is not None and not service.pool.backends:
                emptied = {one.key for one in found._of(OverrideKind.REMOVE) if one.service == service.name}
                found = Overrides({one.key: one for one in found if one.key not in emptied})
        changed = found.applied(rules)
        others = {one.key: one for one in self if one.kind not in _OF_POOLS and has_subject(changed, one)}
        return Overrides({one.key: one for one in self if one.key in found.by_key or one.key in others})

    def _of(self, kind: OverrideKind) -> list[Override]:
        return [one for one in self if one.kind is kind]

    def applied(self, rules: Rules) -> Rules:
        """Return the rules with what the overrides change in them. Drains and weights change nothing there: the rules
        alone give the derived backends."""
        if not any(one.is_of_mirror or one.kind in _OF_POOLS for one in self):
            return rules
        return replace(rules, services=tuple(map(self._applied, rules.services)))

    def _applied(self, service: Service) -> Service:
        mirrors = tuple(
            replace(mirror, is_paused=self.get(OverrideKind.PAUSE, service.name, mirror.name) is not None)
            for mirror in service.mirrors
        )
        pool = service.pool and replace(service.pool, backends=self._backends(service.name, service.pool))
        return (
            service
            if (mirrors, pool) == (service.mirrors, service.pool)
            else replace(service, mirrors=mirrors, pool=pool)
        )

    def _backends(self, service: str, pool: Pool) -> tuple[Backend, ...]:
        removed = {one.place for one in self._of(OverrideKind.REMOVE) if one.service == service}
        added = [one.backend for one in self._of(OverrideKind.ADD) if one.service == service]
        return (
            *(backend for backend in pool.backends if place_of(backend) not in removed),
            *(backend for backend in added if backend is not None),
        )


def place_of(one: Backend | Mirror) -> str:
    """Return the place of a backend or mirror, for an Override."""
    return show(endpoint_of(one))


_OF_POOLS = (OverrideKind.ADD, OverrideKind.REMOVE)
"""The kinds that change a pool's backends."""


def _may_be_added(one: Override, rules: Rules) -> bool:
    for service in rules.services:
        if service.name == one.service and service.pool is not None and one.backend is not None:
            with suppress(RulesError):
                checked_backend(rules, service.name, keys_of(one.backend, service.pool))
                return True
    return False


def keys_of(backend: Backend, pool: Pool) -> dict[str, Any]:
    """Return a backend of a pool as a rules file has it."""
    keys: dict[str, Any] = {"name": backend.name, "address": str(backend.address), "port": backend.port}
    if pool.balance is not Balance.PRIORITY:
        keys["weight"] = backend.weight
    return keys if backend.max_connections is None else keys | {"max-connections": backend.max_connections}


def has_subject(rules: Rules, one: Override) -> bool:
    """Return whether the rules have an override's backend or mirror, with its name and at its place."""
    return any(found.name == one.name and place_of(found) == one.place for found in _subjects(one, rules))


def _subjects(one: Override, rules: Rules) -> Iterable[Backend | Mirror]:
    for service in rules.services:
        if service.name == one.service:
            if one.is_of_mirror:
                return service.mirrors
            return () if service.pool is None else service.pool.backends
    return ()
