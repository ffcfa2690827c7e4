"""The interface between the Synchroniser and the kinds of records that hosts share, and helpers for every kind."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.replication.store import Op

_T = TypeVar("_T")


class RecordWriter(Protocol):
    """Writes records to the store."""

    def write(self, ops: list[Op]) -> None:
        """Queue these ops for the store; from any thread, without waiting."""

    async def wait_for_room(self) -> None:
        """Wait until the queue has room for thousands of further ops."""


class RecordKind(Protocol):
    """Records of one kind. The state behind them belongs to the packet threads, which are asked in small slices.

    The keys that its methods take are without ``name``.
    """

    name: str
    """The first word of its records' keys in the store; a blank follows it."""
    is_held: bool
    """Whether the Synchroniser holds other hosts' records, so that it can withdraw those which the store has lost."""

    async def adopt(self, records: Mapping[str, str]) -> int:
        """Adopt other hosts' records; return how many were rejected as invalid here, or for want of room."""

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Forget other hosts' records with these keys; the value says whether the connection has ended."""

    async def write_all(self) -> None:
        """Write all of this host's records again."""

    async def write_changes(self, now: float) -> None:
        """Write the records that have changed, for a kind whose changes no packet thread reports."""

    async def activate(self) -> None:
        """Make other hosts' records this host's own: it is the active host. May be called more than once."""

    async def write_last_changes(self) -> None:
        """Write the latest changes: another host is about to become the active one."""

    async def release(self) -> None:
        """Release this host's own records: another host is the active one."""


class PacketThread(Protocol):
    """A packet thread; it serves some of the clients."""

    replication: EngineAdapter
    """The replicated state of its engine; only the thread itself may use it."""

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the thread call a function soon; return the future of its result."""


async def ask(thread: PacketThread, question: Callable[[], Any]) -> Any:
    """Have a packet thread call a function; return its result."""
    return await asyncio.wrap_future(thread.request(question))


def slices(items: Iterable[_T], length: int) -> Iterable[list[_T]]:
    """Yield the items in lists of at most ``length``."""
    chunk: list[_T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == length:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
