"""A client's connection as one engine knows it.

Theory. A client may send several SYNs with different numbers or data before its backend answers, and the backend takes
one of them. Its SYN-ACK tells which one, if exactly one explains the acknowledgement: it acknowledges the SYN, or the
SYN and some of its data (TCP Fast Open, RFC 7413). Otherwise the flow is ambiguous: it is forwarded, but not copied.
SYNs with the same number agree as far as their data does: a SYN-ACK that takes none of it is not ambiguous. An earlier
flow between the same client and backend counts too, since its end may not have come to the backend.
"""

from dataclasses import dataclass, field

from natmirror.fastpath import MAX_SYN_DATA, NO_WINDOW_SCALE, FlowRow
from natmirror.fastpath.flow_flags import (
    HALF_SEQ,
    is_ambiguous,
    is_direct,
    is_picked_up,
    is_service_mirrored,
    set_ambiguous,
)
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import Segment
from natmirror.rules import Backend, Service
from natmirror.tcp.syns import irs

_MAX_FORMER_SYNS = 64  # an honest client has one or two


@dataclass(slots=True, eq=False)
class Flow:
    """A client's connection: its numbers in ``row``, which is the C gear's struct, and the state that only Python
    has."""

    row: FlowRow
    client: Endpoint
    service: Service
    backend: Backend | None
    """None for a service without a pool, and for a client that is connected to a backend directly."""
    syn_data: bytes = b""
    """The data in the client's SYN, as far as other SYNs with its number agree on it."""
    has_other_syn_data: bool = False
    """Whether another SYN with that number had other data behind ``syn_data``."""
    former_irs: int | None = None
    """The number of an earlier SYN-ACK, which the backend may repeat: of a flow that this one replaces."""
    new_syn: Segment | None = None
    """A SYN with another number, which the backend has not accepted yet."""
    former_new_syns: list[tuple[int, int]] = field(default_factory=list)
    """Number and length in bytes of each SYN that ``new_syn`` has replaced: the backend may accept it."""
    new_syn_at: float = 0.0
    new_syn_replies: int = 0
    """The number of the backend's packets up to ``new_syn_at``; a later one shows that the old connection lives."""

    @property
    def is_picked_up(self) -> bool:
        """Whether the flow was picked up: its SYN did not pass here."""
        return is_picked_up(self.row)

    @property
    def state(self) -> State:
        return State(self.row.state)

    @property
    def is_direct(self) -> bool:
        """Whether the client is connected to the backend's own endpoint: its packets pass unchanged."""
        return is_direct(self.row)

    def is_first_syn(self, syn: Segment) -> bool:
        """Return whether a SYN is the one that opened this connection, delayed or repeated."""
        return not is_picked_up(self.row) and not is_direct(self.row) and self.row.iss == syn.seq

    def note_syn(self, syn: Segment) -> None:
        """Note another SYN of the client that comes before the backend's SYN-ACK."""
        if syn.seq == self.row.iss:
            self._note_syn_data(syn.payload[:MAX_SYN_DATA])
        elif self._shares_answers_with(syn):
            set_ambiguous(self.row)

    def note_new_syn(self, syn: Segment) -> None:
        """Note a SYN with another number, in place of an earlier one; or do not, if there have been too many."""
        if self.state is State.SYN_SENT:
            self.note_syn(syn)
        new = self.new_syn
        if new is not None and not _are_equal(new, syn) and is_service_mirrored(self.row):
            former = (new.seq, new.payload_len)
            if former not in self.former_new_syns:
                if len(self.former_new_syns) == _MAX_FORMER_SYNS:
                    return
                self.former_new_syns.append(former)
        self.new_syn = syn

    def is_of_other(self, service: Service) -> bool:
        """Return whether this is a flow of another service, and no direct connection."""
        return not self.is_direct and endpoint_of(self.service) != endpoint_of(service)

    def has_rival_of(self, syn: Segment, service: Service) -> bool:
        """Return whether the answer to another SYN may be taken for the answer to ``syn``, which opens a flow of
        ``service`` in place of this one, between the same client and backend. Which SYNs came before this flow is not
        known if it is another service's."""
        if self.is_of_other(service) and self.state is not State.TIME_WAIT:
            return True
        new = self.new_syn
        if new is not None and not _are_equal(new, syn) and _share_answers(new.seq, new.payload_len, syn):
            return True
        if any(_share_answers(number, size, syn) for number, size in self.former_new_syns):
            return True
        if self.state is not State.SYN_SENT:
            return False
        if syn.seq != self.row.iss:
            return self._shares_answers_with(syn)
        is_known = not (is_ambiguous(self.row) or self.has_other_syn_data) and syn.payload == self.syn_data
        return not is_known or _scale(syn) != self.row.orig.scale

    def irs_beside(self, syn: Segment) -> int | None:
        """Return the number of the backend's SYN-ACK; None if a repetition of it cannot be taken for the answer to
        ``syn``, which opens a flow in place of this one."""
        if self.is_picked_up or self.is_direct or self.state is State.TIME_WAIT or not self.row.reply.flags & HALF_SEQ:
            return None
        return irs(self.row) if abs(seq.diff(syn.seq, self.row.iss)) <= MAX_SYN_DATA else None

    def note_syn_ack(self) -> None:
        """Note that the tracker has taken the backend's SYN-ACK."""
        has_unknown_data = self.has_other_syn_data and self.row.orig.bytes > len(self.syn_data)
        if has_unknown_data or irs(self.row) == self.former_irs:
            set_ambiguous(self.row)

    def accepts_new_syn(self, syn_ack: Segment) -> bool:
        """Return whether the backend's SYN-ACK accepts ``new_syn``."""
        new = self.new_syn
        return new is not None and _answers(syn_ack, new.seq, new.payload_len)

    def accepts_former_syn(self, syn_ack: Segment) -> bool:
        """Return whether the backend's SYN-ACK accepts one that ``new_syn`` has replaced."""
        return any(_answers(syn_ack, number, size) for number, size in self.former_new_syns)

    def _note_syn_data(self, data: bytes) -> None:
        known = self.syn_data
        common = next((at for at, (one, other) in enumerate(zip(known, data, strict=False)) if one != other), None)
        if common is not None:
            self.syn_data, self.has_other_syn_data = known[:common], True
        elif not self.has_other_syn_data and len(data) > len(known):
            self.syn_data = data

    def _shares_answers_with(self, syn: Segment) -> bool:
        """Return whether a SYN-ACK may acknowledge either of two SYNs: that of this flow, or another one."""
        return -syn.payload_len <= seq.diff(syn.seq, self.row.iss) <= MAX_SYN_DATA


def _are_equal(one: Segment, other: Segment) -> bool:
    """Return whether it does not matter which of two SYNs a backend takes."""
    return (one.seq, one.payload, _scale(one)) == (other.seq, other.payload, _scale(other))


def _share_answers(number: int, size: int, syn: Segment) -> bool:
    """Return whether a SYN-ACK may acknowledge either of two SYNs; the first has this number, and ``size`` bytes."""
    return -syn.payload_len <= seq.diff(syn.seq, number) <= size


def _answers(syn_ack: Segment, number: int, size: int) -> bool:
    """Return whether a SYN-ACK acknowledges the SYN with this number, which has ``size`` bytes."""
    return 0 <= seq.diff(syn_ack.ack, seq.add(number, 1)) <= min(size, MAX_SYN_DATA)


def _scale(syn: Segment) -> int:
    scale = syn.window_scale()
    return NO_WINDOW_SCALE if scale is None else scale
