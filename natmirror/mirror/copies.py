"""A mirrored flow's stream, and its copy for each mirror."""

from dataclasses import dataclass
from typing import Protocol

from natmirror.fastpath import FlowRow
from natmirror.fastpath.flow_flags import clear_orig_waiting, remove_reader
from natmirror.mirror.copy_states import TRANSITIONS, StreamEvent, StreamState
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import EndReason
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
    def is_picked_up(self) -> bool:
        """Whether the flow began in mid-connection."""


@dataclass(slots=True, eq=False)
class StreamCopy:
    """One flow's copy for one mirror: a leg, or why there is none."""

    mirror: Mirror
    stream: "MirroredStream"
    leg: Leg | None = None
    why_absent: EndReason | None = None
    is_resumed: bool = False
    """The leg was another host's, and has gone on here."""

    @property
    def service_name(self) -> str:
        """The service's name."""
        return self.stream.flow.service.name

    @property
    def client_is_gone(self) -> bool:
        """Whether the client's connection is over."""
        return self.stream.is_over

    @property
    def why_over(self) -> EndReason | None:
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
    """A flow's stream of bytes, and its copies."""

    flow: MirroredFlow
    reassembler: Reassembler
    copies: tuple[StreamCopy, ...] = ()
    replies: Reassembler | None = None
    """Of what the backend sends, where masters have sessions."""
    state: StreamState = StreamState.COPYING
    has_rest: bool = False
    """More bytes are in order than were written in one call: the rest is about to follow."""
    is_adopted: bool = False
    """Another host has passed what lies before."""
    is_handed_over: bool = False
    """Another host passes it since."""
    standby_from: int = 0
    """While it stands by: the number that the client had come to when its last record was made."""
    final_bytes: int = 0
    """What the client sent in all, once the stream is gone."""

    def move(self, event: StreamEvent) -> None:
        """Go to the state that follows; KeyError where none does."""
        self.state = TRANSITIONS[self.state, event]

    @property
    def is_over(self) -> bool:
        """Whether production's connection is over."""
        return self.state >= StreamState.OVER_ASKING

    @property
    def client_bytes(self) -> int:
        """Bytes the client has sent on this connection."""
        return self.final_bytes if self.state is StreamState.GONE else int(self.flow.row.orig.bytes)

    def alive(self) -> list[tuple[StreamCopy, Leg]]:
        """The legs that have not ended."""
        return [(copy, copy.leg) for copy in self.copies if copy.leg is not None and copy.leg.ended is None]


def stop_reading(flow: MirroredFlow, stream: MirroredStream | None) -> None:
    """Stop reading what a flow's ends send: no master has a session any more."""
    row = flow.row
    remove_reader(row)
    if stream is None or stream.replies is None:
        return
    stream.replies.clear()
    if not stream.alive():
        clear_orig_waiting(row)
        stream.reassembler.clear()
