"""What is known of OpenFlow switches, as records: ``switch openflow/10.10.0.11:40001`` → what Directory.plain() gives.

A switch is told again while it is new, since it goes on telling about itself, then now and then; only what has changed
is written.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from natmirror.replication.kinds import Post, ask, slices
from natmirror.replication.store import GONE, PUT, Op
from natmirror.rules.shards import shard_of_client

_KIND = "switch"
_SLICE = 20
_LOOK_INTERVAL = 1.0
_NEW = 10.0  # seconds for which a connection is looked at each time; the others as often


class Exchange(Protocol):
    """What is asked of a thread's engine, in that thread."""

    def living_switches(self) -> list[str]:
        """The connections whose switch is known, but for what another host has told."""

    def show_switches(self, clients: Sequence[str]) -> list[dict[str, Any]]:
        """What is known of the switches behind some connections."""

    def take_in_switches(self, entries: Sequence[dict[str, Any]]) -> int:
        """Another host's switches; gives how many of them make no sense."""

    def withdraw_switches(self, clients: Sequence[str]) -> None:
        """The other host does not have these connections any more."""


class Thread(Protocol):
    """One of the threads that pass packets: those of some of the clients."""

    @property
    def exchange(self) -> Exchange:
        """Its engine."""

    def request(self, question: Any) -> "Future[Any]":
        """Have the thread answer soon."""


class SwitchRecords:
    """A Part."""

    kind = _KIND

    def __init__(self, threads: Sequence[Thread], post: Post) -> None:
        self._threads = threads
        self._post = post
        self._is_active = False
        self._told: dict[str, tuple[float, int]] = {}  # since when it is known, and a hash of what was told
        self._look_at = 0.0
        self._whole_at = 0.0

    async def take_in(self, records: Mapping[str, str]) -> int:
        """Other hosts have written these; gives how many of them mean nothing here, or find no room."""
        entries: list[list[dict[str, Any]]] = [[] for _ in self._threads]
        refused = 0
        for client, text in records.items():
            try:
                entries[shard_of_client(client, len(entries))].append({**json.loads(text), "client": client})
            except (TypeError, ValueError, RecursionError):
                refused += 1
        for thread, part in zip(self._threads, entries, strict=True):
            for some in slices(part, _SLICE):
                refused += int(await ask(thread, partial(thread.exchange.take_in_switches, some)))
        return refused

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Other hosts' records with these keys are gone; True: because what they are of has ended."""
        for thread in self._threads:
            for some in slices(gone, _SLICE):
                await ask(thread, partial(thread.exchange.withdraw_switches, some))

    async def tell_all(self) -> None:
        """Tell all that is this host's anew."""
        self._told.clear()
        self._look_at = 0.0

    async def look(self, now: float) -> None:
        """Tell what has changed, where that does not come by itself: of connections that this host has as the active
        one."""
        if not self._is_active or now < self._look_at:
            return
        self._look_at = now + _LOOK_INTERVAL
        is_whole = now >= self._whole_at
        self._whole_at = now + _NEW if is_whole else self._whole_at
        living: set[str] = set()
        for thread in self._threads:
            clients = await ask(thread, thread.exchange.living_switches)
            living.update(clients)
            fresh = [client for client in clients if is_whole or now - self._told.get(client, (now,))[0] < _NEW]
            for some in slices(fresh, _SLICE):
                self._post.tell(self._news(await ask(thread, partial(thread.exchange.show_switches, some)), now))
        gone = [client for client in self._told if client not in living]
        self._post.tell([Op(GONE, f"{_KIND} {client}") for client in gone])
        for client in gone:
            del self._told[client]

    def _news(self, entries: Iterable[dict[str, Any]], now: float) -> list[Op]:
        """What was not told before; that everything is older now is no news."""
        ops = []
        for entry in entries:
            client = str(entry["client"])
            since, told = self._told.get(client, (now, None))
            answers = [(kind, number, body, *bodies) for kind, number, body, _, bodies in entry["answers"]]
            found = hash(json.dumps([entry["datapath_id"], entry["auxiliary_id"], entry["version"], answers]))
            if found != told:
                self._told[client] = since, found
                ops.append(Op(PUT, f"{_KIND} {client}", json.dumps(entry)))
        return ops

    async def begin(self) -> None:
        """This host is the active one; whoever is met here from now on is told by it."""
        self._is_active = True

    async def tell_last(self) -> None:
        """There is nothing that would not have been told."""

    async def stand_by(self) -> None:
        """Another host is the active one; whoever is met there is told by it."""
        self._is_active = False
        self._told.clear()
