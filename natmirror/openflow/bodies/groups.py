"""Decodes GROUP_MOD and METER_MOD: 1.3.5 §7.3.4.2 and §7.3.4.4, 1.5.1 §7.3.4.3."""

from struct import Struct

from natmirror.openflow.bodies.action_sets import action_set
from natmirror.openflow.bodies.actions import decode_actions
from natmirror.openflow.bodies.elements import ANY_GROUP, Actions, MalformedBody, ReservedPort
from natmirror.openflow.bodies.group_values import (
    Band,
    Bucket,
    GroupCommand,
    GroupMod,
    GroupType,
    MeterCommand,
    MeterMod,
)
from natmirror.openflow.bodies.properties import Properties, split_properties
from natmirror.openflow.messages import V15

_GROUP_HEAD, _V15_GROUP_HEAD = Struct("!HBxI"), Struct("!H2xI")
_BUCKET, _V15_BUCKET = Struct("!HHII4x"), Struct("!HHI")
_GROUP_COMMANDS = {
    0: GroupCommand.ADD,
    1: GroupCommand.MODIFY,
    2: GroupCommand.DELETE,
    3: GroupCommand.INSERT_BUCKET,
    5: GroupCommand.REMOVE_BUCKET,
    0x8000: GroupCommand.ADD_OR_MODIFY,
}
_BUCKET_COMMANDS = (GroupCommand.INSERT_BUCKET, GroupCommand.REMOVE_BUCKET)
_GROUP_TYPES = tuple(GroupType)
_WEIGHT, _WATCH = Struct("!H2x"), Struct("!I")
_MAX_BUCKETS_LEN = 16 << 10  # bytes: four times as many would take milliseconds
_DEFAULT_WEIGHT = 1  # as in Open vSwitch; the specification has none

_METER_HEAD, _BAND, _BAND_REST = Struct("!HHI"), Struct("!HHII"), Struct("!B3x")
_METER_COMMANDS = tuple(MeterCommand)
_MAX_BANDS = 256
_BURST = 4  # OFPMF_BURST: the meter's bursts count
_DROP, _DSCP_REMARK = 1, 2
_BAND_NAMES = {_DROP: "drop", _DSCP_REMARK: "dscp_remark", 0xFFFF: "experimenter"}


def decode_group_mod(version: int, body: bytes) -> GroupMod:
    """Decode a GROUP_MOD."""
    number, type_number, group_id = _GROUP_HEAD.unpack_from(body)
    if (command := _GROUP_COMMANDS.get(number)) is None or (version < V15 and command in _BUCKET_COMMANDS):
        raise MalformedBody(f"the GROUP_MOD has the command {number}")
    if command is GroupCommand.DELETE:
        return GroupMod(command, group_id)
    if type_number >= len(_GROUP_TYPES):
        raise MalformedBody(f"the GROUP_MOD has the type {type_number}")
    kind = None if command in _BUCKET_COMMANDS else _GROUP_TYPES[type_number]
    at = _GROUP_HEAD.size
    if version < V15:
        found = _v13_buckets(version, kind, body[at:])
        if kind is GroupType.ALL:
            found.sort(key=repr)
        return GroupMod(command, group_id, kind, tuple(found))
    buckets_len, bucket_id = _V15_GROUP_HEAD.unpack_from(body, at)
    at += _V15_GROUP_HEAD.size
    if at + buckets_len > len(body):
        raise MalformedBody("the buckets of the GROUP_MOD are cut off")
    buckets = _v15_buckets(version, kind, body[at : at + buckets_len])
    properties = split_properties(body[at + buckets_len :])
    return GroupMod(command, group_id, kind, buckets, bucket_id if kind is None else None, properties)


def _refuse_long(raw: bytes) -> None:
    if len(raw) > _MAX_BUCKETS_LEN:
        raise MalformedBody(f"the buckets of the GROUP_MOD have more than {_MAX_BUCKETS_LEN} bytes")


def _v13_buckets(version: int, kind: GroupType | None, raw: bytes) -> list[Bucket]:
    _refuse_long(raw)
    found: list[Bucket] = []
    at, end = 0, len(raw)
    while at < end:
        length, weight, port, group = _BUCKET.unpack_from(raw, at)
        if length < _BUCKET.size or length & 7 or at + length > end:
            raise MalformedBody(f"a bucket has {length} bytes")
        actions = action_set(decode_actions(version, raw[at + _BUCKET.size : at + length]))
        found.append(Bucket(actions, weight if kind is GroupType.SELECT else 0, port, group))
        at += length
    return found


def _v15_buckets(version: int, kind: GroupType | None, raw: bytes) -> tuple[Bucket, ...]:
    _refuse_long(raw)
    found: list[Bucket] = []
    at, end = 0, len(raw)
    while at < end:
        length, actions_len, bucket_id = _V15_BUCKET.unpack_from(raw, at)
        actions_at = at + _V15_BUCKET.size
        if length < _V15_BUCKET.size + actions_len or length & 7 or at + length > end:
            raise MalformedBody(f"a bucket has {length} bytes")
        actions_end = actions_at + actions_len
        actions = action_set(decode_actions(version, raw[actions_at:actions_end]))
        at += length
        found.append(_v15_bucket(kind, actions, bucket_id, split_properties(raw[actions_end:at])))
    return tuple(found)


def _v15_bucket(kind: GroupType | None, actions: Actions, bucket_id: int, properties: Properties) -> Bucket:
    """Return a bucket of 1.5. A bucket that is inserted or removed (``kind`` None) keeps its weight."""
    has_weight = kind in (None, GroupType.SELECT)
    weight, port, group = _DEFAULT_WEIGHT if has_weight else 0, int(ReservedPort.ANY), ANY_GROUP
    others: list[tuple[int, bytes]] = []
    for number, body in properties:
        match number:
            case 0:
                weight = _WEIGHT.unpack(body)[0] if has_weight else 0
            case 1:
                port = _WATCH.unpack(body)[0]
            case 2:
                group = _WATCH.unpack(body)[0]
            case _:
                others.append((number, body))
    return Bucket(actions, weight, port, group, bucket_id, tuple(others))


def decode_meter_mod(body: bytes) -> MeterMod:
    """Decode a METER_MOD."""
    number, flags, meter_id = _METER_HEAD.unpack_from(body)
    if number >= len(_METER_COMMANDS):
        raise MalformedBody(f"the METER_MOD has the command {number}")
    command = _METER_COMMANDS[number]
    if command is MeterCommand.DELETE:
        return MeterMod(command, meter_id)
    return MeterMod(command, meter_id, flags, _bands(body[_METER_HEAD.size :], counts_burst=bool(flags & _BURST)))


def _bands(raw: bytes, *, counts_burst: bool) -> tuple[Band, ...]:
    found: list[Band] = []
    at, end = 0, len(raw)
    while at < end:
        if len(found) >= _MAX_BANDS:
            raise MalformedBody(f"the METER_MOD has more than {_MAX_BANDS} bands")
        kind, length, rate, burst = _BAND.unpack_from(raw, at)
        if length < _BAND.size or length & 7 or at + length > end:
            raise MalformedBody(f"a band of a meter has {length} bytes")
        rest = raw[at + _BAND.size : at + length]
        at += length
        argument: int | bytes = rest
        if kind in (_DROP, _DSCP_REMARK):
            argument = _BAND_REST.unpack(rest)[0] if kind == _DSCP_REMARK else 0
        found.append(Band(_BAND_NAMES.get(kind, f"unknown-{kind}"), rate, burst if counts_burst else 0, argument))
    return tuple(sorted(found, key=repr))
