"""Commands that add a backend to a pool and remove one, without a change of the rules file.

They change the overrides on the way of a reload (reloader.py): a new backend passes the checks of a rules file, and its
kernel rules are in place before a client can reach it.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from natmirror.errors import HostError, NatmirrorError
from natmirror.events import EventKind
from natmirror.linux.addresses import taken_addresses
from natmirror.rules import Backend, Override, OverrideKind, Overrides, Service, place_of
from natmirror.rules.added_backend import checked_backend
from natmirror.runtime.chores import ChoreThread
from natmirror.runtime.override_control import Change, Later, OverrideControl
from natmirror.runtime.reloader import Reloader
from natmirror.runtime.shown import CommandAnswer

log = logging.getLogger("natmirror")

_SAVE_TIMEOUT = 5.0  # seconds
_OPTIONS = {"weight": "weight", "max_connections": "max-connections"}


class PoolCommands:
    """The commands. ``thread``, that of HostMaintenance, calls its methods."""

    def __init__(self, overrides: OverrideControl, reloader: Reloader, thread: ChoreThread) -> None:
        self._overrides = overrides
        self._reloader = reloader
        overrides.adopt_pools = lambda later: thread.post(partial(self._adopt, later))

    def add(self, arguments: Mapping[str, Any]) -> CommandAnswer:
        """Obey ``{"service": …, "backend": its name, "address": ADDRESS or ADDRESS:PORT, "weight": …,
        "max_connections": …, "persist": …}``. ValueError or RulesError where the rules would refuse such a backend."""
        self._overrides.check(arguments)
        service = self._overrides.service(arguments["service"])
        if service.pool is None:
            raise ValueError(f"service {service.name} has no pool, so that no backend can be added")
        address, colon, port = str(arguments["address"]).partition(":")
        keys: dict[str, Any] = {"name": arguments["backend"], "address": address}
        if colon:
            keys["port"] = int(port) if port.isascii() and port.isdecimal() else port
        keys |= {key: arguments[name] for name, key in _OPTIONS.items() if arguments.get(name) is not None}
        backend = checked_backend(self._overrides.rules, service.name, keys, taken_addresses())
        one = self._made(OverrideKind.ADD, service, backend, arguments)
        removal = self._overrides.value.get(OverrideKind.REMOVE, service.name, backend.name)
        if removal is not None and removal.place == one.place:
            self._check_options(one, arguments)
            self._change(lambda overrides: overrides.without(removal.key))
            return self._done(EventKind.BACKEND_ADDED, one, "is in its pool again, as the rules have it", is_kept=True)
        self._change(lambda overrides: overrides.including(one))
        check = "unless health checks find it down" if service.pool.health else "unchecked: the pool has no health"
        what = f"at {one.place} is in its pool, and gets new connections, {check}"
        return self._done(EventKind.BACKEND_ADDED, one, what, is_kept=one.is_kept)

    def _check_options(self, one: Override, arguments: Mapping[str, Any]) -> None:
        """Raise ValueError where a command would give a backend of the rules file other values than the file does."""
        [found] = [
            backend
            for service in self._reloader.loaded.services
            if service.name == one.service and service.pool is not None
            for backend in service.pool.backends
            if backend.name == one.name
        ]
        for name, key in _OPTIONS.items():
            if arguments.get(name) not in (None, in_rules := getattr(found, name)):
                raise ValueError(
                    f"{one.subject} comes back as the rules file has it, with {key} {in_rules or 'unset'}: leave {key}"
                    " out; natmirror weight changes a weight"
                )

    def remove(self, arguments: Mapping[str, Any]) -> CommandAnswer:
        """Obey ``{"service": …, "backend": …, "persist": …}``. ValueError where there is no such backend, or no other
        one in its pool."""
        self._overrides.check(arguments)
        service, pool, backend = self._overrides.backend(arguments)
        if len(pool.backends) == 1:
            raise ValueError(
                f"{backend.name} is the only backend of {service.name}: add another one first, or drain it"
            )
        one = self._made(OverrideKind.REMOVE, service, backend, arguments)
        count = self._overrides.connections(service.name, backend.name)
        was_open = self._overrides.is_open(service.name, backend.name)
        added = self._overrides.value.get(OverrideKind.ADD, service.name, backend.name)

        def change(overrides: Overrides) -> Overrides:
            for kind in (OverrideKind.DRAIN, OverrideKind.WEIGHT):
                overrides = overrides.without((kind, service.name, backend.name))
            return overrides.including(one) if added is None else overrides.without(added.key)

        self._change(change)
        left = f"connections left: {count} (they stay until they end)" if count else "no connections left"
        follows = self._overrides.after_removal(service.name, was_open=was_open)
        what = f"is out of its pool, and gets no new connections; {left}; {follows}"
        return self._done(EventKind.BACKEND_REMOVED, one, what, is_kept=one.is_kept or added is not None)

    def _change(self, change: Change) -> None:
        """Have a command change the overrides, those of the other host, too."""
        pairs: list[tuple[Overrides, Overrides]] = []

        def noted(overrides: Overrides) -> Overrides:
            pairs.append((overrides, change(overrides)))
            return pairs[-1][1]

        self._reloader.change_overrides(noted)
        self._overrides.note(*pairs[-1])

    def _adopt(self, later: Later) -> None:
        """Follow what other hosts' commands have changed in pools; log why that cannot be done."""
        before = self._overrides.value
        try:
            self._reloader.change_overrides(
                lambda overrides: overrides.changed_by(later).fitting(self._reloader.loaded)
            )
        except NatmirrorError as error:
            log.error("a command on the other host has changed a pool, and this host cannot follow: %s", error)
            return
        self._overrides.report_adopted(before)

    def _made(self, kind: OverrideKind, service: Service, backend: Backend, arguments: Mapping[str, Any]) -> Override:
        is_kept, added = bool(arguments.get("persist")), backend if kind is OverrideKind.ADD else None
        at = self._overrides.next_at((kind, service.name, backend.name))
        return Override(kind, service.name, backend.name, place_of(backend), at, is_kept, backend=added)

    def _done(self, kind: EventKind, one: Override, what: str, *, is_kept: bool) -> CommandAnswer:
        """Tell what a command has done. What takes another command back is kept: nothing stands over the rules then."""
        self._overrides.add_event(kind, one, f"{one.subject} {what}: a command has changed its pool")
        lasts = "a restart keeps that, too" if is_kept else "a restart forgets that, without --persist"
        reach = self._overrides.reach()
        done = f"{one.subject} {what}; a reload of the rules file keeps that, and {lasts}{reach}"
        try:
            self._overrides.wait_until_kept(_SAVE_TIMEOUT, with_event=is_kept)
        except (HostError, TimeoutError) as error:
            why = str(error) or "the disk does not answer"
            raise HostError(f"{done}. But the file does not say so yet: {why}; natmirror tries again") from None
        return {"done": done}
