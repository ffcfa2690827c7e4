"""Whether a backend is up: what one state machine makes of its checks, and of what becomes of clients' SYNs.

Theory. A backend is up until ``fall`` failures in a row say otherwise, then down until ``rise`` passed checks in a row;
whatever speaks for the state that it is in begins the count anew. A client's SYN that is refused or left unanswered is
a failure of its moment, so that a backend that dies among busy clients is down before its next check. A SYN that is
answered says nothing: the kernel answers for a program that hangs.
"""

from collections.abc import Callable

from natmirror.rules import Health

ASSUMED = "assumed up until the checks say otherwise"
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
        self.unclear_checks = 0
        """Those that said nothing about the backend; they stand in no other count."""
        self.failed_syns = 0
        """SYNs of clients that were refused or left unanswered."""
        self._settings = settings
        self._random = random
        self._against = 0  # results in a row that speak against the state
        self._check_at = now + settings.interval * random()  # so that not all backends are checked at once

    def change(self, settings: Health, now: float) -> None:
        """Go by other settings from now on; it stays up, or down, until checks by these say otherwise."""
        self._settings = settings
        self._against = 0
        self._check_at = min(self._check_at, now + settings.interval * self._random())

    def next_check(self) -> float:
        """When the next check is due, or was."""
        return self._check_at

    def result(self, ok: bool, reason: str, now: float) -> bool:
        """A check has ended; gives whether that has changed the state."""
        self.checks += 1
        self.failures += not ok
        self._plan(now)
        return self._count(ok, reason, now)

    def unclear(self, now: float) -> None:
        """A check has ended that says nothing about the backend."""
        self.unclear_checks += 1
        self._plan(now)

    def syn_unanswered(self, now: float) -> bool:
        """It has left a client's SYN unanswered; gives whether that has changed the state."""
        return self._syn("a client's SYN was not answered", now)

    def syn_refused(self, now: float) -> bool:
        """It has answered a client's SYN with a RST; gives whether that has changed the state."""
        return self._syn("a client's SYN was refused", now)

    def _syn(self, reason: str, now: float) -> bool:
        self.failed_syns += 1
        return self._count(False, reason, now)

    def _plan(self, now: float) -> None:
        """Where checks could not be made for a while, none are made up for."""
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
