"""A backend's health: a state machine driven by the results of its checks and the clients' failed SYNs.

Theory. A backend is up until ``fall`` failures in a row, then down until ``rise`` passed checks in a row. A result that
confirms the state resets the count. A client's SYN that is refused or left unanswered counts as a failure too, and
brings the next check forward, so that a backend that fails under load is soon down. But only a check can take the
backend down: a program with more clients than it can accept is not dead, and its connections must not be reset. An
answered SYN does not count: the kernel answers for a program that hangs.
"""

from collections.abc import Callable

from natmirror.rules import Health

ASSUMED = "assumed up until the checks say otherwise"
_MIN_PAUSE = 0.1  # seconds between a check and the next one that failed SYNs bring forward
# A check may start early by this fraction of the interval, never late: so a dead backend is down within fall * interval
# + timeout.
_JITTER = 0.1


class BackendHealth:
    """The health of one backend. ``random`` returns numbers from 0 to 1; times are seconds of any monotonic clock."""

    def __init__(self, settings: Health, now: float, random: Callable[[], float]) -> None:
        self.is_up = True
        self.since_at = now
        """When the backend went up or down, in seconds."""
        self.reason = ASSUMED
        """Why the backend went up or down."""
        self.checks = 0
        self.failures = 0
        """Failed checks, which ``checks`` includes."""
        self.inconclusive_checks = 0
        """Checks that said nothing about the backend; ``checks`` does not include them."""
        self.failed_syns = 0
        """Clients' SYNs that the backend refused or left unanswered."""
        self._settings = settings
        self._random = random
        self._against = 0  # results in a row that contradict the state
        self._checked_at = float("-inf")
        self._check_at = now + settings.interval * random()  # spreads the first checks of all backends

    def change(self, settings: Health, now: float) -> None:
        """Use other settings from now on; the backend stays up or down until checks with these settings change it."""
        self._settings = settings
        self._against = 0
        self._check_at = min(self._check_at, now + settings.interval * self._random())

    def next_check(self) -> float:
        """Return the time at which the next check is due, in seconds; it may be overdue."""
        return self._check_at

    def may_fall(self) -> bool:
        """Return whether the backend goes down if the next check fails."""
        return self.is_up and self._against >= self._settings.fall - 1

    def result(self, ok: bool, reason: str, now: float) -> bool:
        """Take the result of a check, and return whether it has changed the state."""
        self.checks += 1
        self.failures += not ok
        self._schedule(now)
        return self._count(ok, reason, now)

    def inconclusive(self, now: float) -> None:
        """Count a check that says nothing about the backend."""
        self.inconclusive_checks += 1
        self._schedule(now)

    def syn_failed(self, now: float) -> None:
        """Count a client's SYN that the backend refused or left unanswered."""
        self.failed_syns += 1
        self._against = min(self._against + 1, self._settings.fall - 1) if self.is_up else 0
        if self.is_up:
            self._check_at = min(self._check_at, max(now, self._checked_at + _MIN_PAUSE))

    def _schedule(self, now: float) -> None:
        """Set the time of the next check. Missed checks are not made up for."""
        self._checked_at = now
        early = self._settings.interval * _JITTER * self._random()
        self._check_at = max(now, self._check_at + self._settings.interval - early)

    def _count(self, ok: bool, reason: str, now: float) -> bool:
        self._against = 0 if ok == self.is_up else self._against + 1
        if self._against < (self._settings.fall if self.is_up else self._settings.rise):
            return False
        self.is_up = ok
        self.since_at = now
        self.reason = reason
        self._against = 0
        return True
