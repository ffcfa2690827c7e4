"""The door to the C gear: the flow table, and process() over it. Beside the queues' codec nothing else imports it."""

from typing import Any

from natmirror._ffi import ffi, lib
from natmirror.packet import Endpoint

PUNT, ACCEPT, MODIFIED = int(lib.NM_PUNT), int(lib.NM_ACCEPT), int(lib.NM_MODIFIED)
"""What process() says: Python is to decide; let it pass; let it pass as it was rewritten in place."""

MIRRORED, WATCHED, DIRECT, LOOSE, HELD, WAITING = (
    int(lib.NM_MIRRORED),
    int(lib.NM_WATCHED),
    int(lib.NM_DIRECT),
    int(lib.NM_LOOSE),
    int(lib.NM_HELD),
    int(lib.NM_WAITING),
)
"""Flags of a flow's row, see _fastpath.h."""

_IPV4 = 4


class FlowTable:
    """Flows by their two tuples. A row is the C struct ``nm_flow``: Python reads and writes the very numbers of C.

    A row is not to be touched after its removal.
    """

    def __init__(self, max_flows: int, key: bytes) -> None:
        """Room for ``max_flows`` flows; ``key``, 16 bytes, keys the hash."""
        if len(key) != 16:
            raise ValueError(f"the key has {len(key)} bytes, not 16")
        table = lib.nm_new(max_flows, key)
        if table == ffi.NULL:
            raise MemoryError(f"no memory for {max_flows} flows")
        self._table = ffi.gc(table, lib.nm_free)
        self.counters: Any = lib.nm_table_counters(self._table)

    def __len__(self) -> int:
        return int(lib.nm_flow_count(self._table))

    def insert(self, client: Endpoint, service: Endpoint, backend: Endpoint) -> Any | None:
        """A new row with all numbers zero; None when the table is full or has one of the two tuples already."""
        return lib.nm_insert(self._table, _IPV4, *client, *service, *backend) or None

    def remove(self, row: Any) -> None:
        """Take a row out; its number is used again."""
        lib.nm_remove(self._table, row)

    def find_orig(self, client: Endpoint, service: Endpoint) -> Any | None:
        """The row of a packet from the client to the service."""
        return lib.nm_find_orig(self._table, _IPV4, *client, *service) or None

    def find_reply(self, backend: Endpoint, client: Endpoint) -> Any | None:
        """The row of a packet from the backend to the client."""
        return lib.nm_find_reply(self._table, _IPV4, *backend, *client) or None

    def process(self, packet: bytearray, hook: int, checksum: int, now: float) -> int:
        """Decide one packet, rewritten in place where the answer is MODIFIED; what is punted was not touched."""
        return int(lib.nm_process(self._table, ffi.from_buffer(packet), len(packet), hook, checksum, now))
