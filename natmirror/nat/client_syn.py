"""What is kept of a client's SYN once its packet has passed."""

from dataclasses import dataclass

from natmirror.fastpath import MAX_SYN_DATA, NO_WINDOW_SCALE
from natmirror.net import seq
from natmirror.net.packet import Segment


@dataclass(slots=True, eq=False)
class ClientSyn:
    """A client's SYN, as far as a backend may take it."""

    header: Segment
    """The packet, of which only the headers count."""
    scale: int
    size: int
    """The number of bytes of data."""
    data: bytes | None
    """None: it is not kept, because the service has no mirrors, or there was no memory for it."""

    @property
    def seq(self) -> int:
        return self.header.seq

    def equals(self, other: "ClientSyn") -> bool:
        """Return whether it is certain that it does not matter which of two SYNs a backend takes."""
        if self.data is None or other.data is None:
            return self is other
        return (self.seq, self.scale, self.data) == (other.seq, other.scale, other.data)


def client_syn(syn: Segment, *, keeps_data: bool) -> ClientSyn:
    """Return what to keep of a SYN. A backend takes at most MAX_SYN_DATA bytes of its data."""
    scale, size = syn.window_scale(), min(syn.payload_len, MAX_SYN_DATA)
    data = syn.raw[syn.data_at : syn.data_at + size] if keeps_data or not size else None
    return ClientSyn(syn, NO_WINDOW_SCALE if scale is None else scale, size, data)


def share_answers(number: int, size: int, syn: ClientSyn) -> bool:
    """Return whether a SYN-ACK may acknowledge either of two SYNs; the first has this number, and ``size`` bytes."""
    return -syn.size <= seq.diff(syn.seq, number) <= size


def answers(syn_ack: Segment, number: int, size: int) -> bool:
    """Return whether a SYN-ACK acknowledges the SYN with this number, which has ``size`` bytes."""
    return 0 <= seq.diff(syn_ack.ack, seq.add(number, 1)) <= size
