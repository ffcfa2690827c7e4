"""What the kernel does for us: iptables leads packets here, nftables translates them.

What is in place goes ahead of the threads' rules when something comes, and stays behind as long as something that has
gone has connections left: they are from rules before these, or another host has told of them.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from natmirror.errors import HostError
from natmirror.linux import nftables
from natmirror.linux.iptables import Firewall
from natmirror.linux.nftables import Pair, Translation
from natmirror.rules import Rules
from natmirror.rules.reload import merged
from natmirror.runtime.worker import Worker

log = logging.getLogger("natmirror")

CHECK_INTERVAL = 5.0
"""Seconds between two looks at what may have been taken away, or may go."""


class KernelRules:
    """What is in place on this host for the threads' packets. It belongs to one thread at a time, which may have to
    wait for the host.

    Without nftables the threads translate every packet themselves.
    """

    def __init__(self, rules: Rules, firewall: Firewall, workers: Sequence[Worker]) -> None:
        self.firewall = firewall
        self.rules = rules
        """Whose packets come to us: also those of what the rules do not name any more, or yet."""
        self.why_not_translated: str | None = "it has not been tried"
        """Why the kernel does not translate; None: it does."""
        self._named = rules
        self._before = rules
        self._waits = False  # what go_by() has left, for let_go()
        self._workers = workers
        self._strangers = 0  # of the workers, as far as they are in place
        self._translation = Translation()
        self._told: Mapping[Pair, int] = {}

    def install(self) -> None:
        """Put everything in, in place of whatever of ours is there. HostError where iptables refuses: then nothing of
        it is there."""
        self.rules = self._with_connections()
        self._install_translation()  # before packets wait in a queue: these know their next hook by its number
        try:
            self.firewall.install(self.rules, len(self._workers))
        except HostError:
            with suppress(HostError):
                nftables.remove()
            raise

    def remove(self, *, keep_rules: bool) -> None:
        """Take everything away, or all but the iptables rules. HostError where some of it stays: it says what, and
        how to remove it."""
        left: list[str] = []
        if not keep_rules:
            try:
                self.firewall.remove()
            except HostError as error:
                left.append(f"iptables: {error}; they hold the services' packets back")
        try:
            nftables.remove()
        except HostError as error:
            if self.why_not_translated is None:  # else it has been told, and there is hardly a table
                left.append(f"nftables: {error}; its table natmirror stays")
        if left:
            raise HostError(f"{'; '.join(left)}; remove what is left with: natmirror cleanup")

    def extend(self, rules: Rules) -> None:
        """Packets of what is new in these rules are to come to us before anybody sends some. HostError where iptables
        refuses: then nothing has changed."""
        both = merged(rules, [self.rules])
        self.firewall.extend(both, len(self._workers))
        self._before, self.rules = self.rules, both
        self._translate()

    def take_back(self) -> None:
        """Undo extend()."""
        self.firewall.reduce(self._before, len(self._workers))
        self.rules = self._before
        self._translate()

    def go_by(self, rules: Rules) -> bool:
        """The threads go by these rules: what they do not name may go, with let_go(). Whether that is new: else it
        waits already, and many changes in a row are not to put it off for ever."""
        self._named = rules
        waited, self._waits = self._waits, True
        return not waited

    def let_go(self) -> None:
        """Take away what the rules do not name, as far as it has no connections. HostError where iptables refuses: to
        be tried again."""
        self._waits = False
        strangers = sum(worker.strangers for worker in self._workers)
        if self.rules == self._named and self._strangers == strangers:
            return
        rules = self._with_connections()
        self.firewall.reduce(rules, len(self._workers))
        self.rules, self._strangers = rules, strangers
        self._translate()

    def check(self) -> bool:
        """Put the iptables rules in again where they were taken away; return whether packets come to us. HostError
        where it cannot be seen: then nothing new is known."""
        if self.firewall.is_in_place():
            return True
        log.warning("the iptables rules were removed by another program: installing them again")
        try:
            self.firewall.install(self.rules, len(self._workers))
        except HostError as error:
            log.error("iptables: %s; trying again in %g s", error, CHECK_INTERVAL)
            return False
        return True

    def check_translation(self) -> None:
        """Put the table in again where it was taken away, or could not be put in. HostError where it cannot be seen."""
        if self.why_not_translated is None and self._translation.is_in_place():
            return
        if self.why_not_translated is None:
            log.warning("the table of nftables was removed by another program: installing it again")
        self._install_translation()

    def _with_connections(self) -> Rules:
        return merged(self._named, [kept for worker in self._workers for kept in worker.prune()])

    # Translation: nobody gives a mark before the table knows it, nor after

    def _install_translation(self) -> None:
        try:
            self._translation.install(self.rules)
        except HostError as error:
            self._fall_back(str(error))
        else:
            if self.why_not_translated is not None:
                log.info("nftables: the kernel translates")
            self.why_not_translated = None
            self._tell_marks(self._translation.marks(self.rules))

    def _translate(self) -> None:
        if self.why_not_translated is not None:
            return
        try:
            self._translation.extend(self.rules)
            self._tell_marks(self._translation.marks(self.rules))
            self._translation.reduce(self.rules)
        except HostError as error:
            self._fall_back(str(error))

    def _fall_back(self, why: str) -> None:
        self._tell_marks({})
        if why != self.why_not_translated:
            log.warning("nftables: %s; meanwhile natmirror translates each packet itself, which costs throughput", why)
        self.why_not_translated = why
        with suppress(HostError):
            nftables.remove()

    def _tell_marks(self, marks: Mapping[Pair, int]) -> None:
        if marks == self._told:
            return  # a thread that stands still is not to keep us from putting things in again
        for worker in self._workers:
            worker.set_marks(marks)
        self._told = marks
