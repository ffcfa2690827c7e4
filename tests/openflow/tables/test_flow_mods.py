"""What each FLOW_MOD, GROUP_MOD and METER_MOD changes."""

from typing import Any

import pytest

from natmirror.openflow.bodies.elements import ALL_GROUPS, ALL_TABLES, Action, Instruction, Instructions, Match
from natmirror.openflow.bodies.group_values import (
    Band,
    Bucket,
    GroupCommand,
    GroupMod,
    GroupType,
    MeterCommand,
    MeterMod,
)
from natmirror.openflow.bodies.values import FlowCommand, FlowFlag, FlowMod
from natmirror.openflow.messages import V10, V13, V15
from natmirror.openflow.tables.entries import GroupKey, Rule, RuleKey
from natmirror.openflow.tables.model import Model
from tests.helpers.flow_tables import apply, applying, fields, flow_mod, mirror, order, output, production

ADD, MODIFY, MODIFY_STRICT, DELETE, DELETE_STRICT = FlowCommand
HOST = fields(eth_dst=5, in_port=1)


def _model(*mods: FlowMod, version: int = V13) -> Model:
    model = production(version)
    for number, mod in enumerate(mods):
        order(model, mod, float(number), number)
    return model


def _rule(model: Model, match: Match = HOST) -> Rule:
    return model.state.rules[RuleKey(0, 1, match)]


def _kept(model: Model) -> list[Match]:
    return sorted(rule.key.match for rule in model.state.rules.values())


def test_an_addition_replaces_the_rule_with_the_same_match_and_priority() -> None:
    model = _model(
        flow_mod(ADD, HOST, instructions=apply(1), cookie=1, idle_timeout=5, flags=FlowFlag.SEND_FLOW_REM),
        flow_mod(ADD, HOST, instructions=apply(2), cookie=2, hard_timeout=9, flags=FlowFlag.CHECK_OVERLAP),
        flow_mod(ADD, HOST, priority=2),
    )
    rule = _rule(model)
    assert (rule.instructions, rule.cookie, rule.idle_timeout, rule.hard_timeout) == (apply(2), 2, 0, 9)
    assert (rule.flags, rule.made_at) == (0, 1.0)
    assert len(model.state.rules) == 2


def test_a_modification_changes_the_instructions_of_covered_rules_alone() -> None:
    model = _model(
        flow_mod(ADD, HOST, instructions=apply(1), cookie=7, idle_timeout=5),
        flow_mod(ADD, fields(eth_dst=6, in_port=1), instructions=apply(1)),
        flow_mod(MODIFY, fields(eth_dst=5), instructions=apply(3), cookie=0),
    )
    rule = _rule(model)
    assert (rule.instructions, rule.cookie, rule.idle_timeout) == (apply(3), 7, 5)
    assert (rule.made_at, rule.modified_at) == (0.0, 2.0)
    assert _rule(model, fields(eth_dst=6, in_port=1)).instructions == apply(1)


@pytest.mark.parametrize("command", [MODIFY, MODIFY_STRICT])
def test_a_modification_without_a_rule_adds_one_in_version_1_0_only(command: FlowCommand) -> None:
    mod = flow_mod(command, HOST, instructions=apply(3), cookie=4)
    assert _rule(_model(mod, version=V10)).cookie == 4
    assert not _model(mod, version=V13).state.rules


def test_a_modification_sets_the_cookie_in_version_1_0() -> None:
    mods = flow_mod(ADD, HOST, cookie=1), flow_mod(MODIFY_STRICT, HOST, cookie=4)
    assert _rule(_model(*mods, version=V10)).cookie == 4


def test_a_strict_command_needs_the_same_priority_and_match() -> None:
    mods = [flow_mod(ADD, HOST, priority=1), flow_mod(ADD, HOST, priority=2), flow_mod(ADD, HOST, table=1)]
    model = _model(*mods, flow_mod(DELETE_STRICT, HOST, priority=2))
    assert list(model.state.rules) == [RuleKey(0, 1, HOST), RuleKey(1, 1, HOST)]
    model = _model(*mods, flow_mod(DELETE_STRICT, HOST, table=ALL_TABLES))
    assert list(model.state.rules) == [RuleKey(0, 2, HOST)]


def test_a_deletion_takes_the_rules_that_its_match_covers_from_its_table_or_all() -> None:
    masked = fields(eth_dst=(4, 6))
    mods = [flow_mod(ADD, HOST), flow_mod(ADD, masked, table=1), flow_mod(ADD, fields(eth_dst=8), table=1)]
    assert _kept(_model(*mods, flow_mod(DELETE, fields(eth_dst=(4, 4))))) == sorted([masked, fields(eth_dst=8)])
    assert _kept(_model(*mods, flow_mod(DELETE, fields(eth_dst=(4, 4)), table=ALL_TABLES))) == [fields(eth_dst=8)]
    # A rule with fewer bits has frames beyond the deletion's
    assert len(_kept(_model(*mods, flow_mod(DELETE, fields(eth_dst=5), table=1)))) == 3


def test_a_deletion_may_ask_for_a_port_a_group_and_a_cookie() -> None:
    grouped = applying(Action("group", (3,)))
    written = (Instruction("write_actions", (output(2),)),)
    mods = [
        flow_mod(ADD, fields(in_port=1), instructions=apply(2), cookie=0b01),
        flow_mod(ADD, fields(in_port=2), instructions=written, cookie=0b10),
        flow_mod(ADD, fields(in_port=3), instructions=grouped, cookie=0b11),
    ]

    def after(**asked: Any) -> list[int]:
        kept = _model(*mods, flow_mod(DELETE, **asked)).state.rules
        return [key.match[0].value for key in kept]

    assert after(out_port=2) == [3]
    assert after(out_port=7) == [1, 2, 3]
    assert after(out_group=3) == [1, 2]
    assert after(cookie=0b01, cookie_mask=0b01) == [2]
    assert after(cookie=0b01, cookie_mask=0b11) == [2, 3]
    assert after(cookie=0b01, cookie_mask=0b01, out_port=2) == [2, 3]


def _bucket(*ports: int, number: int | None = None) -> Bucket:
    return Bucket(output(*ports), bucket_id=number)


def test_a_group_that_goes_takes_along_the_rules_that_use_it() -> None:
    model = production()
    for number in (1, 2):
        order(model, GroupMod(GroupCommand.ADD, number, GroupType.ALL, (_bucket(1),)), 0.0)
    order(model, flow_mod(ADD, HOST, instructions=applying(Action("group", (1,)))), 0.0)
    order(model, flow_mod(ADD, fields(in_port=2), instructions=applying(Action("group", (2,)))), 0.0)
    order(model, GroupMod(GroupCommand.DELETE, 1), 0.0)
    assert _kept(model) == [fields(in_port=2)]
    assert not model.state.known.groups
    order(model, GroupMod(GroupCommand.DELETE, ALL_GROUPS), 0.0)
    assert not model.state.rules
    assert model.state.known.groups


@pytest.mark.parametrize(
    ("command", "where", "kept"),
    [
        (GroupCommand.INSERT_BUCKET, 0xFFFF_FFFD, [9, 1, 2]),
        (GroupCommand.INSERT_BUCKET, 0xFFFF_FFFE, [1, 2, 9]),
        (GroupCommand.INSERT_BUCKET, 1, [1, 9, 2]),
        (GroupCommand.REMOVE_BUCKET, 0xFFFF_FFFD, [2]),
        (GroupCommand.REMOVE_BUCKET, 0xFFFF_FFFE, [1]),
        (GroupCommand.REMOVE_BUCKET, 2, [1]),
        (GroupCommand.REMOVE_BUCKET, 0xFFFF_FFFF, []),
    ],
)
def test_version_1_5_inserts_and_removes_buckets(command: GroupCommand, where: int, kept: list[int]) -> None:
    model = production(V15)
    order(model, GroupMod(GroupCommand.ADD, 1, GroupType.ALL, (_bucket(1, number=1), _bucket(2, number=2))), 0.0)
    new = Bucket(output(9), weight=3, bucket_id=9)  # an ALL group has no weights
    order(model, GroupMod(command, 1, None, (new,), where), 0.0)
    group = model.state.groups[GroupKey(1)]
    assert [bucket.bucket_id for bucket in group.buckets] == kept
    assert [bucket.weight for bucket in group.buckets] == [0] * len(kept)


@pytest.mark.parametrize(
    "used",
    [(Instruction("meter", (1,)), *apply(2)), applying(Action("meter", (1,)), *output(2))],
    ids=["instruction", "action"],
)
def test_a_meter_that_goes_takes_along_the_rules_that_use_it(used: Instructions) -> None:
    model = production()
    order(model, MeterMod(MeterCommand.ADD, 1, bands=(Band("drop", 5, 0),)), 0.0)
    order(model, flow_mod(ADD, HOST, instructions=used), 0.0)
    order(model, flow_mod(ADD, ()), 0.0)
    order(model, MeterMod(MeterCommand.DELETE, 1), 0.0)
    assert _kept(model) == [()]
    assert not model.state.meters


# Refusals that can be predicted, for a mirror


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (V10, flow_mod(flags=4)),
        (V13, flow_mod(table=ALL_TABLES)),
        (V13, flow_mod(table=1, instructions=(Instruction("goto_table", (1,)),))),
        (V13, flow_mod(instructions=applying(Action("group", (4,))))),
        (V13, flow_mod(instructions=(Instruction("meter", (4,)),))),
        (V13, flow_mod(match=fields(in_port=2), flags=FlowFlag.CHECK_OVERLAP)),
        (V10, flow_mod(MODIFY, match=fields(in_port=2), flags=FlowFlag.CHECK_OVERLAP)),
        (V13, GroupMod(GroupCommand.ADD, 1, GroupType.ALL)),
        (V13, GroupMod(GroupCommand.MODIFY, 2, GroupType.ALL)),
        (V13, GroupMod(GroupCommand.ADD, 2, GroupType.INDIRECT)),
        (V13, MeterMod(MeterCommand.ADD, 1)),
        (V13, MeterMod(MeterCommand.MODIFY, 2)),
    ],
)
def test_a_mirrors_order_that_a_switch_would_refuse_changes_nothing(
    version: int, body: FlowMod | GroupMod | MeterMod
) -> None:
    model = mirror(production(version))
    for known in (
        flow_mod(DELETE, table=ALL_TABLES),
        GroupMod(GroupCommand.DELETE, ALL_GROUPS),
        MeterMod(MeterCommand.DELETE, 0xFFFF_FFFF),
        GroupMod(GroupCommand.ADD, 1, GroupType.ALL),
        MeterMod(MeterCommand.ADD, 1),
        flow_mod(ADD, fields(eth_dst=1)),
    ):
        order(model, known, 0.0)
    before = set(model.state.all_keys())
    order(model, body, 1.0)
    assert set(model.state.all_keys()) == before
    assert model.refused == 1


def test_an_addition_over_an_identical_rule_overlaps_nothing() -> None:
    """Open vSwitch replaces the rule without a look at the others."""
    model = mirror(production())
    order(model, flow_mod(ADD, HOST), 0.0)
    order(model, flow_mod(ADD, fields(eth_dst=5), priority=1), 0.0)
    order(model, flow_mod(ADD, HOST, instructions=apply(4), flags=FlowFlag.CHECK_OVERLAP), 0.0)
    assert _rule(model).instructions == apply(4)


def test_a_group_that_may_have_been_there_before_is_not_missed() -> None:
    model = mirror(production())
    order(model, flow_mod(ADD, HOST, instructions=applying(Action("group", (4,)))), 0.0)
    assert _kept(model) == [HOST]
