"""The live run: queues, timers and signals around the engine. No protocol logic.

Verdicts of a batch leave before what is synthesised for it: the mirror never delays production.
"""

import logging
import os
import selectors
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
from natmirror.actions import Accept, Action, Drop, Send
from natmirror.engine import Engine, Hook
from natmirror.errors import HostError
from natmirror.linux.bypass import BEAT_INTERVAL, Watchdog
from natmirror.linux.iptables import MARK, NAT_QUEUE, WATCH_QUEUE, Firewall
from natmirror.linux.nfqueue import Packet, Queue
from natmirror.linux.rawsock import RawSender
from natmirror.packet import Checksum
from natmirror.report import summarize
from natmirror.rules import Rules

log = logging.getLogger("natmirror")

_ANSWER_TIMEOUT = 5.0
_FIREWALL_INTERVAL = 5.0
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
        self._queues: list[Queue] = []

    def run(self) -> str:
        """Bind the queues, put the iptables rules in, pass packets until a stop signal; gives a summary in a few lines.

        HostError where the machine refuses; whatever was taken until then is given back.
        """
        with ExitStack() as held:
            self._selector = held.enter_context(selectors.DefaultSelector())
            self._catch_signals(held)
            self._sender = RawSender(MARK)
            held.callback(self._sender.close)
            self._bind(held, NAT_QUEUE, watched=False)
            if any(service.pool is None for service in self._rules.services):
                self._watch(held)
            resources = {"status": self._read_status, "flows": self._read_flows, "ended": self._read_ended}
            held.callback(api.Server(self._api_path, resources).close)
            self._firewall.install(self._rules)
            held.callback(self._leave_rules)
            self._add_chore(_FIREWALL_INTERVAL, self._check_firewall)
            queues = ", ".join(str(queue.number) for queue in self._queues)
            log.info(
                "ready: rules %s, iptables %s, queues %s, pid %d",
                *(self._rules.path, self._firewall.backend, queues, os.getpid()),
            )
            self._loop()
            self._end_legs()
            return summarize(self._engine.snapshot(time.monotonic()), self._machine())

    # Life

    def _bind(self, held: ExitStack, number: int, *, watched: bool) -> Queue:
        queue = Queue(number, fail_open=watched)
        held.callback(queue.close)
        self._queues.append(queue)
        self._selector.register(queue.fd, selectors.EVENT_READ, lambda: self._serve(queue, watched))
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
        self._send(self._engine.close())
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
        self._wake_socket = theirs
        signal.set_wakeup_fd(theirs.fileno())
        held.callback(signal.set_wakeup_fd, -1)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        self._selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(64))

    def _wake(self) -> None:
        """Make the loop look around; from any thread."""
        with suppress(BlockingIOError):  # full: it is about to
            self._wake_socket.send(b"?")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    # Packets and timers

    def _loop(self) -> None:
        while not self._stopping:
            for ready, _ in self._selector.select(self._wait()):
                ready.data()
            now = time.monotonic()
            due = self._engine.next_timer()
            if due is not None and due <= now:
                self._send(self._engine.handle_timer(now))
            for chore in self._chores:
                chore.run_if_due(now)
            self._answer_questions()
            self._log_events()

    def _wait(self) -> float:
        due = [chore.due_at for chore in self._chores]
        timer = self._engine.next_timer()
        if timer is not None:
            due.append(timer)
        return max(0.0, min(due) - time.monotonic())

    def _serve(self, queue: Queue, watched: bool) -> None:
        """One batch of a queue. Packets of services without a pool pass unchanged, whatever we make of them."""
        now = time.monotonic()
        sends: list[Action] = []
        for packet in queue.receive():
            verdict, *rest = self._decide(packet, now)
            sends += rest
            if isinstance(verdict, Accept):
                queue.accept(packet.id, None if watched else verdict.packet)
            elif watched:
                queue.accept(packet.id)
            else:
                queue.drop(packet.id)
        queue.flush()
        self._send(sends)

    def _decide(self, packet: Packet, now: float) -> list[Action]:
        try:
            return self._engine.receive(packet.payload, Hook(packet.hook), now, Checksum(packet.checksum))
        except Exception:
            # A fault of ours: it may cost this packet, which its sender repeats, but not the host's traffic.
            self._internal_errors += 1
            if self._internal_errors <= _MAX_LOGGED_ERRORS:
                log.exception("internal error at a packet of %d bytes, hook %d", len(packet.payload), packet.hook)
            return [_INTERNAL_ERROR]

    def _send(self, actions: list[Action]) -> None:
        """Synthesised packets on their way; of those that the first link is too narrow for, their legs hear."""
        packets = [action.packet for action in actions if isinstance(action, Send)]
        while packets:
            too_big = self._sender.send(packets)
            now = time.monotonic()
            packets = [
                action.packet
                for packet, mtu in too_big
                for action in self._engine.too_big(packet, mtu, now)
                if isinstance(action, Send)
            ]

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
        queues = {str(queue.number): {**queue.counters, **queue.kernel_drops()} for queue in self._queues}
        return {"queues": queues, "sender": dict(self._sender.counters), "internal_errors": self._internal_errors}
