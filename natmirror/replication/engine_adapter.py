"""One engine's replicated state: the part that is written for other hosts, and the part that comes from them.

All of it runs in the engine's own thread, in slices.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from natmirror.actions import Send
from natmirror.engine.engine import Engine
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.fastpath import NEVER
from natmirror.mirror.faults import Work
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Rules
from natmirror.rules.reload import Kept

_SWEEP_SLICE = 1000
_MAX_CHANGES = 16_384  # changes of bindings that wait for report_bindings() at most
_REPORT_INTERVAL = 0.05  # seconds

OnBindings = Callable[[list[BindingChange], bool], None]
"""Takes the changes of bindings, and whether further changes were lost because there were too many."""


class EngineAdapter:
    """The engine's side of replication. ``send`` sends synthesised packets. report_bindings() calls ``on_bindings``; it
    is None where nothing is replicated."""

    def __init__(self, engine: Engine, send: Callable[[list[Send]], None], on_bindings: OnBindings | None) -> None:
        self._engine = engine
        self._send = send
        self._on_bindings = on_bindings
        self.next_report_at = NEVER
        """When report_bindings() is due, in monotonic seconds."""
        if on_bindings is not None:
            engine.bindings.log_changes(_MAX_CHANGES)
            self.next_report_at = 0.0

    # A reload of the rules

    def reload(self, rules: Rules) -> None:
        """Apply these rules. Report bindings first: the numbers of their services and backends may be reused."""
        self._report_now()
        self._engine.reload(rules)

    def prune(self) -> list[Kept]:
        """Forget removed services and backends that have no flows left, after reporting bindings as reload() does;
        return those that have flows."""
        self._report_now()
        return self._engine.prune()

    # Bindings

    def report_bindings(self, now: float) -> None:
        """Report changes of bindings, if that is due."""
        if self._on_bindings is None or now < self.next_report_at:
            return
        self.next_report_at = now + _REPORT_INTERVAL
        try:
            changes, missed = self._engine.bindings.take_changes()
        except Exception:  # the changes that were taken are lost: have all bindings reported again
            self._on_bindings([], True)
            raise
        if changes or missed:
            self._on_bindings(changes, missed)

    def sweep_bindings(self, first: int, how: int) -> int | None:
        """Sweep a slice (ReplicatedBindings.sweep()) and report it; return the next slice's start, or None at the
        end."""
        following = self._engine.bindings.sweep(first, _SWEEP_SLICE, how, time.monotonic())
        self._report_now()
        return following

    def _report_now(self) -> None:
        if self._on_bindings is not None:
            self.next_report_at = time.monotonic()
            self.report_bindings(self.next_report_at)

    def adopt_bindings(self, bindings: Sequence[tuple[str, Endpoint, Endpoint]]) -> int:
        """Adopt another host's bindings (service, client, backend); return how many were rejected."""
        now = time.monotonic()
        return sum(not self._engine.bindings.adopt(*binding, now) for binding in bindings)

    def withdraw_bindings(self, gone: Sequence[tuple[str, Endpoint, bool]]) -> None:
        """Forget another host's bindings: service, client, whether the connection has ended."""
        now = time.monotonic()
        for service, client, ended in gone:
            self._engine.bindings.withdraw(service, client, now, ended=ended)

    # Switches

    def seen_switches(self) -> list[str]:
        """Return the connections whose switch this run knows from its own traffic, not from another host or run."""
        return self._engine.directory.seen()

    def show_switches(self, clients: Sequence[str]) -> list[dict[str, Any]]:
        """Return the known state of the switches of these connections, as plain values."""
        now = time.monotonic()
        shown = (self._engine.directory.plain(client, now) for client in clients)
        return [entry for entry in shown if entry is not None]

    def adopt_switches(self, entries: Sequence[dict[str, Any]]) -> int:
        """Adopt another host's switches; return how many were rejected as invalid."""
        rejected = 0
        for entry in entries:
            try:
                self._engine.directory.adopt(entry, time.monotonic())
            except (KeyError, TypeError, ValueError):
                rejected += 1
            except Exception as error:  # an internal error costs this record, and no other
                rejected += 1
                self._engine.faults.note(Work.TAKEOVER, None, error)
        return rejected

    def withdraw_switches(self, clients: Sequence[str]) -> None:
        """Forget switches whose connections the other host no longer has."""
        for client in clients:
            self._engine.directory.withdraw(client)

    # Legs

    def mirrored_ids(self) -> list[int]:
        """Return the numbers of flows with legs."""
        return self._engine.replicated_legs.ids()

    def leg_records(self, ids: Sequence[int], *, everything: bool) -> list[dict[str, Any]]:
        """Return records of these flows' legs: of those that have changed since the last call, or of ``everything``."""
        return self._engine.replicated_legs.records(ids, everything=everything)

    def lacking_records(self) -> list[dict[str, Any]]:
        """Return records of the connections that were found to lack bytes since the last call."""
        return self._engine.replicated_legs.lacking_records()

    def take_gone_legs(self) -> list[tuple[str, str]]:
        """Return service and client of each record that has become invalid since the last call."""
        return self._engine.replicated_legs.take_withdrawn()

    def adopt_legs(self, records: Sequence[dict[str, Any]]) -> int:
        """Adopt another host's legs, which stand by until activate_legs(); return how many records were rejected."""
        rejected = 0
        for record in records:
            try:
                self._engine.replicated_legs.adopt(record, time.monotonic())
            except ValueError:
                rejected += 1
            except Exception as error:  # an internal error costs this record, and no other
                rejected += 1
                self._engine.faults.note(Work.TAKEOVER, None, error)
        self._send(self._engine.read_sessions(time.monotonic(), lambda: True))
        return rejected

    def deliver_missing(self, records: Sequence[dict[str, Any]]) -> None:
        """Deliver to mirrors the bytes that the other host's records report as missing, as far as this host holds
        them."""
        now = time.monotonic()
        for record in records:
            with suppress(ValueError):
                self._engine.replicated_legs.deliver_missing(record, now)
        self._send(self._engine.read_sessions(now, lambda: True))

    def withdraw_legs(self, gone: Sequence[tuple[str, str]]) -> None:
        """Forget another host's legs: service and client of each record."""
        for service, client in gone:
            with suppress(ValueError):  # adopt_legs() has rejected this record
                self._engine.replicated_legs.withdraw(service, client)

    def activate_legs(self) -> None:
        """Activate the legs adopted from other hosts: this host passes the packets from now on."""
        self._engine.replicated_legs.take_over(time.monotonic())

    def release_legs(self) -> None:
        """Release this host's legs: another host passes the packets from now on."""
        self._engine.replicated_legs.release()
