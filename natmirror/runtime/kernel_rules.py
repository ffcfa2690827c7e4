"""The rules in the kernel: iptables rules queue packets to natmirror, an nftables table translates them.

When services are added, their kernel rules are installed before the engines know them. When services are removed, their
kernel rules stay as long as connections are left: of this host, or reported by another one.
"""

import logging
from collections import Counter
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
"""Seconds between two checks that rules of removed services can be removed."""


class KernelRules:
    """The kernel rules that are installed on this host. It belongs to one thread at a time, which may have to wait for
    the host.

    Without nftables the workers translate every packet themselves.
    """

    def __init__(self, rules: Rules, firewall: Firewall, engines: Sequence[EngineProxy]) -> None:
        self.firewall = firewall
        self.rules = rules
        """The rules that are installed. They also name removed services and backends, and those that are being
        added."""
        self.why_not_translated: str | None = "not tried yet"
        """Why the kernel does not translate packets; None: it does."""
        self.forged_packets: Counter[str] = Counter()
        """The dropped packets in the names of mirrors and backends, by endpoint, as of the last count_forged()."""
        self._dropped_before: Counter[str] = Counter()
        self._configured = rules
        self._before_extend = rules
        self._has_unused = False  # set_configured() was called since remove_unused()
        self._engines = engines
        self._unlisted_backends = 0  # of all engines, at the last remove_unused()
        self._translation = Translation()
        self._has_given_way = False  # another program keeps changing the nftables table
        self._sent_marks: Mapping[ServiceBackend, int] = {}
        self._is_released = False

    def install(self) -> None:
        """Install all rules; they replace those that an earlier run has left. HostError where iptables refuses: then no
        rules are installed."""
        self.rules = self._with_connections()
        # Install the nftables table before packets wait in a queue: the kernel remembers a queued packet's next hook by
        # its index, which a new table would shift.
        self._install_translation()
        try:
            self.firewall.install(self.rules, len(self._engines))
        except HostError:
            with suppress(HostError):
                nftables.remove()
            raise

    def set_vrfs(self, vrfs: tuple[str, ...]) -> None:
        """Note the VRFs of this host; once the rules are installed, change them accordingly. HostError where iptables
        refuses."""
        before = self.firewall.vrfs
        if vrfs == before:
            return
        self.firewall.vrfs = vrfs
        if self.firewall.is_installed and not self._is_released:
            try:
                self.firewall.extend(self.rules, len(self._engines))
            except HostError:
                self.firewall.vrfs = before
                raise

    def remove(self, *, keep_rules: bool) -> None:
        """Remove all rules; with ``keep_rules`` keep the iptables rules. HostError if some of them stay: it says which,
        and how to remove them."""
        left: list[str] = []
        if not keep_rules:
            try:
                self.firewall.remove()
            except HostError as error:
                left.append(f"iptables: {error}; without natmirror they drop the services' packets")
        try:
            nftables.remove()
        except HostError as error:
            if self.why_not_translated is None:  # otherwise there is probably no table, and the log says why
                left.append(f"nftables: {error}; its table natmirror stays")
        if left:
            raise HostError(f"{'; '.join(left)}; remove what is left with: natmirror cleanup")

    def extend(self, rules: Rules) -> None:
        """Install the rules of new services and backends, before any client can reach them. HostError where iptables
        refuses: then nothing has changed."""
        if self._is_released:
            raise HostError("natmirror cleanup --force has removed the kernel's rules: restart natmirror")
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
        """Note that the engines have applied these rules: remove_unused() may remove all others. Return whether to
        schedule it: it may be scheduled already, and many reloads in a row must not postpone it for ever."""
        self._configured = rules
        waited, self._has_unused = self._has_unused, True
        return not waited

    def remove_unused(self) -> None:
        """Remove the rules of removed services and backends that have no connections. HostError where iptables refuses:
        call it again later."""
        self._has_unused = False
        if self._is_released:
            return
        unlisted_backends = sum(engine.unlisted_backends for engine in self._engines)
        if self.rules == self._configured and self._unlisted_backends == unlisted_backends:
            return
        rules = self._with_connections()
        self.firewall.reduce(rules, len(self._engines))
        self.rules, self._unlisted_backends = rules, unlisted_backends
        self._translate()

    def count_forged(self) -> None:
        """Count the packets that the rules have dropped because they came in another host's name; log the first ones of
        each name. HostError where they cannot be read."""
        dropped = self.firewall.forged_packets()
        for name, count in dropped.items():
            before = self._dropped_before[name]
            fresh = count - before if count >= before else count  # a change of the rules has reset the kernel's count
            if not fresh:
                continue
            if name not in self.forged_packets:
                log.warning(
                    "dropped %d packets in the name of %s: they did not come in on the interface that the route to it"
                    " leads to, so they may be forged; if its routes are asymmetric, set asymmetric: true for this"
                    " mirror, or for the backend's pool",
                    *(fresh, name),
                )
            self.forged_packets[name] += fresh
        self._dropped_before = dropped

    def try_translation(self) -> None:
        """Install the nftables table if that has failed before."""
        if self.why_not_translated is not None and not self._has_given_way and not self._is_released:
            self._install_translation()

    def translation_differences(self) -> list[str]:
        """Return how the nftables table differs from what was installed last; empty where it could not be installed.
        HostError where that is unknown."""
        is_kept = self.why_not_translated is None or self._has_given_way
        return self._translation.differences() if is_kept else []

    def repair_translation(self) -> None:
        """Install the nftables table again. HostError where nft refuses."""
        self._install_translation()
        self._has_given_way = self.why_not_translated is not None
        if self.why_not_translated is not None:
            raise HostError(self.why_not_translated)

    def do_without_translation(self) -> None:
        """Have the workers translate every packet until repair_translation()."""
        self._has_given_way = True
        self._fall_back("another program keeps changing the nftables table natmirror")

    def release(self) -> None:
        """Change no rules any more: the operator removes them."""
        self._is_released = True

    def _with_connections(self) -> Rules:
        return merged(self._configured, [kept for engine in self._engines for kept in engine.prune()])

    # Translation: engines give a mark only while the table knows it

    def _install_translation(self) -> None:
        try:
            self._translation.install(self.rules)
        except HostError as error:
            self._fall_back(str(error))
        else:
            if self.why_not_translated is not None:
                log.info("nftables: the kernel translates large packets")
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
            log.warning(
                "nftables: %s; natmirror translates each packet itself, which costs throughput, and tries again", why
            )
        self.why_not_translated = why
        with suppress(HostError):
            nftables.remove()

    def _send_marks(self, marks: Mapping[ServiceBackend, int]) -> None:
        if marks == self._sent_marks:
            return  # do not depend on a worker that does not run
        for engine in self._engines:
            engine.set_marks(marks)
        self._sent_marks = marks
