"""The bytes of a client that its backend has not acknowledged yet, as C holds them (held_bytes.h)."""

from natmirror._ffi import ffi, lib
from natmirror.fastpath.client_memory import ClientMemory
from natmirror.fastpath.constants import CHUNK_LEN
from natmirror.fastpath.rows import FlowRow, GearRow
from natmirror.net import seq

MAX_RELEASE_LEN = lib.NM_MAX_RELEASE_LEN
"""Limit on the bytes that one call gives to legs, because packets wait meanwhile."""


class HeldBytes:
    """The held bytes of one flow. They end at ``orig.next`` in its row."""

    __slots__ = ("_gear", "_memory", "_row")

    def __init__(self, gear: GearRow, memory: ClientMemory, row: FlowRow, most: int) -> None:
        """``most``: the flow may hold so many bytes, in one piece even more."""
        self._gear = gear
        self._memory = memory
        self._row = row
        row.max_held = most

    def __len__(self) -> int:
        return self._row.held_len

    def append(self, data: bytes) -> bool:
        """Append the bytes before ``orig.next``; return False if the flow may not hold so many, or without memory, even
        if what waits is given up."""
        if not self._reserve(len(data)):
            return False
        lib.nm_held_append(self._row, data, len(data))
        return True

    def _reserve(self, count: int) -> bool:
        row, held = self._row, len(self)
        start = seq.add(row.orig.next, -count)
        if lib.nm_held_reserve(self._gear, row, start, count):
            return True
        if (held and held + count > row.max_held) or not self._memory.make_room(row.held.holder, count + 2 * CHUNK_LEN):
            return False
        return bool(lib.nm_held_reserve(self._gear, row, start, count))

    def copy(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes, from ``offset`` on."""
        data = bytearray(count)
        lib.nm_held_copy(self._row, offset, ffi.from_buffer(data), count)
        return bytes(data)

    def drop(self, count: int) -> None:
        """Drop the first ``count`` bytes."""
        lib.nm_held_drop(self._gear, self._row, count)

    def clear(self) -> None:
        """Drop all bytes."""
        lib.nm_held_clear(self._gear, self._row)


def client_bytes(row: FlowRow) -> int:
    """Return how many bytes of the client count for its copies: those that the backend has acknowledged, where copies
    wait for that; else all that the client has sent."""
    return lib.nm_flow_client_bytes(row)
