"""Legs, as records: ``leg openflow/10.10.0.11:40001`` → what EngineAdapter.leg_records() returns.

The active host writes those that have moved. A standby knows them, and goes on with all of them when it becomes the
active host: from then on they are its own.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from natmirror.replication.record_kind import PacketThread, RecordWriter, ask, slices
from natmirror.replication.store import GONE, PUT, Op
from natmirror.rules.shards import shard_of_client

_KIND = "leg"
_SLICE = 100  # connections whose legs are looked at between two batches of packets
_ADOPTED_AT_ONCE = 25
_LOOK_INTERVAL = 0.15
_MAX_SHARE = 10  # looking rests at least this many times as long as it took


class LegRecords:
    """A RecordKind."""

    name = _KIND

    def __init__(
        self, threads: Sequence[PacketThread], writer: RecordWriter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threads = threads
        self._writer = writer
        self._clock = clock
        self._is_active = False
        self._kept: dict[str, str] = {}
        self._look_at = 0.0

    async def take_in(self, records: Mapping[str, str]) -> int:
        """Take in what other hosts have written; return how many records make no sense here, or find no room."""
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
                refused += int(await ask(thread, partial(thread.replication.adopt_legs, some)))
        return refused

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Drop other hosts' records with these keys; True: because what they describe has ended."""
        for key in gone:
            self._kept.pop(key, None)
        for thread, part in zip(self._threads, self._by_thread(gone), strict=True):
            for some in slices(part, _SLICE):
                ends = [(service, client) for service, _, client in (key.rpartition("/") for key in some)]
                await ask(thread, partial(thread.replication.disown_legs, ends))

    async def write_all(self) -> None:
        """Write all that is this host's again."""
        if self._is_active:
            await self._look(everything=True)

    async def write_changes(self, now: float) -> None:
        """Write the legs that have moved, where this host is the active one."""
        if self._is_active and now >= self._look_at:
            began_at = self._clock()
            await self._look(everything=False)
            took = self._clock() - began_at
            self._look_at = began_at + max(_LOOK_INTERVAL, _MAX_SHARE * took)

    async def _look(self, *, everything: bool) -> None:
        for thread in self._threads:
            ids = await ask(thread, thread.replication.mirrored_ids)
            for some in slices(ids, _SLICE):
                await self._writer.wait_for_room()
                records = await ask(thread, partial(thread.replication.leg_records, some, everything=everything))
                self._writer.write([Op(PUT, f"{_KIND} {_key(record)}", json.dumps(record)) for record in records])
            gone = await ask(thread, thread.replication.take_gone_legs)
            self._writer.write([Op(GONE, f"{_KIND} {service}/{client}") for service, client in gone])

    async def become_active(self) -> None:
        """Go on with the legs that other hosts have written, and write their records from now on."""
        self._is_active = True
        for thread in self._threads:
            await ask(thread, thread.replication.take_over)
        kept, self._kept = self._kept, {}
        for some in slices(kept.items(), _SLICE):  # what does not go on is removed when all is written again
            await self._writer.wait_for_room()
            self._writer.write([Op(PUT, f"{_KIND} {key}", text) for key, text in some])

    async def write_last_changes(self) -> None:
        """Write the legs that have moved since they were written last."""
        await self._look(everything=False)

    async def become_standby(self) -> None:
        """Leave all legs to the other host."""
        self._is_active = False
        for thread in self._threads:
            await ask(thread, thread.replication.hand_over)

    def _by_thread(self, keys: Iterable[str]) -> list[list[str]]:
        parts: list[list[str]] = [[] for _ in self._threads]
        for key in keys:
            with suppress(ValueError):  # it was refused before
                parts[shard_of_client(key, len(parts))].append(key)
        return parts


def _key(record: Mapping[str, Any]) -> str:
    return f"{record['service']}/{record['client']}"
