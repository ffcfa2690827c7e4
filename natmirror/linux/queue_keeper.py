"""Looks after the queues of one thread that passes packets: what the kernel says of each, once a second."""

import logging

from natmirror.errors import HostError
from natmirror.linux.bypass import Bypass
from natmirror.linux.counters import QueueCounter
from natmirror.linux.loop import BoundQueue, Loop
from natmirror.linux.queue_health import CHECK_INTERVAL, QueueHealth

log = logging.getLogger("natmirror")


class QueueKeeper:
    """Keep the queues of ``loop`` bound. ``bypass`` is the process that shares the socket of the watched queue.

    It belongs to the loop's thread, but for ``trouble``.
    """

    def __init__(self, loop: Loop, bypass: Bypass | None, now: float) -> None:
        self.next_at = now + CHECK_INTERVAL
        """When check() is due."""
        self._loop = loop
        self._bypass = bypass
        self._healths = [QueueHealth(bound.queue.number, now) for bound in loop.queues]

    @property
    def trouble(self) -> str | None:
        """Return what is wrong with a queue, or None; from any thread."""
        return next((health.trouble for health in self._healths if health.trouble is not None), None)

    def check(self, now: float) -> None:
        """Read the kernel's answers, bind again what has to be, and ask. While the loop has packets without a verdict,
        check() stays due."""
        if self._loop.has_batch:
            return
        self.next_at = now + CHECK_INTERVAL
        for index, bound in enumerate(self._loop.queues):
            before = self._healths[index].trouble
            try:
                self._check_queue(index, bound, now)
            except Exception as error:  # no memory, for one: the other queues are looked after all the same
                self._healths[index].failed(f"{type(error).__name__}: {error}", now)
            trouble = self._healths[index].trouble
            if trouble is not None and trouble != before:
                log.error("%s", trouble)
            elif trouble is None and before is not None:
                log.warning("queue %d works again", bound.queue.number)

    def _check_queue(self, index: int, bound: BoundQueue, now: float) -> None:
        if bound.queue.failure is not None:
            self._healths[index].failed(bound.queue.failure, now)
        if bound.queue.is_closed or self._needs_binding(index, bound, now):
            self._bind_again(index, now)
        else:
            bound.queue.probe(now)

    def _needs_binding(self, index: int, bound: BoundQueue, now: float) -> bool:
        queue = bound.queue
        answer, is_unanswered = queue.take_answer(), queue.is_unanswered
        if answer == 0:
            queue.count(QueueCounter.CHECKS_WITH_LOST_VERDICTS)
        return self._healths[index].check(
            answer=answer, is_refused=queue.is_refused, is_unanswered=is_unanswered, now=now
        )

    def _bind_again(self, index: int, now: float) -> None:
        health, bypass = self._healths[index], self._bypass if self._loop.queues[index].watched else None
        try:
            if bypass is not None:
                bypass.release()  # or its process would hold the old socket, and with it perhaps the queue
            queue = self._loop.bind_again(index)
        except HostError as error:
            health.failed(str(error), now)
            return
        health.bound_again(now)
        log.warning("queue %d is bound again; packets that waited in it are dropped", queue.number)
        if bypass is not None:
            bypass.move(queue.fd)
