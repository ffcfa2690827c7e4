"""Constants of the C library, read from it. The headers say where each comes from."""

from natmirror._ffi import lib

ACCEPT, MODIFIED, CONSUMED, PUNT = lib.NM_ACCEPT, lib.NM_MODIFIED, lib.NM_CONSUMED, lib.NM_PUNT
"""What nm_process() answers: let the packet pass as it is; let it pass as it was rewritten in place; drop it, because
it was a mirror's for its leg; from PUNT on: Python has to decide, for a reason."""

BOUND, FORGOTTEN, ENDED = lib.NM_CHANGE_BOUND, lib.NM_CHANGE_FORGOTTEN, lib.NM_CHANGE_ENDED
"""The kinds of changes that FlowTable.take_changes() gives: established with a backend that the rules alone do not
give; no longer known here, but maybe elsewhere; over."""

ANNOUNCE, CLAIM_SEEN, CLAIM_ALL, HAND_OVER, STANDBY = (
    lib.NM_SWEEP_ANNOUNCE,
    lib.NM_SWEEP_CLAIM_SEEN,
    lib.NM_SWEEP_CLAIM_ALL,
    lib.NM_SWEEP_HAND_OVER,
    lib.NM_SWEEP_STANDBY,
)
"""What FlowTable.sweep() does: report all shared flows again; make those of other hosts' flows our own whose packets
pass here; make all of them our own; give ours to the host that their packets pass from now on; expect that host to
report flows."""

READ_ORIG, READ_REPLY, READ_MIRROR = lib.NM_READ_ORIG, lib.NM_READ_REPLY, lib.NM_READ_MIRROR
"""The kinds of data to be read that C knows: a client's, its backend's, and what a leg's mirror answers."""

SOURCE_MESSAGES = lib.NM_SOURCE_MESSAGES
"""The ``source`` of a leg that carries messages of ours, not its client's bytes."""

NEVER = float("inf")
"""The time of what is not going to happen."""

NO_BACKEND = lib.NM_NO_BACKEND
"""The ``backend_id`` of a flow whose service has no pool."""

NO_FLOW = lib.NM_NO_FLOW
"""The ``flow_id`` of a leg whose flow is gone."""

NO_LEG = lib.NM_NO_LEG
"""The end of a flow's list of legs."""

IPV4 = 4
"""The ``family`` of every row."""

CLIENT_KEY = bytes(lib.nm_client_key)
"""The key of the hash by which clients are spread over backends; the same on every host, so that all choose alike."""

SYN_ANSWER_TIMEOUT = lib.NM_SYN_ANSWER_TIMEOUT
"""Seconds after which a SYN counts as unanswered."""

MAX_WINDOW_SCALE = lib.NM_MAX_WINDOW_SCALE
"""The largest shift of a window."""

NO_WINDOW_SCALE = lib.NM_NO_WINDOW_SCALE
"""The ``scale`` of an end that has not offered the option."""

MAX_SYN_DATA = lib.NM_MAX_SYN_DATA
"""Bytes that a SYN may carry."""

LEG_WINDOW = lib.NM_LEG_WINDOW
"""The window field that a leg offers."""

LEG_ACK_DELAY = lib.NM_LEG_ACK_DELAY
"""Seconds for which a leg may delay an acknowledgement."""

LEG_MAX_SEGMENTS = lib.NM_LEG_MAX_SEGMENTS
"""Segments of new data that a leg sends in one call at most."""

INITIAL_SEGMENTS, SLOW_START_SEGMENTS, MAX_CWND = (
    lib.NM_INITIAL_SEGMENTS,
    lib.NM_SLOW_START_SEGMENTS,
    lib.NM_MAX_CWND,
)
"""The congestion window: where it begins, how far one acknowledgement may open it (both in segments), and its limit in
bytes."""

RTO_INITIAL, RTO_MIN, RTO_MAX, RTO_GRANULARITY = (
    lib.NM_RTO_INITIAL,
    lib.NM_RTO_MIN,
    lib.NM_RTO_MAX,
    lib.NM_RTO_GRANULARITY,
)
"""The retransmission timer, in seconds."""
