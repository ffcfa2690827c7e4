"""The state of a run as values for JSON: the sums of all threads, the counters of queues, and failures."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

from natmirror import __version__
from natmirror.api import times
from natmirror.backends.shown import AdmissionEntry, BackendState
from natmirror.findings import Findings
from natmirror.ha.exit_codes import STUCK
from natmirror.ha.member import PairMember
from natmirror.histograms import add_histograms
from natmirror.linux.counters import OutboxCounter
from natmirror.mirror.shown import MirrorEntry, MirrorState
from natmirror.nat.services import BackendCounts
from natmirror.rules import OverrideKind
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.chores import HANGS, ChoreFailure
from natmirror.runtime.engine_sums import Summed
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.logs import LogEntry
from natmirror.runtime.mirror_watch import MirrorView
from natmirror.runtime.override_control import OverrideControl
from natmirror.runtime.problems import Observed, condition
from natmirror.runtime.selection import Names, names_in
from natmirror.runtime.shared_state import OFF, SharedState
from natmirror.runtime.shown import (
    BackendEntry,
    CostsEntry,
    LoadedRules,
    MachineEntry,
    MirrorStatus,
    RunSums,
    StatusAnswer,
)
from natmirror.runtime.worker import Worker
from natmirror.threads import processor_seconds


class RunStatus:
    """The state of a run as values for JSON, for the API's threads and the main thread. ``log`` returns the log's
    counters, ``failing_chores`` the chores that fail, ``loaded_rules`` the rules in short, ``costs`` what interruptions
    would cost."""

    def __init__(
        self,
        rules_path: str,
        workers: Sequence[Worker],
        backends: BackendControl,
        overrides: OverrideControl,
        member: PairMember,
        maintenance: HostMaintenance,
        shared: SharedState | None,
        *,
        log: Callable[[], LogEntry],
        failing_chores: Callable[[], list[ChoreFailure]],
        findings: Findings,
        loaded_rules: Callable[[], LoadedRules],
        costs: Callable[[RunSums], CostsEntry],
    ) -> None:
        self._rules_path = rules_path
        self._workers = workers
        self._backends = backends
        self._overrides = overrides
        self._member = member
        self._maintenance = maintenance
        self._shared = shared
        self._log = log
        self._failing_chores = failing_chores
        self._findings = findings
        self._loaded_rules = loaded_rules
        self._costs = costs
        self._started_at, self._started = time.monotonic(), times.show(time.time())

    def names(self) -> Names:
        """Return the names of services, backends and mirrors, also of removed ones that still have connections."""
        return names_in([self._maintenance.sums.fresh().sums])

    def status(self) -> StatusAnswer:
        """Return everything but the lists of flows, legs and decisions."""
        seen = self._observe()
        sums = seen.sums
        return {
            "at": times.show(seen.now),
            "condition": condition(seen),
            "version": __version__,
            "pid": os.getpid(),
            "rules": self._rules_path,
            "loaded_rules": seen.rules,
            "started_at": self._started,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "machine": self.machine(),
            "overrides": self._overrides.show(),
            "health": self._backends.health(),
            "pair": self._member.show(),
            "shared_state": OFF if self._shared is None else self._shared.show(),
            "log": self._log(),
            "failing_chores": seen.failing_chores,
            "findings": seen.findings,
            "costs": self._costs(sums),
            **sums,
        }

    def why_busy(self) -> str:
        """Return why a question gets no answer, and what the operator can do."""
        code, reason = self._member.health()
        if code == STUCK:
            return f"natmirror cannot answer: {reason}; restart it if that lasts, and report what its log says"
        hung = [failure["name"] for failure in self._failing_chores() if failure["error"] == HANGS]
        if hung:
            return f"natmirror cannot answer: {', '.join(hung)} hangs; see natmirror's log for what it waits for"
        return "natmirror is too busy to answer: try again"

    def sums(self) -> RunSums:
        """Return the counters of all threads together, as they are now, and the state of each backend and mirror."""
        return self._with_states(self._maintenance.sums.fresh())

    def _with_states(self, summed: Summed) -> RunSums:
        whole, states, recent = summed.sums, self._backends.states(), self._maintenance.recent
        backends = [
            _backend(one, states.get((one["service"], one["name"])), recent.connection_rate(one, summed.at))
            for one in whole["backends"]
        ]
        return {**whole, "backends": backends, "mirrors": [self._mirror(one, summed.at) for one in whole["mirrors"]]}

    def _mirror(self, mirror: MirrorEntry, at: float) -> MirrorStatus:
        recent, now = self._maintenance.recent, time.monotonic()
        view = self._maintenance.mirror_watch.view(mirror, now)
        pause = self._overrides.value.get(OverrideKind.PAUSE, mirror["service"], mirror["name"])
        if pause is not None:
            view = MirrorView(MirrorState.PAUSED, None, now - (time.time() - pause.at))
        verdict = self._maintenance.verdict_watch.view(mirror["service"], mirror["name"])
        return {
            **mirror,
            "state": view.state,
            "reason": view.reason,
            "state_seconds": round(max(now - view.since, 0.0), 3),
            "acked_bytes_per_second": recent.copy_rate(mirror, at),
            "lost_bytes_last_hour": recent.lost_in_last_hour(mirror, at),
            "comparison": self._maintenance.verdicts.sums(mirror["service"], mirror["name"]),
            "verdict": None if verdict is None else {"verdict": verdict.verdict, "summary": verdict.summary},
        }

    def line(self) -> str:
        """Return the state in a few words, with the codes of what is wrong."""
        seen = self._observe()
        shown = condition(seen)
        codes = dict.fromkeys(one["code"] for one in shown["problems"] if not one["mended"])
        words = f"{shown['state']}: {', '.join(codes)}" if codes else str(shown["state"])
        legs = sum(mirror["legs"] for mirror in seen.sums["mirrors"])
        return f"{seen.sums['flows']} flows, {legs} legs, {words}"

    def _observe(self) -> Observed:
        summed = self._maintenance.sums.recent()
        return Observed(
            *(summed.wall, self._with_states(summed), self._findings.show(), self._failing_chores()),
            *(self._loaded_rules(), self._member.health()),
        )

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
            "kernel_translation_off_because": self._maintenance.kernel_rules.why_not_translated,
            "paths_checked": self._maintenance.kernel_rules.firewall.checks_paths,
            "kept": self._maintenance.keeper.entries,
            "packets_forged": dict(self._maintenance.kernel_rules.forged_packets),
            "added_latency": add_histograms([worker.added_latency() for worker in self._workers]),
            "thread_cpu_seconds": processor_seconds(),
            "internal_errors": sum(worker.internal_errors for worker in self._workers),
            "ended_threads": {str(number): why for number, why in self._member.readiness.ended.items()},
        }


def _backend(counts: BackendCounts, admission: AdmissionEntry | None, rate: float) -> BackendEntry:
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
        "connections_per_second": rate,
        "refused_syns": counts["refused_syns"],
        "unanswered_syns": counts["unanswered_syns"],
        "full_syns": counts["full_syns"],
        "max_connections": counts["max_connections"],
        **admission,
    }
