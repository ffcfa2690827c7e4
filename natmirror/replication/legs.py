"""Records of legs: ``leg openflow/10.10.0.11:40001`` → one record from EngineAdapter.leg_records(), as JSON.

The active host writes the legs whose positions have changed. A standby host adopts them, and activates all of them when
it becomes the active host: from then on they are its own. If it then lacks bytes that the backend has acknowledged, its
records say so, and the other host delivers them to the mirrors before it releases its legs.
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
_SLICE = 100  # connections whose legs are read between two batches of packets
_ADOPTED_AT_ONCE = 25
_SCAN_INTERVAL = 0.15  # seconds
_MIN_PAUSE_FACTOR = 10  # the pause after a scan is at least this many times as long as the scan took


class LegRecords:
    """The RecordKind of legs."""

    name = _KIND
    is_held = True

    def __init__(
        self, threads: Sequence[PacketThread], writer: RecordWriter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threads = threads
        self._writer = writer
        self._clock = clock
        self._is_active = False
        self._adopted: dict[str, str] = {}
        self._next_scan_at = 0.0

    async def adopt(self, records: Mapping[str, str]) -> int:
        """Adopt other hosts' legs; return how many records were rejected. An active host only delivers the bytes that
        another host lacks."""
        parts, rejected = self._parse(records)
        if self._is_active:
            await self._deliver_missing(parts)
            return 0
        self._adopted |= records
        for thread, part in zip(self._threads, parts, strict=True):
            for chunk in slices(part, _ADOPTED_AT_ONCE):
                rejected += int(await ask(thread, partial(thread.replication.adopt_legs, chunk)))
        return rejected

    async def _deliver_missing(self, parts: list[list[dict[str, Any]]]) -> None:
        for thread, part in zip(self._threads, parts, strict=True):
            for chunk in slices([record for record in part if record.get("missing_to") is not None], _ADOPTED_AT_ONCE):
                await ask(thread, partial(thread.replication.deliver_missing, chunk))

    def _parse(self, records: Mapping[str, str]) -> tuple[list[list[dict[str, Any]]], int]:
        """Return the records of each thread, and how many are not in JSON."""
        parts: list[list[dict[str, Any]]] = [[] for _ in self._threads]
        rejected = 0
        for key, text in records.items():
            try:
                parts[shard_of_client(key, len(parts))].append(dict(json.loads(text)))
            except (TypeError, ValueError, RecursionError):
                rejected += 1
        return parts, rejected

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Forget other hosts' legs with these keys."""
        for key in gone:
            self._adopted.pop(key, None)
        for thread, part in zip(self._threads, self._by_thread(gone), strict=True):
            for chunk in slices(part, _SLICE):
                ends = [(service, client) for service, _, client in (key.rpartition("/") for key in chunk)]
                await ask(thread, partial(thread.replication.withdraw_legs, ends))

    async def write_all(self) -> None:
        """On the active host, write the records of all its legs again."""
        if self._is_active:
            await self._scan(everything=True)

    async def write_changes(self, now: float) -> None:
        """On the active host, write the legs that lack bytes, and, if a scan is due, those that have changed since the
        last one."""
        if not self._is_active:
            return
        for thread in self._threads:
            self._write(await ask(thread, thread.replication.lacking_records))
        if now >= self._next_scan_at:
            began_at = self._clock()
            await self._scan(everything=False)
            took = self._clock() - began_at
            self._next_scan_at = began_at + max(_SCAN_INTERVAL, _MIN_PAUSE_FACTOR * took)

    async def _scan(self, *, everything: bool) -> None:
        for thread in self._threads:
            ids = await ask(thread, thread.replication.mirrored_ids)
            for chunk in slices(ids, _SLICE):
                await self._writer.wait_for_room()
                records = await ask(thread, partial(thread.replication.leg_records, chunk, everything=everything))
                self._write(records)
            gone = await ask(thread, thread.replication.take_gone_legs)
            self._writer.write([Op(GONE, f"{_KIND} {service}/{client}") for service, client in gone])

    def _write(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._writer.write([Op(PUT, f"{_KIND} {_key(record)}", json.dumps(record)) for record in records])

    async def activate(self) -> None:
        """Activate the legs adopted from other hosts, and make their records this host's own."""
        self._is_active = True
        for thread in self._threads:
            await ask(thread, thread.replication.activate_legs)
        adopted, self._adopted = self._adopted, {}
        for chunk in slices(adopted.items(), _SLICE):  # write_all() removes records of legs that have ended
            await self._writer.wait_for_room()
            self._writer.write([Op(PUT, f"{_KIND} {key}", text) for key, text in chunk])

    async def write_last_changes(self) -> None:
        """Write the legs that have changed since they were last written."""
        await self._scan(everything=False)

    async def release(self) -> None:
        """Release all legs to the other host."""
        self._is_active = False
        for thread in self._threads:
            await ask(thread, thread.replication.release_legs)

    def _by_thread(self, keys: Iterable[str]) -> list[list[str]]:
        parts: list[list[str]] = [[] for _ in self._threads]
        for key in keys:
            with suppress(ValueError):  # adopt() has rejected this record
                parts[shard_of_client(key, len(parts))].append(key)
        return parts


def _key(record: Mapping[str, Any]) -> str:
    return f"{record['service']}/{record['client']}"
