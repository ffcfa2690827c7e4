"""Counts faults, which are exceptions in mirroring, and switches off work that fails repeatedly.

Theory. Production's verdict never depends on mirroring, so an exception in mirroring costs only the copies and sessions
of one connection. A fault that repeats would cost processor time for each packet, and might cost every copy. After
three faults of one kind of work within a minute, that kind is switched off; after ten of any kind, all of mirroring is.
It is switched on again after ten minutes, or by the command ``resume-mirroring``.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from natmirror.reasons import EndReason

WINDOW = 60.0
"""Seconds within which faults count together."""
MAX_OF_ONE_KIND = 3
MAX_OF_ALL = 10
OFF_TIME = 600.0
"""Seconds after which work is switched on again."""

_MAX_KEPT = 10  # faults that are kept with their exceptions until take_news()


class Work(StrEnum):
    """A kind of mirroring work. natmirror switches a kind off when its internal errors repeat."""

    COPY = "copies"
    """Copying clients' bytes to raw mirrors."""
    SESSION = "sessions"
    """OpenFlow sessions with masters."""
    VERDICT = "verdicts"
    """Comparing masters' orders with those of production's controllers."""
    THROTTLE = "throttling"
    """Throttling clients for mirrors that are behind."""
    TAKEOVER = "takeovers"
    """Continuing the copies of the other host, from its records."""


class OffEntry(TypedDict):
    """A kind of work that is switched off in one thread after internal errors."""

    thread: int
    """The thread's number."""
    work: Work
    """The kind of work."""
    on_again_seconds: float
    """Seconds until natmirror switches it on again."""


class FaultsEntry(TypedDict):
    """Internal errors in mirroring. Connections between clients and backends are not affected."""

    internal_errors: dict[Work, int]
    """Internal errors, by kind of work. The log has the tracebacks."""
    off: list[OffEntry]
    """The work that is switched off."""


_COSTS = {
    Work.COPY: f"its copies and sessions end as {EndReason.INTERNAL_ERROR}",
    Work.SESSION: f"its sessions end as {EndReason.INTERNAL_ERROR}",
    Work.VERDICT: "its switch is left out of the verdicts",
    Work.THROTTLE: "it is no longer throttled for its mirrors",
    Work.TAKEOVER: "its copies are not continued on this host",
}


@dataclass(slots=True)
class Fault:
    """One exception: the work that raised it, the connection's client (None: unknown), and the exception itself."""

    work: Work
    client: str | None
    error: Exception

    def __str__(self) -> str:
        whose = "" if self.client is None else f" for client {self.client}"
        return f"internal error in {self.work}{whose}: {_COSTS[self.work]}; its connection continues"


@dataclass(slots=True)
class WorkChanged:
    """Work was switched off or on; ``work`` is None for all of mirroring."""

    work: Work | None
    is_off: bool

    def __str__(self) -> str:
        what = self.work or "mirroring"
        if not self.is_off:
            return f"{what}: switched on again; connections whose copies have ended get no new ones"
        return (
            f"{what}: switched off after repeated internal errors, for {OFF_TIME:g} s;"
            " 'natmirror resume-mirroring' switches it on earlier"
        )


class Faults:
    """The faults of one engine. The engine sets ``now``, its time in seconds, before it calls mirroring."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called after work was switched off or on."""
        self.now = 0.0
        self.counts: Counter[Work] = Counter()
        """The faults of each kind of work since the start."""
        self.off: dict[Work, float] = {}
        """The work that is off, with the time when it is switched on again."""
        self._all_off = False
        self._recent: deque[tuple[float, Work]] = deque(maxlen=MAX_OF_ALL)
        self._news: list[Fault | WorkChanged] = []

    def note(self, work: Work, client: str | None, error: Exception) -> None:
        """Count a fault, and switch its work off if there were too many."""
        self.counts[work] += 1
        self._recent.append((self.now, work))
        if work not in self.off and len(self._news) < _MAX_KEPT:
            self._news.append(Fault(work, client, error))
        recent = [one for at, one in self._recent if self.now - at < WINDOW]
        if not self._all_off and len(recent) >= MAX_OF_ALL:
            self.switch_off(None)
        elif work not in self.off and recent.count(work) >= MAX_OF_ONE_KIND:
            self.switch_off(work)

    def switch_off(self, work: Work | None) -> None:
        """Switch a kind of work off; None: all of mirroring."""
        self._all_off |= work is None
        self.off |= dict.fromkeys(Work if work is None else (work,), self.now + OFF_TIME)
        self._news.append(WorkChanged(work, is_off=True))
        self.on_change()

    def next_on(self) -> float | None:
        """Return the time when the next work is switched on again; None where nothing is off."""
        return min(self.off.values(), default=None)

    def expire(self) -> None:
        """Switch on the work whose time off has ended."""
        self._switch_on([work for work, until in self.off.items() if until <= self.now])

    def resume(self) -> None:
        """Switch all work on."""
        self._switch_on(list(self.off))

    def _switch_on(self, works: list[Work]) -> None:
        was_all_off, self._all_off = self._all_off, self._all_off and not works
        for work in works:
            del self.off[work]
        whole = was_all_off and not self.off
        self._news += (
            [WorkChanged(None, is_off=False)] if whole else [WorkChanged(work, is_off=False) for work in works]
        )
        if works:
            self._recent.clear()
            self.on_change()

    def take_news(self) -> list[Fault | WorkChanged]:
        """Return the faults and changes since the last call, in their order. Only the first faults are kept, and no
        faults of work that was already off."""
        news, self._news = self._news, []
        return news

    def show(self, thread: int) -> FaultsEntry:
        """Return the faults of the thread with this number, as values for JSON."""
        return {
            "internal_errors": dict(self.counts),
            "off": [
                {"thread": thread, "work": work, "on_again_seconds": round(until - self.now, 3)}
                for work, until in self.off.items()
            ],
        }
