"""What a FLOW_MOD changes: 1.0.0 §4.6, 1.3.5 §6.4, and where they leave a choice, what Open vSwitch 3.1 does.

apply_flow_mod() changes a State and yields the changes, for an order that its switch refuses later. predicted_refusal()
says which orders a switch refuses, for a side whose orders reach no switch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from natmirror.openflow.bodies.elements import ALL_TABLES, ANY_GROUP, ReservedPort
from natmirror.openflow.bodies.values import FlowCommand, FlowFlag, FlowMod
from natmirror.openflow.messages import V10
from natmirror.openflow.tables.entries import (
    STATE_FLAGS,
    GroupKey,
    MeterKey,
    Rule,
    RuleKey,
    actions_of,
    group_ids_of,
    meter_ids_of,
    sends_to_port,
)
from natmirror.openflow.tables.packed import pack_match
from natmirror.openflow.tables.state import Change, State

_MAX_TABLE = 0xFE  # OFPTT_MAX (1.3.5 §7.3.4.1); the highest number is Open vSwitch's own
_EMERGENCY = 4  # OFPFF_EMERG: no switch that we know has emergency flows (1.0.0 §4.3)


def apply_flow_mod(state: State, mod: FlowMod, version: int, now: float) -> Iterable[Change]:
    """Do what a FLOW_MOD orders; yield each change after it was made."""
    return (_add(state, mod, now),) if mod.command is FlowCommand.ADD else _apply_to_rules(state, mod, version, now)


def _apply_to_rules(state: State, mod: FlowMod, version: int, now: float) -> Iterator[Change]:
    found = _chosen(state, mod)
    if not found and version == V10 and not mod.command.is_delete:
        yield _add(state, mod, now)  # 1.0.0 §4.6: a MODIFY "if no flow matches, acts like an ADD"
    for rule in found:
        if not mod.command.is_delete:
            yield state.put(rule.key, _modified(rule, mod, version, now), now)
        elif _is_sending(rule, mod):
            yield state.put(rule.key, None, now)


def predicted_refusal(state: State, mod: FlowMod, version: int) -> str | None:
    """Return why a switch with this state refuses a FLOW_MOD; None if it accepts it, as far as natmirror can say."""
    if mod.command.is_delete:
        return None
    if version == V10 and mod.flags & _EMERGENCY:
        return "emergency flows are unsupported"
    if mod.table >= _MAX_TABLE:
        return "the table does not exist"
    if any(one.name == "goto_table" and one.args[0] <= mod.table for one in mod.instructions):
        return "it goes to an earlier table"
    adds = mod.command is FlowCommand.ADD or (version == V10 and not _chosen(state, mod))
    if mod.flags & FlowFlag.CHECK_OVERLAP and adds and _has_overlap(state, mod):
        return "it overlaps a rule of equal priority"
    return _missing(state, mod) if adds or _chosen(state, mod) else None


def touches_one_key(mod: FlowMod) -> RuleKey | None:
    """Return the only key that an order can change, and by which alone it decides; None if there may be several."""
    if mod.table == ALL_TABLES or not (mod.command is FlowCommand.ADD or mod.command.is_strict):
        return None
    return RuleKey(mod.table, mod.priority, mod.match)


def empties(mod: FlowMod) -> int | None:
    """Return the table, or ALL_TABLES, whose rules a deletion takes without a condition; None for other orders."""
    is_plain = mod.out_port == ReservedPort.ANY and mod.out_group == ANY_GROUP and not mod.cookie_mask
    return mod.table if mod.command is FlowCommand.DELETE and not mod.match and is_plain else None


def _add(state: State, mod: FlowMod, now: float) -> Change:
    key = RuleKey(mod.table, mod.priority, mod.match)
    return state.put(
        key,
        Rule(
            key,
            mod.instructions,
            mod.cookie,
            mod.idle_timeout,
            mod.hard_timeout,
            mod.flags & STATE_FLAGS,
            mod.importance,
            made_at=now,
            modified_at=now,
            used_at=now,
        ),
        now,
    )


def _modified(rule: Rule, mod: FlowMod, version: int, now: float) -> Rule:
    """Return a rule with the instructions of a MODIFY, and in 1.0 its cookie (1.3.5 §6.4)."""
    cookie = mod.cookie if version == V10 else rule.cookie
    return replace(rule, instructions=mod.instructions, cookie=cookie, modified_at=now)


def _chosen(state: State, mod: FlowMod) -> list[Rule]:
    """Return the rules that MODIFY or DELETE is about, by match, priority and cookie."""
    if not mod.command.is_strict:
        match = pack_match(mod.match)
        found = [rule for index in state.indexes(mod.table) for rule in index.covered_by(match)]
    else:
        tables = state.tables() if mod.table == ALL_TABLES else [mod.table]
        keys = [RuleKey(table, mod.priority, mod.match) for table in tables]
        found = [state.rules[key] for key in keys if key in state.rules]
    if mod.cookie_mask:
        found = [rule for rule in found if not (rule.cookie ^ mod.cookie) & mod.cookie_mask]
    return found


def _is_sending(rule: Rule, mod: FlowMod) -> bool:
    """Return whether a rule has the port and the group that a deletion asks for."""
    if mod.out_port != ReservedPort.ANY and not sends_to_port(rule.instructions, mod.out_port):
        return False
    return mod.out_group == ANY_GROUP or mod.out_group in group_ids_of(actions_of(rule.instructions))


def _missing(state: State, mod: FlowMod) -> str | None:
    """Return what a rule needs and does not exist, where all that exists is known; else None."""
    if not state.known.groups and not state.known.meters:
        return None
    groups, meters = group_ids_of(actions_of(mod.instructions)), meter_ids_of(mod.instructions)
    if state.known.groups and any(GroupKey(number) not in state.groups for number in groups):
        return "the group does not exist"
    if state.known.meters and any(MeterKey(number) not in state.meters for number in meters):
        return "the meter does not exist"
    return None


def _has_overlap(state: State, mod: FlowMod) -> bool:
    """Return whether another rule of equal priority overlaps. Open vSwitch replaces an identical rule without a look at
    the others."""
    index = state.index(mod.table)
    if index is None or RuleKey(mod.table, mod.priority, mod.match) in state.rules:
        return False
    return any(rule.key.priority == mod.priority for rule in index.overlapping(pack_match(mod.match)))
