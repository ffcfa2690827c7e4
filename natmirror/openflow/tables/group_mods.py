"""What a GROUP_MOD and a METER_MOD change: 1.3.5 §6.5 and §6.6, 1.5.1 §6.7 and §6.8.

A group or meter that goes takes along the rules that use it. The functions yield each change after it was made.
"""

from collections.abc import Iterator
from dataclasses import replace

from natmirror.openflow.bodies.elements import ALL_GROUPS, ALL_METERS
from natmirror.openflow.bodies.group_values import (
    Bucket,
    GroupCommand,
    GroupMod,
    GroupType,
    MeterCommand,
    MeterMod,
)
from natmirror.openflow.tables.entries import Group, GroupKey, Meter, MeterKey
from natmirror.openflow.tables.state import Change, State

_FIRST, _LAST, _ALL = 0xFFFF_FFFD, 0xFFFF_FFFE, 0xFFFF_FFFF  # OFPG_BUCKET_*


def apply_group_mod(state: State, mod: GroupMod, now: float) -> Iterator[Change]:
    """Do what a GROUP_MOD orders."""
    key = GroupKey(mod.group_id)
    known = state.groups.get(key)
    if mod.command is GroupCommand.DELETE:
        for one in list(state.groups) if mod.group_id == ALL_GROUPS else [key]:
            yield from _remove(state, one, now)
    elif mod.command is GroupCommand.INSERT_BUCKET or mod.command is GroupCommand.REMOVE_BUCKET:
        if known is not None:
            yield state.put(key, Group(key, known.type, _changed_buckets(known, mod), known.properties), now)
    else:
        assert mod.type is not None, "the decoder gives each other command a type"
        yield state.put(key, Group(key, mod.type, mod.buckets, mod.properties), now)


def apply_meter_mod(state: State, mod: MeterMod, now: float) -> Iterator[Change]:
    """Do what a METER_MOD orders."""
    key = MeterKey(mod.meter_id)
    if mod.command is MeterCommand.DELETE:
        for one in list(state.meters) if mod.meter_id == ALL_METERS else [key]:
            yield from _remove(state, one, now)
    else:
        yield state.put(key, Meter(key, mod.flags, mod.bands), now)


def predicted_group_refusal(state: State, mod: GroupMod) -> str | None:
    """Return why a switch with this state refuses a GROUP_MOD; None if it accepts it, as far as natmirror can say."""
    if not state.known.groups or mod.command is GroupCommand.DELETE:
        return None
    exists = GroupKey(mod.group_id) in state.groups
    if mod.command is GroupCommand.ADD and exists:
        return "the group exists"
    if mod.command not in (GroupCommand.ADD, GroupCommand.ADD_OR_MODIFY) and not exists:
        return "the group does not exist"
    if mod.type is GroupType.INDIRECT and len(mod.buckets) != 1:
        return "an indirect group has one bucket"
    return None


def predicted_meter_refusal(state: State, mod: MeterMod) -> str | None:
    """Return why a switch with this state refuses a METER_MOD; None if it accepts it, as far as natmirror can say."""
    if not state.known.meters or mod.command is MeterCommand.DELETE:
        return None
    exists = MeterKey(mod.meter_id) in state.meters
    if mod.command is MeterCommand.ADD and exists:
        return "the meter exists"
    return "the meter does not exist" if mod.command is MeterCommand.MODIFY and not exists else None


def _remove(state: State, key: GroupKey | MeterKey, now: float) -> Iterator[Change]:
    if state.get(key) is not None:
        for rule in state.users_of(key):
            yield state.put(rule.key, None, now)
        yield state.put(key, None, now)


def _changed_buckets(group: Group, mod: GroupMod) -> tuple[Bucket, ...]:
    """Return a group's buckets after INSERT_BUCKET or REMOVE_BUCKET (1.5.1 §6.7)."""
    buckets, where = group.buckets, mod.command_bucket_id
    at = next((at for at, one in enumerate(buckets) if one.bucket_id == where), None)
    if mod.command is GroupCommand.INSERT_BUCKET:
        place = {_FIRST: 0, _LAST: len(buckets)}.get(-1 if where is None else where, None if at is None else at + 1)
        has_weights = group.type is GroupType.SELECT
        new = [one if has_weights else replace(one, weight=0) for one in mod.buckets]
        return buckets if place is None else (*buckets[:place], *new, *buckets[place:])
    if where == _ALL:
        return ()
    place = {_FIRST: 0, _LAST: len(buckets) - 1}.get(-1 if where is None else where, at)
    return buckets if place is None or not buckets else (*buckets[:place], *buckets[place + 1 :])
