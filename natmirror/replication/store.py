"""Where hosts share records: the interface of a store.

A record has a key, a value and the host that wrote it last: it is that host's *own*. The last write of
a key holds. A record that no host has written again for RECORD_LIFETIME expires.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from natmirror.errors import NatmirrorError

RECORD_LIFETIME = 3600.0
"""Seconds: longer than any repair of a host that should find its connections again, short enough for a pair that was
given up."""

PUT, GONE, ENDED = "put", "gone", "ended"


class StoreError(NatmirrorError):
    """The store does not answer, or refuses: try again later."""


@dataclass(frozen=True, slots=True)
class Op:
    """Something to do with a record."""

    what: str
    """PUT; GONE: remove it where it is the writer's own; ENDED: remove it where it has ``value``, whosever it is."""
    key: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as load() yields it."""

    key: str
    value: str
    is_own: bool
    """Whether this host has written it last."""


class Store(Protocol):
    """One host's connection to the shared records. Every method may raise StoreError; from then on only close() makes
    sense."""

    async def connect(self) -> None:
        """Begin: read_changes() misses nothing from now on."""

    def load(self) -> AsyncIterator[list[Record]]:
        """Yield all records, a few at a time."""

    async def write(self, ops: Sequence[Op]) -> None:
        """Do this, in this order."""

    async def read_changes(self, timeout: float) -> list[Op]:
        """Return what other hosts have done since the last call, in order; wait up to ``timeout`` seconds for it."""

    async def beat(self) -> None:
        """Report that this host is alive, and find out whether the store is."""

    async def close(self) -> None:
        """End; it can be begun again with connect()."""
