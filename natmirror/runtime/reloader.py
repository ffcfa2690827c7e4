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
from natmirror.runtime.override_control import OverrideControl
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
        self.view = RulesView(rules, self._delay_collection)
        """The rules that run, for the thread in which HostMaintenance looks at the host."""
        self._maintenance = maintenance
        maintenance.look_at_rules_file = self.view.look
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

    def preview(self) -> tuple[list[str], list[str]]:
        """Read the rules file; return the changes that a reload would make, and what connections would lose.
        NatmirrorError where a reload would be refused. Call it in the thread of HostMaintenance."""
        rules = self.read()
        losses: Counter[Loss] = Counter()
        for engine in self._engines if rules != self._rules else ():
            losses += engine.count_flows(ReloadCost(self._rules, rules).losses)
        costs = [
            f"{connections(count)} of {loss.service} {loss.one if count == 1 else loss.several}"
            for loss, count in sorted(losses.items())
        ]
        return differences(self._rules, rules) + self._overrides.dropped_by(rules), costs

    def read(self) -> Rules:
        """Return the rules in the file. NatmirrorError where a reload would refuse them. Call it in the thread of
        HostMaintenance."""
        self._delay_collection()
        rules = load_rules(self._rules.path)
        refuse_what_cannot_change(self._maintenance.kernel_rules.rules, rules)
        return rules

    @property
    def rules(self) -> Rules:
        """The rules that run."""
        return self._rules

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
        if rules == self._rules:
            return changes
        # 2. Install the iptables rules and the nftables elements of new services, before any client can reach them.
        #    Those of removed services stay.
        kernel_rules.extend(rules)
        # 3. Create the files of new recordings. If that fails, undo step 2: nothing has changed.
        try:
            self._order_files.reload(rules)
        except CaptureError:
            kernel_rules.undo_extend()
            raise
        # 4. In the main thread: the engines apply the new rules, then the parts that follow the engines.
        self._run_in_main_thread(rules)
        self._rules = rules
        self.view.set(rules)
        # 5. Read the MTUs of routes to new mirrors. Soon, remove the kernel rules of removed services that have no
        #    connections left; later where state is shared: another host may still pass packets by the old rules.
        #    Another thread looks for problems of this host with the new rules. The API's process listens on other
        #    addresses soon.
        self._maintenance.reload(rules, others_may_lag=self._shared is not None)
        self._addresses.follow(rules)
        for warning in rules.warnings:
            log.warning("rules: %s", warning)
        return changes

    def _apply(self, rules: Rules) -> None:
        """Do step 4, in the main thread."""
        # 4a. The engines, one after another, between packets: EngineProxy.reload() has the steps.
        overridden = self._overrides.reload(rules)
        for engine in self._engines:
            engine.reload(overridden)
        # 4b. The budget: the limit on the memory of all mirrors' buffers.
        self._memory.limit = rules.mirror_memory
        # 4c. The backends' shares of new connections, and the health checks.
        self._backends.reload(rules, self._overrides.value)
        # 4d. Read and write the shared state again: its records may name removed backends that have connections left.
        if self._shared is not None:
            self._shared.refresh()

    def _run_in_main_thread(self, rules: Rules) -> None:
        done = self._mailbox.request(lambda: self._apply(rules))
        while not wait([done], _STOP_CHECK_INTERVAL).done:
            if self._is_stopping and done.cancel():
                raise HostError("natmirror is stopping")
        done.result()


def _collect() -> None:
    """Collect the reference cycles that YAML parsing leaves, while they are in generation 0, because generation 2 is
    disabled. By then the caller of the reload has its answer."""
    gc.enable()
    gc.collect(0)
