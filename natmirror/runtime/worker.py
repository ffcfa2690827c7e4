"""A packet thread: its queues, its loop in C, and the packets that C punts to Python.

If a packet belongs to another worker's client, that worker decides it and returns the verdict, because only the worker
that received a packet can send its verdict. No thread touches another's engine; other threads' requests to this one's
engine go through ``engine``, an EngineProxy.
"""

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from functools import partial
from typing import Any

from natmirror.actions import Decision, Drop, Hook, Send, Verdict
from natmirror.engine.engine import Engine
from natmirror.fastpath import NEVER
from natmirror.histograms import HistogramEntry
from natmirror.linux.bypass import BEAT_INTERVAL, Bypass
from natmirror.linux.cores import first_share
from natmirror.linux.counters import OutboxCounter, QueueCounter
from natmirror.linux.iptables_rules import NAT_QUEUE, WATCH_QUEUE, queue_number
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
from natmirror.runtime.statement_pipe import StatementPipe
from natmirror.runtime.worker_listener import WorkerListener
from natmirror.threads import NamedThread, busy_seconds

log = logging.getLogger("natmirror")

_ANSWER_TIMEOUT = 5.0
_LIFE_INTERVAL = 0.2  # seconds between two checks that the asked thread still runs
_TIMER_SLICE = 0.001
"""Limit in seconds on timers, and on reading OpenFlow messages, between two batches of packets."""
_MAX_ERRORS = 10
_ERROR_WINDOW = 10.0  # seconds in which _MAX_ERRORS internal errors end the thread
_INTERNAL_ERROR = Drop(DropReason.INTERNAL_ERROR)
_REFUSALS_INTERVAL = 60.0  # seconds between two warnings about clients that are over their limit
_STALE = Drop(DropReason.QUEUED_BEFORE_START)
_MAX_STALE_BATCHES = 256  # as much as a queue holds


class Worker:
    """The packet thread for the clients of ``shard``, whose state is in ``engine``.

    With ``is_replicated`` its bindings and legs are shared with another host, which can take them over.
    ``rounds`` grows at least every ``pulse_interval`` seconds, unless the thread hangs.
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
        """The exception that has ended the thread; None: it runs, or was stopped."""
        self._errors_at: deque[float] = deque(maxlen=_MAX_ERRORS)
        self._peers: Sequence[Worker] = ()
        self._shard = shard
        self._engine = engine
        self._listener = listener
        # Where another host may take over, no segment waits: after a crash here, no host could send it again.
        self._gathers = not is_replicated
        self._has_watched_services = any(service.pool is None for service in rules.services)
        self.replication = EngineAdapter(engine, self._send_at_once, listener.on_bindings if is_replicated else None)
        """The engine's replicated state; only the thread itself uses it."""
        self.engine = EngineProxy(engine, self.replication, self, rules)
        """The engine, for other threads."""
        self._statements = StatementPipe(engine.statements)
        self._waker = Waker()
        self._mailbox = Mailbox(self._waker.wake, partial(self._note_error, "doing another thread's request"))
        self._stopping = False
        self._queues: list[BoundQueue] = []
        self._bypass: Bypass | None = None
        self._monitor: QueueMonitor | None = None
        self._beat_at = 0.0
        self._pulse_interval = pulse_interval
        self._pulse_at = 0.0
        self._refusals_at = 0.0
        self._thread = NamedThread(self._run, f"packets-{shard.number}")

    # Start and stop, from the main thread

    def open(self, held: ExitStack, out_fd: int) -> None:
        """Bind the queues. ``held`` gets the functions that close them; synthesised packets are written to ``out_fd``.
        HostError where the host refuses."""
        self._waker.open()
        held.callback(self._waker.close)
        held.callback(self._statements.connect, None)
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
        """Do the pending requests, then begin to pass packets. ``workers`` are all workers in the order of their
        shards, including this one.

        Packets that wait already are dropped: earlier iptables rules may have queued them for other workers. Their
        senders send them again.
        """
        self._peers = workers
        self.do_requests()
        for bound in self._queues:
            self._drop_stale(bound)
        self._thread.start()

    def stop(self) -> None:
        """End the legs, then the thread; return when it has ended."""
        if self._thread.is_alive():
            self.post(self._stop)
            self._thread.join()

    # Requests, from any thread

    @property
    def native_id(self) -> int | None:
        """The kernel's number of the thread; None before its start."""
        return self._thread.native_id

    def post(self, do: Callable[[], None]) -> None:
        """Have the thread call a function soon."""
        self._mailbox.post(do)

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the thread call a function soon; return the future of its result."""
        answer = self._mailbox.request(question)
        if self.failure is not None:  # the thread may have read its mailbox for the last time
            self._thread.join()
            self._mailbox.read()
        return answer

    def ask(self, question: Callable[[], Any], timeout: float | None = _ANSWER_TIMEOUT) -> Any:
        """Have the thread call a function; return its result. TimeoutError where that takes too long: if the thread has
        not begun, it never calls the function. If the thread does not run, call the function here."""
        if not self._thread.is_alive():
            return question()
        answer = self._mailbox.request(question)
        until = time.monotonic() + (NEVER if timeout is None else timeout)
        # The thread may be about to end, and have read its mailbox for the last time.
        while not answer.done() and self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            wait([answer], min(left, _LIFE_INTERVAL))
        if not self._thread.is_alive():
            settle(answer, question)
        if answer.cancel() or not answer.done():
            raise TimeoutError
        return answer.result()

    def do_requests(self) -> None:
        """Do the pending requests; called before start(), by the thread that is going to call that."""
        self._mailbox.read()

    def judge(self, stream: socket.socket | None) -> None:
        """Have the statements about judged connections sent to a process of the judges that has just begun, through a
        stream that becomes the thread's; None: the process has ended."""
        self.post(partial(self._statements.connect, stream))
        if stream is not None:
            self.engine.judge()

    def mend_bypass(self) -> None:
        """Restart the bypass process, if it has ended. HostError where the host refuses."""
        if self._bypass is not None:
            self._bypass.mend()

    @property
    def busy_seconds(self) -> float:
        """Return how long the thread has had, or waited for, a processor."""
        return busy_seconds(self._thread)

    @property
    def answering_seconds(self) -> float:
        """Return the processor time that the thread has taken to answer other threads."""
        return self.engine.answering_seconds

    def queue_counters(self) -> dict[str, dict[QueueCounter, int]]:
        """Return the counters of each queue, by its number."""
        return {
            str(bound.queue.number): {**bound.queue.counters, **bound.queue.kernel_drops()} for bound in self._queues
        }

    def queue_problem(self) -> str | None:
        """Return what is wrong with a queue, or None."""
        return None if self._monitor is None else self._monitor.problem

    def sent_counters(self) -> dict[OutboxCounter, int]:
        """Return the counters of synthesised packets."""
        return self._loop.counters

    def added_latency(self) -> HistogramEntry:
        """Return how long packets have waited for their verdicts."""
        return self._loop.added_latency

    # In the thread: its rounds

    def _run(self) -> None:
        try:
            self._loop.go_first(first_share(self._shard.count))
            self._pass_packets()
            self._loop.go_first_no_more()  # to end thousands of legs takes long
            self._loop.send(self._engine.close())  # end the legs, so that no mirror waits for data
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
                self._run_once()
            except Exception as error:
                self._note_error("passing packets", error)
                if self._loop.has_punted:  # otherwise the same packet would be punted again and again
                    self._try("dropping a packet", self._loop.decide, Decision(_INTERNAL_ERROR, []))
                self._errors_at.append(time.monotonic())
                if len(self._errors_at) == _MAX_ERRORS and self._errors_at[-1] - self._errors_at[0] < _ERROR_WINDOW:
                    raise

    def _run_once(self) -> None:
        event = self._loop.run(until := self._until())
        if event is LoopEvent.PUNT:
            self._decide_punted()
            return
        if event is LoopEvent.WAKE:
            self._waker.drain()
            if time.monotonic() < until:  # nothing else is due, and to find that out again would keep packets waiting
                self._do_posted()
                return
        self._do_what_is_due()

    def _until(self) -> float:
        """Return the time at which Python has something to do, even if no packet comes."""
        timer = self._engine.next_own_timer()
        check_at = NEVER if self._monitor is None else self._monitor.next_at
        due = min(self._pulse_at, self.replication.next_report_at, check_at, self._statements.next_at)
        if self._bypass is not None:
            due = min(due, self._beat_at)
        return due if timer is None else min(due, timer)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._bypass is not None and now >= self._beat_at:
            self._beat_at = now + BEAT_INTERVAL
            self._try("sending the bypass a beat", self._bypass.beat)
        if now >= self._pulse_at:
            self._pulse_at = now + self._pulse_interval
        self._try("handling timers", self._handle_timer, now)
        if self._monitor is not None and now >= self._monitor.next_at:
            self._try("checking the queues", self._monitor.check, now)
        if now >= self.replication.next_report_at:
            self._try("reporting bindings", self.replication.report_bindings, now)
        if now >= self._statements.next_at:
            self._try("sending statements to the judges", self._statements.send, now)
        if now >= self._refusals_at:
            self._try("reporting clients over their limit", self._report_refusals, now)
        self._do_posted()

    def _do_posted(self) -> None:
        self._mailbox.read()
        self._try("reporting events", self._report_events)
        self.rounds += 1

    def _handle_timer(self, now: float) -> None:
        due = self._engine.next_timer()
        if due is not None and due <= now:
            end = now + _TIMER_SLICE
            self._loop.send(self._engine.handle_timer(now, lambda: time.monotonic() >= end))

    def _report_events(self) -> None:
        if events := self._engine.take_events():
            self._listener.on_ended(events)
        if orders := self._engine.take_orders():
            self._listener.on_orders(orders)
        if failed := self._engine.take_failed_syns():
            self._listener.on_failed_syns(failed)
        for news in self._engine.faults.take_news():
            if isinstance(news, Fault):
                log.error("packet thread %d: %s", self._shard.number, news, exc_info=news.error)
            else:
                self._listener.on_work_changed(self._shard.number, news)

    def _report_refusals(self, now: float) -> None:
        refusals = self._engine.take_refusals()
        if refusals is not None:
            self._refusals_at = now + _REFUSALS_INTERVAL
            self._listener.on_over_limit(self._shard.number, refusals)

    def _try(self, what: str, do: Callable[..., object], *arguments: object) -> None:
        try:
            do(*arguments)
        except Exception as error:
            self._note_error(what, error)

    def _note_error(self, what: str, error: Exception) -> None:
        """Count an internal error, and log its traceback. It ends the current piece of work, not the thread."""
        self.internal_errors += 1
        log.error("internal error while %s: the thread continues", what, exc_info=error)

    # In the thread: packets that C punts to Python

    def _decide_punted(self) -> None:
        """Decide the punted packet, or pass it to the worker that has its client."""
        punted = self._loop.punted()
        packet = punted.packet
        owner = self._owner_of(packet)
        if owner == self._shard.number or self._peers[owner].failure is not None:
            self._loop.decide(self._decide(packet, punted.now))
            return
        bound = self._loop.defer()
        self._peers[owner].post(partial(self._peers[owner].decide_for_peer, self, bound, packet))

    def _owner_of(self, packet: Packet) -> int:
        """Return the number of the worker that has a packet's client."""
        try:
            return self._engine.shard_of(packet.payload, Hook(packet.hook))
        except Exception as error:
            self._note_error(f"finding the thread of a packet of {len(packet.payload)} bytes", error)
            return self._shard.number

    def decide_for_peer(self, peer: "Worker", bound: BoundQueue, packet: Packet) -> None:
        """Decide a packet from a peer's queue; only the peer can send the verdict."""
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
            # An error in NAT itself costs only this packet, which its sender sends again.
            self._note_error(f"deciding a packet of {len(packet.payload)} bytes at hook {packet.hook}", error)
            return Decision(_INTERNAL_ERROR, [])

    def send(self, sends: list[Send]) -> None:
        """Send synthesised packets after the next batch's verdicts; called in the thread itself."""
        self._loop.send(sends)

    def _send_at_once(self, sends: list[Send]) -> None:
        self._loop.send(sends)
        self._loop.flush()

    # Queues

    def _bind(self, held: ExitStack, first: int, *, watched: bool) -> Queue:
        queue = Queue(queue_number(first, self._shard), fail_open=watched)
        index = len(self._queues)
        held.callback(lambda: self._queues[index].queue.close())  # QueueMonitor may have replaced it by then
        self._queues.append(BoundQueue(queue, watched))
        return queue

    def _drop_stale(self, bound: BoundQueue) -> None:
        packets = bound.queue.early() or bound.queue.receive()
        for left in range(_MAX_STALE_BATCHES, -1, -1):
            for packet in packets:
                self.set_verdict(bound, packet, _STALE)
            packets = bound.queue.receive() if packets and left else []
