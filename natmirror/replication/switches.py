"""What is known of switches, as records: ``switch openflow/10.10.0.11:40001`` → what Directory.plain() returns.

A switch is looked at often while it is new, since it goes on telling about itself, then now and then; only what has
changed is written.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from natmirror.replication.record_kind import PacketThread, RecordWriter, ask, slices
from natmirror.replication.store import GONE, PUT, Op
from natmirror.rules.shards import shard_of_client

_KIND = "switch"
_SLICE = 20
_LOOK_INTERVAL = 1.0
_NEW = 10.0  # seconds for which a connection is looked at each time; the others as often


class SwitchRecords:
    """A RecordKind."""

    name = _KIND

    def __init__(self, threads: Sequence[PacketThread], writer: RecordWriter) -> None:
        self._threads = threads
        self._writer = writer
        self._is_active = False
        self._written: dict[str, tuple[float, int]] = {}  # since when it is known, and a hash of what was written
        self._look_at = 0.0
        self._whole_at = 0.0

    async def take_in(self, records: Mapping[str, str]) -> int:
        """Take in what other hosts have written; return how many records make no sense here, or find no room."""
        entries: list[list[dict[str, Any]]] = [[] for _ in self._threads]
        refused = 0
        for client, text in records.items():
            try:
                entries[shard_of_client(client, len(entries))].append({**json.loads(text), "client": client})
            except (TypeError, ValueError, RecursionError):
                refused += 1
        for thread, part in zip(self._threads, entries, strict=True):
            for some in slices(part, _SLICE):
                refused += int(await ask(thread, partial(thread.replication.take_in_switches, some)))
        return refused

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Drop other hosts' records with these keys; True: because what they describe has ended."""
        for thread in self._threads:
            for some in slices(gone, _SLICE):
                await ask(thread, partial(thread.replication.withdraw_switches, some))

    async def write_all(self) -> None:
        """Write all that is this host's again."""
        self._written.clear()
        self._look_at = 0.0

    async def write_changes(self, now: float) -> None:
        """Tell what has changed, where that does not come by itself: of connections that this host has as the active
        one."""
        if not self._is_active or now < self._look_at:
            return
        self._look_at = now + _LOOK_INTERVAL
        is_whole = now >= self._whole_at
        self._whole_at = now + _NEW if is_whole else self._whole_at
        living: set[str] = set()
        for thread in self._threads:
            clients = await ask(thread, thread.replication.living_switches)
            living.update(clients)
            fresh = [client for client in clients if is_whole or now - self._written.get(client, (now,))[0] < _NEW]
            for some in slices(fresh, _SLICE):
                self._writer.write(self._news(await ask(thread, partial(thread.replication.show_switches, some)), now))
        gone = [client for client in self._written if client not in living]
        self._writer.write([Op(GONE, f"{_KIND} {client}") for client in gone])
        for client in gone:
            del self._written[client]

    def _news(self, entries: Iterable[dict[str, Any]], now: float) -> list[Op]:
        """What was not written before; that everything is older now is no news."""
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

    async def become_active(self) -> None:
        """Write the switches that are known here from now on."""
        self._is_active = True

    async def write_last_changes(self) -> None:
        """There is nothing that would not have been written."""

    async def become_standby(self) -> None:
        """Leave writing switches to the other host."""
        self._is_active = False
        self._written.clear()
