"""What the kernel does for us: iptables leads packets here, nftables translates them.

The installed rules are ahead of the engines' rules when services are added, and behind them as long as removed ones
have connections left: from rules before these, or reported by another host.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from natmirror.errors import HostError
from natmirror.linux import nftables
from natmirror.linux.iptables import Firewall
from natmirror.linux.nftables import ServiceBackend, Translation
from natmirror.rules import Rules
from natmirror.rules.reload import merged
from natmirror.runtime.engine_proxy import EngineProxy

log = logging.getLogger("natmirror")

CHECK_INTERVAL = 5.0
"""Seconds between two looks at what may have been taken away, or may go."""


class KernelRules:
    """The rules that are installed on this host. It belongs to one thread at a time, which may have to wait for the
    host.

    Without nftables the workers translate every packet themselves.
    """

    def __init__(self, rules: Rules, firewall: Firewall, engines: Sequence[EngineProxy]) -> None:
        self.firewall = firewall
        self.rules = rules
        """The installed rules: also of services and backends that the configured rules do not name any more, or yet."""
        self.why_not_translated: str | None = "it has not been tried"
        """Why the kernel does not translate; None: it does."""
        self._configured = rules
        self._before_extend = rules
        self._has_unused = False  # since set_configured(), for remove_unused()
        self._engines = engines
        self._unlisted_backends = 0  # of the engines, as far as they are installed
        self._translation = Translation()
        self._sent_marks: Mapping[ServiceBackend, int] = {}

    def install(self) -> None:
        """Install everything, in place of what an earlier run has left. HostError where iptables refuses: then nothing
        is installed."""
        self.rules = self._with_connections()
        self._install_translation()  # before packets wait in a queue: these know their next hook by its number
        try:
            self.firewall.install(self.rules, len(self._engines))
        except HostError:
            with suppress(HostError):
                nftables.remove()
            raise

    def remove(self, *, keep_rules: bool) -> None:
        """Remove everything, or all but the iptables rules. HostError where some of it stays: it says what, and how to
        remove it."""
        left: list[str] = []
        if not keep_rules:
            try:
                self.firewall.remove()
            except HostError as error:
                left.append(f"iptables: {error}; they hold the services' packets back")
        try:
            nftables.remove()
        except HostError as error:
            if self.why_not_translated is None:  # else it has been logged, and there is hardly a table
                left.append(f"nftables: {error}; its table natmirror stays")
        if left:
            raise HostError(f"{'; '.join(left)}; remove what is left with: natmirror cleanup")

    def extend(self, rules: Rules) -> None:
        """Install what is new in these rules, before any client can reach it. HostError where iptables refuses: then
        nothing has changed."""
        both = merged(rules, [self.rules])
        self.firewall.extend(both, len(self._engines))
        self._before_extend, self.rules = self.rules, both
        self._translate()

    def undo_extend(self) -> None:
        """Undo extend()."""
        self.firewall.reduce(self._before_extend, len(self._engines))
        self.rules = self._before_extend
        self._translate()

    def set_configured(self, rules: Rules) -> bool:
        """Note that the engines go by these rules: remove_unused() may remove what they do not name. Return whether it
        has to be scheduled: else it is already, and many changes in a row must not put it off for ever."""
        self._configured = rules
        waited, self._has_unused = self._has_unused, True
        return not waited

    def remove_unused(self) -> None:
        """Remove what the rules do not name, as far as it has no connections. HostError where iptables refuses: to be
        tried again."""
        self._has_unused = False
        unlisted_backends = sum(engine.unlisted_backends for engine in self._engines)
        if self.rules == self._configured and self._unlisted_backends == unlisted_backends:
            return
        rules = self._with_connections()
        self.firewall.reduce(rules, len(self._engines))
        self.rules, self._unlisted_backends = rules, unlisted_backends
        self._translate()

    def check(self) -> bool:
        """Install the iptables rules again where they were removed; return whether packets come to us. HostError where
        they cannot be read: then nothing new is known."""
        if self.firewall.is_in_place():
            return True
        log.warning("the iptables rules were removed by another program: installing them again")
        try:
            self.firewall.install(self.rules, len(self._engines))
        except HostError as error:
            log.error("iptables: %s; trying again in %g s", error, CHECK_INTERVAL)
            return False
        return True

    def check_translation(self) -> None:
        """Install the table again where it was removed, or could not be installed. HostError where nft fails."""
        if self.why_not_translated is None and self._translation.is_in_place():
            return
        if self.why_not_translated is None:
            log.warning("the table of nftables was removed by another program: installing it again")
        self._install_translation()

    def _with_connections(self) -> Rules:
        return merged(self._configured, [kept for engine in self._engines for kept in engine.prune()])

    # Translation: no engine gives a mark before the table knows it, nor after

    def _install_translation(self) -> None:
        try:
            self._translation.install(self.rules)
        except HostError as error:
            self._fall_back(str(error))
        else:
            if self.why_not_translated is not None:
                log.info("nftables: the kernel translates")
            self.why_not_translated = None
            self._send_marks(self._translation.marks(self.rules))

    def _translate(self) -> None:
        if self.why_not_translated is not None:
            return
        try:
            self._translation.extend(self.rules)
            self._send_marks(self._translation.marks(self.rules))
            self._translation.reduce(self.rules)
        except HostError as error:
            self._fall_back(str(error))

    def _fall_back(self, why: str) -> None:
        self._send_marks({})
        if why != self.why_not_translated:
            log.warning("nftables: %s; meanwhile natmirror translates each packet itself, which costs throughput", why)
        self.why_not_translated = why
        with suppress(HostError):
            nftables.remove()

    def _send_marks(self, marks: Mapping[ServiceBackend, int]) -> None:
        if marks == self._sent_marks:
            return  # a worker that stands still must not keep us from installing rules again
        for engine in self._engines:
            engine.set_marks(marks)
        self._sent_marks = marks
