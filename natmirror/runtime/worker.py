"""One of the threads that pass packets: its engine, its queues, its loop, and what others ask of it.

No thread touches another's engine: what one wants of another goes through post() or ask().
"""

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from natmirror.actions import Decision, Drop, Hook, LegEnded, Ordered, Send, Verdict
from natmirror.backends.admission import Kill, Share
from natmirror.engine.engine import Engine
from natmirror.engine.replicated_bindings import BindingChange
from natmirror.fastpath import NEVER, ConnectionCounts, Memory
from natmirror.linux.bypass import BEAT_INTERVAL, Watchdog
from natmirror.linux.iptables import NAT_QUEUE, WATCH_QUEUE, queue_number
from natmirror.linux.loop import BoundQueue, Loop, Why
from natmirror.linux.nfqueue import Packet, Queue
from natmirror.linux.nftables import Pair
from natmirror.linux.queue_keeper import QueueKeeper
from natmirror.mirror.faults import Fault
from natmirror.net.packet import Checksum
from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.rules import Rules
from natmirror.rules.reload import Kept
from natmirror.rules.shards import Shard

log = logging.getLogger("natmirror")

_ANSWER_TIMEOUT = 5.0
_LIFE_INTERVAL = 0.2  # seconds: whoever waits for a thread that has failed meanwhile knows it by then
_FLOWS_SLICE = 200
_SWITCHES_SLICE = 1
_TIMER_SLICE = 0.001
"""Seconds that timers, and reading what OpenFlow connections say, take between two batches of packets."""
_MAX_ERRORS = 10
_ERROR_WINDOW = 10.0  # seconds: a thread that fails so often in that time fails for good
_INTERNAL_ERROR = Drop("internal-error")
_STALE = Drop("stale")
_MAX_STALE_BATCHES = 256  # as much as a queue holds


class Worker:
    """A thread for the clients of ``shard``; ``workers`` are all of them, itself among them, once they run.

    ``ended`` is called with legs that have ended, ``ordered`` with what masters would have done, ``failed`` with
    backends that have failed a client's SYN, ``changed`` with what has become of bindings that cannot be derived and
    whether there was more, ``over`` when the thread has ended, each in the thread itself. ``rounds`` grows at least
    every ``pulse_interval`` seconds, unless the thread is wedged.
    """

    def __init__(
        self,
        rules: Rules,
        shard: Shard,
        key: bytes,
        memory: Memory,
        *,
        ended: Callable[[list[LegEnded]], None],
        ordered: Callable[[list[Ordered]], None],
        failed: Callable[[list[tuple[str, str]]], None],
        over: Callable[[], None],
        changed: Callable[[list[BindingChange], bool], None] | None = None,
        pulse_interval: float = NEVER,
        loads: ConnectionCounts | None = None,
    ) -> None:
        self.internal_errors = 0
        self.rounds = 0
        self.failure: BaseException | None = None
        self._errors_at: deque[float] = deque(maxlen=_MAX_ERRORS)
        self.workers: Sequence[Worker] = ()
        self._shard = shard
        self._engine = Engine(rules, key=key, shard=shard, memory=memory, loads=loads)
        self._rules = rules
        # Where a leg goes on elsewhere after we were killed, what waited here is a hole: nobody sends it again.
        self._gathers = changed is None
        self._with_watched = any(service.pool is None for service in rules.services)
        self._ended = ended
        self._ordered = ordered
        self._failed = failed
        self._over = over
        self.exchange = EngineAdapter(self._engine, self._send_at_once, changed)
        """What other hosts have to do with: to be used in the thread itself."""
        self._mail: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopping = False
        self._ways: list[BoundQueue] = []
        self._watchdog: Watchdog | None = None
        self._keeper: QueueKeeper | None = None
        self._beat_at = 0.0
        self._pulse_interval = pulse_interval
        self._pulse_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"natmirror-{shard.number}", daemon=True)

    # Called from other threads

    def open(self, held: ExitStack, out_fd: int) -> None:
        """Bind the queues; ``held`` gives them back, ``out_fd`` takes what is synthesised. HostError where the machine
        refuses."""
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
            held.callback(end.close)
        self._bind(held, NAT_QUEUE, watched=False)
        if self._with_watched:
            queue = self._bind(held, WATCH_QUEUE, watched=True)
            self._watchdog = Watchdog(queue.fd, queue.number)
            self._watchdog.start()
            held.callback(self._watchdog.close)
        self._loop = Loop(
            self._engine.gear, self._ways, out_fd=out_fd, wake_fd=self._wake_read.fileno(), gathers=self._gathers
        )
        held.callback(self._loop.close)
        self._keeper = QueueKeeper(self._loop, self._watchdog, time.monotonic())

    def start(self, workers: Sequence["Worker"]) -> None:
        """Begin to pass packets, with those that come from now on: rules of before may have dealt out the others
        differently, and who sent them sends them again."""
        self.workers = workers
        for way in self._ways:
            self._drop_stale(way)
        self._thread.start()

    def _drop_stale(self, way: BoundQueue) -> None:
        packets = way.queue.early() or way.queue.receive()
        for left in range(_MAX_STALE_BATCHES, -1, -1):
            for packet in packets:
                self.give(way, packet, _STALE)
            packets = way.queue.receive() if packets and left else []

    def stop(self) -> None:
        """End the legs, then the thread; returns when that is done."""
        if self._thread.is_alive():
            self.post(self._stop)
            self._thread.join()

    def post(self, do: Callable[[], None]) -> None:
        """Have the thread do something soon."""
        self._mail.put(do)
        with suppress(OSError):  # full: it is about to look; closed: it is over
            self._wake_write.send(b"?")

    def ask(self, question: Callable[[], Any], timeout: float | None = _ANSWER_TIMEOUT) -> Any:
        """Have the thread answer, and wait for that, or TimeoutError; a thread that has ended is asked directly."""
        answer: Future[Any] = Future()
        if self._thread.is_alive():
            self.post(partial(_answer, question, answer))
            while timeout is None and not wait([answer], _LIFE_INTERVAL).done and self._thread.is_alive():
                pass
        if not self._thread.is_alive() and not answer.done():
            _answer(question, answer)
        return answer.result(timeout)

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the thread answer soon."""
        answer: Future[Any] = Future()
        self.post(partial(_answer, question, answer))
        if self.failure is not None:  # it may have read its mail for the last time
            self._thread.join()
            self._read_mail()
        return answer

    def serve(self) -> None:
        """In the thread that is going to call start(): do until then what others ask of this one."""
        self._read_mail()

    def snapshot(self) -> dict[str, Any]:
        """The engine's sums."""
        return dict(self.ask(lambda: self._engine.snapshot(time.monotonic())))

    def flows(self) -> list[dict[str, Any]]:
        """The flows with their legs, in slices between which packets pass."""
        flow_ids = self.ask(self._engine.flow_ids)
        shown: list[dict[str, Any]] = []
        for start in range(0, len(flow_ids), _FLOWS_SLICE):
            some = flow_ids[start : start + _FLOWS_SLICE]
            shown += self.ask(partial(self._show_flows, some))
        return shown + list(self.ask(lambda: self._engine.lingering(time.monotonic())))

    def decisions(self) -> list[dict[str, Any]]:
        """What backends and masters have decided for each switch, in slices."""
        flow_ids = self.ask(self._engine.flow_ids)
        shown: list[dict[str, Any]] = []
        for start in range(0, len(flow_ids), _FLOWS_SLICE):
            some = flow_ids[start : start + _FLOWS_SLICE]
            shown += self.ask(partial(self._engine.decisions, some))
        return shown

    def known_switches(self) -> list[dict[str, Any]]:
        """What is known of switches, in slices between which packets pass."""
        clients = self.ask(lambda: self._engine.directory.clients(time.monotonic()))
        known: list[dict[str, Any]] = []
        for start in range(0, len(clients), _SWITCHES_SLICE):
            some = clients[start : start + _SWITCHES_SLICE]
            known += self.ask(partial(self._show_switches, some))
        return [entry for entry in known if entry is not None]

    def restore_switch(self, entry: dict[str, Any]) -> None:
        """One that known_switches() once gave, before start(); KeyError, TypeError or ValueError where it did not."""
        self._engine.directory.restore(entry, time.monotonic())

    def reload(self, rules: Rules) -> None:
        """Go by these rules from now on; what cannot stay goes in slices between which packets pass."""
        flow_ids = self.ask(self._engine.flow_ids, None) if set(self._rules.switches) - set(rules.switches) else []
        self._in_slices(flow_ids, lambda ids: self._engine.expel(rules.switches, ids, time.monotonic()))
        self.ask(partial(self.exchange.reload, rules), None)
        self._rules = rules
        first: int | None = 0
        while first is not None:  # what could be derived until now, and the other way round
            first = self.ask(partial(self.exchange.sweep_bindings, first, 0), None)
        leg_ids = self.ask(self._engine.leg_ids, None)
        self._in_slices(leg_ids, lambda ids: self._engine.end_removed(ids, time.monotonic()))

    def _in_slices(self, ids: list[int], do: Callable[[list[int]], list[Send]]) -> None:
        for start in range(0, len(ids), _FLOWS_SLICE):
            some = ids[start : start + _FLOWS_SLICE]
            self.ask(partial(self._send, partial(do, some)), None)

    def _send(self, do: Callable[[], list[Send]]) -> None:
        self._loop.send(do())

    def prune(self) -> list[Kept]:
        """Services and backends that the rules do not name any more, but that have connections; others are
        forgotten."""
        return list(self.ask(self.exchange.prune, None))

    @property
    def strangers(self) -> int:
        """See Engine: prune() gives those among them that have connections."""
        return self._engine.strangers

    def set_marks(self, marks: Mapping[Pair, int]) -> None:
        """What the kernel translates from now on, see Engine."""
        self.ask(partial(self._engine.set_marks, marks), None)

    def set_share(self, change: Share) -> None:
        """A backend takes more or less of the new connections."""
        self.post(lambda: self._engine.set_share(change.service, change.backend, change.share))

    def kill(self, change: Kill) -> None:
        """Reset a backend's connections, in slices between which packets pass."""
        self.post(lambda: self._bit_by_bit(self._engine.flow_ids(), partial(self._kill, change)))

    def stand_down(self) -> None:
        """Another host passes the packets from now on, see Engine; in slices, should some still come."""
        self.post(
            lambda: self._bit_by_bit(
                self._engine.flow_ids(), lambda ids: self._engine.stand_down(ids, time.monotonic())
            )
        )

    def set_path_mtu(self, mirror: tuple[bytes, int], mtu: int) -> None:
        """What the host's routes say of the way to a mirror, see Engine."""
        self.post(lambda: self._engine.set_path_mtu(mirror, mtu))

    def mend_bypass(self) -> None:
        """Restart the process that lets watched packets pass, if it has ended. HostError where the host refuses."""
        if self._watchdog is not None:
            self._watchdog.mend()

    def queues(self) -> dict[str, dict[str, int]]:
        """What each queue has counted, by its number."""
        return {str(way.queue.number): {**way.queue.counters, **way.queue.kernel_drops()} for way in self._ways}

    def queue_trouble(self) -> str | None:
        """What is wrong with one of the queues; None: they work."""
        return None if self._keeper is None else self._keeper.trouble

    def sent(self) -> dict[str, int]:
        """What became of synthesised packets."""
        return self._loop.counters

    # The thread's own

    def _run(self) -> None:
        try:
            self._pass_packets()
            self._loop.send(self._engine.close())  # no mirror is to wait for us
            self._loop.flush()
            self._tell_ended()
            self.exchange.tell(NEVER)
            self._read_mail()
        except BaseException as error:
            self.failure = error
        self._over()

    def _stop(self) -> None:
        self._stopping = True

    def _bind(self, held: ExitStack, first: int, *, watched: bool) -> Queue:
        queue = Queue(queue_number(first, self._shard), fail_open=watched)
        index = len(self._ways)
        held.callback(lambda: self._ways[index].queue.close())  # by then it may be another one, see QueueKeeper
        self._ways.append(BoundQueue(queue, watched))
        return queue

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
        why = self._loop.run(self._until())
        if why is Why.PUNT:
            self._judge()
            return
        if why is Why.WAKE:
            self._wake_read.recv(4096)
        self._do_what_is_due()

    def _note_error(self, what: str, error: Exception) -> None:
        """Count an internal error, and log its traceback: it costs what it came up with, not the thread."""
        self.internal_errors += 1
        log.error("internal error while %s: the thread goes on", what, exc_info=error)

    def _judge(self) -> None:
        """The packet that the loop leaves to us, or to another thread."""
        punted = self._loop.punted()
        packet = punted.packet
        owner = self._owner_of(packet)
        if owner == self._shard.number or self.workers[owner].failure is not None:
            self._loop.decide(self._decide(packet, punted.now))
            return
        way = self._loop.defer()
        self.workers[owner].post(partial(self.workers[owner].judge_for, self, way, packet))

    def _owner_of(self, packet: Packet) -> int:
        """The number of the thread that decides on a packet."""
        try:
            return self._engine.shard_of(packet.payload, Hook(packet.hook))
        except Exception as error:
            self._note_error(f"looking whose a packet of {len(packet.payload)} bytes is", error)
            return self._shard.number

    def judge_for(self, other: "Worker", way: BoundQueue, packet: Packet) -> None:
        """In this thread: a packet from another one's queue, which has to give the verdict itself."""
        decision = self._decide(packet, time.monotonic())
        other.post(partial(other.give, way, packet, decision.verdict))
        self._loop.send(decision.sends)
        self._loop.flush()

    def give(self, way: BoundQueue, packet: Packet, verdict: Verdict) -> None:
        """In this thread: a verdict for a packet of one of its queues."""
        way.give(packet.id, verdict)
        way.queue.flush()

    def _until(self) -> float:
        """When Python has something to do, whatever comes."""
        timer = self._engine.next_own_timer()
        keeper_at = NEVER if self._keeper is None else self._keeper.next_at
        due = min(self._pulse_at, self.exchange.next_at, keeper_at)
        if self._watchdog is not None:
            due = min(due, self._beat_at)
        return due if timer is None else min(due, timer)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._watchdog is not None and now >= self._beat_at:
            self._beat_at = now + BEAT_INTERVAL
            self._try("telling the watchdog of services without a pool", self._watchdog.beat)
        if now >= self._pulse_at:
            self._pulse_at = now + self._pulse_interval
        self._try("doing what is due", self._handle_timer, now)
        if self._keeper is not None and now >= self._keeper.next_at:
            self._try("looking after the queues", self._keeper.look, now)
        if now >= self.exchange.next_at:
            self._try("telling of bindings", self.exchange.tell, now)
        self._read_mail()
        self._try("telling what has happened", self._tell_ended)
        self.rounds += 1

    def _handle_timer(self, now: float) -> None:
        due = self._engine.next_timer()
        if due is not None and due <= now:
            self._loop.send(self._engine.handle_timer(now, lambda: time.monotonic() >= now + _TIMER_SLICE))

    def _try(self, what: str, do: Callable[..., object], *arguments: object) -> None:
        try:
            do(*arguments)
        except Exception as error:
            self._note_error(what, error)

    def _send_at_once(self, sends: list[Send]) -> None:
        self._loop.send(sends)
        self._loop.flush()

    def _read_mail(self) -> None:
        with suppress(Empty):  # after the thread's end whoever asks reads it
            for _ in range(self._mail.qsize()):
                self._try("doing what another thread has asked", self._mail.get_nowait())

    def _decide(self, packet: Packet, now: float) -> Decision:
        try:
            return self._engine.decide(packet.payload, Hook(packet.hook), now, Checksum(packet.checksum))
        except Exception as error:
            # A fault in NAT itself: it may cost this packet, which its sender repeats, but not the host's traffic.
            self._note_error(f"deciding a packet of {len(packet.payload)} bytes at hook {packet.hook}", error)
            return Decision(_INTERNAL_ERROR, [])

    def _tell_ended(self) -> None:
        if events := self._engine.take_events():
            self._ended(events)
        if orders := self._engine.take_orders():
            self._ordered(orders)
        if failed := self._engine.take_failed_syns():
            self._failed(failed)
        for news in self._engine.faults.take_news():
            error = news.error if isinstance(news, Fault) else None
            log.error("thread %d: %s", self._shard.number, news, exc_info=error)

    def resume_mirroring(self) -> None:
        """Switch on what was switched off after internal errors."""
        self.post(self._engine.faults.resume)

    def _bit_by_bit(self, ids: list[int], do: Callable[[list[int]], list[Send]]) -> None:
        """In the thread itself, between packets."""
        some, others = ids[:_FLOWS_SLICE], ids[_FLOWS_SLICE:]
        if others:  # first: a fault costs one slice
            self.post(lambda: self._bit_by_bit(others, do))
        self._loop.send(do(some))

    def _kill(self, change: Kill, ids: list[int]) -> list[Send]:
        kill = self._engine.reset_again if change.is_repeated else self._engine.kill
        with suppress(ValueError):  # the rules do not name it any more: a reload has come in between
            return kill(change.service, change.backend, ids, time.monotonic())
        return []

    def _show_switches(self, clients: Sequence[str]) -> list[dict[str, Any] | None]:
        now = time.monotonic()
        return [self._engine.directory.plain(client, now) for client in clients]

    def _show_flows(self, flow_ids: Sequence[int]) -> list[dict[str, Any]]:
        return self._engine.flows(time.monotonic(), flow_ids)


def _answer(question: Callable[[], Any], answer: "Future[Any]") -> None:
    if answer.done() or not answer.set_running_or_notify_cancel():
        return  # somebody has given it, or nobody waits for it any more
    try:
        answer.set_result(question())
    except Exception as error:  # it costs the answer, not the run
        answer.set_exception(error)
