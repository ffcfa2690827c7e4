"""A part of what hosts share: what is asked of one, and what all of them need."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from natmirror.replication.store import Op

_T = TypeVar("_T")


class Post(Protocol):
    """Who writes."""

    def tell(self, ops: list[Op]) -> None:
        """To be written; from any thread, without waiting."""

    async def room(self) -> None:
        """Wait until there is room for some thousands more."""


class Part(Protocol):
    """Records of one kind. Whatever they are of belongs to other threads, which are asked in small pieces."""

    kind: str
    """The first word of its records' keys; what follows it, behind a blank, are this part's own keys."""

    async def take_in(self, records: Mapping[str, str]) -> int:
        """Other hosts have written these; gives how many of them mean nothing here, or find no room."""

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Other hosts' records with these keys are gone; True: because what they are of has ended."""

    async def tell_all(self) -> None:
        """Tell all that is this host's anew."""

    async def look(self, now: float) -> None:
        """Tell what has changed, where that does not come by itself."""

    async def begin(self) -> None:
        """This host is the active one: what other hosts have told becomes its own. May come more than once."""

    async def tell_last(self) -> None:
        """Another host is about to be the active one: tell what has changed just now."""

    async def stand_by(self) -> None:
        """Another host is the active one."""


class Asked(Protocol):
    """A thread that answers."""

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the thread answer soon."""


async def ask(thread: Asked, question: Callable[[], Any]) -> Any:
    """What a thread answers."""
    return await asyncio.wrap_future(thread.request(question))


def slices(things: Iterable[_T], length: int) -> Iterable[list[_T]]:
    """A few at a time."""
    some: list[_T] = []
    for thing in things:
        some.append(thing)
        if len(some) == length:
            yield some
            some = []
    if some:
        yield some
