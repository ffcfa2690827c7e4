"""The health of one netfilter queue, judged by the kernel's answers to a probe once a second.

Theory. The probe asks the kernel to drop every packet that natmirror has decided. If all verdicts have arrived, the
kernel holds none of these packets and answers ENOENT. If it answers 0, it held some: their verdicts were lost. Any
other answer means that the queue is not bound to our socket. No answer, although everything that the kernel has sent
was read, means that requests do not reach the kernel, and so verdicts do not either. In the last two cases the queue
must be bound again.

Verdicts that the kernel refuses for want of memory are kept and sent again; to bind the queue again would not help.
"""

from errno import ENOENT, errorcode

CHECK_INTERVAL = 1.0
"""Seconds between two probes."""
ANSWER_TIMEOUT = 3.0
"""Seconds without an answer, or with nothing but refusals, after which a queue counts as broken."""


class QueueHealth:
    """The health of one queue. Times are in seconds of any steady clock."""

    def __init__(self, number: int, now: float) -> None:
        self.problem: str | None = None
        """The problem of the queue; None if it works."""
        self._number = number
        self._checked_at = now
        self._answered_at = now
        self._sent_at = now

    def check(self, *, answer: int | None, is_refused: bool, is_unanswered: bool, now: float) -> bool:
        """Judge the queue; return whether it must be bound again.

        ``answer`` is the kernel's answer to the last probe (None: none yet). ``is_refused``: the kernel refuses
        verdicts now. ``is_unanswered``: the kernel has not answered, although everything that it has sent was read.
        """
        if now - self._checked_at > 2 * CHECK_INTERVAL:  # this process did not run, so do not blame the kernel
            self._answered_at = self._sent_at = now
        self._checked_at = now
        if is_refused:
            self._answered_at = now
            if now - self._sent_at >= ANSWER_TIMEOUT:
                self.problem = f"queue {self._number}: the kernel has refused verdicts for {ANSWER_TIMEOUT:g} s"
            return False
        self._sent_at = now
        if answer is None:
            if not is_unanswered:
                self._answered_at = now
            if now - self._answered_at < ANSWER_TIMEOUT:
                return False
            self.problem = f"queue {self._number}: the kernel has not answered for {ANSWER_TIMEOUT:g} s"
            return True
        self._answered_at = now
        if answer == 0:
            self.problem = f"queue {self._number}: the kernel did not get the verdicts of some packets"
            return False
        if answer != ENOENT:
            self.problem = f"queue {self._number} is not bound to natmirror ({errorcode.get(answer, answer)})"
            return True
        self.problem = None
        return False

    def failed(self, why: str, now: float) -> None:
        """Note that the queue was closed, or cannot be bound."""
        self.problem = f"queue {self._number}: {why}"
        self._checked_at = now

    def bound_again(self, now: float) -> None:
        """Restart the timeouts: the queue is bound again. The problem stands until the kernel's next answer."""
        self._answered_at = self._sent_at = now
