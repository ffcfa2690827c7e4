"""What becomes of a frame in a model's tables."""

from collections.abc import Callable
from typing import Any

import pytest

from natmirror.openflow.bodies.elements import Action, Instruction, MatchField, ReservedPort
from natmirror.openflow.bodies.group_values import Bucket, GroupCommand, GroupMod, GroupType
from natmirror.openflow.bodies.values import FlowCommand, FlowMod
from natmirror.openflow.messages import V10, V13
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.state import NotFollowed
from natmirror.openflow.tables.walk import Choice, Outcome, Output, Ports, carry_out, walk
from tests.helpers.flow_tables import TestAccount, apply, applying, fields, flow_mod, order, output, production

CONTROLLER, FLOOD, IN_PORT = ReservedPort.CONTROLLER, ReservedPort.FLOOD, ReservedPort.IN_PORT
FRAME = {"in_port": 1, "eth_dst": 5, "eth_src": 6, "eth_type": 0x800, "ip_proto": 6, "ip_dscp": 0}
FRAME |= {"tcp_src": 7, "tcp_dst": 80}
TAGGED = {**FRAME, "vlan_vid": 0x1007, "vlan_pcp": 3}


def _model(*bodies: FlowMod | GroupMod, version: int = V13) -> ProductionModel:
    model = production(version)
    order(model, flow_mod(FlowCommand.DELETE, table=0xFF), 0.0)
    for body in bodies:
        order(model, body, 0.0)
    return model


def _walk(*bodies: FlowMod | GroupMod, frame: dict[str, int] = FRAME, **more: Any) -> Outcome:
    return walk(_model(*bodies, version=more.pop("version", V13)), frame, 1.0, **more)


def _ports(outcome: Outcome) -> list[int]:
    assert outcome.unknown is None
    return sorted(one.port for one in outcome.outputs if isinstance(one, Output))


def _changes(*actions: Action, frame: dict[str, int] = FRAME) -> dict[str, object]:
    """Return what actions change in a frame that then leaves by port 2."""
    outcome = carry_out(_model(), (*actions, *output(2)), frame, 1.0)
    (one,) = outcome.outputs
    assert isinstance(one, Output) and one.port == 2 and outcome.unknown is None
    return dict(one.changes)


def test_the_rule_with_the_highest_priority_counts() -> None:
    outcome = _walk(
        flow_mod(match=fields(in_port=1), instructions=apply(2), priority=5),
        flow_mod(match=fields(eth_dst=5), instructions=apply(3), priority=6),
        flow_mod(match=fields(eth_dst=9), instructions=apply(4), priority=7),
    )
    assert _ports(outcome) == [3]
    assert [rule.key.priority for rule in outcome.met] == [6]
    assert not outcome.is_doubtful


def test_a_frame_without_a_rule_is_dropped_but_in_version_1_0_goes_to_the_controller() -> None:
    assert _walk().outputs == frozenset()
    assert _walk(version=V10).goes_to_controller
    assert not _walk(flow_mod(match=fields(in_port=1)), version=V10).outputs


def test_a_frame_goes_on_through_the_tables_with_its_metadata_and_its_action_set() -> None:
    write, goto = Instruction("write_actions", (output(2),)), Instruction("goto_table", (3,))
    start = flow_mod(instructions=(write, Instruction("write_metadata", (0xAB, 0xFF)), goto))
    clear = Instruction("clear_actions", ())
    on = flow_mod(match=fields(metadata=(0xA0, 0xF0)), table=3)
    assert _ports(_walk(start, on)) == [2]
    assert _ports(_walk(start)) == [2]  # Open vSwitch does the action set though table 3 has no rule for it
    cleared = flow_mod(match=fields(metadata=0xAB), table=3, instructions=(*apply(4), clear))
    assert _ports(_walk(start, cleared)) == [4]
    assert _ports(_walk(flow_mod(match=fields(metadata=1), instructions=apply(7)), frame={**FRAME, "metadata": 1})) == [
        7
    ]
    assert _ports(_walk(start, on, table=3, frame={**FRAME, "metadata": 0xA1})) == []


def test_later_tables_see_what_earlier_ones_have_changed() -> None:
    set_field = Action("set_field", (MatchField("eth_dst", 7),))
    outcome = _walk(
        flow_mod(instructions=(*applying(*output(3), set_field), Instruction("goto_table", (1,)))),
        flow_mod(match=fields(eth_dst=7), table=1, instructions=apply(2)),
    )
    assert outcome.outputs == {Output(3), Output(2, (("eth_dst", 7),))}


def test_an_action_set_has_its_own_order_and_a_group_takes_the_place_of_an_output() -> None:
    group = GroupMod(GroupCommand.ADD, 1, GroupType.INDIRECT, (Bucket(output(4)),))
    set_field = Action("set_field", (MatchField("eth_dst", 7),))
    first = (Instruction("write_actions", ((*output(2), Action("group", (1,))),)), Instruction("goto_table", (1,)))
    then = flow_mod(table=1, instructions=(Instruction("write_actions", ((set_field,),)),))
    assert _walk(group, flow_mod(instructions=first), then).outputs == {Output(4, (("eth_dst", 7),))}


def test_reserved_ports() -> None:
    assert _ports(_walk(flow_mod(instructions=apply(1, 2)))) == [2]  # never back by the port it came from
    assert _ports(_walk(flow_mod(instructions=apply(IN_PORT)))) == [1]
    assert _ports(_walk(flow_mod(instructions=apply(FLOOD, ReservedPort.NORMAL)))) == [ReservedPort.NORMAL, FLOOD]
    known = Ports(frozenset((1, 2, 3)))
    assert _ports(_walk(flow_mod(instructions=apply(FLOOD)), ports=known)) == [2, 3]
    assert _walk(flow_mod(instructions=apply(CONTROLLER))).goes_to_controller


def test_a_packet_out_may_enter_the_tables() -> None:
    model = _model(flow_mod(match=fields(in_port=1), instructions=apply(2)))
    assert _ports(carry_out(model, output(ReservedPort.TABLE), FRAME, 1.0)) == [2]
    endless = _model(flow_mod(instructions=apply(ReservedPort.TABLE)))
    assert carry_out(endless, output(ReservedPort.TABLE), FRAME, 1.0).unknown is not None


@pytest.mark.parametrize(
    ("action", "frame", "changed"),
    [
        (Action("set_field", (MatchField("eth_src", 0x0F, 0xFF),)), FRAME, {"eth_src": 0x0F}),
        (Action("set_field", (MatchField("udp_dst", 53),)), FRAME, {}),
        (Action("load", (MatchField("tcp_dst", 1, 3),)), FRAME, {"tcp_dst": 81}),
        (Action("set_field", (MatchField("reg1", 4),)), FRAME, {}),
        (Action("mod_dl_src", (9,)), FRAME, {"eth_src": 9}),
        (Action("mod_tp_dst", (9,)), FRAME, {"tcp_dst": 9}),
        (Action("mod_nw_tos", (32,)), FRAME, {"ip_dscp": 8}),
        (Action("mod_nw_src", (32,)), FRAME, {}),
        (Action("mod_vlan_vid", (5,)), FRAME, {"vlan_vid": 0x1005}),
        (Action("mod_vlan_pcp", (5,)), FRAME, {"vlan_vid": 0x1000, "vlan_pcp": 5}),
        (Action("mod_vlan_vid", (5,)), TAGGED, {"vlan_vid": 0x1005}),
        (Action("push_vlan", (0x8100,)), FRAME, {"vlan_vid": 0x1000}),
        (Action("push_vlan", (0x88A8,)), FRAME, {"vlan_vid": 0x1000, "push_vlan": 0x88A8}),
        (Action("pop_vlan"), TAGGED, {"vlan_vid": 0, "vlan_pcp": 0}),
        (Action("strip_vlan"), FRAME, {}),
        (Action("set_queue", (3,)), FRAME, {"queue": 3}),
        (Action("dec_ttl"), FRAME, {"dec_ttl": None}),
        (Action("push_mpls", (0x8847,)), FRAME, {"push_mpls": (0x8847,)}),
    ],
)
def test_what_an_action_changes(action: Action, frame: dict[str, int], changed: dict[str, object]) -> None:
    assert _changes(action, frame=frame) == changed


def test_a_tag_that_is_pushed_and_popped_again_leaves_nothing() -> None:
    push, pop = Action("push_vlan", (0x88A8,)), Action("pop_vlan")
    assert _changes(push, pop) == {}
    assert _changes(push, pop, frame=TAGGED) == {}
    assert "inner_tag" in _changes(push, frame=TAGGED)


def _group(kind: GroupType, *buckets: Bucket) -> GroupMod:
    return GroupMod(GroupCommand.ADD, 1, kind, buckets)


USES_GROUP = flow_mod(instructions=applying(Action("group", (1,)), *output(9)))


def test_a_group_of_all_buckets_changes_copies_of_the_frame() -> None:
    changing = Bucket((Action("set_field", (MatchField("eth_dst", 7),)), *output(2)))
    outcome = _walk(_group(GroupType.ALL, changing, Bucket(output(3))), USES_GROUP)
    assert outcome.outputs == {Output(2, (("eth_dst", 7),)), Output(3), Output(9)}


def test_the_bucket_of_a_select_group_is_the_switchs_choice() -> None:
    buckets = Bucket(output(2), weight=1), Bucket(output(3), weight=2), Bucket(output(4), weight=0)
    outcome = _walk(_group(GroupType.SELECT, *buckets), USES_GROUP)
    choice = next(one for one in outcome.outputs if isinstance(one, Choice))
    assert set(choice.options) == {frozenset({Output(2)}), frozenset({Output(3)})}
    assert outcome.unknown is None
    assert outcome.outputs == _walk(_group(GroupType.SELECT, *reversed(buckets)), USES_GROUP).outputs
    assert _ports(_walk(_group(GroupType.SELECT, buckets[0]), USES_GROUP)) == [2, 9]


def test_a_choice_may_go_to_the_controller() -> None:
    group = _group(GroupType.SELECT, Bucket(output(2), weight=1), Bucket(output(CONTROLLER), weight=1))
    outcome = _walk(group, USES_GROUP)
    assert not outcome.goes_to_controller
    assert outcome.may_go_to_controller


@pytest.mark.parametrize(
    ("is_live", "ports"),
    [
        (lambda port: True, [2, 9]),
        (lambda port: port == 3, [3, 9]),
        (lambda port: False, [9]),
        (lambda port: None if port == 3 else False, [3, 9]),
    ],
)
def test_a_fast_failover_group_takes_its_first_live_bucket(
    is_live: Callable[[int], bool | None], ports: list[int]
) -> None:
    group = _group(GroupType.FAST_FAILOVER, Bucket(output(2), watch_port=2), Bucket(output(3), watch_port=3))
    assert _ports(_walk(group, USES_GROUP, ports=Ports(is_live=is_live))) == ports
    (choice,) = [one for one in _walk(group, USES_GROUP).outputs if isinstance(one, Choice)]
    assert choice == Choice(GroupType.FAST_FAILOVER, (frozenset({Output(2)}), frozenset({Output(3)})))


def test_groups_that_send_to_each_other_end() -> None:
    chained = GroupMod(GroupCommand.ADD, 1, GroupType.ALL, (Bucket((Action("group", (1,)),)),) * 3)
    assert _walk(chained, USES_GROUP).unknown is not None


@pytest.mark.parametrize("missing", ["eth_type", "ip_proto", "tcp_src"])
def test_a_frame_that_is_cut_off_may_meet_any_rule(missing: str) -> None:
    frame = {name: value for name, value in FRAME.items() if name != missing}
    assert "cut off" in str(_walk(flow_mod(instructions=apply(2)), frame=frame).unknown)


def test_what_cannot_be_known_is_said() -> None:
    def reason(*bodies: FlowMod | GroupMod) -> str:
        unknown = _walk(*bodies).unknown
        assert unknown is not None
        return unknown

    assert "group 1 is not known" in reason(USES_GROUP)
    assert "move" in reason(flow_mod(instructions=applying(Action("move", (1, "a", 0, "b", 0)))))
    assert "equal priority" in reason(
        flow_mod(match=fields(in_port=1), instructions=apply(2)),
        flow_mod(match=fields(eth_dst=5), instructions=apply(3)),
    )
    assert "does not show" in reason(flow_mod(match=fields(ct_state=(1, 1)), instructions=apply(2)))
    assert "does not show" in reason(flow_mod(match=fields(oxm_ffff_1_4_00000001=3), instructions=apply(2)))
    pushed = applying(Action("push_mpls", (0x8847,)))
    assert "headers" in reason(
        flow_mod(instructions=(*pushed, Instruction("goto_table", (1,)))), flow_mod(table=1, instructions=apply(2))
    )
    # A rule with a lower priority does not matter
    sure = flow_mod(match=fields(in_port=1), priority=9, instructions=apply(2))
    assert _ports(_walk(sure, flow_mod(match=fields(ct_state=(1, 1)), instructions=apply(3)))) == [2]


def test_a_switch_that_is_not_followed_and_rules_that_may_be_there_or_gone() -> None:
    model = ProductionModel(V13, TestAccount())
    order(model, flow_mod(instructions=apply(2), idle_timeout=5), 0.0)
    assert walk(model, FRAME, 1.0).is_doubtful  # what was there before is not known
    order(model, flow_mod(FlowCommand.DELETE), 1.0)
    order(model, flow_mod(instructions=apply(2), idle_timeout=5), 1.0)
    assert not walk(model, FRAME, 5.0).is_doubtful
    assert walk(model, FRAME, 6.5).is_doubtful
    model.lose(NotFollowed.NO_MEMORY, 7.0)
    assert "no-memory" in str(walk(model, FRAME, 7.0).unknown)
