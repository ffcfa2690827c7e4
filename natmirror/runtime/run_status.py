"""What the API shows of a run: the sums of all workers, the machine's counters, and what fails."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from natmirror import __version__
from natmirror.ha.member import PairMember
from natmirror.runtime.aggregate import aggregate
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.kernel_rules import KernelRules
from natmirror.runtime.shared_state import OFF, SharedState
from natmirror.runtime.worker import Worker


class RunStatus:
    """A run as plain values; asked by the API's threads, and by the main one. ``log`` returns the log's counters,
    ``failing_chores`` the chores that fail."""

    def __init__(
        self,
        rules_path: str,
        workers: Sequence[Worker],
        backends: BackendControl,
        member: PairMember,
        kernel_rules: KernelRules,
        shared: SharedState | None,
        *,
        log: Callable[[], dict[str, int]],
        failing_chores: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self._rules_path = rules_path
        self._workers = workers
        self._backends = backends
        self._member = member
        self._kernel_rules = kernel_rules
        self._shared = shared
        self._log = log
        self._failing_chores = failing_chores
        self._started_at = time.monotonic()

    def flows(self) -> list[dict[str, Any]]:
        """Return the flows of all workers, with their legs."""
        return [flow for worker in self._workers for flow in worker.engine.flows()]

    def decisions(self) -> list[dict[str, Any]]:
        """Return what backends and masters have decided for each switch."""
        return [entry for worker in self._workers for entry in worker.engine.decisions()]

    def status(self) -> dict[str, Any]:
        """Return everything but the lists."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "rules": self._rules_path,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "machine": self.machine(),
            "health": self._backends.health(),
            "pair": self._member.show(),
            "shared_state": OFF if self._shared is None else self._shared.show(),
            "log": self._log(),
            "chores": self._failing_chores(),
            **self.snapshot(),
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the sums of all workers, and each backend's state."""
        whole = aggregate([worker.engine.snapshot() for worker in self._workers])
        states = self._backends.states()
        for backend in whole["backends"]:
            if "state" not in backend:
                backend.update(states.get((backend["service"], backend["name"]), {"state": "sorry"}))
        return whole

    def machine(self) -> dict[str, Any]:
        """Return what the queues and the TUN device have counted."""
        tunnel: Counter[str] = Counter()
        for worker in self._workers:
            tunnel.update(worker.sent_counters())
        return {
            "queues": {
                number: counters for worker in self._workers for number, counters in worker.queue_counters().items()
            },
            "tunnel": dict(tunnel),
            "kernel_translation_off_because": self._kernel_rules.why_not_translated,
            "internal_errors": sum(worker.internal_errors for worker in self._workers),
            "ended_threads": {str(number): why for number, why in self._member.readiness.ended.items()},
        }
