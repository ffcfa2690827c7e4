"""Orders that answer no PACKET_IN: what only one side has ordered counts if it lasts."""

from dataclasses import replace

import pytest

from natmirror.openflow.bodies.elements import ALL_TABLES, ReservedPort
from natmirror.openflow.bodies.values import FlowCommand
from natmirror.openflow.comparison.results import AnswerResult, DifferenceKind
from natmirror.openflow.messages import V14, Type, build, parse
from tests.helpers.comparison import (
    MIRROR,
    PRODUCTION,
    TABLE_MISS,
    Scene,
    error_message,
    flow_mod_message,
    frame,
    packet_out,
    to_host,
)
from tests.helpers.flow_tables import apply, fields, flow_mod, output

DELETE_ALL = flow_mod(FlowCommand.DELETE, table=ALL_TABLES)
EXTRA = flow_mod(match=fields(eth_type=0x0800, ip_proto=17, udp_dst=53), priority=20)


def kinds(one: Scene) -> list[DifferenceKind]:
    return [found.difference.kind for found in one.recorder.orders]


def test_equal_programmes_at_other_times_and_in_other_ways() -> None:
    one = Scene()
    one.orders(PRODUCTION, DELETE_ALL, TABLE_MISS, to_host(2, 2))
    one.wait(3.0)
    one.orders(MIRROR, to_host(2, 4), to_host(2, 2, cookie=8), TABLE_MISS)
    one.wait(20.0)
    assert one.recorder.texts == []
    assert one.recorder.tables[-1].differing_count == 0


def test_an_extra_rule_lasts() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.orders(MIRROR, EXTRA)
    one.wait(20.0)
    (found,) = one.recorder.orders
    assert found.difference.text == "a rule more: add priority=20,udp,tp_dst=53 actions=drop"
    assert found.evidence.mirror == ("add priority=20,udp,tp_dst=53 actions=drop",)
    assert [who for who, _, _ in found.evidence.messages] == ["mirror"]
    (*_, last) = one.recorder.tables
    assert last.differing == ("mirror: priority=20,udp,tp_dst=53 actions=drop",)
    assert last.differing_count == 1
    assert last.differing_seconds == pytest.approx(last.seconds)


def answer_all(one: Scene, seconds: float, *who: str) -> None:
    """Have these sides answer ten PACKET_INs a second."""
    for number in range(round(seconds * 10)):
        data = frame(1, 2, payload=bytes((number,)))
        one.sees(data)
        for side in who:
            one.orders(side, packet_out(data, output(2)))
        one.wait(0.1)


def test_an_extra_rule_is_named_sooner_if_both_sides_have_gone_on_since() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.orders(MIRROR, EXTRA)
    answer_all(one, 1.9, PRODUCTION, MIRROR)
    assert one.recorder.orders == []
    answer_all(one, 0.3, PRODUCTION, MIRROR)
    assert kinds(one) == [DifferenceKind.RULE_MORE]


@pytest.mark.parametrize("who", [PRODUCTION, MIRROR])
def test_a_side_that_answers_nothing_may_not_be_done_with_its_programme(who: str) -> None:
    one = Scene()
    one.orders(PRODUCTION, TABLE_MISS, EXTRA)
    one.orders(MIRROR, TABLE_MISS)
    answer_all(one, 4.9, who)
    assert one.recorder.orders == []
    one.wait(0.3)
    assert kinds(one) == [DifferenceKind.RULE_MISSING]


def test_orders_that_still_come_are_not_judged_before_they_have_lasted() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.orders(PRODUCTION, EXTRA)
    answer_all(one, 1.5, PRODUCTION, MIRROR)
    one.orders(MIRROR, replace(EXTRA, priority=21))
    answer_all(one, 1.9, PRODUCTION, MIRROR)
    assert one.recorder.orders == []
    answer_all(one, 0.3, PRODUCTION, MIRROR)
    assert one.recorder.texts == ["priority 21 for 20"]


def test_a_side_that_still_gives_its_programme_has_time_to_end_it() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(10.0)
    rules = [to_host(100 + number, 2) for number in range(40)]
    one.orders(PRODUCTION, *rules)
    for rule in rules:
        one.orders(MIRROR, rule)
        answer_all(one, 0.1, PRODUCTION, MIRROR)
    one.wait(10.0)
    assert one.recorder.texts == []


def test_a_rule_that_is_soon_gone_again_is_none() -> None:
    one = Scene()
    one.orders(MIRROR, EXTRA)
    one.wait(1.0)
    one.orders(MIRROR, replace(EXTRA, command=FlowCommand.DELETE_STRICT))
    one.wait(20.0)
    assert not one.recorder.differs


def test_a_rule_with_another_priority_is_paired_with_productions() -> None:
    one = Scene()
    one.orders(PRODUCTION, EXTRA, TABLE_MISS)
    one.wait(0.3)
    one.orders(MIRROR, TABLE_MISS, replace(EXTRA, priority=21))
    one.wait(20.0)
    assert one.recorder.texts == ["priority 21 for 20"]


def test_deletions_by_one_side_only() -> None:
    one = Scene()
    one.both(to_host(2, 2), to_host(3, 3))
    one.wait(20.0)
    one.orders(PRODUCTION, flow_mod(FlowCommand.DELETE, fields(eth_dst=2)))
    one.orders(MIRROR, flow_mod(FlowCommand.DELETE_STRICT, fields(eth_dst=3), priority=10))
    one.wait(20.0)
    assert sorted(kinds(one)) == [DifferenceKind.RULE_DELETED, DifferenceKind.RULE_KEPT]


@pytest.mark.parametrize(("table", "words"), [(0, "delete, all rules of table 0"), (ALL_TABLES, "delete table=all")])
def test_a_deletion_of_all_rules_says_so(table: int, words: str) -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(20.0)
    one.orders(MIRROR, flow_mod(FlowCommand.DELETE, table=table))
    one.wait(20.0)
    assert one.recorder.texts == [f"a rule is deleted: {words}"]


def test_what_the_switch_refuses_is_no_effect_and_the_mirrors_same_order_neither() -> None:
    for first, second in ((PRODUCTION, MIRROR), (MIRROR, PRODUCTION)):
        one = Scene()
        order = flow_mod_message(EXTRA, xid=9)
        one.orders(first, order)
        one.orders(second, order)
        one.switch(error_message(order))
        one.wait(20.0)
        assert not one.recorder.differs
        assert one.judge.model_of(MIRROR).state.count == 0  # type: ignore[union-attr]
        one.orders(MIRROR, flow_mod_message(EXTRA, xid=10))
        one.wait(20.0)
        assert one.recorder.texts == ["a rule more: add priority=20,udp,tp_dst=53 actions=drop"]


def test_an_order_of_the_mirrors_after_the_refusal_of_the_same_is_refused() -> None:
    one = Scene()
    order = flow_mod_message(EXTRA, xid=9)
    one.orders(PRODUCTION, order)
    one.switch(error_message(order))
    one.orders(MIRROR, order)
    one.wait(20.0)
    assert not one.recorder.differs


def test_a_refused_answer_is_no_answer() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(1.0)
    data = frame(1, 2)
    one.sees(data)
    order = flow_mod_message(to_host(2, 2), xid=9)
    one.orders(PRODUCTION, order, packet_out(data, output(2)))
    one.orders(MIRROR, packet_out(data, output(2)))
    one.switch(error_message(order))
    one.wait(6.0)
    assert one.recorder.results == [AnswerResult.EQUAL]


# Sessions


def test_a_restarted_master_continues_with_its_tables() -> None:
    one = Scene()
    one.both(TABLE_MISS, to_host(2, 2))
    one.wait(20.0)
    one.judge.ended(MIRROR, "reset", one.now, is_fault=True)
    one.orders(PRODUCTION, to_host(3, 3))  # while there is no master to do the same
    one.wait(1.0)
    one.join()
    one.orders(MIRROR, TABLE_MISS)
    one.wait(30.0)
    assert not one.recorder.differs
    assert one.recorder.ends == [(1020.0, "reset")]
    one.orders(MIRROR, EXTRA)
    one.wait(20.0)
    assert len(one.recorder.orders) == 1


def test_a_mirror_that_joins_late_begins_with_what_is_in_the_switch() -> None:
    one = Scene("other")
    one.orders(PRODUCTION, DELETE_ALL, TABLE_MISS, to_host(2, 2))
    one.wait(30.0)
    one.join()
    one.orders(MIRROR, TABLE_MISS)
    one.wait(20.0)
    assert not one.recorder.differs
    one.orders(MIRROR, DELETE_ALL, TABLE_MISS)  # it could not make the other rule, for it was never asked
    one.wait(20.0)
    assert not one.recorder.differs
    one.orders(PRODUCTION, to_host(3, 3))
    one.wait(20.0)
    assert one.recorder.texts == ["a rule is missing: add priority=10,dl_dst=00:00:00:00:00:03 actions=output:3"]


def test_a_mirror_that_joins_soon_is_compared_with_what_production_has_said() -> None:
    one = Scene("other")
    one.orders(PRODUCTION, TABLE_MISS, EXTRA)
    one.wait(2.0)
    one.join()
    one.orders(MIRROR, TABLE_MISS)
    one.wait(4.0)
    assert one.recorder.orders == []
    one.wait(6.0)
    assert one.recorder.texts == ["a rule is missing: add priority=20,udp,tp_dst=53 actions=drop"]


def test_a_session_that_is_older_than_its_verdict_begins_with_what_is_in_the_switch() -> None:
    one = Scene("other")
    one.orders(PRODUCTION, TABLE_MISS)  # and the mirror too, but its verdict is off
    one.wait(5.0)
    one.join(is_open=True)
    one.wait(20.0)
    assert not one.recorder.differs
    one.orders(MIRROR, EXTRA)
    one.wait(20.0)
    assert one.recorder.texts == ["a rule more: add priority=20,udp,tp_dst=53 actions=drop"]


def test_a_picked_up_connection_begins_with_unknown_rules() -> None:
    one = Scene(is_picked_up=True)
    one.orders(PRODUCTION, to_host(2, 2))
    one.orders(MIRROR, TABLE_MISS, to_host(2, 2))
    one.sees(frame(1, 3))
    one.both(packet_out(frame(1, 3), output(2)))
    one.wait(20.0)
    assert one.recorder.results == [AnswerResult.EQUAL]


def test_each_mirror_is_judged_alone() -> None:
    one = Scene("a", "b")
    one.both(TABLE_MISS)
    one.wait(1.0)
    data = frame(1, 2)
    one.sees(data)
    for who in (PRODUCTION, "b"):
        one.orders(who, packet_out(data, output(2)))
    one.orders("a", packet_out(data, output(ReservedPort.FLOOD)))
    one.wait(6.0)
    assert [one.found[name].results for name in "ab"] == [[AnswerResult.DIFFERS], [AnswerResult.EQUAL]]
    one.judge.removed("a", one.now)
    one.wait(1.0)
    assert one.judge.model_of("a") is None
    one.sees(data)
    one.wait(6.0)
    assert [len(one.found[name].results) for name in "ab"] == [1, 2]
    one.close()


# Frames, ports, bundles


def _lldp(number: int) -> bytes:
    return frame(9, 0x0180C200000E, 0x88CC, bytes((number,)))


def test_frames_of_the_controllers_own_are_compared_by_kind() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    for number in range(60):
        one.orders(PRODUCTION, packet_out(_lldp(number), output(1), ReservedPort.CONTROLLER))
        one.wait(0.7)
        one.orders(MIRROR, packet_out(_lldp(number + 100), output(1), ReservedPort.CONTROLLER))
        one.wait(0.7)
    assert one.recorder.orders == []
    for _ in range(3):
        one.orders(MIRROR, packet_out(_lldp(1), output(2), ReservedPort.CONTROLLER))
        one.wait(1.0)
    one.wait(70.0)
    assert [(found.difference.kind, found.difference.text) for found in one.recorder.orders] == [
        (DifferenceKind.FRAME_MORE, "the frame is sent on: frame output:2")
    ]


def test_an_answer_that_comes_much_too_late_is_not_a_frame_of_its_own() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(1.0)
    for number in range(5):
        one.sees(frame(1, number + 2))
    one.wait(7.0)
    for number in range(5):
        one.orders(MIRROR, packet_out(frame(1, number + 2), output(1)))
    one.wait(70.0)
    assert one.recorder.results == [AnswerResult.EQUAL] * 5  # neither has answered in time
    assert one.recorder.orders == []


def _port_mod(config: int) -> bytes:
    return build(
        4, Type.PORT_MOD, 1, b"\0\0\0\x01" + bytes(4) + bytes(8) + bytes((0, 0, 0, config)) + b"\0\0\0\x01" + bytes(8)
    )


def test_settings_are_compared_by_what_they_come_to() -> None:
    one = Scene()
    one.orders(PRODUCTION, parse(_port_mod(1)))
    one.orders(MIRROR, parse(_port_mod(0)), parse(_port_mod(1)), parse(_port_mod(1)))
    one.wait(10.0)
    assert one.recorder.orders == []
    one.orders(MIRROR, parse(_port_mod(0)))
    one.wait(10.0)
    assert one.recorder.texts == ["port 1 more"]


def test_the_orders_of_a_bundle_count_when_it_is_committed() -> None:
    one = Scene(version=V14)
    inner = flow_mod_message(EXTRA, version=V14, xid=5).raw
    control = [parse(build(V14, Type.BUNDLE_CONTROL, 1, b"\0\0\0\x01\0" + bytes((kind, 0, 0)))) for kind in (0, 4)]
    add = parse(build(V14, Type.BUNDLE_ADD_MESSAGE, 5, b"\0\0\0\x01\0\0\0\0" + inner))
    one.orders(PRODUCTION, control[0], add, control[1])
    one.orders(MIRROR, control[0], add)
    one.wait(10.0)
    assert one.recorder.texts == ["a rule is missing: add priority=20,udp,tp_dst=53 actions=drop"]
    one.orders(MIRROR, control[1])
    one.wait(10.0)
    assert one.recorder.tables[-1].differing_count == 0


def test_what_waits_is_bounded() -> None:
    one = Scene()
    for number in range(2000):
        one.orders(PRODUCTION, flow_mod(match=fields(eth_dst=number), instructions=apply(1)))
    assert one.judge.held < 3_000_000
    one.wait(10.0)
    assert len(one.recorder.orders) <= 256
    one.close()


def test_frames_of_the_controllers_own_are_on_the_account() -> None:
    one = Scene()
    one.settle()
    before = one.judge.held
    for number in range(200):
        body = bytes((number,)) * 1500
        one.orders(MIRROR, packet_out(frame(9, 10, 0x9000 + number, body), output(1), ReservedPort.CONTROLLER))
    one.wait(15.0)  # nothing else of these orders is kept
    assert one.judge.held - before > 64 * 1500
    assert one.judge.held - before < 64 * 4000
    one.close()
