"""A mirrored flow's stream, and its copy for each mirror."""

from dataclasses import dataclass
from typing import Protocol

from natmirror.fastpath import FlowRow
from natmirror.fastpath.flow_flags import clear_orig_waiting, remove_reader
from natmirror.net.endpoint import Endpoint
from natmirror.rules import Mirror, Service
from natmirror.tcp.leg import Leg
from natmirror.tcp.reassembler import Reassembler


class MirroredFlow(Protocol):
    """What has to be known of a flow to mirror it."""

    row: FlowRow
    client: Endpoint
    service: Service
    syn_data: bytes

    @property
    def picked_up(self) -> bool:
        """Whether the connection was met in its middle."""


@dataclass(slots=True, eq=False)
class StreamCopy:
    """One flow's copy for one mirror: a leg, or why there is none."""

    mirror: Mirror
    stream: "MirroredStream"
    leg: Leg | None = None
    why_absent: str | None = None
    is_resumed: bool = False
    """The leg was another host's, and has gone on here."""

    @property
    def service_name(self) -> str:
        """The service's name."""
        return self.stream.flow.service.name

    @property
    def client_is_gone(self) -> bool:
        """Whether the client's connection is over."""
        return self.stream.flow_over

    @property
    def why_over(self) -> str | None:
        """Why no more bytes will arrive; None while a leg lives."""
        return self.why_absent if self.leg is None else self.leg.ended

    @property
    def acked_bytes(self) -> int:
        """Bytes that the mirror has acknowledged."""
        return 0 if self.leg is None else self.leg.acked_bytes

    @property
    def missing_bytes(self) -> int:
        """Bytes that the client has sent and the mirror has not acknowledged."""
        return self.stream.client_bytes - self.acked_bytes


@dataclass(slots=True, eq=False)
class MirroredStream:
    """A flow's stream, and where it goes."""

    flow: MirroredFlow
    reassembler: Reassembler
    copies: tuple[StreamCopy, ...] = ()
    replies: Reassembler | None = None
    """Of what the backend sends, where somebody reads both directions."""
    is_handed_over: bool = False
    """Another host passes it since."""
    finished: bool = False
    """The stream's end has been told to the legs."""
    flow_over: bool = False
    is_draining: bool = False
    """More bytes are in order than were given in one call: the rest is about to follow."""
    is_adopted: bool = False
    """Another host has passed what lies before."""
    standby_from: int | None = None
    """As far as is known it still does; then this is as far as the client had come when that was told."""
    is_asking: bool = False
    """Not all its mirrors have said yet how far they have come: nothing counts as missing."""
    final_bytes: int | None = None
    """What the client sent in all, once the flow's row is gone."""

    @property
    def client_bytes(self) -> int:
        """Bytes the client has sent on this connection."""
        return int(self.flow.row.orig.bytes) if self.final_bytes is None else self.final_bytes

    def alive(self) -> list[tuple[StreamCopy, Leg]]:
        """The legs that have not ended."""
        return [(copy, copy.leg) for copy in self.copies if copy.leg is not None and copy.leg.ended is None]


def stop_reading(flow: MirroredFlow, stream: MirroredStream | None) -> None:
    """No master is told any more of what a flow's ends send."""
    row = flow.row
    remove_reader(row)
    if stream is None or stream.replies is None:
        return
    stream.replies.clear()
    if not stream.alive():
        clear_orig_waiting(row)
        stream.reassembler.clear()
