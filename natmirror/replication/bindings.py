"""Bindings that cannot be derived, as records: ``flow openflow/10.10.0.11:40001`` → ``10.20.0.12:6653``."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Protocol

from natmirror.engine.replicated_bindings import BindingChange, BindingEvent
from natmirror.fastpath import ANNOUNCE, CLAIM_ALL, CLAIM_SEEN, HAND_OVER
from natmirror.net.packet import Endpoint, show
from natmirror.replication.kinds import Post, ask, slices
from natmirror.replication.store import ENDED, GONE, PUT, Op
from natmirror.rules.shards import shard_of_client

_KIND = "flow"
_SLICE = 100  # bindings that a thread takes in between two batches of packets
_CLAIM_INTERVAL = 30.0  # in which guests in use become our own
_WORDS = {BindingEvent.BOUND: PUT, BindingEvent.FORGOTTEN: GONE, BindingEvent.ENDED: ENDED}

Binding = tuple[str, Endpoint, Endpoint]
"""Service, client, backend."""


class Exchange(Protocol):
    """What is asked of a thread's engine, in that thread."""

    def sweep_bindings(self, first: int, how: int) -> int | None:
        """A slice of Bindings.sweep(), told of when it returns; where to go on."""

    def take_in_bindings(self, bindings: Sequence[Binding]) -> int:
        """Take some in; gives how many could not be."""

    def withdraw_bindings(self, gone: Sequence[tuple[str, Endpoint, bool]]) -> None:
        """Some are gone: service, client, whether it has ended."""


class Thread(Protocol):
    """One of the threads that pass packets: those of some of the clients."""

    @property
    def exchange(self) -> Exchange:
        """Its engine."""

    def request(self, question: Any) -> "Future[Any]":
        """Have the thread answer soon."""


class BindingRecords:
    """A Part."""

    kind = _KIND

    def __init__(self, threads: Sequence[Thread], post: Post) -> None:
        self._threads = threads
        self._post = post
        self._is_active = False
        self._claim_at = 0.0

    def changed(self, changes: Iterable[BindingChange]) -> None:
        """A thread tells, in the thread itself, what has become of bindings."""
        self._post.tell([Op(_WORDS[one.what], _key(one.service, one.client), show(one.backend)) for one in changes])

    async def take_in(self, records: Mapping[str, str]) -> int:
        """Other hosts have written these; gives how many of them mean nothing here, or find no room."""
        refused = 0
        for thread, some in self._dealt_out(records):
            found = [one for key in some if (one := _binding(key, records[key])) is not None]
            refused += len(some) - len(found) + int(await ask(thread, partial(thread.exchange.take_in_bindings, found)))
        return refused

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Other hosts' records with these keys are gone; True: because what they are of has ended."""
        for thread, some in self._dealt_out(gone):
            ends = [(*end, gone[key]) for key in some if (end := _ends(key)) is not None]
            await ask(thread, partial(thread.exchange.withdraw_bindings, ends))

    async def tell_all(self) -> None:
        """Tell all that is this host's anew."""
        await self._sweep(ANNOUNCE)

    async def look(self, now: float) -> None:
        """Guests whose packets pass here become our own, where this host is the active one."""
        if self._is_active and now >= self._claim_at:
            self._claim_at = now + _CLAIM_INTERVAL
            await self._sweep(CLAIM_SEEN)

    async def begin(self) -> None:
        """This host is the active one: guests become its own."""
        self._is_active = True
        await self._sweep(CLAIM_ALL)

    async def tell_last(self) -> None:
        """There is nothing that would not have been told."""

    async def stand_by(self) -> None:
        """Another host is the active one: all become its guests."""
        self._is_active = False
        await self._sweep(HAND_OVER)

    async def _sweep(self, how: int) -> None:
        for thread in self._threads:
            first: int | None = 0
            while first is not None:
                await self._post.room()
                first = await ask(thread, partial(thread.exchange.sweep_bindings, first, how))

    def _dealt_out(self, keys: Iterable[str]) -> Iterable[tuple[Thread, list[str]]]:
        parts: list[list[str]] = [[] for _ in self._threads]
        for key in keys:
            parts[_shard(key, len(parts))].append(key)
        return (
            (thread, some) for thread, part in zip(self._threads, parts, strict=True) for some in slices(part, _SLICE)
        )


def _key(service: str, client: Endpoint) -> str:
    return f"{_KIND} {service}/{show(client)}"


def _shard(key: str, count: int) -> int:
    try:
        return shard_of_client(key, count)
    except ValueError:
        return 0


def _binding(key: str, value: str) -> Binding | None:
    ends = _ends(key)
    try:
        return None if ends is None else (*ends, _endpoint(value))
    except ValueError:
        return None


def _ends(key: str) -> tuple[str, Endpoint] | None:
    service, _, client = key.rpartition("/")
    try:
        return service, _endpoint(client)
    except ValueError:
        return None


def _endpoint(text: str) -> Endpoint:
    address, _, port = text.rpartition(":")
    if not 0 <= int(port) <= 0xFFFF:
        raise ValueError(text)
    return IPv4Address(address).packed, int(port)
