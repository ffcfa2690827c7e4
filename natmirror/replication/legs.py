"""Legs, as records: ``leg openflow/10.10.0.11:40001`` → what Engine.leg_records() gives of the connection's legs.

The active host writes those that have moved. A standby knows them, and goes on with all of them when it becomes the
active host: from then on they are its own.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from natmirror.replication.kinds import Post, ask, slices
from natmirror.replication.store import GONE, PUT, Op
from natmirror.rules.shards import shard_of_client

_KIND = "leg"
_SLICE = 100  # connections whose legs are looked at between two batches of packets
_ADOPTED_AT_ONCE = 25
_LOOK_INTERVAL = 0.15
_MAX_SHARE = 10  # looking rests at least this many times as long as it took


class Exchange(Protocol):
    """What is asked of a thread's engine, in that thread."""

    def mirrored_ids(self) -> list[int]:
        """The numbers of flows with legs."""

    def leg_records(self, ids: Sequence[int], *, everything: bool) -> list[dict[str, Any]]:
        """The legs of these flows that have moved since they were told last, or all."""

    def take_gone_legs(self) -> list[tuple[str, str]]:
        """Service and client of records that hold no more."""

    def adopt_legs(self, records: Sequence[dict[str, Any]]) -> int:
        """Know another host's legs, which wait; gives how many records make no sense here."""

    def disown_legs(self, gone: Sequence[tuple[str, str]]) -> None:
        """Records of another host's legs hold no more: service and client."""

    def take_over(self) -> None:
        """This host passes the packets from now on."""

    def hand_over(self) -> None:
        """Another host passes the packets from now on."""


class Thread(Protocol):
    """One of the threads that pass packets: those of some of the clients."""

    @property
    def exchange(self) -> Exchange:
        """Its engine."""

    def request(self, question: Any) -> "Future[Any]":
        """Have the thread answer soon."""


class LegRecords:
    """A Part."""

    kind = _KIND

    def __init__(self, threads: Sequence[Thread], post: Post, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._post = post
        self._clock = clock
        self._is_active = False
        self._kept: dict[str, str] = {}
        self._look_at = 0.0

    async def take_in(self, records: Mapping[str, str]) -> int:
        """Other hosts have written these; gives how many of them mean nothing here, or find no room."""
        if self._is_active:
            return 0
        self._kept |= records
        parts: list[list[dict[str, Any]]] = [[] for _ in self._threads]
        refused = 0
        for key, text in records.items():
            try:
                parts[shard_of_client(key, len(parts))].append(dict(json.loads(text)))
            except (TypeError, ValueError, RecursionError):
                refused += 1
        for thread, part in zip(self._threads, parts, strict=True):
            for some in slices(part, _ADOPTED_AT_ONCE):
                refused += int(await ask(thread, partial(thread.exchange.adopt_legs, some)))
        return refused

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Other hosts' records with these keys are gone; True: because what they are of has ended."""
        for key in gone:
            self._kept.pop(key, None)
        for thread, part in zip(self._threads, self._dealt_out(gone), strict=True):
            for some in slices(part, _SLICE):
                ends = [(service, client) for service, _, client in (key.rpartition("/") for key in some)]
                await ask(thread, partial(thread.exchange.disown_legs, ends))

    async def tell_all(self) -> None:
        """Tell all that is this host's anew."""
        if self._is_active:
            await self._look(everything=True)

    async def look(self, now: float) -> None:
        """Tell what has moved, where this host is the active one."""
        if self._is_active and now >= self._look_at:
            began_at = self._clock()
            await self._look(everything=False)
            took = self._clock() - began_at
            self._look_at = began_at + max(_LOOK_INTERVAL, _MAX_SHARE * took)

    async def _look(self, *, everything: bool) -> None:
        for thread in self._threads:
            ids = await ask(thread, thread.exchange.mirrored_ids)
            for some in slices(ids, _SLICE):
                await self._post.room()
                records = await ask(thread, partial(thread.exchange.leg_records, some, everything=everything))
                self._post.tell([Op(PUT, f"{_KIND} {_key(record)}", json.dumps(record)) for record in records])
            gone = await ask(thread, thread.exchange.take_gone_legs)
            self._post.tell([Op(GONE, f"{_KIND} {service}/{client}") for service, client in gone])

    async def begin(self) -> None:
        """This host is the active one: it goes on with what others have told, and tells of it from now on."""
        self._is_active = True
        for thread in self._threads:
            await ask(thread, thread.exchange.take_over)
        kept, self._kept = self._kept, {}
        for some in slices(kept.items(), _SLICE):  # what does not go on is removed when all is told anew
            await self._post.room()
            self._post.tell([Op(PUT, f"{_KIND} {key}", text) for key, text in some])

    async def tell_last(self) -> None:
        """Another host is about to be the active one: tell what has moved since it was told last."""
        await self._look(everything=False)

    async def stand_by(self) -> None:
        """Another host is the active one, and goes on with all legs."""
        self._is_active = False
        for thread in self._threads:
            await ask(thread, thread.exchange.hand_over)

    def _dealt_out(self, keys: Iterable[str]) -> list[list[str]]:
        parts: list[list[str]] = [[] for _ in self._threads]
        for key in keys:
            with suppress(ValueError):  # it was refused before
                parts[shard_of_client(key, len(parts))].append(key)
        return parts


def _key(record: Mapping[str, Any]) -> str:
    return f"{record['service']}/{record['client']}"
