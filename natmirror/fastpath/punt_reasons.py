"""Why the C gear punts a packet: leaves it to Python. gear.h has the numbers, under the same names."""

from enum import StrEnum

from natmirror._ffi import lib

_PREFIX = "NM_PUNT_"


class PuntReason(StrEnum):
    """Why a packet was decided in Python."""

    NOT_TCP = "not-tcp"
    """It is no whole TCP segment: ICMP, a fragment, a packet with padding, or another protocol."""
    OPENING_OR_CLOSING = "opening-or-closing"
    """It is a SYN, FIN or RST, or belongs to a flow that is opening or closing."""
    NO_FLOW = "no-flow"
    """It belongs to no flow and no leg."""
    SPECIAL_FLOW = "special-flow"
    """Its flow was reset by natmirror, is a client's direct connection to a backend, or is seen at another hook."""
    THROTTLED = "throttled"
    """Its client is throttled for a mirror."""
    OUT_OF_ORDER = "out-of-order"
    """It has data for a mirror, out of order or past the receiver's window."""
    LEG_REPAIR = "leg-repair"
    """One of its legs has a loss to repair, or no room."""


PUNTS = {
    int(getattr(lib, name)): PuntReason[name.removeprefix(_PREFIX)]
    for name in dir(lib)
    if name.startswith(_PREFIX) and name != "NM_PUNT_REASONS"
}
"""The reasons by what nm_process() answers. A number of gear.h without a name here stops the import."""
