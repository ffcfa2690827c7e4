"""A passive tracker of a production connection: it follows what the two ends send, and takes no part.

Theory. Each direction is a half-stream with three numbers: ``end``, up to which the sender has sent; ``ack``, up to
which it has acknowledged the other end's data; and ``edge``, up to which it lets the other end send (RFC 9293 §3.3.1:
SND.NXT, RCV.NXT, RCV.NXT+RCV.WND). A packet moves the numbers of the half that sent it, but only if its receiver takes
it: ``is_taken()``, in acceptance.py, has its checks. The numbers lie in the flow's C struct, to which the
C gear applies the same rules.

The states are the connection's, not an endpoint's: they combine the views of both ends.

    SYN_SENT --SYN_ACK--> SYN_RECEIVED --HANDSHAKE--> ESTABLISHED --FIN--> HALF_CLOSED --BOTH_FINS--> CLOSING
        |                      |                           |                    |                        |
        |                      |                           |                    +--------LAST_ACK--------+--> TIME_WAIT
        +---------RST----------+------------RST------------+---------RST--------+----------RST-----------+--> RESET

A RST counts if its receiver accepts it: in SYN_SENT the backend's RST that acknowledges the SYN, later either end's RST
at exactly the next number (RFC 5961 §3.2). In TIME_WAIT and RESET it changes nothing. ``_move()`` is the only place
that changes the state, as the table in flow_states.c says, which serves both gears. If both FINs count at once,
ESTABLISHED becomes CLOSING.

A half closed connection lives as long as an established one: the end that has not sent a FIN may send for hours (RFC
9293 §3.6.1; RFC 6146 §3.5.2.2, from which RFC 7857 §2 takes its states).

A flow that is picked up begins at ESTABLISHED, and *loose*: no number of it is known, and the first ones may be those
of an attacker who knows nothing. What such an attacker cannot do is to agree with the other end. So a flow becomes
strict once both ends were heard and a segment of one *agrees* with the numbers of the other: it acknowledges nearly
what the other has sent, and begins nearly where the other has acknowledged. Near means that the product of the two
distances has at most AGREEMENT_BITS: a transfer in one direction may have a large window in flight, and one blind
packet in two million agrees. Before that, each half takes over the numbers of its sender's latest segment, and nothing
changes the state. Afterwards an unknown window scale stays unknown, so agreement remains the check of each segment. A
flow from another host's record has numbers to agree with from the start, and its windows' scale.
"""

import math

from natmirror.fastpath import (
    CONTINUATION,
    MAX_ECHO_AGE,
    MAX_WINDOW,
    MAX_WINDOW_SCALE,
    NO_WINDOW_SCALE,
    FlowRow,
    HalfRow,
)
from natmirror.fastpath.flow_flags import (
    AHEAD,
    HALF_ACK,
    HALF_ECHO,
    HALF_FIN,
    HALF_INFERRED,
    HALF_RECORDED,
    HALF_REVOKED,
    HALF_SEQ,
    HALF_STAMP,
    LOOSE,
    PICKED_UP,
    SERVICE_MIRRORED,
    is_loose,
    is_recorded,
    is_service_mirrored,
    is_unconfirmed,
    knows_window,
    make_strict,
    set_ambiguous,
    set_mptcp,
    set_picked_up,
    set_unread,
    strips_mptcp,
)
from natmirror.fastpath.flow_states import IS_OPEN, TRANSITIONS, Event, State
from natmirror.net import seq
from natmirror.net.packet import ACK, FIN, MPTCP_CAPABLE, RST, SYN, URG, Segment
from natmirror.tcp.acceptance import expires_here, first_number, halves, has_new_data
from natmirror.tcp.breaks import note_unsure
from natmirror.tcp.leg_record import FlowRecord
from natmirror.tcp.syns import is_another_answer, may_answer, note_offers

LONGEST_PAUSE = 130.0
"""Seconds of silence after which a connection has ended if data in it is not acknowledged: an end that lives sends that
data again after 120 s at most, Linux's TCP_RTO_MAX (RFC 6298 2.5 allows 60 s)."""

_MAX_BEHIND = 1 << 30
"""Bytes, no less than a window: how old an acknowledgement may be that moves the window's edge."""


def begin(row: FlowRow, syn: Segment, *, data_len: int) -> None:
    """Set the numbers of a new flow, whose ``created_at`` is set, from the headers of the client's SYN. Data in the SYN
    counts once the backend acknowledges it."""
    row.state = State.SYN_SENT
    row.iss = syn.seq
    row.orig.scale = row.reply.scale = NO_WINDOW_SCALE
    row.orig.packets = 1
    row.orig.end = seq.add(syn.seq, 1)
    row.orig.flags = HALF_SEQ
    note_offers(row, syn, data_len)
    if is_service_mirrored(row) and (stamps := syn.timestamps()) is not None:
        _note_stamp(row, row.orig, row.reply, stamps[0])


def begin_picked_up(row: FlowRow) -> None:
    """Set up a flow that is picked up: it is loose, and no number is known."""
    row.state = State.ESTABLISHED
    set_picked_up(row)
    for half in (row.orig, row.reply):
        half.bytes = half.packets = half.end = half.ack = half.edge = half.next = half.flags = 0
        half.stamp = half.echo = 0
        half.scale = MAX_WINDOW_SCALE  # the largest scale, so that no window seems smaller than it is
        half.max_window = MAX_WINDOW << MAX_WINDOW_SCALE  # an earlier window may have been that large


def begin_mirrored(row: FlowRow) -> None:
    """Follow an open flow as one of a service with mirrors from now on."""
    row.flags |= SERVICE_MIRRORED
    for half in (row.orig, row.reply):
        half.max_window = MAX_WINDOW << MAX_WINDOW_SCALE  # an earlier window may have been that large


def begin_adopted(row: FlowRow, record: FlowRecord) -> None:
    """Set a flow's numbers from another host's record, after begin_picked_up(). Both ends have come at least so far."""
    row.iss = record.iss
    row.orig.end, row.orig.bytes, row.orig.ack = record.client_nxt, 0, record.backend_nxt
    row.orig.flags = HALF_SEQ | HALF_INFERRED
    row.reply.end = record.backend_nxt
    row.reply.ack = row.reply.edge = row.proven = record.client_una
    row.reply.flags = HALF_SEQ | HALF_RECORDED
    row.flags &= ~AHEAD
    row.reply.scale = record.backend_scale


def infer_sent(row: FlowRow, end: int) -> None:
    """Note that all bytes before ``end`` were sent, though they did not pass here: a mirror has acknowledged them."""
    row.proven = seq.latest(row.proven, end)
    _infer(row.orig, end)


def infer_acked(row: FlowRow, ack: int) -> None:
    """Note that the backend has acknowledged the client's bytes before ``ack``: the acknowledgement passed another
    host. It counts as far as the bytes passed here."""
    row.reply.ack = seq.latest(row.reply.ack, ack if seq.lt(ack, row.orig.end) else row.orig.end)


def _infer(sender: HalfRow, end: int) -> None:
    advance = seq.diff(end, sender.end)
    if advance > 0:
        sender.end = end
        sender.bytes += advance
        sender.flags |= HALF_INFERRED


def update(row: FlowRow, segment: Segment, *, from_client: bool, is_taken: bool) -> bool:
    """Count a segment that is no RST. If its receiver takes it, or the flow is loose, move the numbers of the half that
    sent it (RFC 9293 §3.10.7.4). Return whether they were moved."""
    sender, receiver = (row.orig, row.reply) if from_client else (row.reply, row.orig)
    flags = row.flags
    sender.packets += 1
    if not (_settle(row, segment, from_client=from_client, is_taken=is_taken) if flags & LOOSE else is_taken):
        return False
    end = (segment.seq + segment.seq_len) & seq.MASK
    if not sender.flags & HALF_SEQ:
        sender.end = end
        sender.bytes += segment.payload_len
        sender.flags |= HALF_SEQ
        if from_client:
            row.flags &= ~AHEAD  # of other numbers
    else:
        if sender.flags & HALF_FIN:
            _revoke_fin(sender, receiver, segment)
        advance = seq.diff(end, sender.end)
        if advance > 0 and not sender.flags & HALF_FIN and _is_in_window(row, receiver, segment):  # a FIN is the end
            sender.end = end
            sender.bytes += advance - (segment.flags & FIN)
            sender.flags = sender.flags & ~HALF_INFERRED if segment.seq_len else sender.flags | HALF_INFERRED
    if from_client and (sender.end != end or flags & AHEAD or segment.flags & URG):
        note_unsure(row, segment)
    # The scale may be NO_WINDOW_SCALE, so large that nothing is left
    window = segment.window << (0 if segment.flags & SYN else sender.scale) & 0xFFFF_FFFF
    edge = (segment.ack + window) & seq.MASK
    if flags & SERVICE_MIRRORED:
        if sender.max_window < window:
            sender.max_window = window
        if (stamps := segment.timestamps()) is not None:
            _note_timestamps(row, sender, receiver, *stamps)
    if not sender.flags & HALF_ACK:
        offered = 0 if flags & PICKED_UP else sender.max_window  # by a SYN
        sender.ack, sender.edge = segment.ack, seq.latest(edge, seq.add(segment.ack, offered))
        sender.flags |= HALF_ACK
    else:
        if seq.diff(sender.ack, segment.ack) < _MAX_BEHIND:
            sender.edge = seq.latest(sender.edge, edge)
        sender.ack = seq.latest(sender.ack, segment.ack)
    has_all = flags & (SERVICE_MIRRORED | PICKED_UP) == SERVICE_MIRRORED
    if has_all and receiver.flags & HALF_SEQ and seq.lt(receiver.end, sender.ack):
        sender.ack = receiver.end  # the receiver's bytes from there on are under way to this host
    return True


def _is_in_window(row: FlowRow, receiver: HalfRow, segment: Segment) -> bool:
    """Return whether a segment begins inside the window that its receiver is known to offer."""
    return not receiver.flags & HALF_ACK or seq.le(segment.seq, receiver.edge) or not knows_window(row)


def _settle(row: FlowRow, segment: Segment, *, from_client: bool, is_taken: bool) -> bool:
    """Make a loose flow strict if the segment is taken, so that it agrees, and the other end was heard too. Return
    whether the segment moves its sender's numbers. They are forgotten first if the segment does not continue them.

    The numbers of a record are certain, so that only a segment that agrees with them moves them. But an old record may
    be too far behind: then the client's segments may agree with what the backend sends now.
    """
    sender, receiver = halves(row, from_client=from_client)
    if from_client and segment.payload_len and not (is_taken and is_recorded(row)):
        set_unread(row)
    if is_taken and receiver.flags & HALF_ACK:
        make_strict(row)
        if seq.diff(segment.ack, receiver.end) <= CONTINUATION:
            _infer(receiver, segment.ack)  # its last bytes may not have passed here yet
    if is_recorded(row) and (from_client or not is_taken):
        if not from_client and segment.flags & ACK:
            sender.end = seq.add(segment.seq, segment.seq_len)
        return is_taken
    if not sender.flags & HALF_ACK or abs(seq.diff(segment.seq, sender.end)) > CONTINUATION:
        sender.flags &= HALF_RECORDED
    return bool(segment.flags & ACK)


def _note_timestamps(row: FlowRow, sender: HalfRow, receiver: HalfRow, value: int, echo: int) -> None:
    """Note the timestamps of a segment that is taken.

    An echo that moves shows that its sender has renewed TS.Recent since the echo moved before. So TS.Recent is no older
    than that, and it can only go on, until it is so old that Linux takes any timestamp.
    """
    _note_stamp(row, sender, receiver, value)
    is_plausible = receiver.flags & HALF_STAMP and seq.le(echo, receiver.stamp)
    if not is_plausible or seq.le(echo, sender.echo) or sender.echo_at > row.came_at:
        return
    is_fresh = row.came_at - sender.echo_at < MAX_ECHO_AGE
    sender.flags = sender.flags | HALF_ECHO if is_fresh else sender.flags & ~HALF_ECHO
    sender.echo, sender.echo_at = echo, row.came_at


def _note_stamp(row: FlowRow, sender: HalfRow, receiver: HalfRow, value: int) -> None:
    """Note a TSval that is taken. If it lies half the numbers past the echo, TS.Recent may lie anywhere: forget the
    echo for good. If it is 0, TS.Recent may be 0, which Linux takes for none."""
    if not sender.flags & HALF_STAMP:
        sender.stamp = value
        sender.flags |= HALF_STAMP
        receiver.echo = seq.add(value, -1)
        receiver.echo_at = -math.inf if row.flags & PICKED_UP else row.created_at
        receiver.flags &= ~HALF_ECHO
    elif seq.lt(sender.stamp, value):
        sender.stamp = value
        if seq.lt(value, receiver.echo):
            receiver.echo_at = math.inf
            receiver.flags &= ~HALF_ECHO
    if value == 0 and not seq.le(value, receiver.echo):
        receiver.echo = value


def _revoke_fin(sender: HalfRow, receiver: HalfRow, segment: Segment) -> None:
    """Forget a FIN that the receiver has not acknowledged, if a byte has its number or a later one: one of the two is
    never taken."""
    fin = seq.add(sender.end, -1)
    is_acked = seq.lt(fin, receiver.ack)
    is_passed = bool(segment.payload_len) and seq.lt(fin, seq.add(segment.seq, segment.payload_len))
    if is_passed and not is_acked:
        sender.flags = sender.flags & ~HALF_FIN | HALF_REVOKED
        sender.bytes += 1


def may_be_alive(row: FlowRow) -> bool:
    """Return whether a connection that has been silent for hours may be alive: each end has acknowledged all that the
    other has sent. Then neither has to send anything, for any time (RFC 9293 §3.8.4). An end that lacks an
    acknowledgement sends again, or gives the connection up within minutes (RFC 9293 §3.8.3)."""
    if row.state not in IS_OPEN or is_unconfirmed(row):
        return False
    return not _is_unacknowledged(row.orig, row.reply) and not _is_unacknowledged(row.reply, row.orig)


def _is_unacknowledged(sender: HalfRow, receiver: HalfRow) -> bool:
    return bool(sender.flags & HALF_SEQ and receiver.flags & HALF_ACK) and seq.lt(receiver.ack, sender.end)


def track(row: FlowRow, segment: Segment, *, from_client: bool, is_taken: bool) -> Event | None:
    """Update the flow's numbers and state by a segment whose checksum is right; return the event that changed the
    state, or None. ``is_taken``: its receiver takes it (acceptance.py); of no account for a SYN or RST."""
    sender, receiver = (row.orig, row.reply) if from_client else (row.reply, row.orig)
    if segment.flags & RST:
        return _take_reset(row, segment, from_client=from_client)
    if segment.flags & SYN and not from_client and row.state == State.SYN_SENT:
        return _take_syn_ack(row, segment)
    if segment.flags & SYN or row.state == State.SYN_SENT:
        # The SYN is a repetition, or its receiver will challenge it (RFC 5961 §4). Before the SYN-ACK no other segment
        # means anything (RFC 9293 §3.10.7.3).
        sender.packets += 1
        if row.state == State.SYN_SENT and segment.flags & (SYN | ACK) == SYN and segment.seq == row.iss:
            note_offers(row, segment, segment.payload_len)
        elif not from_client and is_another_answer(row, segment):
            set_ambiguous(row)
        return None
    known_end = sender.end if sender.flags & HALF_SEQ else None
    is_moved = update(row, segment, from_client=from_client, is_taken=is_taken)
    if is_moved and segment.flags & FIN:
        _take_fin(sender, receiver, segment, was_known=known_end == sender.end)
    if not is_taken and is_loose(row):
        return None
    event = None
    if row.state == State.SYN_RECEIVED and from_client and _acknowledges_syn(sender, receiver):
        event = _move(row, Event.HANDSHAKE)
    elif row.state == State.SYN_RECEIVED and from_client and is_moved and _is_new(row, segment):
        set_ambiguous(row)  # the backend takes the data if the handshake overtakes it
    has_both = sender.flags & receiver.flags & HALF_FIN
    if row.state == State.ESTABLISHED and (sender.flags | receiver.flags) & HALF_FIN:
        closing = _move(row, Event.BOTH_FINS if has_both else Event.FIN)
        return event if event is Event.HANDSHAKE else closing
    if has_both and row.state >= State.HALF_CLOSED:
        return _move(row, Event.LAST_ACK if _both_acknowledged(row) else Event.BOTH_FINS)
    return event


def _is_new(row: FlowRow, segment: Segment) -> bool:
    return segment.payload_len > 0 and has_new_data(row, segment, from_client=True)


def _take_fin(sender: HalfRow, receiver: HalfRow, segment: Segment, *, was_known: bool) -> None:
    """Note a FIN. ``was_known``: an earlier segment had reached the end of what was sent. If a byte was seen at the
    number of a FIN that is not acknowledged, one of the two was never taken. A FIN past the window may be taken or not,
    since acknowledgements under way may open the window."""
    fin = seq.add(segment.seq, segment.payload_len)
    ahead = seq.diff(sender.end, seq.add(fin, 1))
    if ahead == 0 and sender.flags & HALF_FIN:
        return
    if ahead == 0 and (not was_known or sender.flags & HALF_INFERRED):
        sender.flags |= HALF_FIN
        if was_known and sender.bytes:
            sender.bytes -= 1  # the FIN's acknowledgement came first, so the FIN was counted as a byte
    elif (ahead >= 0 or not sender.flags & HALF_FIN) and not (receiver.flags & HALF_ACK and seq.lt(fin, receiver.ack)):
        sender.flags |= HALF_REVOKED


def _move(row: FlowRow, event: Event) -> Event | None:
    """Change the flow's state as TRANSITIONS says; return the event, or None if it has no meaning in this state."""
    following = TRANSITIONS.get((State(row.state), event))
    if following is None:
        return None
    row.state = following
    return event


def _take_syn_ack(row: FlowRow, segment: Segment) -> Event | None:
    """Take the backend's SYN-ACK: it settles the window scales, and how much of the SYN's data counts as sent."""
    if not may_answer(row, segment):
        row.reply.packets += 1
        return None
    row.orig.bytes = seq.diff(segment.ack, row.orig.end)
    row.orig.end = segment.ack
    scale = segment.window_scale()
    if scale is None or row.orig.scale == NO_WINDOW_SCALE:
        row.orig.scale = row.reply.scale = 0  # RFC 7323 §2.2: both ends offer it, or neither uses it
    else:
        row.reply.scale = scale
    if segment.mptcp() & ~(MPTCP_CAPABLE if strips_mptcp(row) else 0):
        set_mptcp(row)
    update(row, segment, from_client=False, is_taken=True)
    row.orig.edge = seq.add(segment.seq, 1 + row.orig.max_window)
    return _move(row, Event.SYN_ACK)


def _acknowledges_syn(client: HalfRow, backend: HalfRow) -> bool:
    """Return whether the client has acknowledged the backend's SYN, perhaps not the data that followed it at once (RFC
    7413 §4.2)."""
    return bool(client.flags & HALF_ACK) and seq.le(first_number(backend), client.ack)


def _take_reset(row: FlowRow, segment: Segment, *, from_client: bool) -> Event | None:
    sender, receiver = halves(row, from_client=from_client)
    sender.packets += 1
    is_exact = _is_exact_reset(row, segment, from_client=from_client)
    if not is_exact or (from_client and expires_here(row, segment)):
        return None
    has_numbers = sender.flags & HALF_ACK and receiver.flags & HALF_SEQ
    if segment.flags & ACK and has_numbers and seq.le(segment.ack, receiver.end):
        sender.ack = seq.latest(sender.ack, segment.ack)  # no later segment acknowledges what the sender has got
    return _move(row, Event.RST)


def _is_exact_reset(row: FlowRow, segment: Segment, *, from_client: bool) -> bool:
    """Return whether the RST's receiver accepts it: at exactly the next expected number (RFC 5961 §3.2). For a tracker
    that is the number that the receiver has acknowledged or, if data is still under way, the end of the sent data. On a
    loose flow no number of a packet counts, only those of a record."""
    sender, receiver = halves(row, from_client=from_client)
    if row.state == State.SYN_SENT:
        return not from_client and may_answer(row, segment)
    if is_loose(row):
        return is_recorded(row) and segment.seq == (row.orig.end if from_client else row.orig.ack)
    is_end = bool(sender.flags & HALF_SEQ) and segment.seq == sender.end
    return is_end or (bool(receiver.flags & HALF_ACK) and segment.seq == receiver.ack)


def _both_acknowledged(row: FlowRow) -> bool:
    return row.orig.ack == row.reply.end and row.reply.ack == row.orig.end
