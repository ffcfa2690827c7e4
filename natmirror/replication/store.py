"""The interface of the store in which hosts share records.

A record has a key, a value and the host that wrote it last: it is that host's *own* record. The last write of a key
wins. A record that no host has written again for RECORD_LIFETIME expires.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from natmirror.errors import NatmirrorError

RECORD_LIFETIME = 3600.0
"""Seconds. Long enough for the repair of a host that should find its connections again, short enough for the records of
a pair that no longer exists."""

_OP_COST = 170  # bytes that Python needs for an op besides its key and value

PUT, GONE, ENDED = "put", "gone", "ended"


class StoreError(NatmirrorError):
    """The store does not answer, or refuses: try again later."""


@dataclass(frozen=True, slots=True)
class Op:
    """A change of one record."""

    what: str
    """PUT: write it. GONE: remove it if it is the writer's own. ENDED: remove it if it has ``value``, whichever host
    wrote it."""
    key: str
    value: str = ""

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return len(self.key) + len(self.value) + _OP_COST


@dataclass(frozen=True, slots=True)
class Record:
    """A record that load() yields."""

    key: str
    value: str
    is_own: bool
    """Whether this host wrote it last."""


class Store(Protocol):
    """One host's connection to the shared records. Every method may raise StoreError; after that call close()."""

    skipped: int
    """Malformed or overlong records and changes, which were skipped, since the latest load() began."""

    async def connect(self) -> None:
        """Connect: from now on read_changes() misses nothing."""

    def load(self) -> AsyncIterator[list[Record]]:
        """Yield all records, some hundreds at a time."""

    async def write(self, ops: Sequence[Op]) -> None:
        """Do these ops in order."""

    async def read_changes(self, timeout: float) -> list[Op]:
        """Return other hosts' ops since the last call, in order; wait up to ``timeout`` seconds for the first."""

    async def beat(self) -> None:
        """Keep the records of this host's pair from expiring, and find out whether the store answers."""

    async def close(self) -> None:
        """Disconnect; connect() may follow."""
