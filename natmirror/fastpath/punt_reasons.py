"""The reasons for which the C gear punts a packet, i.e. leaves it to Python. gear.h has their numbers."""

from enum import StrEnum

from natmirror._ffi import lib

_PREFIX = "NM_PUNT_"


class PuntReason(StrEnum):
    """Why the C code left a packet to Python."""

    NOT_TCP = "not-tcp"
    """The packet is not exactly one TCP segment: it is ICMP, a fragment, padded, or of another protocol."""
    OPENING_OR_CLOSING = "opening-or-closing"
    """The packet is a SYN, FIN or RST, or its flow is opening or closing."""
    NO_FLOW = "no-flow"
    """The packet belongs to no flow and to no leg."""
    SPECIAL_FLOW = "special-flow"
    """natmirror has reset the packet's flow, or the flow is a client's direct connection to a backend, or the flow
    normally passes at another netfilter hook."""
    THROTTLED = "throttled"
    """The packet's client is throttled for a mirror."""
    OUT_OF_ORDER = "out-of-order"
    """The packet has data for a mirror or session, and is out of order or past the receiver's window."""
    MPTCP = "mptcp"
    """The packet has data of a flow that is copied, and an MPTCP option."""
    LEG_REPAIR = "leg-repair"
    """A leg that the packet concerns has no room, or is not in its steady state: it opens, closes or repairs a loss."""
    COPY_BEGINS = "copy-begins"
    """A copy of the packet's flow that has ended may begin again with the packet's data."""
    RESET = "reset"
    """The packet is a RST that ends a flow with mirrors."""


PUNTS = {
    int(getattr(lib, name)): PuntReason[name.removeprefix(_PREFIX)]
    for name in dir(lib)
    if name.startswith(_PREFIX) and name != "NM_PUNT_REASONS"
}
"""The reasons by the number that nm_process() returns. A number of gear.h without a name here stops the import."""
