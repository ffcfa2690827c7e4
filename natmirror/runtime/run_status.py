"""The state of a run as values for JSON: the sums of all threads, the counters of queues, and failures."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

from natmirror import __version__
from natmirror.api import times
from natmirror.backends.shown import AdmissionEntry, BackendState
from natmirror.findings import Findings
from natmirror.ha.member import PairMember
from natmirror.histograms import add_histograms
from natmirror.linux.counters import OutboxCounter
from natmirror.mirror.shown import MirrorEntry
from natmirror.nat.services import BackendCounts
from natmirror.rules import OverrideKind
from natmirror.runtime.aggregate import aggregate
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.chores import ChoreFailure
from natmirror.runtime.keeper import Keeper
from natmirror.runtime.kernel_rules import KernelRules
from natmirror.runtime.logs import LogEntry
from natmirror.runtime.override_control import OverrideControl
from natmirror.runtime.selection import Names, names_in
from natmirror.runtime.shared_state import OFF, SharedState
from natmirror.runtime.shown import BackendEntry, CostsEntry, MachineEntry, RunMirrorEntry, RunSums, StatusAnswer
from natmirror.runtime.worker import Worker
from natmirror.threads import processor_seconds


class RunStatus:
    """The state of a run as values for JSON, for the API's threads and the main thread. ``log`` returns the log's
    counters, ``failing_chores`` the chores that fail, ``costs`` what interruptions would cost."""

    def __init__(
        self,
        rules_path: str,
        workers: Sequence[Worker],
        backends: BackendControl,
        overrides: OverrideControl,
        member: PairMember,
        kernel_rules: KernelRules,
        shared: SharedState | None,
        *,
        log: Callable[[], LogEntry],
        failing_chores: Callable[[], list[ChoreFailure]],
        findings: Findings,
        keeper: Keeper,
        costs: Callable[[RunSums], CostsEntry],
    ) -> None:
        self._rules_path = rules_path
        self._workers = workers
        self._backends = backends
        self._overrides = overrides
        self._member = member
        self._kernel_rules = kernel_rules
        self._shared = shared
        self._log = log
        self._failing_chores = failing_chores
        self._findings = findings
        self._keeper = keeper
        self._costs = costs
        self._started_at, self._started = time.monotonic(), times.show(time.time())

    def names(self) -> Names:
        """Return the names of services, backends and mirrors, also of removed ones that still have connections."""
        return names_in([worker.engine.snapshot() for worker in self._workers])

    def status(self) -> StatusAnswer:
        """Return everything but the lists of flows, legs and decisions."""
        sums = self.sums()
        return {
            "at": times.show(time.time()),
            "version": __version__,
            "pid": os.getpid(),
            "rules": self._rules_path,
            "started_at": self._started,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "machine": self.machine(),
            "overrides": self._overrides.show(),
            "health": self._backends.health(),
            "pair": self._member.show(),
            "shared_state": OFF if self._shared is None else self._shared.show(),
            "log": self._log(),
            "failing_chores": self._failing_chores(),
            "findings": self._findings.show(),
            "costs": self._costs(sums),
            **sums,
        }

    def sums(self) -> RunSums:
        """Return the counters of all threads together, and each backend's state."""
        whole = aggregate([worker.engine.snapshot() for worker in self._workers])
        states = self._backends.states()
        backends = [_backend(counts, states.get((counts["service"], counts["name"]))) for counts in whole["backends"]]
        mirrors = [self._mirror(entry) for entry in whole["mirrors"]]
        return {**whole, "backends": backends, "mirrors": mirrors}

    def _mirror(self, entry: MirrorEntry) -> RunMirrorEntry:
        pause = self._overrides.value.get(OverrideKind.PAUSE, entry["service"], entry["name"])
        return {**entry, "paused_since": None if pause is None else times.show(pause.at)}

    def line(self) -> str:
        """Return the state in a few words."""
        whole = self.sums()
        return f"{whole['flows']} flows, {sum(mirror['legs'] for mirror in whole['mirrors'])} legs"

    def machine(self) -> MachineEntry:
        """Return the state of the queues, the TUN device and the threads."""
        tunnel: Counter[OutboxCounter] = Counter()
        for worker in self._workers:
            tunnel.update(worker.sent_counters())
        return {
            "queues": {
                number: counters for worker in self._workers for number, counters in worker.queue_counters().items()
            },
            "tunnel": dict(tunnel),
            "kernel_translation_off_because": self._kernel_rules.why_not_translated,
            "paths_checked": self._kernel_rules.firewall.checks_paths,
            "kept": self._keeper.entries,
            "packets_forged": dict(self._kernel_rules.forged_packets),
            "added_latency": add_histograms([worker.added_latency() for worker in self._workers]),
            "thread_cpu_seconds": processor_seconds(),
            "internal_errors": sum(worker.internal_errors for worker in self._workers),
            "ended_threads": {str(number): why for number, why in self._member.readiness.ended.items()},
        }


def _backend(counts: BackendCounts, admission: AdmissionEntry | None) -> BackendEntry:
    """Return a backend with its state. ``admission`` is None for a sorry server and for a removed backend."""
    if admission is None or counts["removed"]:
        state = BackendState.REMOVED if counts["removed"] else BackendState.SORRY
        admission = {
            "state": state,
            "healthy": None,
            "reason": "",
            "state_seconds": None,
            "share": None,
            "weight": None,
            "weight_in_rules": None,
        }
    return {
        "service": counts["service"],
        "name": counts["name"],
        "address": counts["address"],
        "flows": counts["flows"],
        "connections": counts["connections"],
        "refused_syns": counts["refused_syns"],
        "unanswered_syns": counts["unanswered_syns"],
        "full_syns": counts["full_syns"],
        "max_connections": counts["max_connections"],
        **admission,
    }
