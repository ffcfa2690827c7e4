"""Whether one netfilter queue works: judged by what the kernel answers when it is asked once a second.

Theory. The kernel is asked to let go of every packet that natmirror has decided on. Where all verdicts have arrived it
holds none of these packets and says ENOENT. Where it says that there were some, their verdicts were lost. Any other
answer says that the queue is not bound to our socket. No answer, though everything that the kernel has sent was read,
says that requests do not reach the kernel: so verdicts do not either. Then the queue has to be bound again.

Verdicts that the kernel refuses for want of memory are kept and sent again. To bind the queue again would not help.
"""

from errno import ENOENT, errorcode

CHECK_INTERVAL = 1.0
PATIENCE = 3.0
"""Seconds without an answer, or of refusals, that a queue may take."""


class QueueHealth:
    """Judge one queue. Times are seconds of any steady clock."""

    def __init__(self, number: int, now: float) -> None:
        self.trouble: str | None = None
        """What is wrong with the queue; None: it works."""
        self._number = number
        self._checked_at = now
        self._answered_at = now
        self._sent_at = now

    def check(self, *, answer: int | None, is_refused: bool, is_unanswered: bool, now: float) -> bool:
        """Return whether the queue has to be bound again.

        ``answer`` is the kernel's answer to the last question (None: none yet), ``is_refused`` says whether the kernel
        refuses verdicts now, ``is_unanswered`` whether it owes an answer though all that it has sent was read.
        """
        if now - self._checked_at > 2 * CHECK_INTERVAL:  # this process did not run: the kernel is not to blame
            self._answered_at = self._sent_at = now
        self._checked_at = now
        if is_refused:
            self._answered_at = now
            if now - self._sent_at >= PATIENCE:
                self.trouble = f"queue {self._number}: the kernel has refused verdicts for {PATIENCE:g} s"
            return False
        self._sent_at = now
        if answer is None:
            if not is_unanswered:
                self._answered_at = now
            if now - self._answered_at < PATIENCE:
                return False
            self.trouble = f"queue {self._number}: the kernel has not answered for {PATIENCE:g} s"
            return True
        self._answered_at = now
        if answer == 0:
            self.trouble = f"queue {self._number}: the kernel did not get the verdicts of some packets"
            return False
        if answer != ENOENT:
            self.trouble = f"queue {self._number} is not bound to natmirror ({errorcode.get(answer, answer)})"
            return True
        self.trouble = None
        return False

    def failed(self, why: str, now: float) -> None:
        """The queue was closed, or cannot be bound."""
        self.trouble = f"queue {self._number}: {why}"
        self._checked_at = now

    def bound_again(self, now: float) -> None:
        """Begin to count afresh. The trouble stands until the kernel's next answer."""
        self._answered_at = self._sent_at = now
