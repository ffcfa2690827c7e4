"""How a flow follows a packet that Python decides: its numbers and its state move, and the packet is taken or not.

Both functions do the same. With the C gear on, its tracker does it: the flow's numbers lie there anyway, and it takes
one call of C in place of some thirty of Python. The reference is tracker.py.
"""

from collections.abc import Callable

from natmirror.fastpath import FlowRow, FlowTable
from natmirror.fastpath.flow_states import Event
from natmirror.net.packet import RST, SYN, Segment
from natmirror.tcp import tracker
from natmirror.tcp.acceptance import is_taken

Follow = Callable[[FlowRow, Segment, bool], tuple[Event | None, bool]]
"""A function that updates a flow by a segment whose checksum is right; the last argument says whether it is the
client's. It returns the event that changed the flow's state, or None; and whether the segment's receiver takes it,
False for a SYN or RST."""


def follow_in_python(row: FlowRow, segment: Segment, from_client: bool) -> tuple[Event | None, bool]:
    """Follow a segment with tracker.py and acceptance.py."""
    taken = not segment.flags & (SYN | RST) and is_taken(row, segment, from_client=from_client)
    return tracker.track(row, segment, from_client=from_client, is_taken=taken), taken


def follow_in_c(row: FlowRow, segment: Segment, from_client: bool) -> tuple[Event | None, bool]:
    """Follow a segment with the C gear's tracker."""
    return FlowTable.track(row, segment.raw, from_client=from_client)
