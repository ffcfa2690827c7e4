"""Where hosts share records: what is asked of such a place.

A record has a key, a value and the host that wrote it last: it is that host's *own*. Whoever writes a key last is
right. A record that nobody has written anew for RECORD_LIFETIME goes by itself.
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
    """What load() gives."""

    key: str
    value: str
    is_own: bool
    """Whether this host has written it last."""


class Store(Protocol):
    """One host's way to what all share. Every method may raise StoreError; from then on only close() makes sense."""

    async def connect(self) -> None:
        """Begin: hear() misses nothing from now on."""

    def load(self) -> AsyncIterator[list[Record]]:
        """All records, a few at a time."""

    async def write(self, ops: Sequence[Op]) -> None:
        """Do this, in this order."""

    async def hear(self, timeout: float) -> list[Op]:
        """What other hosts have done since the last call, in its order; waits up to ``timeout`` seconds for some."""

    async def beat(self) -> None:
        """Tell that this host is there, and find out whether the store is."""

    async def close(self) -> None:
        """End; it can be begun again with connect()."""
