"""The live run: queues, timers and signals around the engine. No protocol logic.

The loop in C passes packets; here is what it leaves to Python, and what is due besides.
"""

import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from natmirror import __version__, api
from natmirror.actions import Accept, Action, Drop
from natmirror.engine import Engine, Hook
from natmirror.errors import HostError
from natmirror.linux.bypass import BEAT_INTERVAL, Watchdog
from natmirror.linux.iptables import NAT_QUEUE, WATCH_QUEUE, Firewall
from natmirror.linux.loop import Loop, Why
from natmirror.linux.nfqueue import Packet, Queue
from natmirror.linux.tun import Tunnel, path_mtu
from natmirror.packet import Checksum, endpoint_of
from natmirror.report import summarize
from natmirror.rules import Rules

log = logging.getLogger("natmirror")

_ANSWER_TIMEOUT = 5.0
_FIREWALL_INTERVAL = 5.0
_PATHS_INTERVAL = 10.0
_FLOWS_SLICE = 200
_MAX_ENDED = 200  # legs whose end is remembered
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_LOGGED_ERRORS = 10
_MAX_CHORE_SHARE = 20  # a chore rests at least this many times as long as it took
_INTERNAL_ERROR = Drop("internal-error")


@dataclass(slots=True)
class _Chore:
    """Something to do every ``interval`` seconds."""

    interval: float
    do: Callable[[], None]
    due_at: float = 0.0

    def run_if_due(self, now: float) -> None:
        """Do it when its time has come; what takes long is done less often, so that packets keep nearly all of it."""
        if now >= self.due_at:
            self.do()
            done_at = time.monotonic()
            self.due_at = max(now + self.interval, done_at + _MAX_CHORE_SHARE * (done_at - now))


class Runner:
    """One natmirror on this host."""

    def __init__(self, rules: Rules, firewall: Firewall, *, keep_rules: bool, api_path: Path) -> None:
        self._rules = rules
        self._firewall = firewall
        self._keep_rules = keep_rules
        self._api_path = api_path
        self._questions: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._engine = Engine(rules, key=os.urandom(16))
        self._started_at = time.monotonic()
        self._stopping = False
        self._internal_errors = 0
        self._chores: list[_Chore] = []
        self._ended: deque[dict[str, Any]] = deque(maxlen=_MAX_ENDED)
        self._queues: list[tuple[Queue, bool]] = []

    def run(self) -> str:
        """Bind the queues, put the iptables rules in, pass packets until a stop signal; gives a summary in a few lines.

        HostError where the machine refuses; whatever was taken until then is given back.
        """
        with ExitStack() as held:
            self._catch_signals(held)
            self._tunnel = Tunnel()
            held.callback(self._tunnel.close)
            self._bind(held, NAT_QUEUE, watched=False)
            if any(service.pool is None for service in self._rules.services):
                self._watch(held)
            self._loop = Loop(self._engine.gear, self._queues, out_fd=self._tunnel.fd, wake_fd=self._ear.fileno())
            resources = {"status": self._read_status, "flows": self._read_flows, "ended": self._read_ended}
            held.callback(api.Server(self._api_path, resources).close)
            self._firewall.install(self._rules)
            held.callback(self._leave_rules)
            self._add_chore(_FIREWALL_INTERVAL, self._check_firewall)
            self._learn_paths()
            self._add_chore(_PATHS_INTERVAL, self._learn_paths)
            queues = ", ".join(str(queue.number) for queue, _ in self._queues)
            log.info(
                "ready: rules %s, iptables %s, queues %s, pid %d",
                *(self._rules.path, self._firewall.backend, queues, os.getpid()),
            )
            self._pass_packets()
            self._end_legs()
            return summarize(self._engine.snapshot(time.monotonic()), self._machine())

    # Life

    def _bind(self, held: ExitStack, number: int, *, watched: bool) -> Queue:
        queue = Queue(number, fail_open=watched)
        held.callback(queue.close)
        self._queues.append((queue, watched))
        return queue

    def _watch(self, held: ExitStack) -> None:
        """The queue of services without a pool, and the process that serves it while we are frozen."""
        queue = self._bind(held, WATCH_QUEUE, watched=True)
        watchdog = Watchdog(queue.fd, queue.number)
        watchdog.start()
        held.callback(watchdog.close)
        self._add_chore(BEAT_INTERVAL, watchdog.beat)

    def _end_legs(self) -> None:
        """No mirror is to wait for us."""
        self._loop.send(self._engine.close())
        self._loop.flush()
        self._log_events()

    def _leave_rules(self) -> None:
        if self._keep_rules:
            log.info("stopped; the iptables rules stay and hold the services' packets back until the next start")
        else:
            self._firewall.remove()
            log.info("stopped; the iptables rules are removed")

    def _catch_signals(self, held: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
            held.callback(end.close)
        self._ear, self._wake_socket = ours, theirs
        signal.set_wakeup_fd(theirs.fileno())
        held.callback(signal.set_wakeup_fd, -1)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _wake(self) -> None:
        """Make the loop look around; from any thread."""
        with suppress(BlockingIOError):  # full: it is about to
            self._wake_socket.send(b"?")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    # Packets and timers

    def _pass_packets(self) -> None:
        self._serve_early()
        while not self._stopping:
            why = self._loop.run(self._until())
            if why is Why.PUNT:
                punted = self._loop.punted()
                self._loop.decide(self._decide(punted.packet, punted.now))
                continue
            if why is Why.WAKE:
                self._ear.recv(64)
            self._do_what_is_due()

    def _serve_early(self) -> None:
        """Packets that came while the queues were being set up."""
        for queue, watched in self._queues:
            for packet in queue.early():
                verdict, *sends = self._decide(packet, time.monotonic())
                if watched:
                    queue.accept(packet.id)
                elif isinstance(verdict, Accept):
                    queue.accept(packet.id, verdict.packet)
                else:
                    queue.drop(packet.id)
                self._loop.send(sends)

    def _until(self) -> float:
        """When Python has something to do, whatever comes."""
        timer = self._engine.next_timer()
        due = min(chore.due_at for chore in self._chores)
        return due if timer is None else min(due, timer)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        due = self._engine.next_timer()
        if due is not None and due <= now:
            self._loop.send(self._engine.handle_timer(now))
        for chore in self._chores:
            chore.run_if_due(now)
        self._answer_questions()
        self._log_events()

    def _decide(self, packet: Packet, now: float) -> list[Action]:
        try:
            return self._engine.decide(packet.payload, Hook(packet.hook), now, Checksum(packet.checksum))
        except Exception:
            # A fault of ours: it may cost this packet, which its sender repeats, but not the host's traffic.
            self._internal_errors += 1
            if self._internal_errors <= _MAX_LOGGED_ERRORS:
                log.exception("internal error at a packet of %d bytes, hook %d", len(packet.payload), packet.hook)
            return [_INTERNAL_ERROR]

    def _log_events(self) -> None:
        for event in self._engine.take_events():
            log.info("%s", event)
            ended_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._ended.append({"ended_at": ended_at, **asdict(event)})

    # Chores

    def _add_chore(self, interval: float, do: Callable[[], None]) -> None:
        self._chores.append(_Chore(interval, do))

    def _check_firewall(self) -> None:
        try:
            if not self._firewall.is_in_place():
                log.warning("somebody has taken the iptables rules away: putting them in again")
                self._firewall.install(self._rules)
        except HostError as error:
            log.error("iptables: %s; trying again in %g s", error, _FIREWALL_INTERVAL)

    def _learn_paths(self) -> None:
        """How large packets to each mirror may be, as far as the kernel knows: legs need not find it out."""
        for service in self._rules.services:
            for mirror in service.mirrors:
                if mtu := path_mtu(mirror.address.packed):
                    self._engine.set_path_mtu(endpoint_of(mirror), mtu)

    # What the API's threads ask

    def _read_status(self) -> dict[str, Any]:
        return dict(self._ask(self._status))

    def _read_flows(self) -> list[dict[str, Any]]:
        """In slices, between which packets pass."""
        flow_ids = self._ask(self._engine.flow_ids)
        shown: list[dict[str, Any]] = []
        for start in range(0, len(flow_ids), _FLOWS_SLICE):
            some = flow_ids[start : start + _FLOWS_SLICE]
            shown += self._ask(partial(self._show_flows, some))
        return shown + list(self._ask(lambda: self._engine.lingering(time.monotonic())))

    def _read_ended(self) -> list[dict[str, Any]]:
        return list(self._ask(lambda: list(self._ended)))

    def _show_flows(self, flow_ids: Sequence[int]) -> list[dict[str, Any]]:
        return self._engine.flows(time.monotonic(), flow_ids)

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Have the run's own thread answer, and wait for it."""
        answer: Future[Any] = Future()
        self._questions.put((question, answer))
        self._wake()
        return answer.result(_ANSWER_TIMEOUT)

    def _answer_questions(self) -> None:
        while not self._questions.empty():
            question, answer = self._questions.get()
            try:
                answer.set_result(question())
            except Exception as error:  # it costs the answer, not the run
                answer.set_exception(error)

    def _status(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "rules": self._rules.path,
            "uptime_seconds": round(now - self._started_at, 3),
            "machine": self._machine(),
            **self._engine.snapshot(now),
        }

    def _machine(self) -> dict[str, Any]:
        queues = {str(queue.number): {**queue.counters, **queue.kernel_drops()} for queue, _ in self._queues}
        return {"queues": queues, "tunnel": self._loop.counters, "internal_errors": self._internal_errors}
