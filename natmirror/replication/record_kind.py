"""The kinds of records that hosts share: what each must offer the Synchroniser, and what all kinds need."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from natmirror.replication.engine_adapter import EngineAdapter
from natmirror.replication.store import Op

_T = TypeVar("_T")


class RecordWriter(Protocol):
    """What writes records to the store."""

    def write(self, ops: list[Op]) -> None:
        """Have these written; from any thread, without waiting."""

    async def wait_for_room(self) -> None:
        """Wait until there is room for some thousands more."""


class RecordKind(Protocol):
    """Records of one kind. The state behind them belongs to other threads, which are asked in small slices."""

    name: str
    """The first word of its records' keys; what follows it, behind a blank, are this kind's own keys."""

    async def take_in(self, records: Mapping[str, str]) -> int:
        """Take in what other hosts have written; return how many records make no sense here, or find no room."""

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Drop other hosts' records with these keys; True: because what they describe has ended."""

    async def write_all(self) -> None:
        """Write all that is this host's again."""

    async def write_changes(self, now: float) -> None:
        """Write what has changed, where no thread reports that by itself."""

    async def become_active(self) -> None:
        """Make other hosts' records this host's own, since it is the active one. May be called more than once."""

    async def write_last_changes(self) -> None:
        """Write what has changed just now, since another host is about to become the active one."""

    async def become_standby(self) -> None:
        """Give up what is this host's own, since another host is the active one."""


class PacketThread(Protocol):
    """One of the threads that pass packets: those of some of the clients."""

    replication: EngineAdapter
    """Its engine's replicated state: to be used in the thread itself."""

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the thread answer soon."""


async def ask(thread: PacketThread, question: Callable[[], Any]) -> Any:
    """Return what a thread answers."""
    return await asyncio.wrap_future(thread.request(question))


def slices(things: Iterable[_T], length: int) -> Iterable[list[_T]]:
    """Yield the things in lists of at most ``length``."""
    some: list[_T] = []
    for thing in things:
        some.append(thing)
        if len(some) == length:
            yield some
            some = []
    if some:
        yield some
