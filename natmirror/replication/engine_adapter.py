"""One engine's replicated state: what is written of it for other hosts, and what is taken in from them.

Everything here is done in the engine's own thread, in slices.
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
_MAX_CHANGES = 16_384  # of bindings, until they are reported
_REPORT_INTERVAL = 0.05

OnBindings = Callable[[list[BindingChange], bool], None]
"""Takes what has become of bindings, and whether there was more than could be kept."""


class EngineAdapter:
    """The engine's side of replication. ``send`` sends synthesised packets, ``on_bindings`` is called by
    report_bindings(); None: nothing is replicated."""

    def __init__(self, engine: Engine, send: Callable[[list[Send]], None], on_bindings: OnBindings | None) -> None:
        self._engine = engine
        self._send = send
        self._on_bindings = on_bindings
        self.next_report_at = NEVER
        """When report_bindings() is due."""
        if on_bindings is not None:
            engine.bindings.record_changes(_MAX_CHANGES)
            self.next_report_at = 0.0

    # Other rules

    def reload(self, rules: Rules) -> None:
        """Go by these rules from now on. Bindings are reported first: their numbers may be reused."""
        self._report_now()
        self._engine.reload(rules)

    def prune(self) -> list[Kept]:
        """Forget what was removed and has no flows left, likewise; return what stays."""
        self._report_now()
        return self._engine.prune()

    # Bindings

    def report_bindings(self, now: float) -> None:
        """Report what has become of bindings, where that is due."""
        if self._on_bindings is None or now < self.next_report_at:
            return
        self.next_report_at = now + _REPORT_INTERVAL
        try:
            changes, missed = self._engine.bindings.take_changes()
        except Exception:  # what was taken is lost, so have all of them reported again
            self._on_bindings([], True)
            raise
        if changes or missed:
            self._on_bindings(changes, missed)

    def sweep_bindings(self, first: int, how: int) -> int | None:
        """Sweep a slice, see ReplicatedBindings.sweep(), and report it; return where to go on, None at the end."""
        following = self._engine.bindings.sweep(first, _SWEEP_SLICE, how, time.monotonic())
        self._report_now()
        return following

    def _report_now(self) -> None:
        if self._on_bindings is not None:
            self.next_report_at = time.monotonic()
            self.report_bindings(self.next_report_at)

    def take_in_bindings(self, bindings: Sequence[tuple[str, Endpoint, Endpoint]]) -> int:
        """Take in another host's bindings: service, client, backend; return how many could not be taken in."""
        now = time.monotonic()
        return sum(not self._engine.bindings.accept(*binding, now) for binding in bindings)

    def withdraw_bindings(self, gone: Sequence[tuple[str, Endpoint, bool]]) -> None:
        """Drop another host's bindings: service, client, whether the connection has ended."""
        now = time.monotonic()
        for service, client, ended in gone:
            self._engine.bindings.withdraw(service, client, now, ended=ended)

    # Switches

    def living_switches(self) -> list[str]:
        """Return the connections whose switch is known, but for those that another host or run has reported."""
        return self._engine.directory.seen()

    def show_switches(self, clients: Sequence[str]) -> list[dict[str, Any]]:
        """Return what is known of the switches behind some connections."""
        now = time.monotonic()
        shown = (self._engine.directory.plain(client, now) for client in clients)
        return [entry for entry in shown if entry is not None]

    def take_in_switches(self, entries: Sequence[dict[str, Any]]) -> int:
        """Take in another host's switches; return how many of them make no sense."""
        refused = 0
        for entry in entries:
            try:
                self._engine.directory.adopt(entry, time.monotonic())
            except (KeyError, TypeError, ValueError):
                refused += 1
        return refused

    def withdraw_switches(self, clients: Sequence[str]) -> None:
        """Forget switches whose connections the other host does not have any more."""
        for client in clients:
            self._engine.directory.withdraw(client)

    # Legs

    def mirrored_ids(self) -> list[int]:
        """Return the numbers of flows with legs."""
        return self._engine.replicated_legs.ids()

    def leg_records(self, ids: Sequence[int], *, everything: bool) -> list[dict[str, Any]]:
        """Return the legs of these flows that have moved since the last call, or all."""
        return self._engine.replicated_legs.records(ids, everything=everything)

    def take_gone_legs(self) -> list[tuple[str, str]]:
        """Return service and client of records that are no longer valid."""
        return self._engine.replicated_legs.take_gone()

    def adopt_legs(self, records: Sequence[dict[str, Any]]) -> int:
        """Take in another host's legs, which wait for take_over(); return how many records make no sense here."""
        refused = 0
        for record in records:
            try:
                self._engine.replicated_legs.adopt(record, time.monotonic())
            except ValueError:
                refused += 1
            except Exception as error:  # a fault of ours costs this record, and no other
                refused += 1
                self._engine.faults.note(Work.TAKEOVER, None, error)
        self._send(self._engine.serve_sessions(time.monotonic(), lambda: True))
        return refused

    def disown_legs(self, gone: Sequence[tuple[str, str]]) -> None:
        """Drop records of another host's legs: service and client."""
        for service, client in gone:
            with suppress(ValueError):  # it was refused before
                self._engine.replicated_legs.disown(service, client)

    def take_over(self) -> None:
        """Go on with other hosts' legs: this host passes the packets from now on."""
        self._engine.replicated_legs.take_over(time.monotonic())

    def hand_over(self) -> None:
        """Leave the legs: another host passes the packets from now on."""
        self._engine.replicated_legs.leave()
