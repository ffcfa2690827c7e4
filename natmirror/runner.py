"""The live run: the threads that pass packets, and around them the machine, the API and signals. No protocol logic."""

import faulthandler
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, MappingProxyType
from typing import Any

from natmirror import api, known, rulesfile
from natmirror.actions import LegEnded
from natmirror.chores import NEVER, Chore
from natmirror.duty import Duty
from natmirror.errors import CaptureError, HostError, NatmirrorError
from natmirror.fastpath import Loads, Memory
from natmirror.inplace import CHECK_INTERVAL, InPlace
from natmirror.linux import preflight
from natmirror.linux.iptables import Firewall
from natmirror.linux.service import Heartbeat, Notifier
from natmirror.linux.tun import Tunnel, path_mtu
from natmirror.orders import Orders
from natmirror.overview import Overview
from natmirror.packet import endpoint_of
from natmirror.pool import Change, Kill, Pool
from natmirror.probes import Monitor
from natmirror.reloading import refuse_what_cannot_change
from natmirror.report import summarize
from natmirror.role import SETTLE_TIME, Role
from natmirror.rules import MAX_QUEUES, Backend, Rules
from natmirror.rulestext import differences
from natmirror.shards import Shard, shard_of_client
from natmirror.shared import SharedState
from natmirror.worker import Worker

log = logging.getLogger("natmirror")

_PATHS_INTERVAL = 10.0
_KEEP_INTERVAL = 10.0
_STATUS_INTERVAL = 10.0
_TIDY_DELAY = 1.0
_GRACE = 1.0  # for packets of what the rules do not name any more
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
        self, rules: Rules, firewall: Firewall, notifier: Notifier, *, keep_rules: bool, api_path: Path
    ) -> None:
        self._rules = rules
        self._notifier = notifier
        self._keep_rules = keep_rules
        self._api_path = api_path
        self._stop_signals = 0
        self._is_reload_wanted = False
        self._pool = Pool(rules, time.monotonic())
        self._monitor = Monitor(rules, self._on_health)
        self._mail: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._queue_count = queue_count(rules)
        self.duty = Duty(rules.ha, self._queue_count, self._rounds)
        self._shared = SharedState(rules) if rules.ha is not None and rules.ha.state is not None else None
        self._is_active = rules.ha is None
        self._heartbeat = Heartbeat(notifier.beat, self._queue_count)
        looks = notifier.watchdog_interval
        key, self._memory, loads = os.urandom(16), Memory(rules.mirror_memory), Loads()
        self._workers = [
            Worker(
                rules,
                Shard(number, self._queue_count),
                key,
                self._memory,
                ended=self._on_ended,
                ordered=lambda orders: self._orders.add(orders),
                failed=self._on_failed_syns,
                over=self._wake,
                changed=None if self._shared is None else self._shared.changed,
                pulse_interval=_MAX_PULSE_INTERVAL if looks is None else min(_MAX_PULSE_INTERVAL, looks / 2),
                loads=loads,
            )
            for number in range(self._queue_count)
        ]
        self._in_place = InPlace(rules, firewall, self._workers)
        self._overview = Overview(
            rules.path, self._workers, self._pool, self._monitor, self.duty, self._in_place, self._shared
        )
        self._standing_down = Chore(float(NEVER), self._stand_down, float(NEVER))
        self._tidying = Chore(float(NEVER), self._tidy, float(NEVER))
        self._letting_go = Chore(CHECK_INTERVAL, self._in_place.let_go, time.monotonic() + CHECK_INTERVAL)
        self._chores = [
            self._standing_down,
            self._tidying,
            self._letting_go,
            Chore(CHECK_INTERVAL, self._check_rules, time.monotonic() + CHECK_INTERVAL),
            Chore(CHECK_INTERVAL, self._compare_role, time.monotonic() + CHECK_INTERVAL),
            Chore(_PATHS_INTERVAL, self._learn_paths, time.monotonic() + _PATHS_INTERVAL),
            Chore(_KEEP_INTERVAL, self._keep_switches, time.monotonic() + _KEEP_INTERVAL),
        ]
        if looks is not None:
            self._chores.insert(0, Chore(looks, self._beat))
        if notifier.is_heard:
            self._chores.append(Chore(_STATUS_INTERVAL, self._tell_status))

    def run(self) -> str:
        """Bind the queues, put the iptables rules in, pass packets until a stop signal; gives a summary in a few lines.

        HostError where the machine refuses; whatever was taken until then is given back.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL)
        # Flows and legs leave no circles behind them; looking through 100,000 of them would hold packets up.
        gc.set_threshold(*gc.get_threshold()[:2], NEVER)
        if self._notifier.watchdog_interval is not None:
            faulthandler.enable()  # the watchdog ends us by SIGABRT: then each thread tells where it stood
        with ExitStack() as held:
            self._catch_signals(held)
            tunnel = Tunnel()
            held.callback(tunnel.close)
            for worker in self._workers:
                worker.open(held, tunnel.fd)
            held.callback(self._stop_workers)
            self._orders = Orders(self._rules, self._wake)
            held.callback(self._orders.close)
            self._learn_paths()
            self._learn_switches()
            resources = {
                "status": self._overview.status,
                "flows": self._overview.flows,
                "ended": self._overview.ended,
                "decisions": self._overview.decisions,
            }
            orders = {
                "drain": self._drain,
                "enable": self._enable,
                "reload": self._reload_for_somebody,
                "role": self._take_role,
            }
            held.callback(api.Server(self._api_path, resources, orders).close)
            self._share(held)
            self.duty.open(held, self._api_path)
            self._in_place.install()
            self.duty.fitness.rules_are_in_place = True
            held.callback(self._leave_rules)
            for worker in self._workers:
                worker.start(self._workers)
            self._monitor.start()
            held.callback(self._monitor.stop)
            queues = ", ".join(number for worker in self._workers for number in worker.queues())
            log.info(
                "ready: rules %s, iptables %s, queues %s, pid %d",
                *(self._rules.path, self._in_place.firewall.backend, queues, os.getpid()),
            )
            self._notifier.ready()
            self.duty.fitness.not_ready = None
            while not self._stop_signals:
                self._watch(float(NEVER))
            self._notifier.stopping()
            self._hand_over()
            self._stop_workers()
            self._write_orders()
            self._keep_switches()
            self._raise_failures()
            return summarize(self._overview.snapshot(), self._overview.machine())

    # Life

    def _share(self, held: ExitStack) -> None:
        """Learn what the other host of the pair knows, and tell it from now on."""
        if self._shared is not None:
            held.callback(self._shared.close)
            self._shared.open(self._workers)
            self.duty.fitness.holds_flows = self._shared.why_incomplete
        if self._rules.ha is not None:
            self.duty.on_role(self._on_role)

    def _on_role(self, role: Role) -> None:
        before, self._is_active = self._is_active, role is Role.MASTER
        if self._shared is not None:
            self._shared.set_active(self._is_active)
        elif self._is_active:
            self._standing_down.due_at = float(NEVER)
        elif before:
            self._standing_down.due_at = time.monotonic() + SETTLE_TIME
        if self._is_active:
            self._apply(self._pool.dead())

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
            chore.run_if_due(time.monotonic())
        self._write_orders()
        self._read_mail()
        if self._is_reload_wanted:
            self._is_reload_wanted = False
            with suppress(NatmirrorError):  # it has been told
                self._reload_and_tell()
        self._raise_failures()
        now = time.monotonic()
        self._apply(self._pool.tick(now))
        due = min(until, *(chore.due_at for chore in self._chores), self._pool.next_tick(now) or float(NEVER))
        if select.select([self._ear], [], [], max(0.0, due - time.monotonic()))[0]:
            self._ear.recv(4096)

    def _raise_failures(self) -> None:
        for worker in self._workers:
            if worker.failure is not None:
                raise worker.failure

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop()

    def _leave_rules(self) -> None:
        self._in_place.remove(keep_rules=self._keep_rules)
        if self._keep_rules:
            log.info("stopped; the iptables rules stay and hold the services' packets back until the next start")
        else:
            log.info("stopped; the iptables rules are removed")

    def _catch_signals(self, held: ExitStack) -> None:
        self._ear, self._mouth = socket.socketpair()
        for end in (self._ear, self._mouth):
            end.setblocking(False)
            held.callback(end.close)
        signal.set_wakeup_fd(self._mouth.fileno())
        held.callback(signal.set_wakeup_fd, -1)
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _wake(self) -> None:
        """Make the main thread look around; from any thread."""
        with suppress(BlockingIOError):  # full: it is about to
            self._mouth.send(b"?")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._is_reload_wanted = True
        else:
            self._stop_signals += 1

    # Other rules

    def _reload(self) -> list[str]:
        """Go by what the rules file says now; gives what has changed. NatmirrorError where that cannot be: then nothing
        has.

        Packets of what is new come to us before there is anybody to send some, packets of what is gone until nobody
        does.
        """
        rules = rulesfile.load(self._rules.path)
        refuse_what_cannot_change(self._in_place.rules, rules)  # also for what has connections left
        changes = differences(self._rules, rules)
        if rules == self._rules:
            return changes
        self._in_place.extend(rules)
        try:
            self._orders.reload(rules)
        except CaptureError:
            self._in_place.take_back()
            raise
        for worker in self._workers:
            worker.reload(rules)
        self._rules = rules
        self._memory.limit = rules.mirror_memory
        shares = {key: shown["share"] for key, shown in self._pool.show(0.0).items()}
        self._apply(self._pool.reload(rules, time.monotonic()), shares)
        self._monitor.reload(rules)
        self._learn_paths()
        if self._shared is not None:  # what the other host has with backends that are gone is known again then
            self._shared.refresh()
        if self._in_place.go_by(rules):
            self._letting_go.due_at = time.monotonic() + (_GRACE if self._shared is None else CHECK_INTERVAL)
        try:
            preflight.tell(rules, self._in_place.firewall)
        except HostError as error:  # the rules are others by now: nobody is to hear that they are not
            log.error("preflight: %s", error)
        return changes

    def _reload_and_tell(self) -> list[str]:
        began_at = time.monotonic()
        gc.disable()
        self._tidying.due_at = min(self._tidying.due_at, began_at + _TIDY_DELAY)
        try:
            changes = self._reload()
        except NatmirrorError as error:
            log.error("the rules stay as they were: %s", error)
            raise
        for change in changes:
            log.info("rules: %s", change)
        log.info("reloaded %s in %.0f ms", self._rules.path, 1000 * (time.monotonic() - began_at))
        return changes

    # Chores

    def _tidy(self) -> None:
        """What a reader of YAML leaves behind is full of circles, and the oldest generation is never looked through: it
        is still young when we look, and whoever asked for other rules has had the answer."""
        gc.enable()
        gc.collect(0)

    def _check_rules(self) -> None:
        self.duty.fitness.rules_are_in_place = self._in_place.check()

    def _compare_role(self) -> None:
        try:
            self.duty.compare()
        except HostError as error:
            log.error("%s; trying again in %g s", error, CHECK_INTERVAL)

    def _learn_paths(self) -> None:
        """How large packets to each mirror may be, as far as the kernel knows: legs need not find it out."""
        for service in self._rules.services:
            for mirror in service.mirrors:
                if mtu := path_mtu(mirror.address.packed):
                    for worker in self._workers:
                        worker.set_path_mtu(endpoint_of(mirror), mtu)

    def _learn_switches(self) -> None:
        """What a run before this one has known of switches: an error costs no more than that."""
        if (path := self._rules.known_switches) is None:
            return
        try:
            entries = known.load(path)
        except HostError as error:
            log.warning("known-switches: %s", error)
            return
        for entry in entries:
            try:
                self._workers[shard_of_client(str(entry["client"]), self._queue_count)].restore_switch(entry)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("known-switches: %s: an entry that cannot be understood: %r", path, error)

    def _keep_switches(self) -> None:
        if (path := self._rules.known_switches) is None:
            return
        try:
            known.save(path, [entry for worker in self._workers for entry in worker.known_switches()])
        except (HostError, TimeoutError) as error:
            log.error("known-switches: %s; trying again in %g s", error, _KEEP_INTERVAL)

    def _beat(self) -> None:
        for number in self._heartbeat.look(self._rounds()):
            log.error("thread %d has stood still since the last beat for the watchdog", number)

    def _rounds(self) -> list[int]:
        return [worker.rounds for worker in self._workers]

    def _tell_status(self) -> None:
        with suppress(TimeoutError):
            whole = self._overview.snapshot()
            legs = sum(mirror["legs"] for mirror in whole["mirrors"])
            self._notifier.status(f"{whole['flows']} flows, {legs} legs")

    def _read_mail(self) -> None:
        for _ in range(self._mail.qsize()):
            self._mail.get()()

    def _write_orders(self) -> None:
        try:
            self._orders.write()
        except CaptureError as error:
            log.error("record: %s; nothing more is recorded there", error)

    # The pools

    def _apply(self, changes: list[Change], known: Mapping[tuple[str, str], float] = MappingProxyType({})) -> None:
        """Tell the threads, and the log what is not ``known``: shares by service and backend."""
        for change in changes:
            if isinstance(change, Kill) and not self._is_active:
                continue  # what this host believes of a backend is not to cost the active one's connections
            if isinstance(change, Kill) and change.is_repeated:
                log.debug("resetting the connections of %s/%s once more", change.service, change.backend)
            elif isinstance(change, Kill):
                log.info("resetting the connections of %s/%s", change.service, change.backend)
            elif known.get((change.service, change.backend)) != change.share:
                log.info("%s/%s takes %.0f %% of its part", change.service, change.backend, 100 * change.share)
            for worker in self._workers:
                if isinstance(change, Kill):
                    worker.kill(change)
                else:
                    worker.set_share(change)

    def _drain(self, words: dict[str, Any]) -> dict[str, Any]:
        service, backend, deadline = str(words["service"]), str(words["backend"]), words.get("deadline")
        until = None if deadline is None else float(deadline)
        self._ordered(lambda: self._apply(self._pool.drain(service, backend, until, time.monotonic())))
        return {}

    def _enable(self, words: dict[str, Any]) -> dict[str, Any]:
        service, backend = str(words["service"]), str(words["backend"])
        self._ordered(lambda: self._apply(self._pool.enable(service, backend, time.monotonic())))
        return {}

    def _take_role(self, words: dict[str, Any]) -> dict[str, Any]:
        self._ordered(lambda: self.duty.tell(words))
        return {}

    def _reload_for_somebody(self, words: dict[str, Any]) -> dict[str, Any]:
        return {"changes": self._ordered(self._reload_and_tell, _RELOAD_TIMEOUT)}

    def _ordered(self, do: Callable[[], Any], timeout: float = _ANSWER_TIMEOUT) -> Any:
        """In one of the API's threads: have the main thread do something, and wait for that; ValueError where it
        cannot."""
        done: Future[Any] = Future()

        def try_it() -> None:
            try:
                done.set_result(do())
            except NatmirrorError as error:
                done.set_exception(ValueError(str(error)))
            except (KeyError, ValueError) as error:
                done.set_exception(error)

        self._mail.put(try_it)
        self._wake()
        return done.result(timeout)

    # From the workers' threads

    def _on_ended(self, events: list[LegEnded]) -> None:
        for event in events:
            log.info("%s", event)
            self._overview.remember(event)

    def _on_failed_syns(self, failed: list[tuple[str, str]]) -> None:
        for service, backend in failed:
            self._monitor.syn_failed(service, backend)

    # From the monitor's thread

    def _on_health(self, service: str, backend: Backend, is_up: bool, reason: str) -> None:
        at, place = time.monotonic(), endpoint_of(backend)

        def heed() -> None:
            with suppress(ValueError):  # the rules do not name it any more: a reload has come in between
                changes = self._pool.set_health(service, backend.name, is_up=is_up, reason=reason, now=at, place=place)
                why = "" if is_up else f": {reason}"
                log.warning("%s/%s is %s%s", service, backend.name, "up" if is_up else "down", why)
                self._apply(changes)

        self._mail.put(heed)
        self._wake()
