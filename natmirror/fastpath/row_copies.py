"""Copies of rows. A row belongs to its packet thread; any thread may read a copy, later: all of it but its pointers."""

from natmirror._ffi import ffi
from natmirror.fastpath.rows import FlowRow, LegRow

_FLOW_LEN, _LEG_LEN = ffi.sizeof("nm_flow"), ffi.sizeof("nm_leg")


def copy_of_flow(row: FlowRow) -> bytes:
    """Return a copy of a flow's row, for flow_in()."""
    return bytes(ffi.buffer(row, _FLOW_LEN))


def flow_in(copy: bytes) -> FlowRow:
    """Return the row in a copy. It keeps the copy alive."""
    row: FlowRow = ffi.from_buffer("nm_flow *", copy)
    return row


def copy_of_leg(row: LegRow) -> bytes:
    """Return a copy of a leg's row, for leg_in()."""
    return bytes(ffi.buffer(row, _LEG_LEN))


def leg_in(copy: bytes) -> LegRow:
    """Return the row in a copy. It keeps the copy alive."""
    row: LegRow = ffi.from_buffer("nm_leg *", copy)
    return row
