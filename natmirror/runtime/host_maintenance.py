"""The thread that checks and repairs the host's state while packets pass: iptables, nftables, routes, addresses.

Each check may wait: for a program to start, for another program's lock, for the kernel. So neither packets, nor the
main thread with its signals, roles and health, nor the service manager's watchdog depend on this thread.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from natmirror.findings import Findings
from natmirror.ha.member import PairMember
from natmirror.linux import host_state, iptables, preflight
from natmirror.linux.iptables_rules import TABLES
from natmirror.linux.kernel_changes import KernelChanges, generation
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.tun import TunDevice, path_mtu
from natmirror.net.endpoint import endpoint_of
from natmirror.rules import Rules
from natmirror.runtime.aggregate import aggregate
from natmirror.runtime.answer_watch import AnswerWatch
from natmirror.runtime.chores import Chore, ChoreThread
from natmirror.runtime.keeper import Keeper, Kept
from natmirror.runtime.kept import KeptDevice, KeptTable, KeptTranslation, OtherBackend
from natmirror.runtime.kernel_rules import CHECK_INTERVAL, KernelRules
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.worker import Worker

log = logging.getLogger("natmirror")

_KEEP_PAUSE_FACTOR = 4
"""Comparisons may take a fifth of the thread's time: until a repair, production or copies do not pass."""
# Seconds
_KEEP_INTERVAL = 3.0  # between two comparisons, also without a notification
_GRACE = 1.0  # for the last packets of removed services
_PATHS_INTERVAL = 10.0
_FORGED_INTERVAL = 10.0
_HOST_INTERVAL = 3.0
_ANSWERS_INTERVAL = 2.0
_BYPASS_INTERVAL = 1.0
_STATUS_INTERVAL = 10.0


class HostMaintenance:
    """The chores of ``thread``. ``kernel_rules`` belongs to that thread as soon as it runs. The problems of this host
    go to ``findings``.

    ``mailbox`` is the main thread's, to which ``member`` belongs. ``send_status`` sends a line to the service manager;
    None: there is none.
    """

    def __init__(
        self,
        rules: Rules,
        workers: Sequence[Worker],
        kernel_rules: KernelRules,
        member: PairMember,
        mailbox: Mailbox,
        findings: Findings,
        tun: TunDevice,
        send_status: Callable[[], None] | None,
        now: float,
    ) -> None:
        self.kernel_rules = kernel_rules
        self._rules = rules
        self._workers = workers
        self._member = member
        self._mailbox = mailbox
        self._findings = findings
        self._answers = AnswerWatch()
        self._features: host_state.Features | None = None
        self._rule_reader = RuleReader()
        self.removal = Chore("unused kernel rules", CHECK_INTERVAL, kernel_rules.remove_unused, now + CHECK_INTERVAL)
        self._path_mtus = Chore("path MTUs to mirrors", _PATHS_INTERVAL, self.read_path_mtus)
        firewall = kernel_rules.firewall
        other = iptables.other(firewall.backend)
        self._tables: list[Kept] = [KeptTable(firewall, table) for table in TABLES]
        self._other_backend: list[Kept] = [] if other is None else [OtherBackend(other)]
        self._translation, self._device = KeptTranslation(kernel_rules), KeptDevice(tun)
        self._changes = KernelChanges([*TABLES, *self._translation.tables])
        self.keeper = Keeper(
            [*self._tables, *self._other_backend, self._translation, self._device],
            self._changes,
            findings,
            generation=generation,
        )
        self._kept_in_tables = [
            Chore("iptables rules", _KEEP_INTERVAL, self._keep_rules, pause_factor=_KEEP_PAUSE_FACTOR),
            Chore("nftables table", _KEEP_INTERVAL, self._keep_translation, pause_factor=_KEEP_PAUSE_FACTOR),
        ]
        self._kept_device = Chore("TUN device", _KEEP_INTERVAL, self._keep_device, pause_factor=_KEEP_PAUSE_FACTOR)
        chores = [
            self.removal,
            *self._kept_in_tables,
            self._kept_device,
            Chore("forged packets", _FORGED_INTERVAL, kernel_rules.count_forged, now + _FORGED_INTERVAL),
            self._path_mtus,
            Chore("this host's settings", _HOST_INTERVAL, self.check_host, now + _HOST_INTERVAL),
            Chore("answers of backends and mirrors", _ANSWERS_INTERVAL, self._check_answers, now),
        ]
        if rules.ha is not None:
            chores.append(Chore("this host's addresses", CHECK_INTERVAL, self._check_role, now + CHECK_INTERVAL))
        if any(service.pool is None for service in rules.services):
            chores.append(Chore("bypass of services without a pool", _BYPASS_INTERVAL, self._mend_bypass))
        if send_status is not None:
            chores.append(Chore("service manager's status", _STATUS_INTERVAL, send_status, now + _STATUS_INTERVAL))
        self.thread = ChoreThread("host-maintenance", chores)

    def reload(self, rules: Rules, *, others_may_lag: bool) -> None:
        """Maintain the host for other rules, which the engines have applied; called in the thread. ``others_may_lag``:
        another host may still pass packets of removed services."""
        self._rules, self._features = rules, None
        self._path_mtus.due_at = 0.0
        if self.kernel_rules.set_configured(rules):
            self.removal.due_at = self.thread.now() + (CHECK_INTERVAL if others_may_lag else _GRACE)

    def read_path_mtus(self) -> None:
        """Read the MTU of the kernel's route to each mirror, so that legs need not discover it."""
        for service in self._rules.services:
            for mirror in service.mirrors:
                if mtu := path_mtu(mirror.address.packed):
                    for worker in self._workers:
                        worker.engine.set_path_mtu(endpoint_of(mirror), mtu)

    def check_host(self) -> None:
        """Report the problems of this host with the rules. HostError where its state cannot be read."""
        gc.disable()
        try:
            if self._features is None:
                self._features = host_state.read_features(self._rules, self.kernel_rules.firewall)
            self._findings.replace("host", preflight.check(self._rules, self._features, self._rule_reader))
        finally:  # netlink sockets leave reference cycles: collect them while they are in generation 0
            gc.enable()
            gc.collect(0)

    def _check_answers(self) -> None:
        with suppress(TimeoutError):  # of a thread that is stuck, which has its own report
            sums = aggregate([worker.engine.snapshot() for worker in self._workers])
            queues = {number: found for worker in self._workers for number, found in worker.queue_counters().items()}
            self._findings.replace("answers", self._answers.look(sums, queues, self.thread.now()))

    def watch_kernel(self, held: ExitStack) -> None:
        """Compare what is in the kernel as soon as the kernel tells of a change; ``held`` gets the function that ends
        that. HostError where the host refuses another thread."""
        held.callback(self._changes.close)
        self._changes.start(
            lambda: self.thread.post(self._hasten_tables), lambda: self.thread.post(self._kept_device.hasten)
        )

    def _hasten_tables(self) -> None:
        for chore in self._kept_in_tables:
            chore.hasten()

    def release_kernel(self) -> None:
        """Keep nothing in the kernel any more, because the operator removes it; called in the thread."""
        log.warning("natmirror cleanup removes the kernel's rules: natmirror does not install them again")
        self.keeper.stop()
        self.kernel_rules.release()
        self._member.readiness.rules_are_in_place = False

    def _keep_rules(self) -> None:
        are_in_place = self.keeper.check(self._tables, self.thread.now())
        try:
            are_in_place = self.keeper.check(self._other_backend, self.thread.now()) and are_in_place
        finally:  # what is known of our own tables counts also where the other backend's state is unknown
            self._member.readiness.rules_are_in_place = are_in_place

    def _keep_translation(self) -> None:
        self.kernel_rules.try_translation()
        self.keeper.check([self._translation], self.thread.now())

    def _keep_device(self) -> None:
        self.keeper.check([self._device], self.thread.now())

    def _check_role(self) -> None:
        self._mailbox.post(partial(self._member.compare, self._member.role_by_addresses()))

    def _mend_bypass(self) -> None:
        for worker in self._workers:
            worker.mend_bypass()
