"""The decision whether this natmirror is fit to have the services' addresses, which ``natmirror health`` reports."""

from collections.abc import Callable, Sequence

from natmirror.ha.exit_codes import FIT, HOST_FAILS, NOT_READY, RULES_MISSING, STUCK

STALLED_AFTER = 3.0
"""Seconds without a round after which a packet thread counts as stuck; an idle one completes a round every second."""


class Readiness:
    """The readiness of a run with this number of packet threads. Each part of the run sets its own attribute. Time is
    an argument."""

    def __init__(self, threads: int) -> None:
        self.not_ready: str | None = "natmirror is starting"
        """Why natmirror does not pass packets, or soon will not; None: it does."""
        self.rules_are_in_place = False
        """Whether the iptables rules are installed."""
        self.why_incomplete: Callable[[], str | None] = lambda: None
        """Returns why a takeover would lose connections of the other host; None: it would not. No such reason may last:
        while neither host is fit, no host has the addresses."""
        self.queue_problem: Callable[[], str | None] = lambda: None
        """Returns why verdicts do not reach the kernel; None: they do."""
        self.why_host_fails: Callable[[], str] = lambda: ""
        """Returns why this host does not let production pass; empty if it does."""
        self.host_failure: Callable[[], str] = lambda: ""
        """Returns the failure on the host that does not stop packets; empty if there is none."""
        self.ended: dict[int, str] = {}
        """Why packet threads have ended, by the thread's number."""
        self._seen = [(-1, 0.0)] * threads

    def check(self, rounds: Sequence[int], now: float) -> tuple[int, str]:
        """Return an exit code of ``natmirror health``, and the reason. ``rounds`` has the number of rounds that each
        packet thread has completed."""
        stalled = [number for number in self._stalled(rounds, now) if number not in self.ended]
        if self.not_ready is not None:
            return NOT_READY, self.not_ready
        if self.ended:
            number, why = next(iter(self.ended.items()))
            return STUCK, f"packet thread {number} has ended: {why}; restart natmirror"
        if stalled:
            threads = ", ".join(map(str, stalled))
            return STUCK, f"packet thread {threads} has not run for {STALLED_AFTER:g} s"
        if problem := self.queue_problem():
            return STUCK, problem
        if not self.rules_are_in_place:
            return RULES_MISSING, "its iptables rules are not in place: see natmirror status"
        if why := self.why_host_fails():
            return HOST_FAILS, why
        if missing := self.why_incomplete():
            return NOT_READY, missing
        return FIT, self.host_failure()

    def _stalled(self, rounds: Sequence[int], now: float) -> list[int]:
        """Return the threads that have been in the same round for STALLED_AFTER; the first check finds none."""
        for number, count in enumerate(rounds):
            if count != self._seen[number][0]:
                self._seen[number] = (count, now)
        return [number for number, (_, since) in enumerate(self._seen) if now - since > STALLED_AFTER]
