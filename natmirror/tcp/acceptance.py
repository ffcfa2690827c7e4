"""The checks that a receiver makes, as far as a third party can make them: whether it takes a segment.

They err on the side of taking: a byte that is refused here but acknowledged there would be missing, and one that is
taken here but refused there is never acknowledged. Only agrees() errs on the other side: else blind packets
could end sessions on picked up connections (docs/security.md).
"""

from natmirror.fastpath import (
    AGREEMENT_BITS,
    CONTINUATION,
    MAX_ECHO_AGE,
    MAX_WINDOW,
    MAX_WINDOW_SCALE,
    FlowRow,
    HalfRow,
)
from natmirror.fastpath.flow_flags import (
    HALF_ACK,
    HALF_ECHO,
    HALF_FIN,
    HALF_SEQ,
    LOOSE,
    NOT_PLAIN,
    PICKED_UP,
    SERVICE_MIRRORED,
    is_watched,
    knows_window,
)
from natmirror.net import seq
from natmirror.net.packet import ACK, FIN, URG, Segment

_PAWS_TOLERANCE = 1  # as in Linux: by so much a TSval may lie below TS.Recent


def is_taken(row: FlowRow, segment: Segment, *, from_client: bool) -> bool:
    """Return whether the receiving end takes a segment that is no SYN and no RST.

    It refuses a segment without an acknowledgement, or with one of a byte that was never sent (RFC 9293 §3.10.7.4,
    fifth check). In a flow whose windows are unknown, the segment has to agree with what the receiver has sent. Where
    the service has mirrors, so that the bytes matter, there are more checks: the TTL, _is_refused(), and whether the
    segment begins past the window. Acknowledgements under way may open the window further than is known here, but not
    further than the largest window past what was sent. What this function refuses is no version of a byte, and moves no
    number.
    """
    sender, receiver = (row.orig, row.reply) if from_client else (row.reply, row.orig)
    flags = row.flags
    if not flags & NOT_PLAIN:
        return bool(segment.flags & ACK) and (not receiver.flags & HALF_SEQ or seq.le(segment.ack, receiver.end))
    is_mirrored = flags & SERVICE_MIRRORED
    if not segment.flags & ACK or (from_client and is_mirrored and expires_here(row, segment)):
        return False
    if flags & LOOSE:
        return agrees(receiver, segment)
    if is_mirrored and _is_refused(row, sender, receiver, segment):
        return False
    if flags & PICKED_UP and not knows_window(row):
        return agrees(receiver, segment)
    is_ahead = receiver.flags & HALF_SEQ and seq.lt(receiver.end, segment.ack)
    # The backend's bytes may be under way to this host, though no further than the client's window: whether its
    # client's bytes are versions must not depend on that.
    if is_ahead and (not from_client or not is_mirrored or seq.lt(sender.edge, segment.ack)):
        return False
    scale = receiver.scale if receiver.scale <= MAX_WINDOW_SCALE else 0
    return not is_mirrored or not receiver.flags & HALF_ACK or seq.diff(segment.seq, sender.end) <= MAX_WINDOW << scale


def has_new_data(row: FlowRow, segment: Segment, *, from_client: bool) -> bool:
    """Return whether the receiving end has not acknowledged all of a segment's data before."""
    receiver = halves(row, from_client=from_client)[1]
    return not receiver.flags & HALF_ACK or seq.lt(receiver.ack, seq.add(segment.seq, segment.payload_len))


def is_urgent(row: FlowRow, segment: Segment) -> bool:
    """Return whether the urgent pointer of a client's segment may reach the backend, which drops a segment that ends
    before its window."""
    end = seq.add(segment.seq, segment.payload_len)
    return not row.reply.flags & HALF_ACK or seq.le(row.reply.ack, end)


def agrees(other: HalfRow, segment: Segment) -> bool:
    """Return whether a segment agrees with what the other end has sent. Without an acknowledgement, it has to begin
    exactly where the other end expects it."""
    if not other.flags & HALF_SEQ:
        return False
    begins_from = abs(seq.diff(segment.seq, other.ack))
    if not segment.flags & ACK:
        return begins_from == 0
    return (begins_from + 1) * (abs(seq.diff(segment.ack, other.end)) + 1) < 1 << AGREEMENT_BITS


def expires_here(row: FlowRow, segment: Segment) -> bool:
    """Return whether this host drops the client's packet of a flow whose packets it routes: its TTL ends here."""
    return segment.ttl <= 1 and not is_watched(row)


def _is_refused(row: FlowRow, sender: HalfRow, receiver: HalfRow, segment: Segment) -> bool:
    """Return whether the receiver surely refuses the segment: its acknowledgement lies further back than the largest
    window that its sender has offered (RFC 5961 §5.2), and it cannot be the next one; or its timestamp is too old.

    The acknowledgements that passed here may be lost on their way: the last one that the receiver has got lies at most
    a window below.
    """
    is_old = sender.flags & HALF_ACK and seq.diff(segment.ack, sender.ack) < -2 * sender.max_window
    if is_old and not _may_be_next(sender, receiver, segment):
        return True
    return _fails_paws(row, sender, receiver, segment)


def _fails_paws(row: FlowRow, sender: HalfRow, receiver: HalfRow, segment: Segment) -> bool:
    """Return whether the receiver surely refuses the segment because its timestamp lies below TS.Recent (PAWS, RFC 7323
    §5.3).

    TS.Recent lies between the latest timestamp that the receiver has echoed and the latest one that was sent, so the
    segment's has to lie below both. Linux takes any once TS.Recent is older than TCP_PAWS_WRAP, and while it is 0. From
    a bare acknowledgement with an old timestamp Linux takes the urgent pointer (tcp_disordered_ack()).
    """
    if not receiver.flags & HALF_ECHO or not receiver.echo or row.came_at - receiver.echo_at >= MAX_ECHO_AGE:
        return False
    if segment.flags & (URG | FIN) == URG and not segment.payload_len:
        return False
    stamps = segment.timestamps()
    return stamps is not None and all(
        seq.diff(recent, stamps[0]) > _PAWS_TOLERANCE for recent in (receiver.echo, sender.stamp)
    )


def _may_be_next(sender: HalfRow, receiver: HalfRow, segment: Segment) -> bool:
    """Return whether the segment brings only data and may begin with the byte that its receiver expects next, when it
    comes there: the bytes before it may overtake it. Linux takes such a segment with any old acknowledgement: its
    header prediction (tcp_rcv_established()) appends the data before it reads the acknowledgement."""
    if not segment.payload_len or segment.flags & (FIN | URG) or not receiver.flags & HALF_ACK:
        return False
    is_in_window = 0 <= seq.diff(segment.seq, receiver.ack) <= receiver.max_window + CONTINUATION
    return is_in_window and seq.diff(segment.seq, sender.end) <= CONTINUATION


def first_number(half: HalfRow) -> int:
    """Return the number that follows the SYN of an end whose SYN passed here."""
    return seq.add(half.end, -(half.bytes + bool(half.flags & HALF_FIN)))


def halves(row: FlowRow, *, from_client: bool) -> tuple[HalfRow, HalfRow]:
    """Return the half of the end that sends a packet, and that of its receiver."""
    return (row.orig, row.reply) if from_client else (row.reply, row.orig)
