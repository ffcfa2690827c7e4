"""Reload the rules while packets pass: on SIGHUP, or for ``natmirror reload``.

On SIGHUP the signal handler notes the signal and wakes the main thread, which passes reload_for_signal() to the thread
of HostMaintenance; the API passes the command to that thread directly. The thread may wait for files, iptables and nft.
_reload() has the steps.
"""

import gc
import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import suppress

from natmirror.errors import CaptureError, HostError, NatmirrorError
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.fastpath import Memory
from natmirror.linux.addresses import taken_addresses
from natmirror.rules import Rules, load_rules
from natmirror.rules.reload import refuse_what_cannot_change
from natmirror.rules.text import differences
from natmirror.runtime.api_addresses import ApiAddresses
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.chores import NEVER, Chore
from natmirror.runtime.costs import Loss, ReloadCost, connections
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.output_files import OrderFiles
from natmirror.runtime.override_control import Change, OverrideControl
from natmirror.runtime.rules_view import RulesView
from natmirror.runtime.shared_state import SharedState

log = logging.getLogger("natmirror")

_MAX_SHOWN = 20  # changes that an event names
# Seconds
_COLLECT_DELAY = 1.0
_STOP_CHECK_INTERVAL = 0.5  # between two checks whether natmirror is stopping, while the main thread has not answered


class Reloader:
    """Reads the rules file again and applies it. ``mailbox`` is the main thread's."""

    def __init__(
        self,
        rules: Rules,
        maintenance: HostMaintenance,
        order_files: OrderFiles,
        mailbox: Mailbox,
        ring: EventRing,
        *,
        engines: Sequence[EngineProxy],
        memory: Memory,
        backends: BackendControl,
        overrides: OverrideControl,
        shared: SharedState | None,
        addresses: ApiAddresses,
    ) -> None:
        self.collection = Chore("garbage collection after a reload", NEVER, _collect, NEVER)
        """A chore for the main thread."""
        self._rules = rules
        self.view = RulesView(rules, lambda: overrides.value, self._delay_collection)
        """The rules that run, for the thread in which HostMaintenance looks at the host."""
        self._maintenance = maintenance
        maintenance.look_at_rules_file = self.view.look
        maintenance.verdicts.rules = lambda: self.rules
        self._order_files = order_files
        self._mailbox = mailbox
        self._ring = ring
        self._engines = engines
        self._memory = memory
        self._backends = backends
        self._overrides = overrides
        self._shared = shared
        self._addresses = addresses
        self._is_stopping = False

    def reload(self, asked_by: str = "a command") -> list[str]:
        """Read and apply the rules file; return the changes. NatmirrorError where it cannot be applied: then nothing
        has changed. Call it in the thread of HostMaintenance."""
        began_at = time.monotonic()
        self._delay_collection()
        try:
            changes = self._reload()
        except NatmirrorError as error:
            text = f"the rules stay as they were: {error} (asked by {asked_by})"
            self._ring.add(EventKind.RELOAD_REFUSED, EventSeverity.ERROR, text)
            raise
        for change in changes:
            log.info("rules: %s", change)
        took = f"in {1000 * (time.monotonic() - began_at):.0f} ms, asked by {asked_by}"
        log.info("reloaded %s %s", self._rules.path, took)
        shown = changes[:_MAX_SHOWN] + ([f"and {len(changes) - _MAX_SHOWN} more"] if len(changes) > _MAX_SHOWN else [])
        text = f"reloaded {self._rules.path} {took}: {'; '.join(shown) or 'no changes'}"
        self._ring.add(EventKind.RULES_RELOADED, EventSeverity.INFO, text, count=len(changes), is_logged=False)
        return changes

    def preview(self) -> tuple[list[str], list[str], list[str]]:
        """Read the rules file; return the changes that a reload would make, what connections would lose, and what
        commands' changes it would keep. NatmirrorError where a reload would be refused. Call it in the thread of
        HostMaintenance."""
        rules = self.read()
        before, after = self.rules, self.foresee(rules)
        losses: Counter[Loss] = Counter()
        for engine in self._engines if before != after else ():
            losses += engine.count_flows(ReloadCost(before, after).losses)
        costs = [
            f"{connections(count)} of {loss.service} {loss.one if count == 1 else loss.several}"
            for loss, count in sorted(losses.items())
        ]
        changes = differences(self._rules, rules) + self._overrides.dropped_by(rules)
        return changes, costs, self._overrides.beside(rules)

    def foresee(self, rules: Rules) -> Rules:
        """Return the rules that would run after a reload of these: with what commands have set."""
        return self._overrides.foresee(rules)

    def read(self) -> Rules:
        """Read the rules file. NatmirrorError where a reload would be refused. Call it in the thread of
        HostMaintenance."""
        self._delay_collection()
        rules = load_rules(self._rules.path)
        refuse_what_cannot_change(self._maintenance.kernel_rules.rules, rules)
        return rules

    @property
    def loaded(self) -> Rules:
        """The rules of the file that were loaded last."""
        return self._rules

    @property
    def rules(self) -> Rules:
        """The rules that run: those of the file, with what commands have changed in them."""
        return self._overrides.rules

    def reload_for_signal(self) -> None:
        """Reload because of a signal; log an error."""
        with suppress(NatmirrorError):  # reload() has logged it
            self.reload("SIGHUP")

    def stop(self) -> None:
        """Make a reload that waits for the main thread give up, because that thread is stopping."""
        self._is_stopping = True

    def _delay_collection(self) -> None:
        """Have what reading the rules leaves collected soon after the command's end."""
        gc.disable()
        self.collection.due_at = min(self.collection.due_at, time.monotonic() + _COLLECT_DELAY)

    def _reload(self) -> list[str]:
        kernel_rules = self._maintenance.kernel_rules
        # 1. Read the rules file. Refuse it if it changes a value that cannot change while packets pass, even in a
        #    removed service that has connections left.
        rules = load_rules(self._rules.path, taken_addresses())
        refuse_what_cannot_change(kernel_rules.rules, rules)
        changes = differences(self._rules, rules) + self._overrides.dropped_by(rules)
        if rules != self._rules:
            self._put_in_place(rules, lambda overrides: overrides.fitting(rules))
            self.view.set(rules)
            self._addresses.follow(rules)
            for warning in rules.warnings:
                log.warning("rules: %s", warning)
        return changes

    def change_overrides(self, change: Change) -> None:
        """Have a command change the backends of a pool. HostError where that cannot be done: then nothing has changed.
        Call it in the thread of HostMaintenance."""
        self._put_in_place(self._rules, change)

    def _put_in_place(self, rules: Rules, change: Change) -> None:
        """Have these rules run, with changed overrides."""
        kernel_rules = self._maintenance.kernel_rules
        foreseen = change(self._overrides.value).applied(rules)
        # 2. Install the iptables rules and the nftables elements of new services and backends, before any client can
        #    reach them. Those of removed services stay.
        kernel_rules.extend(foreseen)
        # 3. Create the files of new recordings. If that fails, undo step 2: nothing has changed.
        try:
            self._order_files.reload(rules)
        except CaptureError:
            kernel_rules.undo_extend()
            raise
        # 4. In the main thread: the engines apply the new rules, then the parts that follow the engines.
        running = self._run_in_main_thread(rules, change)
        self._rules = rules
        # 5. Read the MTUs of routes to new mirrors. Soon, remove the kernel rules of removed services that have no
        #    connections left; later where state is shared: another host may still pass packets by the old rules.
        #    Another thread looks for problems of this host with the new rules.
        self._maintenance.reload(running, others_may_lag=self._shared is not None)

    def _apply(self, rules: Rules, change: Change) -> Rules:
        """Do step 4, in the main thread; return the rules that run then."""
        # 4a. The engines, one after another, between packets: EngineProxy.reload() has the steps.
        running = self._overrides.reload(rules, change)
        for engine in self._engines:
            engine.reload(running)
        # 4b. The budget: the limit on the memory of all mirrors' buffers.
        self._memory.limit = rules.mirror_memory
        # 4c. The backends' shares of new connections, and the health checks.
        self._backends.reload(running, self._overrides.value)
        # 4d. Read and write the shared state again: its records may name removed backends that have connections left.
        if self._shared is not None:
            self._shared.refresh()
        return running

    def _run_in_main_thread(self, rules: Rules, change: Change) -> Rules:
        done = self._mailbox.request(lambda: self._apply(rules, change))
        while not wait([done], _STOP_CHECK_INTERVAL).done:
            if self._is_stopping and done.cancel():
                raise HostError("natmirror is stopping")
        running: Rules = done.result()
        return running


def _collect() -> None:
    """Collect the reference cycles that YAML parsing leaves, while they are in generation 0, because generation 2 is
    disabled. By then the caller of the reload has its answer."""
    gc.enable()
    gc.collect(0)
