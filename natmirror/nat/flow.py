"""A client's connection as one engine knows it.

Theory. A client may send several SYNs with different numbers or data before its backend answers, and the backend takes
one of them. Its SYN-ACK tells which one, if exactly one explains the acknowledgement: it acknowledges the SYN, or the
SYN and some of its data (TCP Fast Open, RFC 7413). Otherwise the flow is ambiguous: it is forwarded, but not copied.
SYNs with the same number agree as far as their data does: a SYN-ACK that takes none of it is not ambiguous. An earlier
flow between the same client and backend counts too, since its end may not have come to the backend.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from sys import getsizeof

from natmirror.fastpath import MAX_SYN_DATA, ClientMemory, FlowRow
from natmirror.fastpath.flow_flags import (
    HALF_SEQ,
    is_ambiguous,
    is_direct,
    is_picked_up,
    is_service_mirrored,
    set_ambiguous,
)
from natmirror.fastpath.flow_states import State
from natmirror.nat.client_syn import ClientSyn, answers, share_answers
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import Segment
from natmirror.rules import Backend, Service
from natmirror.tcp.syns import irs

_MAX_FORMER_SYNS = 64  # an honest client has one or two
_FORMER_SYN = Struct("!IH")


@dataclass(slots=True, eq=False)
class Flow:
    """A client's connection: its numbers in ``row``, which is the C gear's struct, and the state that only Python
    has.

    The data of SYNs is on the client's part of the memory account. It is given up before a living leg is."""

    row: FlowRow
    client: Endpoint
    service: Service
    backend: Backend | None
    """None for a service without a pool, and for a client that is connected to a backend directly."""
    memory: ClientMemory
    syn_data: bytes | None = b""
    """The data in the client's SYN, as far as other SYNs with its number agree on it; kept until the handshake is
    complete, if the service has mirrors. None: there was no memory for it."""
    has_other_syn_data: bool = False
    """Whether another SYN with that number had other data behind ``syn_data``."""
    former_irs: int | None = None
    """The number of an earlier SYN-ACK, which the backend may repeat: of a flow that this one replaces."""
    new_syn: ClientSyn | None = None
    """A SYN with another number, which the backend has not accepted yet."""
    former_new_syns: bytes = b""
    """Number and length of each SYN that ``new_syn`` has replaced: the backend may accept it. Packed, for a flow may
    have many."""
    new_syn_at: float = 0.0
    new_syn_replies: int = 0
    """The number of the backend's packets up to ``new_syn_at``; a later one shows that the old connection lives."""
    passed_to: int | None = None
    """Bytes before this number may have passed here before the flow was taken from another host's record; None: none
    that matters."""
    counted: int = 0
    """Bytes that the data of SYNs has on the account."""

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

    def note_syn(self, syn: ClientSyn) -> None:
        """Note another SYN of the client that comes before the backend's SYN-ACK."""
        if syn.seq != self.row.iss:
            if self._shares_answers_with(syn):
                set_ambiguous(self.row)
        elif is_service_mirrored(self.row):
            self._note_syn_data(syn.data)
            self.count_syn_data()

    def note_new_syn(self, syn: ClientSyn) -> None:
        """Note a SYN with another number, in place of an earlier one; or do not, if there have been too many."""
        if self.state is State.SYN_SENT:
            self.note_syn(syn)
        new = self.new_syn
        if new is not None and not new.equals(syn) and is_service_mirrored(self.row):
            former = (new.seq, new.size)
            if former not in self._former():
                if len(self.former_new_syns) == _MAX_FORMER_SYNS * _FORMER_SYN.size:
                    return
                self.former_new_syns += _FORMER_SYN.pack(*former)
        syn.header = syn.header.without_data()
        self.new_syn = syn
        self.count_syn_data()

    def _former(self) -> Iterator[tuple[int, int]]:
        return _FORMER_SYN.iter_unpack(self.former_new_syns)

    def is_of_other(self, service: Service) -> bool:
        """Return whether this is a flow of another service, and no direct connection."""
        return not self.is_direct and endpoint_of(self.service) != endpoint_of(service)

    def has_rival_of(self, syn: ClientSyn, service: Service) -> bool:
        """Return whether the answer to another SYN may be taken for the answer to ``syn``, which opens a flow of
        ``service`` in place of this one, between the same client and backend. Which SYNs came before this flow is not
        known if it is another service's."""
        if self.is_of_other(service) and self.state is not State.TIME_WAIT:
            return True
        new = self.new_syn
        if new is not None and not new.equals(syn) and share_answers(new.seq, new.size, syn):
            return True
        if any(share_answers(number, size, syn) for number, size in self._former()):
            return True
        if self.state is not State.SYN_SENT:
            return False
        if syn.seq != self.row.iss:
            return self._shares_answers_with(syn)
        is_known = is_service_mirrored(self.row) and not (is_ambiguous(self.row) or self.has_other_syn_data)
        return not is_known or syn.data is None or syn.data != self.syn_data or syn.scale != self.row.orig.scale

    def irs_beside(self, syn: ClientSyn) -> int | None:
        """Return the number of the backend's SYN-ACK; None if a repetition of it cannot be taken for the answer to
        ``syn``, which opens a flow in place of this one."""
        if self.is_picked_up or self.is_direct or self.state is State.TIME_WAIT or not self.row.reply.flags & HALF_SEQ:
            return None
        return irs(self.row) if abs(seq.diff(syn.seq, self.row.iss)) <= MAX_SYN_DATA else None

    def note_syn_ack(self) -> None:
        """Note that the tracker has taken the backend's SYN-ACK."""
        known, taken = self.syn_data or b"", self.row.orig.bytes
        if (self.has_other_syn_data and taken > len(known)) or irs(self.row) == self.former_irs:
            set_ambiguous(self.row)
        if known:
            self.syn_data = known[:taken]
            self.count_syn_data()

    def accepts_new_syn(self, syn_ack: Segment) -> bool:
        """Return whether the backend's SYN-ACK accepts ``new_syn``."""
        new = self.new_syn
        return new is not None and answers(syn_ack, new.seq, new.size)

    def accepts_former_syn(self, syn_ack: Segment) -> bool:
        """Return whether the backend's SYN-ACK accepts one that ``new_syn`` has replaced."""
        return any(answers(syn_ack, number, size) for number, size in self._former())

    def _note_syn_data(self, data: bytes | None) -> None:
        known = self.syn_data
        if known is None or data is None:
            self.syn_data = None
            return
        common = next((at for at, (one, other) in enumerate(zip(known, data, strict=False)) if one != other), None)
        if common is not None:
            self.syn_data, self.has_other_syn_data = known[:common], True
        elif not self.has_other_syn_data and len(data) > len(known):
            self.syn_data = data

    def _shares_answers_with(self, syn: ClientSyn) -> bool:
        """Return whether a SYN-ACK may acknowledge either of two SYNs: that of this flow, or another one."""
        return share_answers(self.row.iss, MAX_SYN_DATA, syn)

    # Memory

    def count_syn_data(self) -> None:
        """Take the client's memory for the data that is kept of SYNs, or give it back. Keep none if there is no
        room."""
        new = None if self.new_syn is None else self.new_syn.data
        more = sum(getsizeof(data) for data in (self.syn_data, new) if data) - self.counted
        if more < 0:
            self.memory.give_waiting(self, self._holder, -more)
        elif more and not self.memory.take_waiting(self, self._holder, more):
            self.give_up()
            return
        self.counted += more

    def give_up(self) -> None:
        """Do without the data of SYNs: what the backend takes of it, no copy has."""
        if self.syn_data:
            self.syn_data = None
        if self.new_syn is not None and self.new_syn.data:
            self.new_syn.data = None
        self.count_syn_data()

    def forget_syn_data(self) -> None:
        """Give back the memory of the SYN's data: it was copied."""
        self.syn_data = b""
        self.count_syn_data()

    def forget_syns(self) -> None:
        """Forget all SYNs, because the flow is removed or begins again."""
        self.new_syn, self.former_new_syns = None, b""
        self.forget_syn_data()

    @property
    def _holder(self) -> int:
        return self.memory.holder_of(self.client[0])
