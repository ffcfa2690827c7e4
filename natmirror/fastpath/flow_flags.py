"""Read and set the bits of a flow's row by name. flow_table.h explains each bit."""

from natmirror._ffi import lib
from natmirror.fastpath.rows import FlowRow, HalfRow
from natmirror.net import seq

FEEDS_LEGS = lib.NM_FLOW_FEEDS_LEGS
WATCHED = lib.NM_FLOW_WATCHED
DIRECT = lib.NM_FLOW_DIRECT
PICKED_UP = lib.NM_FLOW_PICKED_UP
THROTTLED = lib.NM_FLOW_THROTTLED
PAST_WINDOW = lib.NM_FLOW_PAST_WINDOW
ORIG_GAP = lib.NM_FLOW_ORIG_GAP
REPLY_GAP = lib.NM_FLOW_REPLY_GAP
SERVICE_MIRRORED = lib.NM_FLOW_SERVICE_MIRRORED
PYTHON_STATE = lib.NM_FLOW_PYTHON_STATE
UNANSWERED = lib.NM_FLOW_UNANSWERED
HAS_READER = lib.NM_FLOW_HAS_READER
KILLED = lib.NM_FLOW_KILLED
LOOSE = lib.NM_FLOW_LOOSE
VOUCHED = lib.NM_FLOW_VOUCHED
HOLDS = lib.NM_FLOW_HOLDS
SKIPPED = lib.NM_FLOW_SKIPPED
UNSEEN = lib.NM_FLOW_UNSEEN
STRIPS_MPTCP = lib.NM_FLOW_STRIPS_MPTCP
MPTCP = lib.NM_FLOW_MPTCP
AMBIGUOUS = lib.NM_FLOW_AMBIGUOUS
RECONNECTS = lib.NM_FLOW_RECONNECTS
AT_BREAK = lib.NM_FLOW_AT_BREAK
UNREAD = lib.NM_FLOW_UNREAD
AHEAD = lib.NM_FLOW_AHEAD
LIMITED = lib.NM_FLOW_LIMITED
"""Bits of ``FlowRow.flags``."""
NOT_PLAIN = LOOSE | PICKED_UP | SERVICE_MIRRORED
"""The flow's service has mirrors, or its SYN did not pass here."""

HALF_SEQ, HALF_ACK, HALF_FIN, HALF_INFERRED = (
    lib.NM_HALF_SEQ,
    lib.NM_HALF_ACK,
    lib.NM_HALF_FIN,
    lib.NM_HALF_INFERRED,
)
HALF_STAMP, HALF_ECHO = lib.NM_HALF_STAMP, lib.NM_HALF_ECHO
HALF_REVOKED, HALF_RECORDED = lib.NM_HALF_REVOKED, lib.NM_HALF_RECORDED
"""Bits of ``HalfRow.flags``, for the tracker: ``end`` is known; ``ack`` and ``edge`` are known; a FIN was sent; the
byte before ``end`` was not seen, only inferred from an acknowledgement's sequence number; ``stamp`` is known; ``echo``
is known; a FIN was sent, and later a byte with its number; ``ack`` and ``edge`` are another host's."""

_PINNED, _GUEST = lib.NM_PINNED, lib.NM_GUEST
_CLEAR_ORIG_WAITING = ~(PAST_WINDOW | ORIG_GAP)
_CLEAR_READER = ~(HAS_READER | REPLY_GAP)
_OF_MIRRORING = FEEDS_LEGS | HAS_READER | PAST_WINDOW | ORIG_GAP | REPLY_GAP | SKIPPED | UNSEEN | RECONNECTS
_CLEAR_MIRRORING = ~_OF_MIRRORING


# The connection


def is_direct(row: FlowRow) -> bool:
    """Return whether the client talks to the backend directly."""
    return row.flags & DIRECT != 0


def is_picked_up(row: FlowRow) -> bool:
    """Return whether the flow's SYN did not pass here."""
    return row.flags & PICKED_UP != 0


def set_picked_up(row: FlowRow) -> None:
    """Note that the flow's SYN did not pass here, and that its two ends have not agreed on their numbers here."""
    row.flags = row.flags & ~VOUCHED | PICKED_UP | LOOSE


def is_loose(row: FlowRow) -> bool:
    """Return whether the flow was picked up, and its two ends have not agreed on their numbers here."""
    return row.flags & LOOSE != 0


def make_strict(row: FlowRow) -> None:
    """Note that the flow's two ends have agreed on their numbers."""
    row.flags &= ~LOOSE


def vouch_for(row: FlowRow) -> None:
    """Note that the flow's binding is certain, though its ends may not have agreed here: it was established before, or
    another host has reported it."""
    row.flags |= VOUCHED


def is_unconfirmed(row: FlowRow) -> bool:
    """Return whether the flow is loose, nothing else makes its binding certain, and it is not closed."""
    return row.flags & (LOOSE | VOUCHED) == LOOSE and row.state < lib.NM_STATE_TIME_WAIT


def has_silent_client(row: FlowRow) -> bool:
    """Return whether the flow is unconfirmed, and only a backend has been heard."""
    return is_unconfirmed(row) and not row.orig.flags & HALF_SEQ


def is_recorded(row: FlowRow) -> bool:
    """Return whether the flow's first numbers, and its backend's window scale, are from another host's record."""
    return row.reply.flags & HALF_RECORDED != 0


def knows_window(row: FlowRow) -> bool:
    """Return whether the window that the backend offers is known: its scale is, and the backend has been heard."""
    return not row.flags & PICKED_UP or (is_recorded(row) and not is_loose(row))


def is_watched(row: FlowRow) -> bool:
    """Return whether the flow's service has no pool: its packets are read, never rewritten."""
    return row.flags & WATCHED != 0


def is_killed(row: FlowRow) -> bool:
    """Return whether natmirror has reset both ends because the backend failed."""
    return row.flags & KILLED != 0


def set_killed(row: FlowRow) -> None:
    """Note that natmirror has reset both ends."""
    row.flags |= KILLED


def is_unanswered(row: FlowRow) -> bool:
    """Return whether Python has counted the client's SYN as unanswered."""
    return row.flags & UNANSWERED != 0


def set_unanswered(row: FlowRow) -> None:
    """Note that Python has counted the client's SYN as unanswered."""
    row.flags |= UNANSWERED


def has_python_state(row: FlowRow) -> bool:
    """Return whether Python keeps an object for the flow, so that only Python may remove it."""
    return row.flags & PYTHON_STATE != 0


def set_python_state(row: FlowRow) -> None:
    """Note that Python keeps an object for the flow."""
    row.flags |= PYTHON_STATE


def is_guest(row: FlowRow) -> bool:
    """Return whether another host passes the flow, and none of its packets has changed its state here."""
    return row.sharing & _GUEST != 0


def is_pinned(row: FlowRow) -> bool:
    """Return whether the rules alone do not give the flow's backend."""
    return row.sharing & _PINNED != 0


def strips_mptcp(row: FlowRow) -> bool:
    """Return whether natmirror strips MP_CAPABLE from the flow's SYNs, so that it becomes a plain TCP connection."""
    return row.flags & STRIPS_MPTCP != 0


def is_mptcp(row: FlowRow) -> bool:
    """Return whether the flow's SYNs have shown that it belongs to an MPTCP connection, whose other flows carry the
    rest of its client's bytes."""
    return row.flags & MPTCP != 0


def set_mptcp(row: FlowRow) -> None:
    """Note that the flow belongs to an MPTCP connection."""
    row.flags |= MPTCP


def is_ambiguous(row: FlowRow) -> bool:
    """Return whether it is unknown which of several SYNs the flow's backend has taken."""
    return row.flags & AMBIGUOUS != 0


def set_ambiguous(row: FlowRow) -> None:
    """Note that it is unknown which of several SYNs the flow's backend has taken."""
    row.flags |= AMBIGUOUS


# Its copies


def is_service_mirrored(row: FlowRow) -> bool:
    """Return whether the flow's service has mirrors."""
    return row.flags & SERVICE_MIRRORED != 0


def start_feeding_legs(row: FlowRow) -> None:
    """Make C give the client's data to the flow's legs."""
    row.flags |= FEEDS_LEGS


def stop_feeding_legs(row: FlowRow) -> None:
    """Make C give the client's data to no leg any more."""
    row.flags &= ~FEEDS_LEGS


def holds(row: FlowRow) -> bool:
    """Return whether legs and sessions get only bytes that the backend has acknowledged."""
    return row.flags & HOLDS != 0


def set_holds(row: FlowRow) -> None:
    """Make the client's bytes wait for the backend's acknowledgement."""
    row.flags |= HOLDS


def awaits_reply(row: FlowRow) -> bool:
    """Return whether a backend's packet may give mirrors something, or end their copies: bytes or a FIN wait for its
    acknowledgement or for its window, or it acknowledges bytes that did not pass here. While the flow is loose, the
    packet may be anyone's."""
    flags = row.flags
    waits = flags & (PAST_WINDOW | SKIPPED | UNSEEN) or row.held_len or row.orig.flags & HALF_FIN
    return bool(waits or _has_hole(row)) and not flags & LOOSE


def _has_hole(row: FlowRow) -> bool:
    """Return whether the backend has acknowledged bytes that legs and sessions lack; False if the flow was picked up:
    its first packets did not pass here."""
    has_all = row.flags & (FEEDS_LEGS | HAS_READER) and not row.flags & PICKED_UP
    return bool(has_all) and seq.lt(row.orig.next, row.reply.ack)


def is_skipped(row: FlowRow) -> bool:
    """Return whether C has passed data of the client without mirroring, because the client was over its limit."""
    return row.flags & SKIPPED != 0


def is_unseen(row: FlowRow) -> bool:
    """Return whether packets of the flow may have passed its watch queue unseen."""
    return row.flags & UNSEEN != 0


def clear_skipped(row: FlowRow) -> None:
    """Note that the copies have ended for which data was skipped, or passed unseen."""
    row.flags &= ~(SKIPPED | UNSEEN)


def set_unread(row: FlowRow) -> None:
    """Note that data of the client has passed while its numbers agreed with nothing that is known of the flow."""
    row.flags |= UNREAD


def may_lack_versions(row: FlowRow) -> bool:
    """Return whether the backend may have a version of the client's bytes that passed here and that no copy was given:
    even where no byte came to the copies."""
    return bool(row.flags & (SKIPPED | UNSEEN | UNREAD | AMBIGUOUS)) or is_revoked(row.orig)


def has_takers(row: FlowRow) -> bool:
    """Return whether a leg or a session gets the client's data."""
    return row.flags & (FEEDS_LEGS | HAS_READER) != 0


def has_reader(row: FlowRow) -> bool:
    """Return whether a session with a master reads the data of both ends."""
    return row.flags & HAS_READER != 0


def add_reader(row: FlowRow, *, is_late: bool = False) -> None:
    """Make C keep the data of both ends for a session with a master.

    ``is_late``: the flow was picked up. Until the position in its stream is known, data waits for earlier data.
    """
    row.flags |= HAS_READER | ORIG_GAP | REPLY_GAP if is_late else HAS_READER


def remove_reader(row: FlowRow) -> None:
    """Make C keep no more data for a session with a master."""
    row.flags &= _CLEAR_READER


def reconnects(row: FlowRow) -> bool:
    """Return whether a copy of the flow that has ended waits to begin again."""
    return row.flags & RECONNECTS != 0


def set_reconnects(row: FlowRow, reconnects: bool) -> None:
    """Note whether a copy of the flow waits to begin again: then C looks for breaks in its client's data, from now
    on."""
    if reconnects != (row.flags & RECONNECTS != 0):
        row.flags = row.flags & ~AT_BREAK ^ RECONNECTS


def is_past_window(row: FlowRow) -> bool:
    """Return whether a byte past the backend's window waits until the window has moved."""
    return row.flags & PAST_WINDOW != 0


def set_orig_waiting(row: FlowRow, *, past_window: bool, has_gap: bool) -> None:
    """Note whether client data waits for the backend's window, and whether some waits for earlier data."""
    waiting = (PAST_WINDOW if past_window else 0) | (ORIG_GAP if has_gap else 0)
    row.flags = row.flags & _CLEAR_ORIG_WAITING | waiting


def clear_orig_waiting(row: FlowRow) -> None:
    """Note that no client data waits."""
    row.flags &= _CLEAR_ORIG_WAITING


def set_reply_gap(row: FlowRow, has_gap: bool) -> None:
    """Note whether some of the backend's data waits for earlier data."""
    row.flags = row.flags | REPLY_GAP if has_gap else row.flags & ~REPLY_GAP


def concerns_mirroring(row: FlowRow) -> bool:
    """Return whether C does anything for the flow's copies, or a mirror throttles the client."""
    return row.flags & (_OF_MIRRORING | THROTTLED) != 0


def clear_mirroring(row: FlowRow) -> None:
    """Make C do nothing for the flow's copies any more. Do not change whether the client is throttled."""
    row.flags &= _CLEAR_MIRRORING


def is_throttled(row: FlowRow) -> bool:
    """Return whether a mirror throttles the client."""
    return row.flags & THROTTLED != 0


def throttle_client(row: FlowRow) -> None:
    """Make C punt the backend's packets, so that Python can narrow the window that they offer the client."""
    row.flags |= THROTTLED


def unthrottle_client(row: FlowRow) -> None:
    """Throttle the client no longer."""
    row.flags &= ~THROTTLED


# One direction


def is_end_known(half: HalfRow) -> bool:
    """Return whether ``end`` is known."""
    return half.flags & HALF_SEQ != 0


def is_revoked(half: HalfRow) -> bool:
    """Return whether it is unknown which of a FIN and bytes of the half was taken, since clear_revoked()."""
    return half.flags & HALF_REVOKED != 0


def clear_revoked(half: HalfRow) -> None:
    """Note that the copies have ended for which a FIN was revoked."""
    half.flags &= ~HALF_REVOKED


def is_ack_known(half: HalfRow) -> bool:
    """Return whether ``ack`` and ``edge`` are known."""
    return half.flags & HALF_ACK != 0


def is_fin_acked(row: FlowRow) -> bool:
    """Return whether the backend has acknowledged all that the client has sent, so also a FIN."""
    return bool(row.reply.flags & HALF_ACK) and row.reply.ack == row.orig.end


def has_inferred_end(half: HalfRow) -> bool:
    """Return whether the byte before ``end`` was not seen, and may turn out to be a FIN."""
    return half.flags & (HALF_INFERRED | HALF_FIN) == HALF_INFERRED


def is_finished(half: HalfRow) -> bool:
    """Return whether a FIN was sent; it lies at ``end`` - 1."""
    return half.flags & HALF_FIN != 0
