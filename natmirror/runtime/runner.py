"""The live run: its start, the main thread's work while packets pass, and its stop. No protocol logic.

Begin with Runner.run(), which calls all steps in order. Packets pass in the workers' threads; chore threads do work
that may wait for the host.
"""

import faulthandler
import gc
import logging
import os
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from natmirror.api.report import summarize
from natmirror.errors import HostError
from natmirror.events import EventRing
from natmirror.fastpath import ConnectionCounts, Memory
from natmirror.findings import Findings
from natmirror.ha.member import PairMember
from natmirror.linux import descriptors
from natmirror.linux.instance import InstanceLock
from natmirror.linux.iptables import Firewall
from natmirror.linux.reachability import Reachability
from natmirror.linux.systemd import Heartbeat, Notifier, WatchdogFeeder
from natmirror.linux.tun import TunDevice
from natmirror.linux.vrf import ProductionVrf
from natmirror.rules import Rules
from natmirror.runtime import api_control
from natmirror.runtime.allowance import Allowance
from natmirror.runtime.api_addresses import ApiAddresses
from natmirror.runtime.api_process import ApiProcess
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.chores import NEVER, Chore, ChoreFailure, failures
from natmirror.runtime.core_watch import CoreWatch
from natmirror.runtime.costs import cost_of_stop
from natmirror.runtime.event_file import EventFile
from natmirror.runtime.explanation import Explainer
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.interruptions import situation_of
from natmirror.runtime.kernel_rules import KernelRules
from natmirror.runtime.logs import Logs
from natmirror.runtime.mailbox import Mailbox, Waker
from natmirror.runtime.output_files import OutputFiles
from natmirror.runtime.override_control import OverrideControl
from natmirror.runtime.override_file import OverrideFile
from natmirror.runtime.pool_commands import PoolCommands
from natmirror.runtime.reloader import Reloader
from natmirror.runtime.role_changes import RoleChanges
from natmirror.runtime.run_events import add_finding, add_start, add_stop
from natmirror.runtime.run_status import RunStatus
from natmirror.runtime.service_looks import ServiceLooks
from natmirror.runtime.shared_state import SharedState
from natmirror.runtime.signals import Signals
from natmirror.runtime.worker_events import WorkerEvents
from natmirror.runtime.workers import make_workers, note_ended, raise_first_failure

log = logging.getLogger("natmirror")

# Seconds
_HUNG_CHECK_INTERVAL = 1.0
_LOCK_INTERVAL = 10.0
_ROLE_TIMEOUT = 4.0  # less than `natmirror role` waits
_REST = 0.1  # after an error that would come again at once
_STOP_TIMEOUT = 3.0  # for a disk that hangs
_MAINTENANCE_STOP_TIMEOUT = 5.0  # in addition, for a program that waits for another program's lock
_SWITCH_INTERVAL = 0.0005  # limit on the time that a packet thread waits for another thread's Python code


class Runner:
    """One natmirror on this host. It changes nothing before run(). ``events`` is the file of events, see EventFile,
    ``overrides`` that of OverrideFile."""

    def __init__(
        self,
        rules: Rules,
        firewall: Firewall,
        notifier: Notifier,
        logs: Logs,
        events: Path | None,
        *,
        overrides: Path | None,
        keep_rules: bool,
        api_path: Path,
    ) -> None:
        self._rules_path = rules.path
        self._notifier, self._logs = notifier, logs
        self._keep_rules = keep_rules
        self._api_path = api_path
        self._signals = Signals()
        self._waker = Waker()
        self._mailbox = Mailbox(self._waker.wake)
        self._has_stopped_threads = False
        self._left_behind: list[str] = []  # what a stop could not remove or write
        is_active = rules.ha is None
        is_shared = rules.ha is not None and rules.ha.state is not None
        self._shared = SharedState(rules) if is_shared else None
        self._ring = EventRing(time.time)
        self._findings = Findings(on_change=partial(add_finding, self._ring))
        counts = ConnectionCounts()
        self._vrf = ProductionVrf()
        host = Reachability(self._vrf)
        self._files = OutputFiles(rules, EventFile(events, self._ring), OverrideFile(overrides))
        restored = self._files.overrides.restore()
        running = restored.fitting(rules).applied(rules)
        self._backends = BackendControl(
            *(running, self._mailbox, self._findings, self._ring, counts, host), is_active=is_active
        )
        sinks = self._files.orders, self._shared, self._ring
        self._worker_events = WorkerEvents(self._backends, *sinks, self._waker.wake)
        memory, beat_interval = Memory(rules.mirror_memory), notifier.watchdog_interval
        self._workers = make_workers(running, self._worker_events, memory, counts, beat_interval)
        count = len(self._workers)
        engines = [worker.engine for worker in self._workers]
        self._backends.attach(engines)
        self._files.attach(engines)
        self._overrides = OverrideControl(
            *(rules, self._backends, engines, self._mailbox, self._ring, self._files.overrides), restored
        )
        self.member = PairMember(rules.ha, count, self._rounds)
        looks = ServiceLooks(engines, self._backends, self._mailbox, self._findings, is_active=is_active)
        self._roles = RoleChanges(
            *(self.member, self._backends, looks, engines, self._shared, self._ring), is_active=is_active
        )
        self._feeder = None
        if beat_interval is not None:
            self._feeder = WatchdogFeeder(Heartbeat(notifier.beat, count), self._rounds, beat_interval)
        self._tun = TunDevice(self._vrf)
        self._kernel_rules = KernelRules(running, firewall, engines)
        self._maintenance = HostMaintenance(
            running,
            self._workers,
            self._kernel_rules,
            self.member,
            *(self._mailbox, self._findings, self._ring, memory, self._tun, self._backends.silent, looks.progress),
            self._send_status if notifier.has_manager else None,
            time.monotonic(),
        )
        self._chore_threads = [self._maintenance.thread, self._maintenance.checks, *self._files.threads]
        addresses = ApiAddresses(rules)
        self._reloader = Reloader(
            *(rules, self._maintenance, self._files.orders, self._mailbox, self._ring),
            engines=engines,
            memory=memory,
            backends=self._backends,
            overrides=self._overrides,
            shared=self._shared,
            addresses=addresses,
        )
        self._chores = [
            *(self._roles.leg_removal, self._backends.starting_checks, looks.chore, self._reloader.collection),
            Chore("hung chores", _HUNG_CHECK_INTERVAL, self._report_hung),
            CoreWatch(self._workers, self._findings).chore,
        ]
        situation = partial(situation_of, self.member, self._shared, keeps_rules=keep_rules)
        self._status = RunStatus(
            *(rules.path, self._workers, self._backends, self._overrides),
            *(self.member, self._maintenance, self._shared),
            log=logs.status,
            failing_chores=self._failing_chores,
            findings=self._findings,
            loaded_rules=self._reloader.view.loaded,
            costs=lambda sums: situation().costs(sums, self._reloader.rules),
        )
        commands = api_control.commands(
            *(self._mailbox, self._maintenance),
            overrides=self._overrides,
            pools=PoolCommands(self._overrides, self._reloader, self._maintenance.thread),
            engines=engines,
            reloader=self._reloader,
        )
        explainer = Explainer(engines, self._reloader, self._maintenance, self._backends, situation)
        verdicts = self._maintenance.verdicts
        lists = api_control.lists(self._status, self._worker_events, engines, self._ring, verdicts)
        documents = api_control.documents(self._status, self._maintenance, self._reloader, explainer)
        allowance, why_busy = Allowance(self._workers), self._status.why_busy
        self._api = ApiProcess(api_path, addresses, documents, lists, commands, allowance, why_busy)
        self.member.readiness.queue_problem = self._queue_problem
        self.member.readiness.host_failure = self._host_failure
        self.member.readiness.why_host_fails = self._findings.why_unfit

    def run(self) -> str:
        """Start, pass packets until a signal to stop, and stop; return a summary of a few lines.

        HostError where the host refuses a step of the start; then all earlier steps are undone. HostError also where a
        stop leaves something behind: it says what, and what to do.
        """
        with ExitStack() as held:
            self._start(held)
            while not self._signals.stops:
                self._run_once(NEVER)
            summary = self._stop()
        if self._left_behind:
            error = HostError("; ".join(self._left_behind))
            error.add_note(summary)
            raise error
        return summary

    def _start(self, held: ExitStack) -> None:
        """Start. ``held`` gets the functions that undo each step, in reverse order, also if a later step fails."""
        # 1. The interpreter. Disable generation 2 of garbage collection: flows and legs leave no reference cycles, and
        #    traversing 100,000 of them would delay packets. The service manager's watchdog ends natmirror by SIGABRT:
        #    faulthandler then prints each thread's stack. Descriptors are reserved for programs that natmirror runs.
        sys.setswitchinterval(_SWITCH_INTERVAL)
        gc.set_threshold(*gc.get_threshold()[:2], NEVER)
        if self._notifier.watchdog_interval is not None:
            faulthandler.enable()
        descriptors.keep_reserve()
        held.callback(descriptors.give_up_reserve)
        # 2. The lock of this network namespace: at most one natmirror runs in it. Then the problems of this host.
        instance = InstanceLock()
        held.callback(instance.close)
        self._chores.append(Chore("connections to the lock", _LOCK_INTERVAL, instance.close_connections))
        self._maintenance.follow_vrfs()
        self._maintenance.check_host()
        # 3. Signals.
        self._waker.open()
        held.callback(self._waker.close)
        self._signals.catch(held, self._waker)
        # 4. The TUN device for synthesised packets, then the queues. No packets are queued yet.
        self._tun.open()
        held.callback(self._tun.close)
        for worker in self._workers:
            worker.open(held, self._tun.fd)
        held.callback(self._stop_workers)
        # 5. What the engines need before packets come: recordings, path MTUs, known switches, and what commands of
        #    earlier runs have set.
        self._files.open()
        self._overrides.start()
        self._maintenance.read_path_mtus()
        # 6. The processes of the API, and of the judges.
        self._api.open()
        held.callback(self._api.close)
        self._maintenance.judges.open(held)
        # 7. The shared state: read the other host's records, and share this host's from now on.
        if self._shared is not None:
            held.callback(self._shared.close)
            self._shared.open(self._workers, self._overrides)
            self._overrides.share = self._shared.report_overrides
            self._mailbox.read()  # the other host's overrides hold before packets pass
            self.member.readiness.why_incomplete = self._shared.why_incomplete
        # 8. This host's role in the pair, and the sockets for keepalived.
        if self.member.is_in_pair:
            self._roles.follow()
        self.member.open(held, self._api_path, lambda do: self._mailbox.ask(do, _ROLE_TIMEOUT))
        # 9. The kernel's rules: from now on packets wait in the queues, and natmirror hears of changes of the rules.
        self._maintenance.watch_kernel(held)
        self._kernel_rules.install()
        self.member.readiness.rules_are_in_place = True
        held.callback(self._remove_kernel_rules)
        held.callback(self._stop_chore_threads)
        # 10. Start the chore threads, the service manager's watchdog, the workers, which pass packets, and the health
        #     checks.
        for thread in self._chore_threads:
            thread.start()
        if self._feeder is not None:
            self._feeder.start()
            held.callback(self._feeder.stop)
        for worker in self._workers:
            worker.start(self._workers)
        self._backends.start()
        held.callback(self._backends.stop)
        # 11. Ready: tell the log, the service manager, and keepalived.
        queues = ", ".join(number for worker in self._workers for number in worker.queue_counters())
        log.info(
            "ready: rules %s, iptables %s, queues %s, pid %d",
            *(self._rules_path, self._kernel_rules.firewall.backend, queues, os.getpid()),
        )
        add_start(self._ring, self._rules_path)
        self._notifier.ready()
        if self._notifier.has_manager:
            self._maintenance.thread.post(self._send_status)
        self._logs.is_limited = True
        self.member.readiness.not_ready = None

    def _run_once(self, until: float) -> None:
        """Do the main thread's work once, then wait until there is more, at most until ``until``."""
        # 1. Chores that are due.
        for chore in self._chores:
            chore.run_if_due(time.monotonic)
        # 2. Requests from other threads: commands from the API, health checks, step 4 of a reload.
        self._mailbox.read()
        # 3. SIGHUP: start a reload in the thread of HostMaintenance; reloader.py has its steps.
        if self._signals.take_reload():
            self._maintenance.thread.post(self._reloader.reload_for_signal)
        # 4. Workers that have failed.
        note_ended(self._workers, self.member.readiness.ended, self._ring)
        # 5. Changes of backends' shares that are due, then wait.
        try:
            due = self._backends.tick(time.monotonic()) or NEVER
            due = min(until, due, *(chore.due_at for chore in self._chores))
            self._waker.wait(due - time.monotonic())
        except Exception:  # e.g. no memory
            log.exception("internal error in the main thread; continuing")
            time.sleep(_REST)

    def _stop(self) -> str:
        """Stop; return the summary. After this, ``held`` undoes the steps of _start() in reverse order."""
        # 1. Tell the service manager.
        self._notifier.stopping()
        # 2. Release the role to the other host of a pair. Packets pass here until it has taken over the addresses.
        self.member.begin_release(time.monotonic())
        while (until := self.member.release_deadline(time.monotonic())) is not None and self._signals.stops == 1:
            self._run_once(until)
        # 3. Legs that are not shared end after the last packets have come here; shared ones are released to the other
        #    host.
        while (until := self._roles.leg_removal.due_at) < NEVER and self._signals.stops == 1:
            self._run_once(until)
        if self._shared is not None:
            self._shared.wait_until_role_applied()
        # 4. Stop the watchdog's beats, then the workers: their legs end, and no packet passes any more.
        if self._feeder is not None:
            self._feeder.stop()
        self._stop_workers()
        # 5. If a worker has failed, raise its failure. Tell how many connections the end of the rules cuts; in a pair
        #    the other host passes them.
        raise_first_failure(self._workers)
        sums = self._status.sums()
        cost = None if self.member.is_in_pair else cost_of_stop(sums, keeps_rules=self._keep_rules)
        if cost:
            log.warning("stopping: %s", cost)
        add_stop(self._ring, cost)
        # 6. Stop the chore threads, which write their files for the last time.
        self._stop_chore_threads()
        return summarize(sums, self._status.machine())

    @property
    def hangs(self) -> bool:
        """Return whether a thread still waits for the host after run(): Python's own exit would wait for it too."""
        return any(thread.wait(0.0) is not None for thread in self._chore_threads)

    # Workers

    def _rounds(self) -> list[int]:
        return [worker.rounds for worker in self._workers]

    def _queue_problem(self) -> str | None:
        return next((problem for worker in self._workers if (problem := worker.queue_problem())), None)

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop()

    # Chores

    def _stop_chore_threads(self) -> None:
        """Have the chore threads finish, for a bounded time; report a chore that hangs, and continue without it."""
        if self._has_stopped_threads:
            return
        self._has_stopped_threads = True
        self._reloader.stop()
        until = time.monotonic() + _STOP_TIMEOUT
        for thread in self._chore_threads:
            thread.end()
        for thread in self._files.threads:
            if (what := thread.wait(until)) is not None:
                self._report_left(f"{what}: not written, because the disk does not answer")
        self._maintenance.checks.wait(until)
        self._maintenance.thread.wait(until + _MAINTENANCE_STOP_TIMEOUT)

    def _remove_kernel_rules(self) -> None:
        try:
            if (what := self._maintenance.thread.wait(0.0)) is not None:
                raise HostError(
                    f"{what} hangs, so the iptables chains NATMIRROR-* and the nftables table natmirror may stay;"
                    " remove what is left with: natmirror cleanup"
                )
            self._kernel_rules.remove(keep_rules=self._keep_rules)
        except HostError as error:
            self._report_left(str(error))
            return
        if self._keep_rules:
            log.info("stopped; the iptables rules stay, and drop the services' packets until the next start")
        else:
            log.info("stopped; the iptables rules are removed")

    def _report_left(self, what: str) -> None:
        log.error("stopping: %s", what)
        self._left_behind.append(what)

    def _send_status(self) -> None:
        """Send a line for ``systemctl status``."""
        with suppress(TimeoutError):
            self._notifier.status(self._status.line())

    def _report_hung(self) -> None:
        for thread in self._chore_threads:
            thread.report_hung()
        self.member.health()  # then the first question for it finds a packet thread that is stuck
        self._findings.replace("files", self._files.findings() + self._logs.findings())

    def _failing_chores(self) -> list[ChoreFailure]:
        own = failures(self._chores, time.monotonic()) + self._api.failures() + self._maintenance.judges.failures()
        return own + [failure for thread in self._chore_threads for failure in thread.failures()]

    def _host_failure(self) -> str:
        failing = [f"{failure['name']}: {failure['error']}" for failure in self._failing_chores()]
        return next(iter(failing + [str(one) for one in self._findings.all()]), "")
