"""What a run tells of itself: the sums of all threads, the machine's counters, and the legs that ended last."""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from natmirror import __version__
from natmirror.actions import LegEnded
from natmirror.backends.admission import Admission
from natmirror.backends.monitor import Monitor
from natmirror.ha.member import PairMember
from natmirror.runtime.aggregate import together
from natmirror.runtime.kernel_rules import KernelRules
from natmirror.runtime.replication import OFF, SharedState
from natmirror.runtime.worker import Worker

_MAX_ENDED = 200  # legs whose end is remembered


class Overview:
    """A run's parts, and what they say; asked by the API's threads, and by the main one."""

    def __init__(
        self,
        rules_path: str,
        workers: Sequence[Worker],
        pool: Admission,
        monitor: Monitor,
        duty: PairMember,
        kernel_rules: KernelRules,
        shared: SharedState | None,
        more: Callable[[], dict[str, Any]],
    ) -> None:
        self._rules_path = rules_path
        self._workers = workers
        self._pool = pool
        self._monitor = monitor
        self._duty = duty
        self._kernel_rules = kernel_rules
        self._shared = shared
        self._more = more
        self._started_at = time.monotonic()
        self._ended: deque[tuple[float, LegEnded]] = deque(maxlen=_MAX_ENDED)

    def remember(self, event: LegEnded) -> None:
        """A leg has ended just now; from any thread."""
        self._ended.append((time.time(), event))

    def ended(self) -> list[dict[str, Any]]:
        """Return the legs that ended last."""
        return [
            {"ended_at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"), **asdict(event)}
            for at, event in list(self._ended)
        ]

    def flows(self) -> list[dict[str, Any]]:
        """Return the flows of all threads, with their legs."""
        return [flow for worker in self._workers for flow in worker.flows()]

    def decisions(self) -> list[dict[str, Any]]:
        """Return what backends and masters have decided for each switch."""
        return [entry for worker in self._workers for entry in worker.decisions()]

    def status(self) -> dict[str, Any]:
        """Return everything but the lists."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "rules": self._rules_path,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "machine": self.machine(),
            "health": self._monitor.status(),
            "pair": self._duty.show(),
            "shared_state": OFF if self._shared is None else self._shared.show(),
            **self._more(),
            **self.snapshot(),
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the sums of all threads, and each backend's state."""
        whole = together([worker.snapshot() for worker in self._workers])
        states = self._pool.show(time.monotonic())
        for backend in whole["backends"]:
            if "state" not in backend:
                backend.update(states.get((backend["service"], backend["name"]), {"state": "sorry"}))
        return whole

    def machine(self) -> dict[str, Any]:
        """Return what the queues and the TUN device have counted."""
        tunnel: Counter[str] = Counter()
        for worker in self._workers:
            tunnel.update(worker.sent())
        return {
            "queues": {number: counters for worker in self._workers for number, counters in worker.queues().items()},
            "tunnel": dict(tunnel),
            "why_not_translated": self._kernel_rules.why_not_translated,
            "internal_errors": sum(worker.internal_errors for worker in self._workers),
            "ended_threads": {str(number): why for number, why in self._duty.fitness.ended.items()},
        }
