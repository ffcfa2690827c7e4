"""A mirrored flow's stream, and its copy for each mirror."""

from dataclasses import dataclass
from typing import Protocol

from natmirror.fastpath import FlowRow, client_bytes
from natmirror.fastpath.flow_flags import (
    clear_orig_waiting,
    has_inferred_end,
    has_reader,
    is_finished,
    remove_reader,
)
from natmirror.mirror.copy_states import TRANSITIONS, StreamEvent, StreamState
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import EndedBy, EndReason
from natmirror.rules import Mirror, Service
from natmirror.tcp.leg import Leg
from natmirror.tcp.reassembler import Reassembler


class MirroredFlow(Protocol):
    """The part of a flow that mirroring needs."""

    row: FlowRow
    client: Endpoint
    service: Service
    syn_data: bytes | None
    passed_to: int | None

    @property
    def is_picked_up(self) -> bool:
        """Whether the flow was picked up: its SYN did not pass here."""


@dataclass(slots=True, eq=False)
class StreamCopy:
    """One flow's copy for one mirror: its leg, or the reason why it has none."""

    mirror: Mirror
    stream: "MirroredStream"
    service_name: str
    """The name of the mirror's service: by the rules that were valid when the copy was made."""
    leg: Leg | None = None
    why_absent: EndReason | None = None
    is_resumed: bool = False
    """Whether the leg was adopted from another host and has continued here."""
    before: int = 0
    """The client's bytes before the present leg, or before the copy began to wait for its next one: the ledger's totals
    have them."""
    ended_as: EndReason | None = None
    """While the copy waits to begin again: why it ended before, or why it had no leg."""
    has_begun_again: bool = False
    """Whether the leg, or the last one, began at a break."""
    opened_at: float | None = None
    """When the leg's mirror answered its SYN; None before."""
    not_before: float = 0.0
    """The copy does not begin again before this time."""
    pauses: bool = False
    """Whether the copy waits to begin again, but not before a time to come."""

    @property
    def client(self) -> Endpoint:
        return self.stream.flow.client

    @property
    def connection_has_ended(self) -> bool:
        return self.stream.has_ended

    @property
    def why_ended(self) -> EndReason | None:
        """The reason why the mirror gets no more bytes; None while the leg is open."""
        return self.why_absent if self.leg is None else self.leg.ended

    @property
    def acked_bytes(self) -> int:
        return 0 if self.leg is None else self.leg.acked_bytes

    @property
    def missing_bytes(self) -> int:
        """Bytes of the client, since ``before``, that count and that the mirror has not acknowledged."""
        return self.stream.client_bytes - self.before - self.acked_bytes

    @property
    def waits(self) -> bool:
        """Whether the copy waits to begin again."""
        return self.why_absent is EndReason.RECONNECTING


@dataclass(slots=True, eq=False)
class MirroredStream:
    """The byte stream of a flow's client, and its copies."""

    flow: MirroredFlow
    reassembler: Reassembler
    copies: tuple[StreamCopy, ...] = ()
    has_all_copies: bool = False
    """Whether there is a copy for each mirror; False while they are made."""
    replies: Reassembler | None = None
    """The backend's stream, where masters have sessions."""
    state: StreamState = StreamState.COPYING
    has_rest: bool = False
    """Whether bytes that are in order still wait to be written to the legs; a timer writes them."""
    awaits_last: bool = False
    """Whether the client has reset the connection, and acknowledgements of its last bytes may still come."""
    is_adopted: bool = False
    """Whether another host passed the beginning of the connection."""
    is_released: bool = False
    """Whether this host has released the connection to the other host."""
    standby_from: int = 0
    """While the stream is standby: the client's next sequence number in the latest record."""
    standby_first: int = 0
    """While the stream is standby: the lowest number that a mirror may lack, by the latest record."""
    final_bytes: int = 0
    """All bytes of the client that count, once the flow is forgotten."""
    ended_by: EndedBy | None = None
    """Which end closed or reset the connection first; None as long as neither has, or if that was not seen."""

    def move(self, event: StreamEvent) -> None:
        """Change to the next state; KeyError where the event is not possible."""
        self.state = TRANSITIONS[self.state, event]

    def note_end(self, by: EndedBy) -> None:
        """Note that an end closes or resets the connection, if it is the first one."""
        if self.ended_by is None:
            self.ended_by = EndedBy.BACKEND if is_finished(self.flow.row.reply) else by

    @property
    def has_ended(self) -> bool:
        """Whether the client's connection has closed or was reset."""
        return self.state >= StreamState.ENDED_ASKING

    @property
    def ends_later(self) -> bool:
        """Whether the legs of an ended connection stay open until more bytes are written to them."""
        return self.has_rest or self.awaits_last

    @property
    def client_bytes(self) -> int:
        """The client's bytes that count for the copies: those that the backend has acknowledged, or all that were sent
        where copies do not wait for that."""
        return self.final_bytes if self.state is StreamState.FORGOTTEN else client_bytes(self.flow.row)

    @property
    def certain_bytes(self) -> int:
        """``client_bytes`` without a last one that only an acknowledgement has shown: it may turn out to be the FIN. 0
        while the stream is standby: a later record counts its bytes again."""
        if self.state is StreamState.STANDBY:
            return 0
        return max(self.client_bytes - has_inferred_end(self.flow.row.orig), 0)

    def make_copy(self, mirror: Mirror, why_absent: EndReason | None = None) -> StreamCopy:
        """Add a copy without a leg, and return it."""
        copy = StreamCopy(mirror, self, self.flow.service.name, why_absent=why_absent)
        self.copies = (*self.copies, copy)
        return copy

    def needs_flow(self) -> bool:
        """Return whether a mirror gets the client's bytes from this host, or may get them again: if the flow is
        forgotten, that ends for good."""
        return self.state is not StreamState.STANDBY and (bool(self.alive()) or has_reader(self.flow.row))

    def clear(self) -> None:
        """Free the client's bytes that wait: no leg or session gets them, so that no rest is left to write either."""
        self.reassembler.clear()
        self.has_rest = False

    def alive(self) -> list[tuple[StreamCopy, Leg]]:
        """Return the legs that have not ended, with their copies."""
        return [(copy, copy.leg) for copy in self.copies if copy.leg is not None and copy.leg.ended is None]


def stop_reading(flow: MirroredFlow, stream: MirroredStream | None) -> None:
    """Stop reading the bytes of a flow's client and backend: no master needs them any more."""
    row = flow.row
    remove_reader(row)
    if stream is None or stream.replies is None:
        return
    stream.replies.clear()
    if not stream.alive():
        clear_orig_waiting(row)
        stream.clear()
