"""What this host of a pair shares with the other one, where the rules say where that is kept."""

import os
import time
from collections.abc import Sequence
from typing import Any

from natmirror.engine.replicated_bindings import BindingChange
from natmirror.replication.bindings import BindingRecords
from natmirror.replication.legs import LegRecords
from natmirror.replication.redis_store import RedisStore
from natmirror.replication.switches import SwitchRecords
from natmirror.replication.synchroniser import Synchroniser
from natmirror.rules import Rules
from natmirror.runtime.worker import Worker

OFF = {"state": "off"}
"""What is shown where nothing is shared."""

_FIRST_TIMEOUT = 5.0
"""Seconds that a start waits for what was shared before it: packets come later then, but go where they went."""
_HEED_TIMEOUT = 2.0
_POLL = 0.01


class SharedState:
    """From open() to close(); ``rules.ha.state`` says where."""

    def __init__(self, rules: Rules) -> None:
        assert rules.ha is not None and rules.ha.state is not None, "somebody asks for it"
        self._where = rules.ha.state_shown
        # A run has a name of its own: what the one before has left is read like another host's.
        store = RedisStore(rules.ha.state, str(rules.ha.switch_side.vrrp_id), os.urandom(8).hex())
        self._sharing = Synchroniser(store)
        self._flows: BindingRecords | None = None

    def changed(self, changes: list[BindingChange], missed: bool) -> None:
        """A thread tells, in the thread itself, what has become of bindings, and whether there was more."""
        assert self._flows is not None, "threads run after open()"
        self._flows.changed(changes)
        if missed:
            self._sharing.miss()

    def open(self, workers: Sequence[Worker]) -> None:
        """Begin, before the threads do; returns when they know what was shared until now, or it cannot be had soon."""
        self._flows = BindingRecords(workers, self._sharing)
        self._sharing.start([self._flows, SwitchRecords(workers, self._sharing), LegRecords(workers, self._sharing)])
        deadline = time.monotonic() + _FIRST_TIMEOUT
        while not self._sharing.settled.wait(_POLL) and time.monotonic() < deadline:
            for worker in workers:
                worker.serve()

    def set_active(self, is_active: bool) -> None:
        """Whether this host is the active one of the pair."""
        self._sharing.set_active(is_active)

    def wait_until_heeded(self) -> None:
        """Wait until legs are left to the other host, where set_active() has said so."""
        self._sharing.wait_until_heeded(_HEED_TIMEOUT)

    def why_incomplete(self) -> str | None:
        """Why this host could not yet go on with the other one's connections; None: it could, or nobody can tell."""
        return self._sharing.why_incomplete()

    def refresh(self) -> None:
        """Have everything read and told anew: the rules are others."""
        self._sharing.refresh()

    def show(self) -> dict[str, Any]:
        """As plain values."""
        return {"where": self._where, **self._sharing.status()}

    def close(self) -> None:
        """Write what is still to be written, and end."""
        self._sharing.stop()
