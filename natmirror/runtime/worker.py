"""One of the threads that pass packets: its queues, its loop in C, and the packets that the loop leaves to Python.

A packet of another worker's client goes to that worker, which decides on it, and comes back with a verdict: only the
worker that received a packet can send its verdict. No thread touches another's engine; what other threads want of this
one's goes through ``engine``, an EngineProxy.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from natmirror.actions import Decision, Drop, Hook, LegEnded, Order, Send, Verdict
from natmirror.engine.engine import Engine
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.fastpath import NEVER
from natmirror.linux.bypass import BEAT_INTERVAL, Bypass
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.linux.iptables import NAT_QUEUE, WATCH_QUEUE, queue_number
from natmirror.linux.loop import BoundQueue, Loop, LoopEvent
from natmirror.linux.nfqueue import Packet, Queue
from natmirror.linux.queue_monitor import QueueMonitor
from natmirror.mirror.faults import Fault
from natmirror.net.checksum import Checksum
from natmirror.reasons import DropReason
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import Rules
from natmirror.rules.shards import Shard
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.mailbox import Mailbox, Waker, settle

log = logging.getLogger("natmirror")

_ANSWER_TIMEOUT = 5.0
_LIFE_INTERVAL = 0.2  # seconds between two looks whether a thread that was asked something still runs
_TIMER_SLICE = 0.001
"""Seconds that timers, and reading what OpenFlow connections say, take between two batches of packets."""
_MAX_ERRORS = 10
_ERROR_WINDOW = 10.0  # seconds: a thread that fails so often in that time fails for good
_INTERNAL_ERROR = Drop(DropReason.INTERNAL_ERROR)
_STALE = Drop(DropReason.QUEUED_BEFORE_START)
_MAX_STALE_BATCHES = 256  # as much as a queue holds


class WorkerListener(Protocol):
    """What a worker reports. Each method is called in the worker's own thread, so none of them may wait."""

    def on_ended(self, events: list[LegEnded]) -> None:
        """Legs have ended."""

    def on_orders(self, orders: list[Order]) -> None:
        """Masters would have sent these messages."""

    def on_failed_syns(self, failed: list[tuple[str, str]]) -> None:
        """Backends have refused or not answered a client's SYN: service and backend of each."""

    def on_bindings(self, changes: list[BindingChange], missed: bool) -> None:
        """Bindings that cannot be derived have changed; ``missed``: so have others, which could not be kept."""

    def on_end(self) -> None:
        """The thread has ended; ``failure`` of the worker says why, where that was not wanted."""


class Worker:
    """A thread for the clients of ``shard``, whose state is in ``engine``.

    With ``is_replicated`` its bindings and legs are shared with another host, which goes on with them if this
    one fails.
    ``rounds`` grows at least every ``pulse_interval`` seconds, unless the thread is wedged.
    """

    def __init__(
        self,
        rules: Rules,
        shard: Shard,
        engine: Engine,
        listener: WorkerListener,
        *,
        is_replicated: bool = False,
        pulse_interval: float = NEVER,
    ) -> None:
        self.internal_errors = 0
        self.rounds = 0
        self.failure: BaseException | None = None
        """What has ended the thread; None: it runs, or was stopped."""
        self._errors_at: deque[float] = deque(maxlen=_MAX_ERRORS)
        self._peers: Sequence[Worker] = ()
        self._shard = shard
        self._engine = engine
        self._listener = listener
        # Where a leg goes on elsewhere after we were killed, pieces that waited here are a hole: none is sent again.
        self._gathers = not is_replicated
        self._has_watched_services = any(service.pool is None for service in rules.services)
        self.replication = EngineAdapter(engine, self._send_at_once, listener.on_bindings if is_replicated else None)
        """What is replicated of the engine's state: to be used in the thread itself."""
        self.engine = EngineProxy(engine, self.replication, self, rules)
        """The engine, for other threads."""
        self._waker = Waker()
        self._mailbox = Mailbox(self._waker.wake, partial(self._note_error, "doing what another thread has asked"))
        self._stopping = False
        self._queues: list[BoundQueue] = []
        self._bypass: Bypass | None = None
        self._monitor: QueueMonitor | None = None
        self._beat_at = 0.0
        self._pulse_interval = pulse_interval
        self._pulse_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"natmirror-{shard.number}", daemon=True)

    # Start and stop, from the main thread

    def open(self, held: ExitStack, out_fd: int) -> None:
        """Bind the queues; ``held`` gives them back, ``out_fd`` takes synthesised packets. HostError where the machine
        refuses."""
        self._waker.open()
        held.callback(self._waker.close)
        self._bind(held, NAT_QUEUE, watched=False)
        if self._has_watched_services:
            queue = self._bind(held, WATCH_QUEUE, watched=True)
            self._bypass = Bypass(queue.fd, queue.number)
            self._bypass.start()
            held.callback(self._bypass.close)
        self._loop = Loop(self._engine.gear, self._queues, out_fd=out_fd, wake_fd=self._waker.fd, gathers=self._gathers)
        held.callback(self._loop.close)
        self._monitor = QueueMonitor(self._loop, self._bypass, time.monotonic())

    def start(self, workers: Sequence["Worker"]) -> None:
        """Begin to pass packets; ``workers`` are all of them in the order of their shards, this one among them.

        Packets that wait already are dropped: rules of before may have dealt them out to other workers, and their
        senders send them again.
        """
        self._peers = workers
        for bound in self._queues:
            self._drop_stale(bound)
        self._thread.start()

    def stop(self) -> None:
        """End the legs, then the thread; return when that is done."""
        if self._thread.is_alive():
            self.post(self._stop)
            self._thread.join()

    # Requests, from any thread

    def post(self, do: Callable[[], None]) -> None:
        """Have the thread call a function soon."""
        self._mailbox.post(do)

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the thread call a function soon; return the future of its answer."""
        answer = self._mailbox.request(question)
        if self.failure is not None:  # it may have read its mail for the last time
            self._thread.join()
            self._mailbox.read()
        return answer

    def ask(self, question: Callable[[], Any], timeout: float | None = _ANSWER_TIMEOUT) -> Any:
        """Have the thread call a function, and return its answer. TimeoutError where that takes too long. Where the
        thread does not run, the caller calls it."""
        if not self._thread.is_alive():
            return question()
        answer = self._mailbox.request(question)
        while timeout is None and not wait([answer], _LIFE_INTERVAL).done and self._thread.is_alive():
            pass
        if not self._thread.is_alive():
            settle(answer, question)
        return answer.result(timeout)

    def do_requests(self) -> None:
        """Do what was requested, in the thread that is going to call start()."""
        self._mailbox.read()

    def mend_bypass(self) -> None:
        """Restart the process that lets watched packets pass, if it has ended. HostError where the host refuses."""
        if self._bypass is not None:
            self._bypass.mend()

    def queue_counters(self) -> dict[str, dict[QueueCounter, int]]:
        """Return what each queue has counted, by its number."""
        return {
            str(bound.queue.number): {**bound.queue.counters, **bound.queue.kernel_drops()} for bound in self._queues
        }

    def queue_problem(self) -> str | None:
        """Return what is wrong with one of the queues, None where they work."""
        return None if self._monitor is None else self._monitor.problem

    def sent_counters(self) -> dict[OutboxCounter, int]:
        """Return what became of synthesised packets."""
        return self._loop.counters

    # In the thread: what goes round

    def _run(self) -> None:
        try:
            self._pass_packets()
            self._loop.send(self._engine.close())  # no mirror is to wait for us
            self._loop.flush()
            self._report_events()
            self.replication.report_bindings(NEVER)
            self._mailbox.read()
        except BaseException as error:
            self.failure = error
        self._listener.on_end()

    def _stop(self) -> None:
        self._stopping = True

    def _pass_packets(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except Exception as error:
                self._note_error("passing packets", error)
                if self._loop.has_punted:  # else it would come back first, again and again
                    self._try("dropping a packet", self._loop.decide, Decision(_INTERNAL_ERROR, []))
                self._errors_at.append(time.monotonic())
                if len(self._errors_at) == _MAX_ERRORS and self._errors_at[-1] - self._errors_at[0] < _ERROR_WINDOW:
                    raise

    def _turn(self) -> None:
        event = self._loop.run(self._until())
        if event is LoopEvent.PUNT:
            self._decide_punted()
            return
        if event is LoopEvent.WAKE:
            self._waker.drain()
        self._do_what_is_due()

    def _until(self) -> float:
        """Return when Python has something to do, whatever comes."""
        timer = self._engine.next_own_timer()
        check_at = NEVER if self._monitor is None else self._monitor.next_at
        due = min(self._pulse_at, self.replication.next_report_at, check_at)
        if self._bypass is not None:
            due = min(due, self._beat_at)
        return due if timer is None else min(due, timer)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._bypass is not None and now >= self._beat_at:
            self._beat_at = now + BEAT_INTERVAL
            self._try("telling the bypass of services without a pool", self._bypass.beat)
        if now >= self._pulse_at:
            self._pulse_at = now + self._pulse_interval
        self._try("handling timers", self._handle_timer, now)
        if self._monitor is not None and now >= self._monitor.next_at:
            self._try("checking the queues", self._monitor.check, now)
        if now >= self.replication.next_report_at:
            self._try("reporting bindings", self.replication.report_bindings, now)
        self._mailbox.read()
        self._try("reporting events", self._report_events)
        self.rounds += 1

    def _handle_timer(self, now: float) -> None:
        due = self._engine.next_timer()
        if due is not None and due <= now:
            self._loop.send(self._engine.handle_timer(now, lambda: time.monotonic() >= now + _TIMER_SLICE))

    def _report_events(self) -> None:
        if events := self._engine.take_events():
            self._listener.on_ended(events)
        if orders := self._engine.take_orders():
            self._listener.on_orders(orders)
        if failed := self._engine.take_failed_syns():
            self._listener.on_failed_syns(failed)
        for news in self._engine.faults.take_news():
            error = news.error if isinstance(news, Fault) else None
            log.error("thread %d: %s", self._shard.number, news, exc_info=error)

    def _try(self, what: str, do: Callable[..., object], *arguments: object) -> None:
        try:
            do(*arguments)
        except Exception as error:
            self._note_error(what, error)

    def _note_error(self, what: str, error: Exception) -> None:
        """Count an internal error, and log its traceback: it costs what it came up with, not the thread."""
        self.internal_errors += 1
        log.error("internal error while %s: the thread goes on", what, exc_info=error)

    # In the thread: packets that the loop leaves to Python

    def _decide_punted(self) -> None:
        """Decide on the packet that the loop leaves to Python, or have the worker do it that has its client."""
        punted = self._loop.punted()
        packet = punted.packet
        owner = self._owner_of(packet)
        if owner == self._shard.number or self._peers[owner].failure is not None:
            self._loop.decide(self._decide(packet, punted.now))
            return
        bound = self._loop.defer()
        self._peers[owner].post(partial(self._peers[owner].decide_for_peer, self, bound, packet))

    def _owner_of(self, packet: Packet) -> int:
        """Return the number of the worker that decides on a packet."""
        try:
            return self._engine.shard_of(packet.payload, Hook(packet.hook))
        except Exception as error:
            self._note_error(f"finding the thread of a packet of {len(packet.payload)} bytes", error)
            return self._shard.number

    def decide_for_peer(self, peer: "Worker", bound: BoundQueue, packet: Packet) -> None:
        """Decide on a packet from a peer's queue; only the peer can send the verdict."""
        decision = self._decide(packet, time.monotonic())
        peer.post(partial(peer.set_verdict, bound, packet, decision.verdict))
        self._send_at_once(decision.sends)

    def set_verdict(self, bound: BoundQueue, packet: Packet, verdict: Verdict) -> None:
        """Send the verdict on a packet of one of this worker's queues."""
        bound.set_verdict(packet.id, verdict)
        bound.queue.flush()

    def _decide(self, packet: Packet, now: float) -> Decision:
        try:
            return self._engine.decide(packet.payload, Hook(packet.hook), now, Checksum(packet.checksum))
        except Exception as error:
            # A fault in NAT itself: it may cost this packet, which its sender repeats, but not the host's traffic.
            self._note_error(f"deciding a packet of {len(packet.payload)} bytes at hook {packet.hook}", error)
            return Decision(_INTERNAL_ERROR, [])

    def send(self, sends: list[Send]) -> None:
        """Send synthesised packets, in the thread itself: they leave with the next batch's verdicts."""
        self._loop.send(sends)

    def _send_at_once(self, sends: list[Send]) -> None:
        self._loop.send(sends)
        self._loop.flush()

    # Queues

    def _bind(self, held: ExitStack, first: int, *, watched: bool) -> Queue:
        queue = Queue(queue_number(first, self._shard), fail_open=watched)
        index = len(self._queues)
        held.callback(lambda: self._queues[index].queue.close())  # by then it may be another one, see QueueMonitor
        self._queues.append(BoundQueue(queue, watched))
        return queue

    def _drop_stale(self, bound: BoundQueue) -> None:
        packets = bound.queue.early() or bound.queue.receive()
        for left in range(_MAX_STALE_BATCHES, -1, -1):
            for packet in packets:
                self.set_verdict(bound, packet, _STALE)
            packets = bound.queue.receive() if packets and left else []
