"""The lookup tables of pools."""

from array import array
from collections.abc import Sequence

from natmirror._ffi import ffi, lib


def fill_maglev(size: int, backends: Sequence[tuple[int, int, int, int]]) -> "array[int]":
    """A table of ``size`` slots, a prime number, from the preferences of backends whose turns follow each other: the
    slot that each prefers most, the way to the next, its weight, and what its slots hold."""
    table = array("H", bytes(2 * size))
    rows = ffi.new("nm_maglev_backend[]", len(backends))
    for row, preferences in zip(rows, backends, strict=True):
        row.slot, row.skip, row.weight, row.place = preferences
    lib.nm_maglev_fill(ffi.from_buffer("uint16_t[]", table), size, rows, len(backends))
    return table


def share_maglev(whole: "array[int]", shares: Sequence[float]) -> "array[int]":
    """The table where each place takes this share of its part, from 0 to 1; empty where all are 0."""
    table = array("H", whole)
    ends = [ffi.from_buffer("uint16_t[]", one) for one in (table, whole)]
    some = lib.nm_maglev_share(*ends, len(whole), [round(share * lib.NM_MAGLEV_WHOLE) for share in shares])
    return table if some else array("H")
