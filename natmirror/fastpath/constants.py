"""Constants of the C library, read from it."""

from natmirror._ffi import lib

ACCEPT, MODIFIED, CONSUMED, PUNT = int(lib.NM_ACCEPT), int(lib.NM_MODIFIED), int(lib.NM_CONSUMED), int(lib.NM_PUNT)
"""What process() says: let it pass; let it pass as it was rewritten in place; drop it, it was a mirror's for its leg;
from PUNT on: Python is to decide, for a reason."""

PUNTS = {
    int(getattr(lib, name)): name.removeprefix("NM_PUNT_").lower()
    for name in dir(lib)
    if name.startswith("NM_PUNT_") and name != "NM_PUNT_REASONS"
}
"""The reasons why a packet is punted, by what process() says."""

MIRRORED, WATCHED, DIRECT, LOOSE, HELD, WAITING, GAPPED, TAPPED, KNOWN, UNANSWERED, READ, REPLY_GAPPED, KILLED = (
    int(lib.NM_FLOW_FEEDS_LEGS),
    int(lib.NM_FLOW_WATCHED),
    int(lib.NM_FLOW_DIRECT),
    int(lib.NM_FLOW_LOOSE),
    int(lib.NM_FLOW_HELD),
    int(lib.NM_FLOW_PAST_WINDOW),
    int(lib.NM_FLOW_ORIG_GAP),
    int(lib.NM_FLOW_SERVICE_MIRRORED),
    int(lib.NM_FLOW_PYTHON_STATE),
    int(lib.NM_FLOW_UNANSWERED),
    int(lib.NM_FLOW_HAS_READER),
    int(lib.NM_FLOW_REPLY_GAP),
    int(lib.NM_FLOW_ABORTED),
)
"""Flags of a flow's row, see flow_table.h."""

UNDERIVED, SHARED, GUEST = int(lib.NM_UNDERIVED), int(lib.NM_SHARED), int(lib.NM_FOREIGN)
"""What a flow's ``sharing`` says, see flow_table.h."""

BOUND, FORGOTTEN, ENDED = int(lib.NM_CHANGE_BOUND), int(lib.NM_CHANGE_FORGOTTEN), int(lib.NM_CHANGE_ENDED)
"""The kinds of changes that take_changes() gives, see flow_table.h."""

TELL, CLAIM_SEEN, CLAIM_ALL, LEND, QUIET = (
    int(lib.NM_SWEEP_ANNOUNCE),
    int(lib.NM_SWEEP_CLAIM_SEEN),
    int(lib.NM_SWEEP_CLAIM_ALL),
    int(lib.NM_SWEEP_HAND_OVER),
    int(lib.NM_SWEEP_STANDBY),
)
"""What a sweep does, see _fastpath.h."""

STEADY, SACK, SAMPLING, MEASURED = (
    int(lib.NM_LEG_STEADY),
    int(lib.NM_LEG_SACK),
    int(lib.NM_LEG_SAMPLING),
    int(lib.NM_LEG_MEASURED),
)
"""Flags of a leg's row, see leg_table.h."""

READ_ORIG, READ_REPLY, READ_MIRROR = int(lib.NM_READ_ORIG), int(lib.NM_READ_REPLY), int(lib.NM_READ_MIRROR)
"""The kinds of what is to be read that C knows: of a client, of its backend, of a leg's mirror."""
SOURCE_MESSAGES = int(lib.NM_SOURCE_MESSAGES)
"""The ``source`` of a leg that carries messages of ours."""

NEVER = float("inf")
"""The time of what is not going to happen."""

NO_BACKEND = int(lib.NM_NO_BACKEND)
"""A flow's backend_id where its service has no pool."""

NO_FLOW = int(lib.NM_NO_FLOW)
"""A leg's flow_id once its flow is gone."""

NO_LEG = int(lib.NM_NO_LEG)
"""The end of a flow's list of legs."""

IPV4 = 4
"""The ``family`` of every row."""
