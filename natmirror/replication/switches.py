"""Records of known switches: ``switch openflow/10.10.0.11:40001`` → one entry from Directory.plain(), as JSON.

A new switch is scanned every second, because its first messages describe it; after that every ten seconds. Only entries
that have changed are written.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from natmirror.replication.record_kind import PacketThread, RecordWriter, ask, slices
from natmirror.replication.store import GONE, PUT, Op
from natmirror.rules.shards import shard_of_client

_KIND = "switch"
_SLICE = 20  # switches that are read between two batches of packets
_SCAN_INTERVAL = 1.0  # seconds between two scans of new connections
_FULL_SCAN_INTERVAL = 10.0  # seconds between two scans of all connections, and for which a connection counts as new


class SwitchRecords:
    """The RecordKind of known switches."""

    name = _KIND
    is_held = True

    def __init__(self, threads: Sequence[PacketThread], writer: RecordWriter) -> None:
        self._threads = threads
        self._writer = writer
        self._is_active = False
        # By client: when its switch was first written, and a hash of the latest entry.
        self._written: dict[str, tuple[float, int]] = {}
        self._next_scan_at = 0.0
        self._next_full_scan_at = 0.0

    async def adopt(self, records: Mapping[str, str]) -> int:
        """Adopt other hosts' switches; return how many records were rejected as invalid."""
        entries: list[list[dict[str, Any]]] = [[] for _ in self._threads]
        rejected = 0
        for client, text in records.items():
            try:
                entries[shard_of_client(client, len(entries))].append({**json.loads(text), "client": client})
            except (TypeError, ValueError, RecursionError):
                rejected += 1
        for thread, part in zip(self._threads, entries, strict=True):
            for chunk in slices(part, _SLICE):
                rejected += int(await ask(thread, partial(thread.replication.adopt_switches, chunk)))
        return rejected

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Forget other hosts' switches with these keys."""
        for thread in self._threads:
            for chunk in slices(gone, _SLICE):
                await ask(thread, partial(thread.replication.withdraw_switches, chunk))

    async def write_all(self) -> None:
        """Have the next write_changes() write all switches again."""
        self._written.clear()
        self._next_scan_at = 0.0

    async def write_changes(self, now: float) -> None:
        """On the active host, write the switches that have changed, and remove those whose connections have ended, if a
        scan is due."""
        if not self._is_active or now < self._next_scan_at:
            return
        self._next_scan_at = now + _SCAN_INTERVAL
        is_full = now >= self._next_full_scan_at
        if is_full:
            self._next_full_scan_at = now + _FULL_SCAN_INTERVAL
        seen: set[str] = set()
        for thread in self._threads:
            clients = await ask(thread, thread.replication.seen_switches)
            seen.update(clients)
            scanned = clients if is_full else [client for client in clients if self._is_new(client, now)]
            for chunk in slices(scanned, _SLICE):
                self._writer.write(
                    self._changed(await ask(thread, partial(thread.replication.show_switches, chunk)), now)
                )
        gone = [client for client in self._written if client not in seen]
        self._writer.write([Op(GONE, f"{_KIND} {client}") for client in gone])
        for client in gone:
            del self._written[client]

    def _is_new(self, client: str, now: float) -> bool:
        return client not in self._written or now - self._written[client][0] < _FULL_SCAN_INTERVAL

    def _changed(self, entries: Iterable[dict[str, Any]], now: float) -> list[Op]:
        """Return the writes of entries that have changed since they were written; an answer's age is no change."""
        ops = []
        for entry in entries:
            client = str(entry["client"])
            since, written = self._written.get(client, (now, None))
            answers = [(kind, number, body, *bodies) for kind, number, body, _, bodies in entry["answers"]]
            found = hash(json.dumps([entry["datapath_id"], entry["auxiliary_id"], entry["version"], answers]))
            if found != written:
                self._written[client] = since, found
                ops.append(Op(PUT, f"{_KIND} {client}", json.dumps(entry)))
        return ops

    async def activate(self) -> None:
        """Begin to write the switches that are known here."""
        self._is_active = True

    async def write_last_changes(self) -> None:
        """Do nothing: write_changes() writes each change within seconds."""

    async def release(self) -> None:
        """Stop writing switches: the other host does."""
        self._is_active = False
        self._written.clear()
