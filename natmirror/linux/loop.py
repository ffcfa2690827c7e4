"""The packet loop in C, as Python uses it: it passes packets by itself, and returns when Python has something to do."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from errno import errorcode

from natmirror._ffi import ffi, lib
from natmirror.actions import Accept, Decision, Send, Verdict
from natmirror.errors import HostError
from natmirror.histograms import HistogramEntry, histogram
from natmirror.linux.counters import IN_OUTBOX_OF_C, OutboxCounter
from natmirror.linux.nfqueue import LONGEST_WAIT, Packet, Queue, packet_of

_BACKLOG_PAUSE = 0.005
"""Seconds until verdicts that wait for room are flushed again."""
_GATHER_TIME = 0.005
"""Seconds after a write during which small segments to mirrors wait, to be written together."""


class LoopEvent(IntEnum):
    """Why run() has returned."""

    PUNT = int(lib.NL_PUNT)
    """Python decides a packet: punted()."""
    TIMER = int(lib.NL_TIMER)
    """The time that was given to run() has come, data waits for Python's readers, or a queue has failed."""
    WAKE = int(lib.NL_WAKE)
    """Another thread has made ``wake_fd`` readable."""


@dataclass(slots=True)
class Punted:
    """A packet that Python decides, and the time at which its batch was received, in monotonic seconds."""

    packet: Packet
    now: float


@dataclass(frozen=True, slots=True)
class BoundQueue:
    """A queue of a loop. Packets of a ``watched`` queue pass unchanged, whatever their verdict."""

    queue: Queue
    watched: bool

    def set_verdict(self, packet_id: int, verdict: Verdict) -> None:
        """Accept or drop a packet. The queue's flush() sends the verdict."""
        if self.watched:
            self.queue.accept(packet_id)
        elif isinstance(verdict, Accept):
            self.queue.accept(packet_id, verdict.packet)
        else:
            self.queue.drop(packet_id)


class Loop:
    """The queues and the output of one thread. ``gear`` is the C gear that decides. With ``gathers``, small segments to
    mirrors wait for others with which they can be written together.

    A queue that fails is closed and not read any more; bind_again() replaces it in ``queues``, the caller's list.
    """

    def __init__(self, gear: object, queues: list[BoundQueue], *, out_fd: int, wake_fd: int, gathers: bool) -> None:
        self._timer_fd = lib.nl_timer()
        if self._timer_fd < 0:
            raise HostError(f"cannot create a timer: {errorcode.get(-self._timer_fd, -self._timer_fd)}")
        fields = {
            "gear": gear,
            "outbox": {"fd": out_fd, "gather_time": _GATHER_TIME if gathers else 0.0, "due_at": float("inf")},
            "wake_fd": wake_fd,
            "timer_fd": self._timer_fd,
            "armed_at": float("inf"),
        }
        self._loop = ffi.new("nl_loop *", fields)
        self._gear = gear
        self.queues = queues
        self._open_queues: list[BoundQueue] = []
        self._select_open_queues()

    def _select_open_queues(self) -> None:
        """Read the open queues from now on; not while has_batch."""
        self._open_queues = [bound for bound in self.queues if not bound.queue.is_closed]
        cuts_until = lib.nl_clock() if any(self._loop.cuts_until) else 0.0
        for index, bound in enumerate(self._open_queues):
            self._loop.queues[index] = bound.queue.codec
            self._loop.watched[index] = bound.watched
            self._loop.missed[index] = lib.nq_queue_counters(bound.queue.codec).packets_missed
            self._loop.retry_at[index] = self._loop.pauses[index] = 0.0
            self._loop.cuts_until[index] = cuts_until
        self._loop.queue_count = len(self._open_queues)
        self._loop.longest_wait = LONGEST_WAIT if len(self._open_queues) == 1 else 0.0

    def close(self) -> None:
        """Close the timer; the caller closes the queues and descriptors."""
        os.close(self._timer_fd)

    def go_first(self, share: float) -> None:
        """Have the calling thread, which is the one that calls run(), be run before all other programs while it takes
        less than this share of a core, where the kernel allows it, and else soon after each packet (Linux 6.12)."""
        lib.nl_priority_begin(ffi.addressof(self._loop, "priority"), share)

    def go_first_no_more(self) -> None:
        """Have the calling thread share the cores with other programs from now on."""
        lib.nl_priority_end(ffi.addressof(self._loop, "priority"))

    def run(self, until: float) -> LoopEvent:
        """Pass packets until Python has something to do, or the monotonic clock shows ``until``. A queue that fails is
        closed, which drops its packets; bind_again() opens it again."""
        for bound in self._open_queues:
            if bound.queue.has_backlog:
                bound.queue.flush()
                until = min(until, lib.nl_clock() + _BACKLOG_PAUSE)
        event = lib.nl_run(self._loop, until)
        if event < 0:
            self._open_queues[self._loop.failed].queue.fail(f"its socket fails: {errorcode.get(-event, -event)}")
            self._select_open_queues()
            return LoopEvent.TIMER
        return LoopEvent(event)

    @property
    def has_batch(self) -> bool:
        """Return whether received packets have no verdict yet, as they may after run() has returned PUNT or WAKE."""
        return bool(self._loop.next < self._loop.count)

    def bind_again(self, index: int) -> Queue:
        """Close a queue and bind it again, which drops the packets that wait in it; not while has_batch. HostError
        where the kernel refuses: then the queue stays closed."""
        bound = self.queues[index]
        bound.queue.close()
        self._select_open_queues()
        queue = bound.queue.bind_again()
        self.queues[index] = BoundQueue(queue, bound.watched)
        self._loop.gear.unseen += bound.watched  # packets have passed meanwhile
        self._select_open_queues()
        return queue

    @property
    def has_punted(self) -> bool:
        """Return whether the punted packet has no verdict yet."""
        return bool(self._loop.punted != ffi.NULL)

    def punted(self) -> Punted:
        """Return the packet that Python has to decide."""
        return Punted(packet_of(self._loop.punted), float(self._loop.now))

    def decide(self, decision: Decision) -> None:
        """Give the punted packet its verdict, and queue the decision's packets for sending after it."""
        loop = self._loop
        self._open_queues[loop.current].set_verdict(loop.punted.id, decision.verdict)
        lib.nl_decided(loop)
        if decision.sends:
            self.send(decision.sends)

    def defer(self) -> BoundQueue:
        """Continue without a verdict for the punted packet; return the queue that gets the verdict later."""
        bound = self._open_queues[int(self._loop.current)]
        bound.queue.defer(self._loop.punted.id, self._loop.now)
        lib.nl_decided(self._loop)
        return bound

    def send(self, sends: Iterable[Send]) -> None:
        """Queue synthesised packets; they leave after the verdicts of the next batch, or at flush()."""
        out = ffi.addressof(self._gear, "out")
        for send in sends:
            lib.nm_out_add(out, send.packet, len(send.packet), send.segment_len)

    def flush(self) -> None:
        """Send verdicts, then synthesised packets, now."""
        for bound in self._open_queues:
            bound.queue.flush()
        lib.nl_send(self._loop)

    @property
    def added_latency(self) -> HistogramEntry:
        """Return how long packets have waited for their verdicts, as far as was measured."""
        delays = self._loop.delays
        return histogram(lib.nm_time_bounds, delays.counts, delays.sum)

    @property
    def counters(self) -> dict[OutboxCounter, int]:
        """Return the counters of synthesised packets, by name."""
        return {name: int(getattr(self._loop.outbox.counters, name)) for name in IN_OUTBOX_OF_C}
