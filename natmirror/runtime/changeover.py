"""Reload the rules while packets pass: in the upkeep's thread, since it reads files and runs iptables.

The iptables rules of new services are installed before a thread goes by the new rules, those of removed services stay
until no connection is left.
"""

import gc
import logging
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress

from natmirror.errors import CaptureError, HostError, NatmirrorError
from natmirror.linux import preflight
from natmirror.rules import Rules, load_rules
from natmirror.rules.reload import refuse_what_cannot_change
from natmirror.rules.text import differences
from natmirror.runtime.chores import NEVER, Chore
from natmirror.runtime.files import Files
from natmirror.runtime.kernel_rules import KernelRules
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.upkeep import Upkeep

log = logging.getLogger("natmirror")

_TIDY_DELAY = 1.0
_LOOK_INTERVAL = 0.5  # whether natmirror stops, for what waits for the main thread


class Changeover:
    """Reads the rules file again and applies it. ``go_by`` is called in the main thread, once the iptables rules of the
    new services are installed. With ``lasts`` another host may pass packets of the old rules for longer."""

    def __init__(
        self,
        rules: Rules,
        kernel_rules: KernelRules,
        upkeep: Upkeep,
        files: Files,
        mailbox: Mailbox,
        go_by: Callable[[Rules], None],
        *,
        lasts: bool,
    ) -> None:
        self.tidying = Chore("memory after a reload", NEVER, _tidy, NEVER)
        """For the main thread."""
        self.is_over = False
        """Whether the main thread stops."""
        self._rules = rules
        self._kernel_rules = kernel_rules
        self._upkeep = upkeep
        self._files = files
        self._mailbox = mailbox
        self._go_by = go_by
        self._lasts = lasts

    def run(self) -> list[str]:
        """Go by what the rules file says now; return what has changed. NatmirrorError where that cannot be: then
        nothing has."""
        began_at = time.monotonic()
        gc.disable()
        self.tidying.due_at = min(self.tidying.due_at, began_at + _TIDY_DELAY)
        try:
            changes = self._run()
        except NatmirrorError as error:
            log.error("the rules stay as they were: %s", error)
            raise
        for change in changes:
            log.info("rules: %s", change)
        log.info("reloaded %s in %.0f ms", self._rules.path, 1000 * (time.monotonic() - began_at))
        return changes

    def run_for_signal(self) -> None:
        """Do the same for a signal, which gets no answer."""
        with suppress(NatmirrorError):  # it has been told
            self.run()

    def _run(self) -> list[str]:
        rules = load_rules(self._rules.path)
        refuse_what_cannot_change(self._kernel_rules.rules, rules)  # also for what has connections left
        changes = differences(self._rules, rules)
        if rules == self._rules:
            return changes
        self._kernel_rules.extend(rules)
        try:
            self._files.reload(rules)
        except CaptureError:
            self._kernel_rules.take_back()
            raise
        self._in_main(lambda: self._go_by(rules))
        self._rules = rules
        self._upkeep.go_by(rules, lasts=self._lasts)
        try:
            preflight.tell(rules, self._kernel_rules.firewall)
        except HostError as error:  # the new rules apply already: do not report that they do not
            log.error("preflight: %s", error)
        return changes

    def _in_main(self, do: Callable[[], None]) -> None:
        done = self._mailbox.request(do)
        while not wait([done], _LOOK_INTERVAL).done:
            if self.is_over and done.cancel():
                raise HostError("natmirror is stopping")
        done.result()


def _tidy() -> None:
    """Collect the reference cycles that YAML parsing leaves, while they are in generation 0: generation 2 is disabled.
    The caller of the reload has its answer by then."""
    gc.enable()
    gc.collect(0)
