"""The live run: queues, timers and signals around the engine. No protocol logic.

Verdicts of a batch leave before what is synthesised for it: the mirror never delays production.
"""

import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from natmirror.actions import Accept, Action, Drop, Send
from natmirror.engine import Engine, Hook
from natmirror.linux.bypass import BEAT_INTERVAL, Watchdog
from natmirror.linux.iptables import MARK, NAT_QUEUE, WATCH_QUEUE, Firewall
from natmirror.linux.nfqueue import Packet, Queue
from natmirror.linux.rawsock import RawSender
from natmirror.packet import Checksum
from natmirror.report import summarize
from natmirror.rules import Rules

log = logging.getLogger("natmirror")

_STATUS_INTERVAL = 0.25
_FIREWALL_INTERVAL = 5.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_LOGGED_ERRORS = 10
_INTERNAL_ERROR = Drop("internal-error")


@dataclass(slots=True)
class _Chore:
    """Something to do every ``interval`` seconds."""

    interval: float
    do: Callable[[], None]
    due_at: float = 0.0

    def run_if_due(self, now: float) -> None:
        if now >= self.due_at:
            self.due_at = now + self.interval
            self.do()


class Runner:
    """One natmirror on this host. ``run()`` returns after a stop signal; HostError where the machine refuses."""

    def __init__(self, rules: Rules, firewall: Firewall, *, keep_rules: bool, status_file: Path | None) -> None:
        self._rules = rules
        self._firewall = firewall
        self._keep_rules = keep_rules
        self._status_file = status_file
        self._engine = Engine(rules, key=os.urandom(16))
        self._started_at = time.monotonic()
        self._stopping = False
        self._internal_errors = 0
        self._chores: list[_Chore] = []
        self._queues: list[Queue] = []
        self._watchdog: Watchdog | None = None

    def run(self) -> None:
        """Bind the queues, put the iptables rules in, pass packets until told to stop."""
        with selectors.DefaultSelector() as self._selector:
            self._catch_signals()
            self._sender = RawSender(MARK)
            try:
                self._start()
                self._loop()
            finally:
                self._stop()

    def summary(self) -> str:
        """What was done, in a few lines, for the end of a run."""
        return summarize(self._engine.snapshot(time.monotonic()), self._machine())

    # Life

    def _start(self) -> None:
        self._bind(NAT_QUEUE, watched=False)
        self._add_chore(_FIREWALL_INTERVAL, self._check_firewall)
        if self._status_file is not None:
            self._add_chore(_STATUS_INTERVAL, self._write_status)
        if any(service.pool is None for service in self._rules.services):
            watched = self._bind(WATCH_QUEUE, watched=True)
            self._watchdog = Watchdog(watched.fd, watched.number)
            self._watchdog.start()
            self._add_chore(BEAT_INTERVAL, self._watchdog.beat)
        self._firewall.install(self._rules)
        log.info(
            "ready: rules %s, iptables %s, queues %s, pid %d",
            self._rules.path,
            self._firewall.backend,
            ", ".join(str(queue.number) for queue in self._queues),
            os.getpid(),
        )

    def _bind(self, number: int, *, watched: bool) -> Queue:
        queue = Queue(number, fail_open=watched)
        self._queues.append(queue)
        self._selector.register(queue.fd, selectors.EVENT_READ, lambda: self._serve(queue, watched))
        return queue

    def _stop(self) -> None:
        """Leave in order: legs first, then the rules unless they are to stay, the queues last."""
        self._send(self._engine.close())
        self._log_events()
        try:
            if self._keep_rules:
                log.info("stopped; the iptables rules stay and hold the services' packets back until the next start")
            else:
                self._firewall.remove()
                log.info("stopped; the iptables rules are removed")
        finally:
            if self._status_file is not None:
                self._write_status()
            if self._watchdog is not None:
                self._watchdog.close()
            for queue in self._queues:
                queue.close()
            self._sender.close()
            signal.set_wakeup_fd(-1)
            self._wakeup.close()

    def _catch_signals(self) -> None:
        self._wakeup, self._wakeup_end = socket.socketpair()
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_end.fileno())
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        self._selector.register(self._wakeup, selectors.EVENT_READ, lambda: self._wakeup.recv(64))

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
        if actions:
            self._sender.send([action.packet for action in actions if isinstance(action, Send)])

    def _log_events(self) -> None:
        for event in self._engine.take_events():
            log.info("%s", event)

    # Chores

    def _add_chore(self, interval: float, do: Callable[[], None]) -> None:
        self._chores.append(_Chore(interval, do))

    def _check_firewall(self) -> None:
        if not self._firewall.is_in_place():
            log.warning("somebody has taken the iptables rules away: putting them in again")
            self._firewall.install(self._rules)

    def _write_status(self) -> None:
        assert self._status_file is not None
        now = time.monotonic()
        status = {
            "time": time.time(),
            "pid": os.getpid(),
            "rules": self._rules.path,
            "uptime_seconds": round(now - self._started_at, 3),
            "machine": self._machine(),
            **self._engine.snapshot(now),
        }
        fresh = self._status_file.with_name(self._status_file.name + ".new")
        fresh.write_text(json.dumps(status))
        fresh.replace(self._status_file)

    def _machine(self) -> dict[str, Any]:
        queues = {str(queue.number): {**queue.counters, **queue.kernel_drops()} for queue in self._queues}
        return {"queues": queues, "sender": dict(self._sender.counters), "internal_errors": self._internal_errors}
