"""The threads that check and repair the host's state while packets pass: iptables, nftables, routes, addresses.

Each check may wait: for a program to start, for another program's lock, for the kernel. So neither packets, nor the
main thread with its signals, roles and health, nor the service manager's watchdog depend on this thread. What only
looks at the host has another thread, so that a program that hangs there delays no repair.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from ipaddress import IPv4Address

from natmirror.events import EventRing
from natmirror.fastpath import Memory
from natmirror.findings import FindingCode, Findings, HostCode, PathCode
from natmirror.ha.member import PairMember
from natmirror.linux import host_state, iptables, preflight
from natmirror.linux.attachment_watch import AttachmentWatch, Passing
from natmirror.linux.group_limits import GroupLimits
from natmirror.linux.iptables_rules import TABLES
from natmirror.linux.kernel_changes import KernelChanges
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.sampled_clients import LiveClients
from natmirror.linux.tun import TunDevice, path_mtu
from natmirror.net.endpoint import endpoint_of
from natmirror.rules import Rules
from natmirror.runtime.answer_watch import AnswerWatch
from natmirror.runtime.chores import NEVER, Chore, ChoreThread
from natmirror.runtime.engine_sums import EngineSums
from natmirror.runtime.judges_process import JudgesProcess
from natmirror.runtime.keeper import Keeper, Kept
from natmirror.runtime.kept import KeptDevice, KeptTable, KeptTranslation, OtherBackend
from natmirror.runtime.kernel_rules import CHECK_INTERVAL, KernelRules
from natmirror.runtime.limit_watch import LimitWatch
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.mirror_watch import MirrorWatch
from natmirror.runtime.progress_watch import ProgressWatch
from natmirror.runtime.recent import RecentCounts
from natmirror.runtime.verdict_watch import VerdictWatch
from natmirror.runtime.verdicts import Verdicts
from natmirror.runtime.worker import Worker

log = logging.getLogger("natmirror")

_KEEP_PAUSE_FACTOR = 4
"""Comparisons may take a fifth of the thread's time: until a repair, production or copies do not pass."""
# Seconds
_KEEP_INTERVAL = 3.0  # between two comparisons, also without a notification
_GRACE = 1.0  # for the last packets of removed services
_PATHS_INTERVAL = 10.0
_FORGED_INTERVAL = 10.0
_LIMITS_INTERVAL = 10.0
_HOST_INTERVAL = 3.0
_RULES_FILE_INTERVAL = 3.0
_SECOND_LOOK_AFTER = 0.5
_ANSWERS_INTERVAL = 2.0
_BYPASS_INTERVAL = 1.0
_STATUS_INTERVAL = 10.0
_VERDICTS_INTERVAL = 10.0

_LIVE_CLIENTS = 8
_SILENT = (PathCode.BACKEND_SILENT, PathCode.MIRROR_SILENT)
_BY_TRAFFIC = {HostCode.PRODUCTION_STOPPED, HostCode.QDISC_DROPS, PathCode.ARP_IN_VAIN}
"""Failures that are found only when production has stopped: there is no need to look again."""


class HostMaintenance:
    """The chores of ``thread``, which repairs, and of ``checks``, which only looks. ``kernel_rules`` belongs to the
    former as soon as it runs, as ``mirror_watch`` and ``recent`` do, whose results any thread may read. The problems of
    this host go to ``findings``, events to ``ring``.

    ``mailbox`` is the main thread's, to which ``member`` belongs. ``silent_by_checks`` returns the backends that answer
    no health checks, as subjects of findings. ``progress`` says whether production goes on. ``send_status`` sends a
    line to the service manager; None: there is none.
    """

    def __init__(
        self,
        rules: Rules,
        workers: Sequence[Worker],
        kernel_rules: KernelRules,
        member: PairMember,
        mailbox: Mailbox,
        findings: Findings,
        ring: EventRing,
        memory: Memory,
        tun: TunDevice,
        silent_by_checks: Callable[[], set[str]],
        progress: ProgressWatch,
        send_status: Callable[[], None] | None,
        now: float,
    ) -> None:
        self.kernel_rules = kernel_rules
        self.look_at_rules_file: Callable[[], None] = lambda: None
        """Compares the rules file with the rules that run; Reloader sets it."""
        self.mirror_watch = MirrorWatch(ring)
        self.recent = RecentCounts(now)
        self.sums = EngineSums([worker.engine for worker in workers])
        self.judges = JudgesProcess(workers, memory, findings, rules)
        self.verdicts = Verdicts(self.judges, lambda: self._rules)
        self.verdict_watch = VerdictWatch(self.verdicts, ring)
        self._rules = rules
        self._workers = workers
        self._member = member
        self._mailbox = mailbox
        self._findings = findings
        self._silent_by_checks = silent_by_checks
        self._answers = AnswerWatch()
        self._limit_watch = LimitWatch(ring)
        self._progress = progress
        progress.on_stop = lambda: self.checks.post(self._host_check.hasten)
        self._failures: set[FindingCode] | None = None  # of production, that the last check of the host found
        self._features: tuple[Rules, host_state.Features] | None = None
        self._rule_reader = RuleReader()
        self._limits = GroupLimits()
        self._attachments = AttachmentWatch(now)
        self.removal = Chore("unused kernel rules", CHECK_INTERVAL, kernel_rules.remove_unused, now + CHECK_INTERVAL)
        self._path_mtus = Chore("path MTUs to mirrors", _PATHS_INTERVAL, self.read_path_mtus)
        firewall = kernel_rules.firewall
        other = iptables.other(firewall.backend)
        self._tables: list[Kept] = [KeptTable(firewall, table) for table in TABLES]
        self._other_backend: list[Kept] = [] if other is None else [OtherBackend(other)]
        self._translation, self._device = KeptTranslation(kernel_rules), KeptDevice(tun)
        self._vrf = tun.vrf
        self._changes = KernelChanges([*TABLES, *self._translation.tables])
        self.keeper = Keeper(
            [*self._tables, *self._other_backend, self._translation, self._device],
            self._changes,
            findings,
            ring,
            stopped_at=lambda: self._progress.stopped_at,
        )
        self._kept_in_tables = [
            Chore("iptables rules", _KEEP_INTERVAL, self._keep_rules, pause_factor=_KEEP_PAUSE_FACTOR),
            Chore("nftables table", _KEEP_INTERVAL, self._keep_translation, pause_factor=_KEEP_PAUSE_FACTOR),
        ]
        self._kept_device = Chore("TUN device", _KEEP_INTERVAL, self._keep_device, pause_factor=_KEEP_PAUSE_FACTOR)
        self._host_check = Chore(
            "this host's settings", _HOST_INTERVAL, self._check_host_and_clients, now + _HOST_INTERVAL
        )
        self._second_look = Chore("this host's settings, again", NEVER, self._check_host_and_clients, NEVER)
        chores = [
            self.removal,
            *self._kept_in_tables,
            self._kept_device,
            self._path_mtus,
            Chore("answers of backends and mirrors", _ANSWERS_INTERVAL, self._check_answers, now),
        ]
        if rules.ha is not None:
            chores.append(Chore("this host's addresses", CHECK_INTERVAL, self._check_role, now + CHECK_INTERVAL))
        if any(service.pool is None for service in rules.services):
            chores.append(Chore("bypass of services without a pool", _BYPASS_INTERVAL, self._mend_bypass))
        if send_status is not None:
            chores.append(Chore("service manager's status", _STATUS_INTERVAL, send_status, now + _STATUS_INTERVAL))
        self.thread = ChoreThread("maintenance", chores)
        checks = [
            Chore("forged packets", _FORGED_INTERVAL, kernel_rules.count_forged, now + _FORGED_INTERVAL),
            Chore("limits of the control group", _LIMITS_INTERVAL, self._check_limits),
            *(self._host_check, self._second_look),
            Chore("verdicts", _VERDICTS_INTERVAL, self._look_at_verdicts, now + _VERDICTS_INTERVAL),
            Chore("rules file", _RULES_FILE_INTERVAL, lambda: self.look_at_rules_file(), now + _RULES_FILE_INTERVAL),
        ]
        self.checks = ChoreThread("host-checks", checks)

    def reload(self, rules: Rules, *, others_may_lag: bool) -> None:
        """Maintain the host for other rules, which the engines have applied; called in the thread. ``others_may_lag``:
        another host may still pass packets of removed services."""
        self._rules = rules
        self.judges.follow(rules)
        self._path_mtus.due_at = 0.0
        self.checks.post(self._host_check.hasten)
        if self.kernel_rules.set_configured(rules):
            self.removal.due_at = self.thread.now() + (CHECK_INTERVAL if others_may_lag else _GRACE)

    def follow_vrfs(self) -> None:
        """Look at the VRFs of this host, and have the iptables rules follow them. HostError where iptables refuses."""
        self._vrf.look(self._rules)
        self.kernel_rules.set_vrfs(self._vrf.all)

    def read_path_mtus(self) -> None:
        """Read the MTU of the kernel's route to each mirror, so that legs need not discover it."""
        for service in self._rules.services:
            for mirror in service.mirrors:
                if mtu := path_mtu(mirror.address.packed, self._vrf.of_clients):
                    for worker in self._workers:
                        worker.engine.set_path_mtu(endpoint_of(mirror), mtu)

    def check_host(self, live: LiveClients | None = None) -> None:
        """Report the problems of this host with the rules; ``live`` has clients that have connections. HostError where
        its state cannot be read.

        It is read one thing after another: while a program changes it (netplan apply), a check may find what never was.
        So after the first check, at the start, a failure of production counts once two checks in a row find it.
        """
        rules = self._rules
        if self._features is None or self._features[0] is not rules:
            self._features = rules, host_state.read_features(rules, self.kernel_rules.firewall)
        passing = Passing(self._progress.stopped_at, self._progress.is_regular or not self._member.is_active)
        known = live or LiveClients(), self._silent()
        found = preflight.check(
            *(rules, self._features[1], self._rule_reader, *known, self._attachments, passing, self.checks.now())
        )
        failures = {one.code for one in found if one.stops_production}
        unsure = set() if self._failures is None else failures - self._failures - _BY_TRAFFIC
        self._findings.replace("host", [one for one in found if one.code not in unsure])
        self._failures = failures
        if unsure:
            self._second_look.hasten(self.checks.now() + _SECOND_LOOK_AFTER)

    def _check_host_and_clients(self) -> None:
        found: list[tuple[dict[bytes, bool], bool]] = [({}, False)]
        with suppress(TimeoutError):  # of a thread that is stuck, which has its own report
            found = [worker.engine.clients(_LIVE_CLIENTS) for worker in self._workers]
        answered = {IPv4Address(one): is_answered for clients, _ in found for one, is_answered in clients.items()}
        are_all = all(are_all for _, are_all in found) and len(answered) <= _LIVE_CLIENTS
        self.check_host(LiveClients(dict(list(answered.items())[:_LIVE_CLIENTS]), are_all))

    def _silent(self) -> set[str]:
        """Return the backends and mirrors that answer nothing, as subjects of findings."""
        # A backend that is down gets no SYNs that would show it.
        return self._findings.subjects(_SILENT) | self._silent_by_checks()

    def _check_answers(self) -> None:
        before = self._silent()
        with suppress(TimeoutError):  # of a thread that is stuck, which has its own report
            sums = self.sums.fresh().sums
            queues = {number: found for worker in self._workers for number, found in worker.queue_counters().items()}
            self._findings.replace("answers", self._answers.look(sums, queues, self.thread.now()))
            self.recent.look(sums, self.thread.now())
            self.mirror_watch.look(sums, self.thread.now())
            self._limit_watch.look(sums, self.thread.now())
            self.keeper.check([], self.thread.now())
        if self._silent() - before:  # this host may be why
            self.checks.post(self._host_check.hasten)

    def _look_at_verdicts(self) -> None:
        with suppress(TimeoutError):  # of the judges, whose process has its own report
            self.verdict_watch.look(self.checks.now())

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
        are_in_place = [self.keeper.check(things, self.thread.now()) for things in (self._tables, self._other_backend)]
        self._member.readiness.rules_are_in_place = all(are_in_place)

    def _keep_translation(self) -> None:
        self.kernel_rules.try_translation()
        self.keeper.check([self._translation], self.thread.now())

    def _keep_device(self) -> None:
        self.follow_vrfs()
        self.keeper.check([self._device], self.thread.now())

    def _check_limits(self) -> None:
        self._findings.replace("limits", self._limits.look())

    def _check_role(self) -> None:
        self._mailbox.post(partial(self._member.compare, self._member.role_by_addresses()))

    def _mend_bypass(self) -> None:
        for worker in self._workers:
            worker.mend_bypass()
