"""Whether this natmirror is fit to have the service's address: what ``natmirror health`` tells."""

from collections.abc import Callable, Sequence

from natmirror.ha.exit_codes import FIT, NOT_READY, RULES_MISSING, STUCK

STILL_SECONDS = 3.0
"""How long a thread that passes packets may stand still; it goes through its loop once a second, however idle."""


class Readiness:
    """What the parts of a run have told of it. Time is an argument; each part sets its own."""

    def __init__(self, threads: int) -> None:
        self.not_ready: str | None = "it starts"
        """Why it does not pass packets, or soon will not; None: it does."""
        self.rules_are_in_place = False
        self.holds_flows: Callable[[], str | None] = lambda: None
        """Why connections that live on the other host would be lost here; None: they would not. Whoever sets it sees to
        it that no such reason lasts for long: without a host that is fit nobody has the address."""
        self.queue_trouble: Callable[[], str | None] = lambda: None
        """Why the kernel holds packets that threads have decided on; None: it does not."""
        self.complaint: Callable[[], str] = lambda: ""
        """What the host refuses meanwhile, though packets pass."""
        self.ended: dict[int, str] = {}
        """The threads that have failed for good, by number, and why."""
        self._seen = [(-1, 0.0)] * threads

    def look(self, rounds: Sequence[int], now: float) -> tuple[int, str]:
        """A code of ``natmirror health`` and why. ``rounds``: how often each thread has gone through its loop."""
        still = [number for number in self._still(rounds, now) if number not in self.ended]
        if self.not_ready is not None:
            return NOT_READY, self.not_ready
        if self.ended:
            number, why = next(iter(self.ended.items()))
            return STUCK, f"thread {number} of those that pass packets has ended: {why}"
        if still:
            return STUCK, f"thread {', '.join(map(str, still))} of those that pass packets stands still"
        if trouble := self.queue_trouble():
            return STUCK, trouble
        if not self.rules_are_in_place:
            return RULES_MISSING, "somebody has taken them away, and they cannot be put in again"
        if missing := self.holds_flows():
            return NOT_READY, missing
        return FIT, self.complaint()

    def _still(self, rounds: Sequence[int], now: float) -> list[int]:
        """The threads that have been seen at the same round for too long; who has not asked before has seen none."""
        for number, count in enumerate(rounds):
            if count != self._seen[number][0]:
                self._seen[number] = (count, now)
        return [number for number, (_, since) in enumerate(self._seen) if now - since > STILL_SECONDS]
