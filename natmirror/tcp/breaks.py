"""The breaks in a client's stream, where a copy that has ended may begin again.

Theory. A stream of bytes shows no borders of messages. But a client that has written a message pushes it (PSH, RFC 9293
§3.9.1.2), and waits before the next one. So there is a *break* after data that ends with a PSH, and after a silence of
both ends. A copy may begin with the data after a break if the backend has acknowledged all that the client has sent
before: then no version of this data has passed. A break need not be the border of a message: a client also pushes in
the middle of long ones, and pauses there.

The backend may have bytes that do not count as sent: of a SYN, or past the window that is known here, because the
acknowledgement that opens it is still under way. And an urgent pointer may name a byte that is still to come. Until the
client has sent as far as that, its flow is *ahead*, and there is no break. This is noted in all flows, because a copy
may be lost, or a mirror added, between such bytes and the break.

Breaks are noted only while a copy of the flow waits to begin again. The C gear does the same in breaks.c.
"""

from natmirror.fastpath import BREAK_SILENCE, MAX_WINDOW, MAX_WINDOW_SCALE, FlowRow
from natmirror.fastpath.flow_flags import AHEAD, AT_BREAK, HALF_ACK, HALF_FIN, HALF_SEQ, LOOSE, RECONNECTS
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.packet import FIN, PSH, RST, SYN, URG, Segment


def note_arrival(row: FlowRow, now: float) -> None:
    """Note that a packet of the flow comes, not tracked yet, and whether the flow was silent before, or its break is
    none any more."""
    row.came_at = now
    if not row.flags & RECONNECTS:
        return
    if row.flags & (LOOSE | AHEAD):
        row.flags &= ~AT_BREAK
    elif now - row.seen_at >= BREAK_SILENCE and row.orig.flags & HALF_SEQ:
        row.flags |= AT_BREAK
        row.break_at = row.orig.end
    elif row.break_at != row.orig.end:  # the client has sent more, or an acknowledgement has shown that
        row.flags &= ~AT_BREAK


def note_unsure(row: FlowRow, segment: Segment) -> None:
    """Note what a client's segment, which its backend may take and the tracker has followed, says of bytes that do not
    count as sent; or that the client has sent as far as that."""
    scale = row.reply.scale if row.reply.scale <= MAX_WINDOW_SCALE else 0
    if seq.diff(segment.seq, row.orig.end) > MAX_WINDOW << scale:  # past any window, of a flow that is not mirrored yet
        return
    if segment.seq_len:
        note_ahead(row, seq.add(segment.seq, segment.seq_len))
    if segment.flags & URG:  # receivers differ on whether the urgent byte is the one at the pointer, or the one before
        note_ahead(row, seq.add(segment.seq, segment.urgent_pointer + 1))
    if row.flags & AHEAD and seq.le(row.ahead_to, row.orig.end):
        row.flags &= ~AHEAD


def note_ahead(row: FlowRow, to: int) -> None:
    """Note that the backend may have bytes of the client up to number ``to``, or an urgent pointer to there."""
    if seq.lt(row.orig.end, to):
        row.ahead_to = seq.latest(row.ahead_to, to) if row.flags & AHEAD else to
        row.flags |= AHEAD


def note_data(row: FlowRow, segment: Segment) -> None:
    """Note whether a client's segment, which its backend takes and the tracker has followed, ends with a break."""
    end = seq.add(segment.seq, segment.payload_len)
    if segment.payload_len and end == row.orig.end:
        row.flags = row.flags | AT_BREAK if segment.flags & PSH else row.flags & ~AT_BREAK
        row.break_at = end


def begins_at_break(row: FlowRow, segment: Segment) -> bool:
    """Return whether a client's segment, which its backend takes and the tracker has followed, begins at a break, and a
    copy may begin with it."""
    is_data = bool(segment.payload_len) and not segment.flags & (SYN | FIN | RST | URG)
    if not is_data or not row.flags & AT_BREAK or segment.seq != row.break_at or row.state != State.ESTABLISHED:
        return False
    is_new = row.orig.end == seq.add(segment.seq, segment.payload_len) and not row.orig.flags & HALF_FIN
    return is_new and bool(row.reply.flags & HALF_ACK) and row.reply.ack == segment.seq
