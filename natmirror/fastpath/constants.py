"""Constants, read from the C library. The headers name the source of each."""

from natmirror._ffi import lib

ACCEPT, MODIFIED, CONSUMED, PUNT = lib.NM_ACCEPT, lib.NM_MODIFIED, lib.NM_CONSUMED, lib.NM_PUNT
"""The decisions of nm_process(): pass the packet unchanged; pass it rewritten in place; drop it, because it was a
mirror's packet for a leg. Numbers from PUNT on are the reasons why Python has to decide."""

BOUND, FORGOTTEN, ENDED = lib.NM_CHANGE_BOUND, lib.NM_CHANGE_FORGOTTEN, lib.NM_CHANGE_ENDED
"""The kinds of changes that FlowTable.take_changes() returns: a pinned flow is established; this host has forgotten it,
while another one may still pass it; it has ended."""

ANNOUNCE, CLAIM_SEEN, CLAIM_ALL, RELEASE, STANDBY = (
    lib.NM_SWEEP_ANNOUNCE,
    lib.NM_SWEEP_CLAIM_SEEN,
    lib.NM_SWEEP_CLAIM_ALL,
    lib.NM_SWEEP_RELEASE,
    lib.NM_SWEEP_STANDBY,
)
"""The options of FlowTable.sweep(): report all pinned flows again; make the guests whose packets pass here our own;
make all guests our own; release our flows to the host that passes their packets from now on; leave it to that host to
report pinned flows."""

READ_ORIG, READ_REPLY, READ_MIRROR = lib.NM_READ_ORIG, lib.NM_READ_REPLY, lib.NM_READ_MIRROR
"""The kinds of data that C hands to readers: a client's, its backend's, and the answers of a leg's mirror."""

SOURCE_MESSAGES = lib.NM_SOURCE_MESSAGES
"""The ``source`` of a leg that carries natmirror's own messages instead of its client's bytes."""

NEVER = float("inf")
"""The time of an event that will not happen."""

NO_BACKEND = lib.NM_NO_BACKEND
"""The ``backend_id`` of a flow whose service has no pool."""

NO_FLOW = lib.NM_NO_FLOW
"""The ``flow_id`` of a leg whose flow is gone."""

CHUNK_LEN = lib.NM_CHUNK_LEN
"""Bytes of the pieces in which legs take memory."""

NO_HOLDER, CLIENT_SHARE = lib.NM_NO_HOLDER, lib.NM_CLIENT_SHARE
"""The ``holder`` of memory that is no client's; one client may hold 1/CLIENT_SHARE of the budget."""

NO_LEG = lib.NM_NO_LEG
"""The end of a flow's list of legs."""

IPV4 = 4
"""The ``family`` of every row."""

CLIENT_KEY = bytes(lib.nm_client_key)
"""The key of the hash that spreads clients over backends; the same on all hosts, so that they choose alike."""

SYN_ANSWER_TIMEOUT = lib.NM_SYN_ANSWER_TIMEOUT
"""Seconds after which a SYN counts as unanswered."""

MAX_ECHO_AGE = lib.NM_MAX_ECHO_AGE
"""Seconds after which an echoed timestamp says nothing of TS.Recent."""

MAX_WINDOW, MAX_WINDOW_SCALE = lib.NM_MAX_WINDOW, lib.NM_MAX_WINDOW_SCALE
"""The largest window field, and the largest shift of a window."""

NO_WINDOW_SCALE = lib.NM_NO_WINDOW_SCALE
"""The ``scale`` of an end that has not offered the option."""

MAX_SYN_DATA = lib.NM_MAX_SYN_DATA
"""Bytes that a SYN may carry."""

AGREEMENT_BITS, CONTINUATION = lib.NM_AGREEMENT_BITS, lib.NM_CONTINUATION
"""How near the numbers of two ends that agree are, in bits; and how near to its last one, in bytes, a segment continues
its sender's stream."""

BREAK_SILENCE = lib.NM_BREAK_SILENCE
"""Seconds without a packet of a flow after which its client's next data begins at a break (tcp/breaks.py)."""

UNCONFIRMED_TIMEOUT = lib.NM_UNCONFIRMED_TIMEOUT
"""Seconds from an unconfirmed flow's last packet to its expiry."""

LEG_WINDOW = lib.NM_LEG_WINDOW
"""The window field that a leg offers."""

LEG_ACK_DELAY = lib.NM_LEG_ACK_DELAY
"""Seconds for which a leg may delay an acknowledgement."""

LEG_MAX_SEGMENTS = lib.NM_LEG_MAX_SEGMENTS
"""The most segments of new data that a leg sends in one call."""

INITIAL_SEGMENTS, SLOW_START_SEGMENTS, MAX_CWND = (
    lib.NM_INITIAL_SEGMENTS,
    lib.NM_SLOW_START_SEGMENTS,
    lib.NM_MAX_CWND,
)
"""The congestion window: its initial size and the most by which one acknowledgement opens it, both in segments, and its
limit in bytes."""

RTO_INITIAL, RTO_MIN, RTO_MAX, RTO_GRANULARITY = (
    lib.NM_RTO_INITIAL,
    lib.NM_RTO_MIN,
    lib.NM_RTO_MAX,
    lib.NM_RTO_GRANULARITY,
)
"""The retransmission timer, in seconds."""
