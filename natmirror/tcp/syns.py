"""The SYNs of a production connection, and the backend's answers to them, for the tracker.

A client may send several SYNs, and only the backend knows which one it has taken. Repetitions with the same number may
lack options or data of the first one, as some stacks drop them; the SYN-ACK says what counts. If it cannot say, because
two SYNs offer different window scales, or if the backend answers the same number a second time with another number of
its own, the flow is *ambiguous*. nat/flow.py compares the data of SYNs, and SYNs with other numbers.
"""

from natmirror.fastpath import MAX_SYN_DATA, NO_WINDOW_SCALE, FlowRow
from natmirror.fastpath.flow_flags import is_picked_up, is_service_mirrored, set_ambiguous, set_mptcp
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.packet import ACK, MPTCP_CAPABLE, SYN, Segment
from natmirror.tcp.acceptance import first_number
from natmirror.tcp.breaks import note_ahead


def note_offers(row: FlowRow, syn: Segment, data_len: int) -> None:
    """Note what a SYN with the flow's first number offers, before the backend has answered one."""
    scale = syn.window_scale()
    if scale is not None:
        if row.orig.scale not in (NO_WINDOW_SCALE, scale):
            set_ambiguous(row)
        row.orig.scale = scale
    if syn.mptcp() & ~MPTCP_CAPABLE:  # RFC 8684 §3.1: MP_CAPABLE is only an offer, which the SYN-ACK accepts or not
        set_mptcp(row)
    note_ahead(row, seq.add(syn.seq, 1 + data_len))
    if is_service_mirrored(row) and (data_len or syn.has_cookie()):
        # TCP Fast Open: the backend may use this window before the handshake is complete (RFC 7413 §4.2.2).
        row.orig.max_window = max(row.orig.max_window, syn.window)


def irs(row: FlowRow) -> int:
    """Return the number of the backend's SYN-ACK, which has passed here."""
    return seq.add(first_number(row.reply), -1)


def repeats_answer(row: FlowRow, syn_ack: Segment) -> bool:
    """Return whether the backend's SYN-ACK is a repetition of the flow's."""
    if row.state == State.SYN_SENT or is_picked_up(row) or syn_ack.seq != irs(row):
        return False
    return seq.lt(row.iss, syn_ack.ack) and seq.le(syn_ack.ack, row.reply.ack)


def is_another_answer(row: FlowRow, segment: Segment) -> bool:
    """Return whether the backend answers the flow's SYN a second time with a number of its own that is another one: it
    has forgotten the first answer, or the client may still complete either."""
    if (
        segment.flags & (SYN | ACK) != SYN | ACK
        or is_picked_up(row)
        or not State.SYN_SENT < row.state < State.TIME_WAIT
    ):
        return False
    return may_answer(row, segment) and not repeats_answer(row, segment)


def may_answer(row: FlowRow, segment: Segment) -> bool:
    """Return whether a backend's segment acknowledges the flow's SYN, and at most a SYN's data."""
    return bool(segment.flags & ACK) and 0 <= seq.diff(segment.ack, seq.add(row.iss, 1)) <= MAX_SYN_DATA
