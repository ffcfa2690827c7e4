"""The values that the bodies of OpenFlow messages are decoded into. All are immutable, hashable and canonical.

elements.py declares what they consist of, group_values.py the values of groups and meters. A value has no transaction
id and no version: the message has both.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from natmirror.openflow.bodies.elements import (
    ANY_GROUP,
    NO_BUFFER,
    Actions,
    Instructions,
    Match,
    ReservedPort,
    in_port_of,
)
from natmirror.openflow.bodies.group_values import GroupMod, MeterMod
from natmirror.openflow.messages import Type


class FlowCommand(StrEnum):
    """OFPFC_*."""

    ADD = "add"
    MODIFY = "modify"
    MODIFY_STRICT = "modify-strict"
    DELETE = "delete"
    DELETE_STRICT = "delete-strict"

    @property
    def is_delete(self) -> bool:
        return self is FlowCommand.DELETE or self is FlowCommand.DELETE_STRICT

    @property
    def is_strict(self) -> bool:
        return self is FlowCommand.MODIFY_STRICT or self is FlowCommand.DELETE_STRICT


class FlowFlag(IntEnum):
    """OFPFF_*: bits of a flow's flags. In 1.0 RESET_COUNTS is EMERG, which no switch has, and the two after it do not
    exist."""

    SEND_FLOW_REM = 1
    CHECK_OVERLAP = 2
    RESET_COUNTS = 4
    NO_PACKET_COUNTS = 8
    NO_BYTE_COUNTS = 16


@dataclass(frozen=True, slots=True)
class FlowMod:
    """A FLOW_MOD. A field that its command ignores has its default."""

    command: FlowCommand
    table: int
    """0 in 1.0; ALL_TABLES in a deletion from all tables."""
    priority: int
    """The default where a command is not strict and adds nothing."""
    match: Match
    instructions: Instructions
    cookie: int = 0
    """The new flow's cookie, and in 1.0 the modified one's. Else what a flow's cookie must have in ``cookie_mask``."""
    cookie_mask: int = 0
    """Bits of ``cookie`` that MODIFY and DELETE compare; 0 for any cookie."""
    idle_timeout: int = 0
    hard_timeout: int = 0
    flags: int = 0
    importance: int = 0
    """For eviction; 0 before 1.4."""
    out_port: int = ReservedPort.ANY
    """DELETE takes only flows that send to this port."""
    out_group: int = ANY_GROUP
    buffer_id: int = NO_BUFFER


@dataclass(frozen=True, slots=True)
class FlowRemoved:
    """A FLOW_REMOVED."""

    table: int
    priority: int
    match: Match
    cookie: int
    reason: int
    idle_timeout: int
    hard_timeout: int
    """0 in 1.0, where the message does not have it."""
    duration: float
    """Seconds that the flow has lived."""
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FlowStats:
    """One flow of a FLOW statistics reply. In 1.5 it is a FLOW_DESC reply, or a FLOW_STATS one without instructions."""

    table: int
    priority: int
    match: Match
    instructions: Instructions
    cookie: int = 0
    idle_timeout: int = 0
    hard_timeout: int = 0
    flags: int = 0
    importance: int = 0
    duration: float = 0.0
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class FlowStatsReply:
    """A part of a FLOW statistics reply."""

    flows: tuple[FlowStats, ...]
    has_more: bool = False
    """Whether another part follows."""


@dataclass(frozen=True, slots=True)
class FlowStatsRequest:
    """A request for the statistics of flows, or for their sums if ``is_aggregate``."""

    table: int
    match: Match
    out_port: int = ReservedPort.ANY
    out_group: int = ANY_GROUP
    cookie: int = 0
    cookie_mask: int = 0
    is_aggregate: bool = False


@dataclass(frozen=True, slots=True)
class AggregateStats:
    """The sums over flows."""

    packets: int
    bytes: int
    flows: int


@dataclass(frozen=True, slots=True)
class TableStats:
    """The statistics of one flow table. ``name`` and ``max_entries`` are in 1.0 only."""

    table: int
    active: int
    lookups: int
    matched: int
    name: str = ""
    max_entries: int = 0
    wildcards: int = 0


@dataclass(frozen=True, slots=True)
class TableStatsRequest:
    """A request for the statistics of all flow tables."""


@dataclass(frozen=True, slots=True)
class TableStatsReply:
    """A part of a TABLE statistics reply."""

    tables: tuple[TableStats, ...]
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class PacketIn:
    """A PACKET_IN."""

    buffer_id: int
    reason: int
    table: int
    """The flow table whose flow sent it; 0 in 1.0."""
    cookie: int
    """The cookie of that flow; all ones if unknown, and in 1.0."""
    match: Match
    """The packet's pipeline fields: ``in_port``, ``metadata``, ``tunnel_id`` and so on."""
    total_len: int
    frame: bytes
    """The packet, or its beginning."""

    @property
    def in_port(self) -> int:
        """The port that the packet came in by; ANY if the switch does not say."""
        return in_port_of(self.match)


@dataclass(frozen=True, slots=True)
class PacketOut:
    """A PACKET_OUT."""

    buffer_id: int
    match: Match
    """``in_port``, and from 1.5 on other pipeline fields."""
    actions: Actions
    frame: bytes
    """The packet; empty if it is in the switch's buffer."""

    @property
    def in_port(self) -> int:
        """The port that counts as the packet's; ANY if none."""
        return in_port_of(self.match)


@dataclass(frozen=True, slots=True)
class PortMod:
    """A PORT_MOD."""

    port: int
    hardware_address: int
    config: int
    """OFPPC_*, only bits of ``mask``."""
    mask: int
    advertise: int = 0
    properties: tuple[tuple[int, bytes], ...] = ()
    """Properties but ETHERNET's (1.4), opaque, each with its type."""


@dataclass(frozen=True, slots=True)
class TableMod:
    """A TABLE_MOD."""

    table: int
    config: int
    properties: tuple[tuple[int, bytes], ...] = ()
    """Eviction and vacancy (1.4), opaque, each with its type."""


@dataclass(frozen=True, slots=True)
class BundleControl:
    """A BUNDLE_CONTROL."""

    bundle_id: int
    kind: int
    """OFPBCT_*: 0 opens, 2 closes, 4 commits, 6 discards; the odd ones answer."""
    flags: int


@dataclass(frozen=True, slots=True)
class BundleAdd:
    """A BUNDLE_ADD_MESSAGE."""

    bundle_id: int
    flags: int
    body: "Body"
    """The message in it."""
    xid: int
    """That message's transaction id, which an ERROR about it has."""


@dataclass(frozen=True, slots=True)
class RoleRequest:
    """A ROLE_REQUEST, or Nicira's for 1.0."""

    role: int
    """OFPCR_ROLE_*."""
    generation_id: int = 0
    """0 for the roles that have none."""


class AsyncMask(NamedTuple):
    """Which messages of one type a controller gets."""

    kind: Type
    is_for_slave: bool
    reasons: int
    """A bit for each reason."""


@dataclass(frozen=True, slots=True)
class SetAsync:
    """A SET_ASYNC."""

    masks: tuple[AsyncMask, ...]
    properties: tuple[tuple[int, bytes], ...] = ()
    """Unknown properties (1.4), opaque, each with its type."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """A BARRIER_REQUEST."""


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """An ERROR. The message's transaction id is that of the request that the switch refuses."""

    kind: int
    code: int
    data: bytes
    """The beginning of that request."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A message that is not decoded."""

    name: str
    """Its type; for an experimenter's also the experimenter and its type."""
    body: bytes


Body = (
    FlowMod
    | FlowRemoved
    | FlowStatsReply
    | FlowStatsRequest
    | AggregateStats
    | TableStatsRequest
    | TableStatsReply
    | PacketIn
    | PacketOut
    | GroupMod
    | MeterMod
    | PortMod
    | TableMod
    | BundleControl
    | BundleAdd
    | RoleRequest
    | SetAsync
    | Barrier
    | ErrorMessage
    | Opaque
)
