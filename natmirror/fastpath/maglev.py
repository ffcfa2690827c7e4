"""Fill the lookup tables that spread new connections over a pool (Maglev), in C."""

from array import array
from collections.abc import Sequence

from natmirror._ffi import ffi, lib
from natmirror.fastpath.rows import Array, MaglevRow


def fill_maglev(size: int, backends: Sequence[tuple[int, int, int, int]]) -> "array[int]":
    """Return a lookup table of ``size`` slots, a prime number.

    ``backends`` has, in the order in which backends choose: the first preferred slot, the distance from each preferred
    slot to the next, the weight, and the number to write into the slots.
    """
    table = array("H", bytes(2 * size))
    rows: Array[MaglevRow] = ffi.new("nm_maglev_backend[]", len(backends))
    for row, preferences in zip(rows, backends, strict=True):
        row.slot, row.skip, row.weight, row.place = preferences
    lib.nm_maglev_fill(ffi.from_buffer("uint16_t[]", table), size, rows, len(backends))
    return table


def share_maglev(whole: "array[int]", shares: Sequence[float]) -> "array[int]":
    """Return the table in which each number keeps this share, from 0 to 1, of its slots; an empty one if all are 0."""
    table = array("H", whole)
    fresh, old = (ffi.from_buffer("uint16_t[]", one) for one in (table, whole))
    limits = [round(share * lib.NM_MAGLEV_WHOLE) for share in shares]
    return table if lib.nm_maglev_share(fresh, old, len(whole), limits) else array("H")


def places_of(table: "array[int]", count: int) -> set[int]:
    """Return the numbers below ``count`` that a table has; it has no others."""
    has = bytearray(count)
    lib.nm_maglev_find(ffi.from_buffer("uint16_t[]", table), len(table), ffi.from_buffer("uint8_t[]", has))
    return {place for place in range(count) if has[place]}


def number_places(table: "array[int]", numbers: Sequence[int]) -> "array[int]":
    """Return a table with ``numbers[place]`` for each place."""
    fresh = array("H", table)
    lib.nm_maglev_number(ffi.from_buffer("uint16_t[]", fresh), len(fresh), numbers)
    return fresh
