"""The check of one packet thread's queues, once a second."""

import logging

from natmirror.errors import HostError
from natmirror.linux.bypass import Bypass
from natmirror.linux.counters import QueueCounter
from natmirror.linux.loop import BoundQueue, Loop
from natmirror.linux.queue_health import CHECK_INTERVAL, QueueHealth

log = logging.getLogger("natmirror")


class QueueMonitor:
    """Checks the queues of ``loop``, and binds broken ones again. ``bypass`` is the process that shares the socket of
    the watched queue.

    It belongs to the loop's thread, except for ``problem``.
    """

    def __init__(self, loop: Loop, bypass: Bypass | None, now: float) -> None:
        self.next_at = now + CHECK_INTERVAL
        """When check() is due, in monotonic seconds."""
        self._loop = loop
        self._bypass = bypass
        self._healths = [QueueHealth(bound.queue.number, now) for bound in loop.queues]

    @property
    def problem(self) -> str | None:
        """Return what is wrong with a queue, or None; from any thread."""
        return next((health.problem for health in self._healths if health.problem is not None), None)

    def check(self, now: float) -> None:
        """Read the kernel's answers, bind broken queues again, and probe the others. While the loop has packets without
        a verdict, check() does nothing and stays due."""
        if self._loop.has_batch:
            return
        self.next_at = now + CHECK_INTERVAL
        for index, bound in enumerate(self._loop.queues):
            before = self._healths[index].problem
            try:
                self._check_queue(index, bound, now)
            except Exception as error:  # e.g. no memory: still check the other queues
                self._healths[index].failed(f"{type(error).__name__}: {error}", now)
            problem = self._healths[index].problem
            if problem is not None and problem != before:
                log.error("%s", problem)
            elif problem is None and before is not None:
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
                bypass.release()  # else its process holds the old socket, and perhaps the queue with it
            queue = self._loop.bind_again(index)
        except HostError as error:
            health.failed(str(error), now)
            return
        health.bound_again(now)
        log.warning("queue %d was bound again; the packets that waited in it were dropped", queue.number)
        if bypass is not None:
            bypass.move(queue.fd)
