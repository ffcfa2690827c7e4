"""Whether a backend is up: what one state machine makes of its checks, and of what becomes of clients' SYNs.

Theory. A backend is up until ``fall`` failures in a row, then down until ``rise`` passed checks in a row; a result that
confirms its state resets the count. A client's SYN that is refused or left unanswered
counts as a failure too, and hastens the next check, so that a backend that dies among busy clients is soon down; but
the last word is a check's: a program that has more callers than it can take is not dead, and its connections are not to
be reset. A SYN that is answered says nothing: the kernel answers for a program that hangs.
"""

from collections.abc import Callable

from natmirror.rules import Health

ASSUMED = "assumed up until the checks say otherwise"
_MIN_PAUSE = 0.1  # seconds after a check before which SYNs do not hasten the next
_JITTER = 0.1  # checks are early by up to this share of the interval, never late: fall * interval + timeout holds


class BackendHealth:
    """One backend's. ``random`` gives numbers from 0 up to 1, times are seconds of any steady clock."""

    def __init__(self, settings: Health, now: float, random: Callable[[], float]) -> None:
        self.is_up = True
        self.since_at = now
        """When it came into its state."""
        self.reason = ASSUMED
        """Why it came into its state."""
        self.checks = 0
        self.failures = 0
        """Of the checks."""
        self.inconclusive_checks = 0
        """Checks that said nothing about the backend; they are in no other count."""
        self.failed_syns = 0
        """SYNs of clients that were refused or left unanswered."""
        self._settings = settings
        self._random = random
        self._against = 0  # results in a row that speak against the state
        self._checked_at = float("-inf")
        self._check_at = now + settings.interval * random()  # so that not all backends are checked at once

    def change(self, settings: Health, now: float) -> None:
        """Use other settings from now on; the backend stays up, or down, until checks by these say otherwise."""
        self._settings = settings
        self._against = 0
        self._check_at = min(self._check_at, now + settings.interval * self._random())

    def next_check(self) -> float:
        """Return when the next check is due, or was."""
        return self._check_at

    def result(self, ok: bool, reason: str, now: float) -> bool:
        """Enter the result of a check, and return whether it has changed the state."""
        self.checks += 1
        self.failures += not ok
        self._plan(now)
        return self._count(ok, reason, now)

    def unclear(self, now: float) -> None:
        """Count a check that says nothing about the backend."""
        self.inconclusive_checks += 1
        self._plan(now)

    def syn_failed(self, now: float) -> None:
        """Count a client's SYN that it refused or left unanswered."""
        self.failed_syns += 1
        self._against = min(self._against + 1, self._settings.fall - 1) if self.is_up else 0
        if self.is_up:
            self._check_at = min(self._check_at, max(now, self._checked_at + _MIN_PAUSE))

    def _plan(self, now: float) -> None:
        """Set when the next check is due. Checks that could not be made are not made up for."""
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
