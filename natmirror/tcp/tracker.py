"""A passive tracker of a production connection: what its two ends have told each other, without taking part.

Theory. Each direction is a half-stream with three numbers: ``end``, how far the sender has sent; ``ack`` and ``edge``,
how far it has acknowledged the other and how far it lets the other send (RFC 9293 §3.3.1: SND.NXT, RCV.NXT,
RCV.NXT+RCV.WND). A packet moves the numbers of the half that sent it, and is believed only where they can be true:
data has to begin inside the window that the other side offered, an acknowledgement may not run ahead of what was sent.
``update()`` serves both directions with swapped arguments. The numbers live in the flow's C struct, where the C gear
keeps the same rules.

The states are the connection's, not an endpoint's: both ends' view folded into one.

    SYN_SENT --SYN_ACK--> SYN_RECEIVED --HANDSHAKE--> ESTABLISHED --FIN--> CLOSING --LAST_ACK--> TIME_WAIT
        |                      |                           |                  |
        +---------RST----------+------------RST------------+-------RST--------+--> RESET

A RST counts where its receiver takes it: in SYN_SENT the backend's that acknowledges the SYN, later either end's with
exactly the next number (RFC 5961 §3.2). In TIME_WAIT and RESET it changes nothing. A flow that was picked up, met in
mid-connection, begins at ESTABLISHED with no number known. ``_move()`` is the only place that moves the state, as the
table in flow_states.c says, which serves both gears. There are the timeouts too: so long after its last packet a flow
expires, by its state.
"""

from natmirror.fastpath import MAX_SYN_DATA, MAX_WINDOW_SCALE, NO_WINDOW_SCALE, FlowRow, HalfRow
from natmirror.fastpath.flow_flags import HALF_ACK, HALF_FIN, HALF_INFERRED, HALF_SEQ
from natmirror.fastpath.flow_states import TRANSITIONS, Event, State
from natmirror.net import seq
from natmirror.net.packet import ACK, FIN, RST, SYN, Segment


def begin(row: FlowRow, syn: Segment) -> None:
    """Set the numbers of a new flow from the client's SYN; data inside it counts when the backend acknowledges it."""
    row.state = State.SYN_SENT
    row.iss = syn.seq
    scale = syn.window_scale()
    row.orig.scale = NO_WINDOW_SCALE if scale is None else scale
    row.reply.scale = NO_WINDOW_SCALE
    row.orig.packets = 1
    row.orig.end = seq.add(syn.seq, 1)
    row.orig.flags = HALF_SEQ


def begin_picked_up(row: FlowRow) -> None:
    """Set up a flow that was picked up in mid-connection: nothing is known, so everything is believed."""
    row.state = State.ESTABLISHED
    for half in (row.orig, row.reply):
        half.bytes = half.packets = half.end = half.ack = half.edge = half.next = half.flags = 0
        half.scale = MAX_WINDOW_SCALE  # no window is taken for smaller than it is


def begin_adopted(row: FlowRow, iss: int, nxt: int, una: int, scale: int) -> None:
    """Set the numbers that another host has known of a flow, after begin_picked_up(): its client has sent all before
    number ``nxt``, and its backend acknowledged all before ``una``, if not more of each. The backend's windows are
    shifted by ``scale``."""
    row.iss = iss
    row.orig.end, row.orig.bytes = nxt, 0
    row.orig.flags = HALF_SEQ | HALF_INFERRED
    row.reply.ack = row.reply.edge = una
    row.reply.scale = scale


def infer_sent(sender: HalfRow, end: int) -> None:
    """Take note that all before ``end`` was sent, which never passed here: a mirror has acknowledged it."""
    advance = seq.diff(end, sender.end)
    if advance > 0:
        sender.end = end
        sender.bytes += advance
        sender.flags |= HALF_INFERRED


def update(sender: HalfRow, receiver: HalfRow, segment: Segment, *, is_picked_up: bool) -> None:
    """Move the numbers of the half-stream that sent ``segment``, where they can be true (RFC 9293 §3.10.7.4)."""
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
    """Return whether the receiving end will look at the segment's data: it acknowledges, and nothing that was never
    sent (RFC 9293 §3.10.7.4, fifth check)."""
    if not segment.flags & ACK:
        return False
    return is_picked_up or not receiver.flags & HALF_SEQ or seq.le(segment.ack, receiver.end)


def track(row: FlowRow, segment: Segment, *, from_client: bool, is_picked_up: bool) -> Event | None:
    """Take a segment with a right checksum into the flow's numbers and state; return the event that moved the state, or
    None."""
    sender, receiver = (row.orig, row.reply) if from_client else (row.reply, row.orig)
    state = State(row.state)
    if segment.flags & RST:
        sender.packets += 1
        return _move(row, state, Event.RST) if _is_exact_reset(sender, receiver, segment, state, is_picked_up) else None
    if segment.flags & SYN and not from_client and state is State.SYN_SENT:
        return _take_syn_ack(row, segment)
    if segment.flags & SYN or state is State.SYN_SENT:
        # A repetition, or an attempt that its receiver will challenge (RFC 5961 §4); and before the SYN-ACK there is
        # nothing to say (RFC 9293 §3.10.7.3).
        sender.packets += 1
        return None
    known_end = sender.end if sender.flags & HALF_SEQ else None
    update(sender, receiver, segment, is_picked_up=is_picked_up)
    if segment.flags & FIN and not sender.flags & HALF_FIN and seq.add(segment.seq, segment.seq_len) == sender.end:
        was_known = known_end == sender.end
        if not was_known or sender.flags & HALF_INFERRED:  # where a byte was seen, no FIN can be
            sender.flags |= HALF_FIN
        if was_known and sender.flags & HALF_FIN and sender.bytes:
            sender.bytes -= 1  # an acknowledgement from beyond the FIN came first, and it counted as a byte
    event = None
    if state is State.SYN_RECEIVED and from_client and _acknowledges_syn(sender, receiver):
        event, state = _move(row, state, Event.HANDSHAKE), State.ESTABLISHED
    if state is State.ESTABLISHED and (sender.flags | receiver.flags) & HALF_FIN:
        closing = _move(row, state, Event.FIN)
        return event if event is Event.HANDSHAKE else closing
    if state is State.CLOSING and _both_finished(row):
        return _move(row, state, Event.LAST_ACK)
    return event


def _move(row: FlowRow, state: State, event: Event) -> Event | None:
    """Move the flow's state as TRANSITIONS says; return the event, or None where it means nothing in this state."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        return None
    row.state = following
    return event


def _take_syn_ack(row: FlowRow, segment: Segment) -> Event | None:
    """Take the backend's answer to the SYN: the window scales hold from here on, and what it acknowledges of a SYN's
    data counts."""
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
    """Whether the client has acknowledged the backend's SYN: data that follows it may be under way (RFC 7413 §4.2)."""
    first = seq.add(backend.end, -(backend.bytes + bool(backend.flags & HALF_FIN)))
    return bool(client.flags & HALF_ACK) and seq.le(first, client.ack)


def _is_exact_reset(sender: HalfRow, receiver: HalfRow, segment: Segment, state: State, is_picked_up: bool) -> bool:
    """Whether its receiver takes this RST: exactly the next number expected (RFC 5961 §3.2), which for us is what the
    receiver has acknowledged or, with data still under way, the end of what was sent."""
    if state is State.SYN_SENT:
        return bool(segment.flags & ACK) and 0 <= seq.diff(segment.ack, receiver.end) <= MAX_SYN_DATA
    if is_picked_up and not receiver.flags & HALF_ACK:
        return True
    return segment.seq == sender.end or (bool(receiver.flags & HALF_ACK) and segment.seq == receiver.ack)


def _both_finished(row: FlowRow) -> bool:
    return bool(
        row.orig.flags & row.reply.flags & HALF_FIN and row.orig.ack == row.reply.end and row.reply.ack == row.orig.end
    )
