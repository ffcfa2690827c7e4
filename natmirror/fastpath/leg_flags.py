"""Read and set the bits of a leg's row by name. leg_table.h explains each bit."""

from natmirror._ffi import lib
from natmirror.fastpath.rows import LegRow

_STEADY = lib.NM_LEG_STEADY
_SACK = lib.NM_LEG_SACK
_SAMPLING = lib.NM_LEG_SAMPLING
_MEASURED = lib.NM_LEG_MEASURED
_ACCEPTED = lib.NM_LEG_ACCEPTED


def is_steady(row: LegRow) -> bool:
    """Return whether C handles the leg's data and acknowledgements: established, with no loss to repair."""
    return row.flags & _STEADY != 0


def set_steady(row: LegRow, steady: bool) -> None:
    """Let C handle the leg's data and acknowledgements, or punt them to Python."""
    row.flags = row.flags | _STEADY if steady else row.flags & ~_STEADY


def uses_sack(row: LegRow) -> bool:
    """Return whether both ends use selective acknowledgements (RFC 2018)."""
    return row.flags & _SACK != 0


def set_sack(row: LegRow, sack: bool) -> None:
    """Note whether both ends use selective acknowledgements."""
    row.flags = row.flags | _SACK if sack else row.flags & ~_SACK


def is_sampling(row: LegRow) -> bool:
    """Return whether a round trip is being measured, from ``sample_at`` to the acknowledgement of ``sample_end``."""
    return row.flags & _SAMPLING != 0


def set_sampling(row: LegRow, sampling: bool) -> None:
    """Note whether a round trip is being measured."""
    row.flags = row.flags | _SAMPLING if sampling else row.flags & ~_SAMPLING


def has_measured(row: LegRow) -> bool:
    """Return whether ``srtt`` and ``rttvar`` hold a measured round trip."""
    return row.flags & _MEASURED != 0


def set_measured(row: LegRow) -> None:
    """Note that ``srtt`` and ``rttvar`` hold a measured round trip."""
    row.flags |= _MEASURED


def set_accepted(row: LegRow) -> None:
    """Note that the mirror has accepted the leg, or has answered after another host had opened it."""
    row.flags |= _ACCEPTED
