"""What was found about a master since a moment, as values that another thread may keep."""

from collections import Counter
from dataclasses import dataclass, field

from natmirror.openflow.comparison.conditions import Agreed
from natmirror.openflow.comparison.hosts import HostCounts
from natmirror.openflow.comparison.periods import Period
from natmirror.openflow.comparison.signatures import Level, Signature

MAX_LINES = 20
"""Rules that differ now and are shown."""


@dataclass(slots=True)
class SessionEnd:
    """A session that its master has ended."""

    at: float
    client: str
    reason: str


@dataclass(slots=True)
class TablesNow:
    """The tables of switches as they are now."""

    differing: list[str] = field(default_factory=list)
    differing_count: int = 0
    doubtful: int = 0
    followed: int = 0
    not_followed: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    sessions: int = 0
    """Connections with a session of the master."""
    lacked_memory: int = 0
    """Connections whose comparison has forgotten something, since the moment, for lack of memory."""
    left_out: int = 0
    """Connections of which messages were left out since the moment, because the judges were behind."""


@dataclass(slots=True)
class Found:
    """What was found about a master since a moment, as a value that another thread may keep."""

    began_at: float
    """When the first connection was compared; the moment itself if none was."""
    window: Period
    earlier_differences: int
    agreed: Agreed
    hosts: HostCounts
    """The comparable answers, by host."""
    signatures: list[tuple[Signature, Level, int]]
    """Each with what its family is kept apart by, and the number of its differences in the window."""
    tables: TablesNow
    ends: list[SessionEnd]
    held: int

    @property
    def has_begun(self) -> bool:
        """Whether a connection has been compared."""
        return bool(self.held or self.tables.connections)


def nothing_found(moment: float) -> Found:
    """Return what an engine has found that has compared nothing."""
    return Found(moment, Period(moment, moment), 0, Agreed(), HostCounts(), [], TablesNow(), [], 0)
