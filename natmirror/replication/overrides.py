"""Records of overrides: ``override drain openflow/c1`` → ``seal entry``: what a command has set there last, or its end.

Both hosts write what they know, whatever their roles: an operator may give a command to either. Each entry has the time
of its command, and the latest one holds. An end stays as a record, so that a host which starts later learns it, too.

An entry commands a host, so its seal, a keyed hash, shows that a host with the pair's key has written it.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Protocol

from natmirror.replication.record_kind import RecordWriter
from natmirror.replication.store import PUT, Op

_KIND = "override"
_SEAL_LEN = 16  # bytes
_NAMES = ("kind", "service", "name")

Entry = Mapping[str, Any]
"""An override or its end, as values for JSON: ``kind``, ``service``, ``name``, ``at``, and the rest of an override."""


class OverrideHolder(Protocol):
    """Holds the overrides of this host. Any thread may call it; it does not wait."""

    def entries(self) -> list[Entry]:
        """Return the overrides that hold, and the ends of others."""

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Have other hosts' entries hold here, as far as they are later than this host's."""


class OverrideRecords:
    """The RecordKind of overrides."""

    name = _KIND
    is_held = False

    def __init__(self, holder: OverrideHolder, writer: RecordWriter, pair_key: bytes) -> None:
        self._key = pair_key
        self._holder = holder
        self._writer = writer

    def report(self, entries: Sequence[Entry]) -> None:
        """Write entries that a command has just changed; from any thread."""
        self._writer.write([self._op(entry) for entry in entries])

    async def adopt(self, records: Mapping[str, str]) -> int:
        """Adopt other hosts' entries; return how many records were rejected as malformed or not sealed with the key."""
        entries = [entry for text in records.values() if (entry := self._entry(text)) is not None]
        self._holder.adopt(entries)
        return len(records) - len(entries)

    async def withdraw(self, gone: Mapping[str, bool]) -> None:
        """Do nothing: what the store has lost still holds. An end is an entry."""

    async def write_all(self) -> None:
        """Write all entries again."""
        self.report(self._holder.entries())

    async def write_changes(self, now: float) -> None:
        """Do nothing: report() writes each change at once."""

    async def activate(self) -> None:
        """Do nothing: overrides hold whatever the role."""

    async def write_last_changes(self) -> None:
        """Do nothing: report() writes each change at once."""

    async def release(self) -> None:
        """Do nothing: overrides hold whatever the role."""

    def _op(self, entry: Entry) -> Op:
        text = json.dumps(entry)
        key = f"{_KIND} {entry['kind']} {entry['service']}/{entry['name']}"
        return Op(PUT, key, f"{self._seal(text)} {text}")

    def _entry(self, record: str) -> Entry | None:
        seal, _, text = record.partition(" ")
        if not compare_digest(seal.encode(), self._seal(text).encode()):
            return None
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return entry if isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in _NAMES) else None

    def _seal(self, text: str) -> str:
        return blake2b(text.encode(), key=self._key, digest_size=_SEAL_LEN, person=b"natmirror").hexdigest()
