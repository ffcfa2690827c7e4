"""The C gear and its Python interface: flow table, leg table, tracker, leg sender, plan, Maglev tables.

Begin with gear.py: it owns the tables of flows and legs (tables.py) and calls ``_fastpath.c``, one folder up, which
decides packets. plan.py hands services and backends to C. rows.py gives C's structs their Python types, flow_flags.py
and leg_flags.py name their bits, constants.py and flow_states.py read C's constants and tables from the library. No
I/O, no clock, no policy. Imports net and actions.
"""

from natmirror.fastpath.constants import (
    ACCEPT,
    ANNOUNCE,
    BOUND,
    CLAIM_ALL,
    CLAIM_SEEN,
    CLIENT_KEY,
    CONSUMED,
    ENDED,
    FORGOTTEN,
    INITIAL_SEGMENTS,
    LEG_ACK_DELAY,
    LEG_MAX_SEGMENTS,
    LEG_WINDOW,
    MAX_CWND,
    MAX_SYN_DATA,
    MAX_WINDOW_SCALE,
    MODIFIED,
    NEVER,
    NO_BACKEND,
    NO_FLOW,
    NO_WINDOW_SCALE,
    PUNT,
    READ_MIRROR,
    READ_ORIG,
    READ_REPLY,
    RELEASE,
    RTO_GRANULARITY,
    RTO_INITIAL,
    RTO_MAX,
    RTO_MIN,
    SLOW_START_SEGMENTS,
    SOURCE_MESSAGES,
    STANDBY,
    SYN_ANSWER_TIMEOUT,
)
from natmirror.fastpath.drop_reasons import DROPS
from natmirror.fastpath.gear import Gear, Refusals
from natmirror.fastpath.held_bytes import MAX_RELEASE_LEN, HeldBytes, client_bytes
from natmirror.fastpath.maglev import fill_maglev, share_maglev
from natmirror.fastpath.memory import ConnectionCounts, Memory
from natmirror.fastpath.plan import Plan, PlannedService
from natmirror.fastpath.rows import Array, FlowRow, GearRow, HalfRow, LegRow
from natmirror.fastpath.siphash import siphash, subkey
from natmirror.fastpath.tables import FlowTable, LegTable

__all__ = [
    "ACCEPT",
    "ANNOUNCE",
    "BOUND",
    "CLAIM_ALL",
    "CLAIM_SEEN",
    "CLIENT_KEY",
    "CONSUMED",
    "DROPS",
    "ENDED",
    "FORGOTTEN",
    "INITIAL_SEGMENTS",
    "LEG_ACK_DELAY",
    "LEG_MAX_SEGMENTS",
    "LEG_WINDOW",
    "MAX_CWND",
    "MAX_RELEASE_LEN",
    "MAX_SYN_DATA",
    "MAX_WINDOW_SCALE",
    "MODIFIED",
    "NEVER",
    "NO_BACKEND",
    "NO_FLOW",
    "NO_WINDOW_SCALE",
    "PUNT",
    "READ_MIRROR",
    "READ_ORIG",
    "READ_REPLY",
    "RELEASE",
    "RTO_GRANULARITY",
    "RTO_INITIAL",
    "RTO_MAX",
    "RTO_MIN",
    "SLOW_START_SEGMENTS",
    "SOURCE_MESSAGES",
    "STANDBY",
    "SYN_ANSWER_TIMEOUT",
    "Array",
    "ConnectionCounts",
    "FlowRow",
    "FlowTable",
    "Gear",
    "GearRow",
    "HalfRow",
    "HeldBytes",
    "LegRow",
    "LegTable",
    "Memory",
    "Plan",
    "PlannedService",
    "Refusals",
    "client_bytes",
    "fill_maglev",
    "share_maglev",
    "siphash",
    "subkey",
]
