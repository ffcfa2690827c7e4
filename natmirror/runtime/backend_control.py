"""The backends' shares of new connections, which follow health checks, the operator's overrides and slow starts.

Admission computes the changes; BackendControl passes them on to the workers' engines, and tells of them.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType

from natmirror.backends.admission import Admission, AdmissionChange, Kill, Panic
from natmirror.backends.host_view import HostView
from natmirror.backends.monitor import HealthChange, Monitor
from natmirror.backends.shown import AdmissionEntry, HealthEntry
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.fastpath import ConnectionCounts
from natmirror.findings import Findings
from natmirror.net.endpoint import endpoint_of
from natmirror.rules import Overrides, Pool, Rules
from natmirror.runtime.backend_findings import backend_findings, pools_up
from natmirror.runtime.chores import NEVER, Chore
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.mailbox import Mailbox

log = logging.getLogger("natmirror")


class BackendControl:
    """The state of all backends. It belongs to the main thread, which reads ``mailbox``, except for syn_failed(),
    states(), health() and silent(). ``is_active``: this host passes the packets; ``host`` says why a check may fail.
    ``findings`` gets what keeps checks from telling anything, and pools in panic or without an open backend; ``ring``
    gets the events."""

    def __init__(
        self,
        rules: Rules,
        mailbox: Mailbox,
        findings: Findings,
        ring: EventRing,
        counts: ConnectionCounts,
        host: HostView,
        *,
        is_active: bool,
    ) -> None:
        self._rules = rules
        self._admission = Admission(rules, time.monotonic())
        self._monitor = Monitor(rules, self._on_health, self._on_inconclusive, host)
        self._findings = findings
        self._ring = ring
        self._mailbox = mailbox
        self._counts = counts
        self._engines: Sequence[EngineProxy] = ()
        self._is_active = is_active
        self.starting_checks = Chore("start of the health checks", NEVER, self._monitor.start, NEVER)

    def attach(self, engines: Sequence[EngineProxy]) -> None:
        """Pass all changes on to these engines; call it before the first change."""
        self._engines = engines

    def start(self) -> None:
        """Start the health checks. HostError where no descriptor or thread is left."""
        self._monitor.start()

    def stop(self) -> None:
        """Stop the health checks."""
        self._monitor.stop()

    def tick(self, now: float) -> float | None:
        """Apply the changes that are due; return when the next one is, or None."""
        self._apply(self._admission.tick(now))
        return self._admission.next_tick(now)

    def reload(self, rules: Rules, overrides: Overrides) -> None:
        """Apply other rules, which the engines have applied already, and these overrides."""
        shares = self._shares()
        now = time.monotonic()
        self._admission.reload(rules, now)
        self._admission.follow(overrides, now, time.time())
        self._apply(self._admission.shares(), shares)
        self._monitor.reload(rules)
        self._rules = rules
        self._report_findings()
        self.starting_checks.due_at = 0.0

    def set_active(self, is_active: bool) -> None:
        """Set whether this host passes the packets. A standby host resets no connections, because they pass the active
        host."""
        self._is_active = is_active
        if is_active:
            self._apply(self._admission.current_kills())

    def follow(self, overrides: Overrides) -> None:
        """Apply other overrides."""
        shares = self._shares()
        self._apply(self._admission.follow(overrides, time.monotonic(), time.time()), shares)
        self._report_findings()

    def connections(self, service: str, backend: str) -> int:
        """Return the number of a backend's connections now; ValueError where there is no such backend."""
        return self._counts.of(*self._admission.endpoints(service, backend))[0]

    def is_open(self, service: str, backend: str) -> bool:
        """Return whether a backend gets new connections; ValueError where there is no such backend."""
        return self._admission.is_open(service, backend)

    def after_drain(self, service: str, *, was_open: bool, until: str = "natmirror undrain") -> str:
        """Return what Admission.after_drain() returns."""
        return self._admission.after_drain(service, was_open=was_open, until=until)

    def after_undrain(self, service: str, backend: str) -> str:
        """Return what Admission.after_undrain() returns."""
        return self._admission.after_undrain(service, backend)

    def syn_failed(self, service: str, backend: str) -> None:
        """Check a backend soon, because a client's SYN to it has failed; from any thread, without waiting."""
        self._monitor.syn_failed(service, backend)

    def states(self) -> dict[tuple[str, str], AdmissionEntry]:
        """Return each backend's state by service and name, as plain values; from any thread."""
        return self._admission.show(time.monotonic())

    def health(self) -> list[HealthEntry]:
        """Return the health checks of each backend, as plain values; from any thread."""
        return self._monitor.status()

    def silent(self) -> set[str]:
        """Return the backends that are down because their hosts answer nothing, as subjects of findings; from any
        thread."""
        return {f"{service}/{name}" for service, name in self._monitor.silent()}

    def pools(self) -> dict[str, Pool]:
        """Return the pool of each service that has one, by the service's name."""
        return {service.name: service.pool for service in self._rules.services if service.pool is not None}

    def pools_up(self) -> dict[str, bool]:
        """Return whether a backend is up, for each service whose health checks tell that."""
        return pools_up(self._rules, self._admission.show(time.monotonic()))

    def _on_health(self, change: HealthChange) -> None:
        """Pass a change of health on to the main thread; called in the monitor's thread."""
        self._mailbox.post(partial(self._set_health, change, time.monotonic()))

    def _on_inconclusive(self) -> None:
        """Pass on to the main thread that checks say nothing, or something again; called in the monitor's thread."""
        self._mailbox.post(self._report_findings)

    def _set_health(self, change: HealthChange, at: float) -> None:
        """Apply a change of health that was found at a time."""
        service, backend = change.service, change.backend
        with suppress(ValueError):  # a reload has just removed the backend
            changes = self._admission.set_health(
                *(service, backend.name),
                is_up=change.is_up,
                reason=change.reason,
                now=at,
                place=endpoint_of(backend),
                is_isolated=change.is_isolated,
            )
            if change.is_up:
                self._add(EventKind.BACKEND_UP, service, backend.name, "is up")
            else:
                text = f"is down: {change.reason}"
                self._add(EventKind.BACKEND_DOWN, service, backend.name, text, EventSeverity.WARNING)
            self._apply(changes)
            self._report_findings()

    def _report_findings(self) -> None:
        """Report the checks that say nothing, and the pools in panic or without an open backend."""
        found = backend_findings(self._rules, self._admission.show(time.monotonic()), self._monitor.status())
        self._findings.replace("backends", found)

    def _shares(self) -> dict[tuple[str, str], float | None]:
        return {key: shown["share"] for key, shown in self._admission.show(0.0).items()}

    def _apply(
        self, changes: list[AdmissionChange], known: Mapping[tuple[str, str], float | None] = MappingProxyType({})
    ) -> None:
        """Pass changes on to the engines, and log those that are not ``known``: shares by service and backend."""
        for change in changes:
            if isinstance(change, Panic) or (isinstance(change, Kill) and not self._is_active):
                continue
            if isinstance(change, Kill) and change.is_repeated:
                log.debug("resetting the connections of %s/%s once more", change.service, change.backend)
            elif isinstance(change, Kill):
                text = "has its connections reset"
                self._add(EventKind.CONNECTIONS_RESET, change.service, change.backend, text, EventSeverity.WARNING)
            elif known.get((change.service, change.backend)) != change.share:
                log.info(
                    "%s/%s gets %.0f %% of its share of new connections",
                    change.service,
                    change.backend,
                    100 * change.share,
                )
            for engine in self._engines:
                if isinstance(change, Kill):
                    engine.kill(change)
                else:
                    engine.set_share(change)

    def _add(
        self, kind: EventKind, service: str, backend: str, what: str, severity: EventSeverity = EventSeverity.INFO
    ) -> None:
        self._ring.add(kind, severity, f"{service}/{backend} {what}", service=service, backend=backend)
