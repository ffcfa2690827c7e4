"""Whether this natmirror is fit to have the services' addresses: what ``natmirror health`` reports."""

from collections.abc import Callable, Sequence

from natmirror.ha.exit_codes import FIT, NOT_READY, RULES_MISSING, STUCK

STALLED_AFTER = 3.0
"""How long a thread that passes packets may stand still; it goes through its loop once a second, however idle."""


class Readiness:
    """What the parts of a run have found; each sets its own attribute. Time is an argument."""

    def __init__(self, threads: int) -> None:
        self.not_ready: str | None = "it starts"
        """Why it does not pass packets, or soon will not; None: it does."""
        self.rules_are_in_place = False
        self.why_incomplete: Callable[[], str | None] = lambda: None
        """Why connections that live on the other host would be lost here; None: they would not. No such reason may last
        for long: without a host that is fit no host has the address."""
        self.queue_trouble: Callable[[], str | None] = lambda: None
        """Why the kernel holds packets that threads have decided on; None: it does not."""
        self.host_failure: Callable[[], str] = lambda: ""
        """What fails on the host, though packets pass; empty: nothing."""
        self.ended: dict[int, str] = {}
        """The threads that have failed for good, by number, and why."""
        self._seen = [(-1, 0.0)] * threads

    def check(self, rounds: Sequence[int], now: float) -> tuple[int, str]:
        """Return a code of ``natmirror health``, and why. ``rounds``: how often each thread went through its loop."""
        stalled = [number for number in self._stalled(rounds, now) if number not in self.ended]
        if self.not_ready is not None:
            return NOT_READY, self.not_ready
        if self.ended:
            number, why = next(iter(self.ended.items()))
            return STUCK, f"thread {number} of those that pass packets has ended: {why}"
        if stalled:
            return STUCK, f"thread {', '.join(map(str, stalled))} of those that pass packets stands still"
        if trouble := self.queue_trouble():
            return STUCK, trouble
        if not self.rules_are_in_place:
            return RULES_MISSING, "another program has removed them, and they cannot be installed again"
        if missing := self.why_incomplete():
            return NOT_READY, missing
        return FIT, self.host_failure()

    def _stalled(self, rounds: Sequence[int], now: float) -> list[int]:
        """Return the threads that have been seen at the same round for too long; the first check finds none."""
        for number, count in enumerate(rounds):
            if count != self._seen[number][0]:
                self._seen[number] = (count, now)
        return [number for number, (_, since) in enumerate(self._seen) if now - since > STALLED_AFTER]
