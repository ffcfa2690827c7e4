"""The state that this host of a pair shares with the other host, if the rules name a store (``ha.state``)."""

import os
import time
from collections.abc import Sequence

from natmirror.engine.replicated_bindings import BindingChange
from natmirror.replication.bindings import BindingRecords
from natmirror.replication.legs import LegRecords
from natmirror.replication.overrides import Entry, OverrideHolder, OverrideRecords
from natmirror.replication.redis_store import RedisStore
from natmirror.replication.switches import SwitchRecords
from natmirror.replication.synchroniser import SyncEntry, Synchroniser, SyncState
from natmirror.rules import Rules
from natmirror.runtime.worker import Worker
from natmirror.tcp.record_masks import masks


class SharedStateEntry(SyncEntry):
    """The state that this host shares with the other host of the pair."""

    store: str | None
    """The URL of the store, without a password; null if the rules have no ``ha.state``."""


OFF: SharedStateEntry = {
    "store": None,
    "state": SyncState.OFF,
    "records": 0,
    "records_rejected": 0,
    "waiting_writes": 0,
    "lag_seconds": 0.0,
    "last_change_seconds": None,
    "outages": 0,
    "error": None,
}
"""The entry of a host that shares nothing."""

_FIRST_TIMEOUT = 5.0
"""Seconds that a start waits for the shared state. Packets pass only after that, but go to the backends of their
flows."""
_ROLE_TIMEOUT = 2.0
_POLL = 0.01


class SharedState:
    """Bindings, switches, legs and overrides in a store, from open() to close(). ``rules.ha.state`` is the store's
    URL."""

    def __init__(self, rules: Rules) -> None:
        assert rules.ha is not None and rules.ha.state is not None, "the caller checks that state is shared"
        self._where = rules.ha.state_shown
        self._pair_key = masks(rules.ha).pair_key
        # Each run has a name of its own: it reads the records of an earlier run like those of another host.
        store = RedisStore(rules.ha.state, str(rules.ha.switch_side.vrrp_id), os.urandom(8).hex())
        self._synchroniser = Synchroniser(store)
        self._bindings: BindingRecords | None = None
        self._overrides: OverrideRecords | None = None

    def report_bindings(self, changes: list[BindingChange], missed: bool) -> None:
        """Share changes of a worker's bindings; called in the worker's thread. ``missed``: further changes were
        lost."""
        assert self._bindings is not None, "workers run after open()"
        self._bindings.report(changes)
        if missed:
            self._synchroniser.note_missed()

    def open(self, workers: Sequence[Worker], overrides: OverrideHolder) -> None:
        """Start the exchange, before the workers start; return when they have the shared state, at the latest after
        5 s."""
        self._bindings = BindingRecords(workers, self._synchroniser)
        self._overrides = OverrideRecords(overrides, self._synchroniser, self._pair_key)
        switches, legs = SwitchRecords(workers, self._synchroniser), LegRecords(workers, self._synchroniser)
        self._synchroniser.start([self._bindings, switches, self._overrides, legs])
        deadline = time.monotonic() + _FIRST_TIMEOUT
        while not self._synchroniser.first_attempt_done.wait(_POLL) and time.monotonic() < deadline:
            for worker in workers:
                worker.do_requests()

    def report_overrides(self, entries: list[Entry]) -> None:
        """Share what a command has changed; after open()."""
        if self._overrides is not None:
            self._overrides.report(entries)

    def set_active(self, is_active: bool) -> None:
        """Set whether this host is the active one of the pair."""
        self._synchroniser.set_active(is_active)

    def wait_until_role_applied(self) -> None:
        """Wait until the role that set_active() has set is applied, and so legs are released; at most 2 s."""
        self._synchroniser.wait_until_role_applied(_ROLE_TIMEOUT)

    def why_incomplete(self) -> str | None:
        """Return why this host cannot take over the other host's connections yet; None: it can, or the store does not
        answer."""
        return self._synchroniser.why_incomplete()

    def refresh(self) -> None:
        """Read and write all records again, because the rules have changed."""
        self._synchroniser.refresh()

    def show(self) -> SharedStateEntry:
        """Return the state as values for JSON."""
        return {"store": self._where, **self._synchroniser.status()}

    def close(self) -> None:
        """Write the queued records, and end."""
        self._synchroniser.stop()
