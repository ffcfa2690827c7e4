"""The values of GROUP_MOD and METER_MOD. Both exist from 1.3 on."""

from dataclasses import dataclass
from enum import StrEnum

from natmirror.openflow.bodies.elements import ANY_GROUP, Actions, ReservedPort


class GroupCommand(StrEnum):
    """OFPGC_*."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"
    ADD_OR_MODIFY = "add-or-modify"
    """Open vSwitch's extension."""
    INSERT_BUCKET = "insert-bucket"
    REMOVE_BUCKET = "remove-bucket"


class GroupType(StrEnum):
    """OFPGT_*."""

    ALL = "all"
    SELECT = "select"
    INDIRECT = "indirect"
    FAST_FAILOVER = "ff"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a group."""

    actions: Actions
    """As ``action_set`` orders them: a bucket is an action set."""
    weight: int = 0
    """In SELECT groups; else 0."""
    watch_port: int = ReservedPort.ANY
    watch_group: int = ANY_GROUP
    bucket_id: int | None = None
    """None before 1.5."""
    properties: tuple[tuple[int, bytes], ...] = ()
    """Experimenters' properties (1.5), opaque, each with its type."""


@dataclass(frozen=True, slots=True)
class GroupMod:
    """A GROUP_MOD. DELETE has neither type nor buckets."""

    command: GroupCommand
    group_id: int
    type: GroupType | None = None
    buckets: tuple[Bucket, ...] = ()
    """In an ALL group before 1.5 they are sorted: their order has no effect there."""
    command_bucket_id: int | None = None
    """Where INSERT_BUCKET inserts, and what REMOVE_BUCKET removes (1.5)."""
    properties: tuple[tuple[int, bytes], ...] = ()


class MeterCommand(StrEnum):
    """OFPMC_*."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Band:
    """A band of a meter."""

    kind: str
    """``drop``, ``dscp_remark``, ``experimenter``; or ``unknown-`` and a number."""
    rate: int
    burst: int
    """0 unless the meter's flags say that it counts."""
    argument: int | bytes = 0
    """The precedence level of dscp_remark; else the bytes of an unknown band."""


@dataclass(frozen=True, slots=True)
class MeterMod:
    """A METER_MOD. DELETE has neither flags nor bands."""

    command: MeterCommand
    meter_id: int
    flags: int = 0
    bands: tuple[Band, ...] = ()
    """Sorted: their order has no effect."""
