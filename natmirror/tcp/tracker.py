"""A passive tracker of a production connection: it follows what the two ends send, and takes no part.

Theory. Each direction is a half-stream with three numbers: ``end``, up to which the sender has sent; ``ack``, up to
which it has acknowledged the other end's data; and ``edge``, up to which it lets the other end send (RFC 9293 §3.3.1:
SND.NXT, RCV.NXT, RCV.NXT+RCV.WND). A packet moves the numbers of the half that sent it, but only if they are plausible:
data has to begin inside the window that the other end offered, and an acknowledgement may not be ahead of what was
sent. ``update()`` serves both directions, with swapped arguments. The numbers lie in the flow's C struct, to which the
C gear applies the same rules.

The states are the connection's, not an endpoint's: they combine the views of both ends.

    SYN_SENT --SYN_ACK--> SYN_RECEIVED --HANDSHAKE--> ESTABLISHED --FIN--> HALF_CLOSED --BOTH_FINS--> CLOSING
        |                      |                           |                    |                        |
        |                      |                           |                    +--------LAST_ACK--------+--> TIME_WAIT
        +---------RST----------+------------RST------------+---------RST--------+----------RST-----------+--> RESET

A RST counts if its receiver accepts it: in SYN_SENT the backend's RST that acknowledges the SYN, later either end's RST
at exactly the next number (RFC 5961 §3.2). In TIME_WAIT and RESET it changes nothing. A flow that is picked up begins
at ESTABLISHED, and no number of it is known. ``_move()`` is the only place that changes the state, as the table in
flow_states.c says, which serves both gears. If both FINs count at once, ESTABLISHED becomes CLOSING.

A half closed connection lives as long as an established one: the end that has not sent a FIN may send for hours (RFC
9293 §3.6.1; RFC 6146 §3.5.2.2, from which RFC 7857 §2 takes its states).
"""

from natmirror.fastpath import MAX_SYN_DATA, MAX_WINDOW_SCALE, NO_WINDOW_SCALE, FlowRow, HalfRow
from natmirror.fastpath.flow_flags import HALF_ACK, HALF_FIN, HALF_INFERRED, HALF_SEQ, PICKED_UP
from natmirror.fastpath.flow_states import TRANSITIONS, Event, State
from natmirror.net import seq
from natmirror.net.packet import ACK, FIN, RST, SYN, Segment


def begin(row: FlowRow, syn: Segment) -> None:
    """Set the numbers of a new flow from the client's SYN. Data in the SYN counts once the backend acknowledges it."""
    row.state = State.SYN_SENT
    row.iss = syn.seq
    scale = syn.window_scale()
    row.orig.scale = NO_WINDOW_SCALE if scale is None else scale
    row.reply.scale = NO_WINDOW_SCALE
    row.orig.packets = 1
    row.orig.end = seq.add(syn.seq, 1)
    row.orig.flags = HALF_SEQ


def begin_picked_up(row: FlowRow) -> None:
    """Set up a flow that is picked up: no number is known, so the first packets are taken as they are."""
    row.state = State.ESTABLISHED
    for half in (row.orig, row.reply):
        half.bytes = half.packets = half.end = half.ack = half.edge = half.next = half.flags = 0
        half.scale = MAX_WINDOW_SCALE  # the largest scale, so that no window seems smaller than it is


def begin_adopted(row: FlowRow, iss: int, nxt: int, una: int, scale: int) -> None:
    """Set a flow's numbers from another host's record, after begin_picked_up(). The client has sent at least all bytes
    before ``nxt``, and the backend has acknowledged at least all before ``una``. The backend's windows are shifted by
    ``scale``."""
    row.iss = iss
    row.orig.end, row.orig.bytes = nxt, 0
    row.orig.flags = HALF_SEQ | HALF_INFERRED
    row.reply.ack = row.reply.edge = una
    row.reply.scale = scale


def infer_sent(sender: HalfRow, end: int) -> None:
    """Note that all bytes before ``end`` were sent, though they did not pass here: a mirror has acknowledged them."""
    advance = seq.diff(end, sender.end)
    if advance > 0:
        sender.end = end
        sender.bytes += advance
        sender.flags |= HALF_INFERRED


def update(sender: HalfRow, receiver: HalfRow, segment: Segment, *, is_picked_up: bool) -> None:
    """Move the numbers of the half-stream that sent ``segment``, if they are plausible (RFC 9293 §3.10.7.4)."""
    sender.packets += 1
    if not is_taken(receiver, segment, is_picked_up=is_picked_up):
        return
    end = seq.add(segment.seq, segment.seq_len)
    if not sender.flags & HALF_SEQ:
        sender.end = end
        sender.bytes += segment.payload_len
        sender.flags |= HALF_SEQ
    elif is_picked_up or not receiver.flags & HALF_ACK or seq.le(segment.seq, receiver.edge):
        advance = seq.diff(end, sender.end)
        if advance > 0 and not sender.flags & HALF_FIN:  # nothing follows a FIN
            sender.end = end
            sender.bytes += advance - (segment.flags & FIN)
            sender.flags = sender.flags & ~HALF_INFERRED if segment.seq_len else sender.flags | HALF_INFERRED
    shift = 0 if segment.flags & SYN else sender.scale
    edge = seq.add(segment.ack, segment.window << shift)
    if not sender.flags & HALF_ACK:
        sender.ack, sender.edge = segment.ack, edge
        sender.flags |= HALF_ACK
    else:
        sender.ack = seq.latest(sender.ack, segment.ack)
        sender.edge = seq.latest(sender.edge, edge)


def is_taken(receiver: HalfRow, segment: Segment, *, is_picked_up: bool) -> bool:
    """Return whether the receiving end accepts the segment's data: the segment has an acknowledgement, and not of a
    byte that was never sent (RFC 9293 §3.10.7.4, fifth check)."""
    if not segment.flags & ACK:
        return False
    return is_picked_up or not receiver.flags & HALF_SEQ or seq.le(segment.ack, receiver.end)


def may_be_alive(row: FlowRow) -> bool:
    """Return whether a connection that has been silent for hours may be alive: each end has acknowledged all that the
    other has sent. Then neither has to send anything, for any time (RFC 9293 §3.8.4). An end that lacks an
    acknowledgement sends again, or gives the connection up within minutes (RFC 9293 §3.8.3)."""
    if row.state not in (State.ESTABLISHED, State.HALF_CLOSED) or (row.flags & PICKED_UP and not row.reply.packets):
        return False
    return not _is_unacknowledged(row.orig, row.reply) and not _is_unacknowledged(row.reply, row.orig)


def _is_unacknowledged(sender: HalfRow, receiver: HalfRow) -> bool:
    return bool(sender.flags & HALF_SEQ and receiver.flags & HALF_ACK) and seq.lt(receiver.ack, sender.end)


def track(row: FlowRow, segment: Segment, *, from_client: bool, is_picked_up: bool) -> Event | None:
    """Update the flow's numbers and state by a segment whose checksum is right; return the event that changed the
    state, or None."""
    sender, receiver = (row.orig, row.reply) if from_client else (row.reply, row.orig)
    state = State(row.state)
    if segment.flags & RST:
        sender.packets += 1
        return _move(row, state, Event.RST) if _is_exact_reset(sender, receiver, segment, state, is_picked_up) else None
    if segment.flags & SYN and not from_client and state is State.SYN_SENT:
        return _take_syn_ack(row, segment)
    if segment.flags & SYN or state is State.SYN_SENT:
        # The SYN is a repetition, or its receiver will challenge it (RFC 5961 §4). Before the SYN-ACK no other segment
        # means anything (RFC 9293 §3.10.7.3).
        sender.packets += 1
        return None
    known_end = sender.end if sender.flags & HALF_SEQ else None
    update(sender, receiver, segment, is_picked_up=is_picked_up)
    if segment.flags & FIN and not sender.flags & HALF_FIN and seq.add(segment.seq, segment.seq_len) == sender.end:
        was_known = known_end == sender.end
        if not was_known or sender.flags & HALF_INFERRED:  # a number at which a byte was seen is no FIN
            sender.flags |= HALF_FIN
        if was_known and sender.flags & HALF_FIN and sender.bytes:
            sender.bytes -= 1  # the FIN's acknowledgement came first, so the FIN was counted as a byte
    event = None
    if state is State.SYN_RECEIVED and from_client and _acknowledges_syn(sender, receiver):
        event, state = _move(row, state, Event.HANDSHAKE), State.ESTABLISHED
    has_both = sender.flags & receiver.flags & HALF_FIN
    if state is State.ESTABLISHED and (sender.flags | receiver.flags) & HALF_FIN:
        closing = _move(row, state, Event.BOTH_FINS if has_both else Event.FIN)
        return event if event is Event.HANDSHAKE else closing
    if has_both and state >= State.HALF_CLOSED:
        return _move(row, state, Event.LAST_ACK if _both_acknowledged(row) else Event.BOTH_FINS)
    return event


def _move(row: FlowRow, state: State, event: Event) -> Event | None:
    """Change the flow's state as TRANSITIONS says; return the event, or None if it has no meaning in this state."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        return None
    row.state = following
    return event


def _take_syn_ack(row: FlowRow, segment: Segment) -> Event | None:
    """Take the backend's SYN-ACK: it settles the window scales, and how much of the SYN's data counts as sent."""
    syn_data_len = seq.diff(segment.ack, row.orig.end)
    if not segment.flags & ACK or not 0 <= syn_data_len <= MAX_SYN_DATA:
        row.reply.packets += 1
        return None
    row.orig.end = segment.ack
    row.orig.bytes = syn_data_len
    scale = segment.window_scale()
    if scale is None or row.orig.scale == NO_WINDOW_SCALE:
        row.orig.scale = row.reply.scale = 0  # RFC 7323 §2.2: both ends offer it, or neither uses it
    else:
        row.reply.scale = scale
    update(row.reply, row.orig, segment, is_picked_up=False)
    return _move(row, State.SYN_SENT, Event.SYN_ACK)


def _acknowledges_syn(client: HalfRow, backend: HalfRow) -> bool:
    """Return whether the client has acknowledged the backend's SYN, perhaps not the data that followed it at once (RFC
    7413 §4.2)."""
    first = seq.add(backend.end, -(backend.bytes + bool(backend.flags & HALF_FIN)))
    return bool(client.flags & HALF_ACK) and seq.le(first, client.ack)


def _is_exact_reset(sender: HalfRow, receiver: HalfRow, segment: Segment, state: State, is_picked_up: bool) -> bool:
    """Return whether the RST's receiver accepts it: at exactly the next expected number (RFC 5961 §3.2). For a tracker
    that is the number that the receiver has acknowledged or, if data is still under way, the end of the sent data."""
    if state is State.SYN_SENT:
        return bool(segment.flags & ACK) and 0 <= seq.diff(segment.ack, receiver.end) <= MAX_SYN_DATA
    if is_picked_up and not receiver.flags & HALF_ACK:
        return True
    return segment.seq == sender.end or (bool(receiver.flags & HALF_ACK) and segment.seq == receiver.ack)


def _both_acknowledged(row: FlowRow) -> bool:
    return row.orig.ack == row.reply.end and row.reply.ack == row.orig.end
