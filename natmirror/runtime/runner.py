"""The live run: the threads that pass packets, and around them the machine, the API and signals. No protocol logic."""

import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from natmirror.actions import LegEnded
from natmirror.api.report import summarize
from natmirror.api.server import Server
from natmirror.backends.admission import Admission
from natmirror.backends.monitor import Monitor
from natmirror.errors import HostError, NatmirrorError
from natmirror.fastpath import ConnectionCounts, Memory
from natmirror.ha.member import PairMember
from natmirror.ha.role import SETTLE_TIME, HostRole
from natmirror.linux.instance import Instance
from natmirror.linux.iptables import Firewall
from natmirror.linux.systemd import Feeder, Heartbeat, Notifier
from natmirror.linux.tun import Tunnel
from natmirror.net.packet import endpoint_of
from natmirror.rules import MAX_QUEUES, Backend, Rules
from natmirror.rules.shards import Shard, shard_of_client
from natmirror.runtime.changeover import Changeover
from natmirror.runtime.chores import NEVER, Chore, failures
from natmirror.runtime.files import Files
from natmirror.runtime.kernel_rules import KernelRules
from natmirror.runtime.logs import Logs
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.overview import Overview
from natmirror.runtime.replication import SharedState
from natmirror.runtime.steering import Steering
from natmirror.runtime.upkeep import Upkeep
from natmirror.runtime.worker import Worker

log = logging.getLogger("natmirror")

_LOOK_INTERVAL = 1.0
_VISITORS_INTERVAL = 10.0
_REST = 0.1  # after a fault that would be met again at once
_STOP_TIMEOUT = 3.0  # for a disk that hangs
_UPKEEP_STOP_TIMEOUT = 5.0  # more, for a program that waits for another one's lock
_MAX_PULSE_INTERVAL = 1.0  # a thread that stands still is known by it
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ANSWER_TIMEOUT = 5.0
_RELOAD_TIMEOUT = 60.0
_SWITCH_INTERVAL = 0.0005  # seconds: a thread with packets does not wait longer for another one's Python


def queue_count(rules: Rules) -> int:
    """How many threads share the packets: as the rules say, or as many as there are cores, rounded down to a power of
    two."""
    cores = min(len(os.sched_getaffinity(0)), MAX_QUEUES)
    return rules.queues or 1 << (cores.bit_length() - 1)


class Runner:
    """One natmirror on this host."""

    def __init__(
        self, rules: Rules, firewall: Firewall, notifier: Notifier, logs: Logs, *, keep_rules: bool, api_path: Path
    ) -> None:
        self._rules = rules
        self._notifier = notifier
        self._logs = logs
        self._keep_rules = keep_rules
        self._api_path = api_path
        self._stop_signals = 0
        self._is_reload_wanted = False
        self._is_over = False
        self._left: list[str] = []  # by a stop
        pool = Admission(rules, time.monotonic())
        self._monitor = Monitor(rules, self._on_health)
        self._mailbox = Mailbox()
        self._queue_count = queue_count(rules)
        self.duty = PairMember(rules.ha, self._queue_count, self._rounds)
        self._shared = SharedState(rules) if rules.ha is not None and rules.ha.state is not None else None
        self._is_active = rules.ha is None
        looks = notifier.watchdog_interval
        key, self._memory, loads = os.urandom(16), Memory(rules.mirror_memory), ConnectionCounts()
        self._workers = [
            Worker(
                rules,
                Shard(number, self._queue_count),
                key,
                self._memory,
                ended=self._on_ended,
                ordered=lambda orders: self._files.add(orders),
                failed=self._on_failed_syns,
                over=self._mailbox.wake,
                changed=None if self._shared is None else self._shared.changed,
                pulse_interval=_MAX_PULSE_INTERVAL if looks is None else min(_MAX_PULSE_INTERVAL, looks / 2),
                loads=loads,
            )
            for number in range(self._queue_count)
        ]
        self._steering = Steering(pool, self._workers, is_active=self._is_active)
        self._kernel_rules = KernelRules(rules, firewall, self._workers)
        self._standing_down = Chore("standing down", NEVER, self._stand_down, NEVER)
        self._starting_checks = Chore("start of the health checks", NEVER, self._monitor.start, NEVER)
        self._chores = [
            self._standing_down,
            self._starting_checks,
            Chore("hung chores", _LOOK_INTERVAL, self._report_hung),
        ]
        self._upkeep = Upkeep(
            rules,
            self._workers,
            self._kernel_rules,
            self.duty,
            lambda role: self._mailbox.post(partial(self.duty.compare, role)),
            self._tell_status if notifier.is_heard else None,
            time.monotonic(),
        )
        self._feeder = None
        if looks is not None:
            self._feeder = Feeder(Heartbeat(notifier.beat, self._queue_count), self._rounds, looks)
        self._keepers = [self._upkeep.keeper]
        self._overview = Overview(
            rules.path,
            self._workers,
            pool,
            self._monitor,
            self.duty,
            self._kernel_rules,
            self._shared,
            lambda: {"log": logs.status(), "chores": self._failures()},
        )
        self.duty.fitness.complaint = self._complaint

    def run(self) -> str:
        """Bind the queues, put the iptables rules in, pass packets until a stop signal; gives a summary in a few lines.

        HostError where the machine refuses; whatever was taken until then is given back. Also where something could
        not be given back: it says what, and what to do.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL)
        # Flows and legs leave no circles behind them; looking through 100,000 of them would hold packets up.
        gc.set_threshold(*gc.get_threshold()[:2], NEVER)
        if self._notifier.watchdog_interval is not None:
            faulthandler.enable()  # the watchdog ends us by SIGABRT: then each thread tells where it stood
        with ExitStack() as held:
            instance = Instance()
            held.callback(instance.close)
            self._chores.append(Chore("visitors of the lock", _VISITORS_INTERVAL, instance.forget_visitors))
            self._catch_signals(held)
            tunnel = Tunnel()
            held.callback(tunnel.close)
            for worker in self._workers:
                worker.open(held, tunnel.fd)
            held.callback(self._stop_workers)
            self._files = Files(self._rules, self._known_switches)
            self._keepers += self._files.keepers
            self._changeover = Changeover(
                self._rules,
                self._kernel_rules,
                self._upkeep,
                self._files,
                self._mailbox,
                self._go_by,
                lasts=self._shared is not None,
            )
            self._chores.append(self._changeover.tidying)
            self._upkeep.learn_paths()
            self._files.restore(
                lambda entry: self._workers[shard_of_client(str(entry["client"]), self._queue_count)].restore_switch(
                    entry
                )
            )
            resources = {
                "status": self._overview.status,
                "flows": self._overview.flows,
                "ended": self._overview.ended,
                "decisions": self._overview.decisions,
            }
            orders = {
                "drain": self._order(self._steering.drain),
                "enable": self._order(self._steering.enable),
                "reload": self._reload_for_somebody,
                "role": self._order(self.duty.tell),
                "resume-mirroring": self._order(self._resume_mirroring),
            }
            held.callback(Server(self._api_path, resources, orders).close)
            self._share(held)
            self.duty.open(held, self._api_path)
            self._kernel_rules.install()
            self.duty.fitness.rules_are_in_place = True
            self.duty.fitness.queue_trouble = self._queue_trouble
            held.callback(self._leave_rules)
            held.callback(self._stop_keepers)
            for keeper in self._keepers:
                keeper.start()
            if self._feeder is not None:
                self._feeder.start()
                held.callback(self._feeder.stop)
            for worker in self._workers:
                worker.start(self._workers)
            self._monitor.start()
            held.callback(self._monitor.stop)
            queues = ", ".join(number for worker in self._workers for number in worker.queues())
            log.info(
                "ready: rules %s, iptables %s, queues %s, pid %d",
                *(self._rules.path, self._kernel_rules.firewall.backend, queues, os.getpid()),
            )
            self._notifier.ready()
            if self._notifier.is_heard:
                self._upkeep.keeper.post(self._tell_status)
            self._logs.is_limited = True
            self.duty.fitness.not_ready = None
            while not self._stop_signals:
                self._watch(NEVER)
            self._notifier.stopping()
            self._hand_over()
            if self._feeder is not None:
                self._feeder.stop()
            self._stop_workers()
            self._stop_keepers()
            self._raise_first_failure()
            summary = summarize(self._overview.snapshot(), self._overview.machine())
        if self._left:
            error = HostError("; ".join(self._left))
            error.add_note(summary)
            raise error
        return summary

    @property
    def hangs(self) -> bool:
        """Whether a thread still waits for the host after run(): Python's own way to end would wait for it too."""
        return any(keeper.wait(0.0) is not None for keeper in self._keepers)

    # Life

    def _share(self, held: ExitStack) -> None:
        """Learn what the other host of the pair knows, and tell it from now on."""
        if self._shared is not None:
            held.callback(self._shared.close)
            self._shared.open(self._workers)
            self.duty.fitness.holds_flows = self._shared.why_incomplete
        if self._rules.ha is not None:
            self.duty.on_role(self._on_role)

    def _on_role(self, role: HostRole) -> None:
        before, self._is_active = self._is_active, role is HostRole.MASTER
        if self._shared is not None:
            self._shared.set_active(self._is_active)
        elif self._is_active:
            self._standing_down.due_at = NEVER
        elif before:
            self._standing_down.due_at = time.monotonic() + SETTLE_TIME
        self._steering.set_active(self._is_active)

    def _stand_down(self) -> None:
        """What another host passes is not ours any more, though a role that comes back at once costs no leg."""
        for worker in self._workers:
            worker.stand_down()

    def _hand_over(self) -> None:
        """Where this host is the active one of a pair, packets pass until the other one is."""
        self.duty.begin_hand_over(time.monotonic())
        while (until := self.duty.hands_over(time.monotonic())) is not None and self._stop_signals == 1:
            self._watch(until)
        while (until := self._standing_down.due_at) < NEVER and self._stop_signals == 1:
            self._watch(until)
        if self._shared is not None:
            self._shared.wait_until_heeded()

    def _watch(self, until: float) -> None:
        """Do what is due, and wait for something, at most ``until`` then."""
        for chore in self._chores:
            chore.run_if_due(time.monotonic)
        self._mailbox.read()
        if self._is_reload_wanted:
            self._is_reload_wanted = False
            self._upkeep.keeper.post(self._changeover.run_for_signal)
        self._heed_ended_threads()
        try:
            due = self._steering.tick(time.monotonic()) or NEVER
            due = min(until, due, *(chore.due_at for chore in self._chores))
            self._mailbox.wait(due - time.monotonic())
        except Exception:  # no memory, for one
            log.exception("internal error; going on")
            time.sleep(_REST)

    def _heed_ended_threads(self) -> None:
        """A thread that has failed for good takes no other one with it; the last one ends the run."""
        for number, worker in enumerate(self._workers):
            if worker.failure is not None and number not in self.duty.fitness.ended:
                self.duty.fitness.ended[number] = f"{type(worker.failure).__name__}: {worker.failure}"
                log.critical(
                    "thread %d has ended, and packets of its clients are held back until natmirror is started anew: %s",
                    *(number, self.duty.fitness.ended[number]),
                    exc_info=worker.failure,
                )
        if len(self.duty.fitness.ended) == len(self._workers):
            self._raise_first_failure()

    def _raise_first_failure(self) -> None:
        for worker in self._workers:
            if worker.failure is not None:
                raise worker.failure

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop()

    def _stop_keepers(self) -> None:
        """Have them finish, for a bounded time: what hangs is reported, and left."""
        if self._is_over:
            return
        self._is_over = self._changeover.is_over = True
        until = time.monotonic() + _STOP_TIMEOUT
        for keeper in self._keepers:
            keeper.end()
        for keeper in self._keepers[1:]:
            if (what := keeper.wait(until)) is not None:
                self._report_left(f"{what}: not written, since the disk does not answer")
        self._upkeep.keeper.wait(until + _UPKEEP_STOP_TIMEOUT)

    def _leave_rules(self) -> None:
        try:
            if (what := self._upkeep.keeper.wait(0.0)) is not None:
                raise HostError(
                    f"{what}: it hangs, so chains NATMIRROR-* and the table natmirror may stay;"
                    " remove what is left with: natmirror cleanup"
                )
            self._kernel_rules.remove(keep_rules=self._keep_rules)
        except HostError as error:
            self._report_left(str(error))
            return
        if self._keep_rules:
            log.info("stopped; the iptables rules stay and hold the services' packets back until the next start")
        else:
            log.info("stopped; the iptables rules are removed")

    def _report_left(self, what: str) -> None:
        log.error("stopping: %s", what)
        self._left.append(what)

    def _catch_signals(self, held: ExitStack) -> None:
        held.callback(self._mailbox.close)
        signal.set_wakeup_fd(self._mailbox.wakeup_fd())
        held.callback(signal.set_wakeup_fd, -1)
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._is_reload_wanted = True
        else:
            self._stop_signals += 1

    def _go_by(self, rules: Rules) -> None:
        """Go by other rules, whose packets come here already."""
        for worker in self._workers:
            worker.reload(rules)
        self._rules = rules
        self._memory.limit = rules.mirror_memory
        self._steering.reload(rules)
        self._monitor.reload(rules)
        self._starting_checks.due_at = 0.0
        if self._shared is not None:  # what the other host has with backends that are gone is known again then
            self._shared.refresh()

    # Chores

    def _known_switches(self) -> list[dict[str, Any]]:
        return [entry for worker in self._workers for entry in worker.known_switches()]

    def _rounds(self) -> list[int]:
        return [worker.rounds for worker in self._workers]

    def _queue_trouble(self) -> str | None:
        return next((trouble for worker in self._workers if (trouble := worker.queue_trouble())), None)

    def _tell_status(self) -> None:
        with suppress(TimeoutError):
            whole = self._overview.snapshot()
            legs = sum(mirror["legs"] for mirror in whole["mirrors"])
            self._notifier.status(f"{whole['flows']} flows, {legs} legs")

    def _report_hung(self) -> None:
        for keeper in self._keepers:
            keeper.report_hung()

    def _failures(self) -> list[dict[str, Any]]:
        own = failures(self._chores, time.monotonic())
        return own + [failure for keeper in self._keepers for failure in keeper.failures()]

    def _complaint(self) -> str:
        return next((f"{failure['name']}: {failure['error']}" for failure in self._failures()), "")

    # From the API's threads

    def _resume_mirroring(self, words: dict[str, Any]) -> None:
        for worker in self._workers:
            worker.resume_mirroring()

    def _reload_for_somebody(self, words: dict[str, Any]) -> dict[str, Any]:
        return {"changes": _refused_plainly(lambda: self._upkeep.ask(self._changeover.run, _RELOAD_TIMEOUT))}

    def _order(self, obey: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """An order that the main thread obeys while the API's waits; ValueError where it cannot."""

        def order(words: dict[str, Any]) -> dict[str, Any]:
            _refused_plainly(lambda: self._mailbox.request(partial(obey, words)).result(_ANSWER_TIMEOUT))
            return {}

        return order

    # From the workers' threads

    def _on_ended(self, events: list[LegEnded]) -> None:
        for event in events:
            log.info("leg ended: %s", event)  # made text only where the log does not leave it out
            self._overview.remember(event)

    def _on_failed_syns(self, failed: list[tuple[str, str]]) -> None:
        for service, backend in failed:
            self._monitor.syn_failed(service, backend)

    # From the monitor's thread

    def _on_health(self, service: str, backend: Backend, is_up: bool, reason: str) -> None:
        heed = partial(self._steering.heed_health, service, backend.name, endpoint_of(backend))
        self._mailbox.post(partial(heed, is_up=is_up, reason=reason, at=time.monotonic()))


def _refused_plainly(do: Callable[[], Any]) -> Any:
    """Do something; ValueError, which the API answers with, for what natmirror raises on purpose."""
    try:
        return do()
    except NatmirrorError as error:
        raise ValueError(str(error)) from None
