"""How long both sides' tables differ, frames walked through both, and when all is equal again."""

import pytest

from natmirror.openflow.bodies.elements import ALL_TABLES, ReservedPort
from natmirror.openflow.bodies.group_values import Bucket, GroupCommand, GroupMod, GroupType
from natmirror.openflow.bodies.values import FlowCommand, FlowFlag
from natmirror.openflow.comparison.results import AnswerResult
from natmirror.openflow.comparison.table_comparison import entry_text
from natmirror.openflow.tables.entries import Group, GroupKey
from tests.helpers.comparison import (
    MIRROR,
    PRODUCTION,
    TABLE_MISS,
    Scene,
    flow_removed_message,
    frame,
    group_mod_message,
    packet_out,
    to_host,
)
from tests.helpers.flow_tables import fields, flow_mod, output, removed

TOLD = FlowFlag.SEND_FLOW_REM


def times(one: Scene) -> tuple[float, float]:
    """Return for how long the tables were compared, and for how long they differed."""
    return sum(found.seconds for found in one.recorder.tables), sum(
        found.differing_seconds for found in one.recorder.tables
    )


def test_what_differs_for_less_than_two_seconds_does_not_count() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    for number in range(20):
        one.orders(PRODUCTION, to_host(number, 2))
        one.wait(1.5)
        one.orders(MIRROR, to_host(number, 2))
        one.wait(1.5)
    compared, differing = times(one)
    assert compared == pytest.approx(60.0)
    assert differing == 0.0


def test_what_lasts_counts_from_its_beginning() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(11.0)
    one.orders(PRODUCTION, to_host(2, 2))
    one.wait(10.0)
    assert one.recorder.tables[-1].differing == ("production: priority=10,dl_dst=00:00:00:00:00:02 actions=output:2",)
    one.orders(MIRROR, to_host(2, 2))
    one.wait(20.0)
    compared, differing = times(one)
    assert compared == pytest.approx(40.0, abs=2.0)
    assert differing == pytest.approx(10.0, abs=1.5)
    assert one.recorder.tables[-1].differing_count == 0
    assert one.recorder.resolutions


def test_the_warm_up_and_the_time_without_a_session_do_not_count() -> None:
    one = Scene(warm_up=10.0)
    one.orders(PRODUCTION, TABLE_MISS)
    one.wait(20.0)
    compared, differing = times(one)
    assert compared == pytest.approx(10.0)
    assert differing == pytest.approx(10.0)
    one.judge.ended(MIRROR, "paused", one.now, is_fault=False)
    one.wait(20.0)
    assert times(one) == (compared, differing)


def test_a_rule_that_may_be_gone_is_doubtful_and_no_difference() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.orders(PRODUCTION, to_host(2, 2, idle_timeout=5))
    one.wait(60.0)
    found = one.recorder.tables[-1]
    assert (found.differing_count, found.doubtful) == (0, 1)


def test_a_removal_that_the_switch_reports_ends_the_mirrors_rule_too() -> None:
    one = Scene()
    one.both(TABLE_MISS, to_host(2, 2, idle_timeout=5, flags=TOLD))
    one.wait(20.0)
    one.switch(flow_removed_message(removed(fields(eth_dst=2), priority=10, idle_timeout=5, duration=20.0)))
    one.wait(20.0)
    assert not one.recorder.differs
    assert one.judge.model_of(MIRROR).state.count == 1  # type: ignore[union-attr]


def test_a_packet_in_proves_that_a_rule_is_gone_on_both_sides() -> None:
    one = Scene()
    one.both(TABLE_MISS, to_host(2, 2, idle_timeout=5))
    one.wait(20.0)
    one.sees(frame(1, 2))
    one.both(packet_out(frame(1, 2), output(2)))
    one.wait(20.0)
    assert one.recorder.results == [AnswerResult.EQUAL]
    assert one.recorder.tables[-1].doubtful == 0


def test_a_crowd_of_differing_entries_is_counted() -> None:
    one = Scene()
    for number in range(1500):
        one.orders(PRODUCTION, to_host(number, 2))
    one.wait(20.0)
    found = one.recorder.tables[-1]
    assert found.differing_count == 1500
    assert len(found.differing) == 8
    one.close()


# Frames


def test_frames_leave_alike_though_rules_differ() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(1.0)
    for dst in (2, 3, 4):
        one.sees(frame(1, dst))
        rule = to_host(dst, dst)
        one.orders(PRODUCTION, rule, packet_out(frame(1, dst), output(dst)))
        other = flow_mod(match=rule.match, priority=11, instructions=rule.instructions)
        one.orders(MIRROR, other if dst != 4 else to_host(4, 9), packet_out(frame(1, dst), output(dst)))
    one.wait(20.0)
    assert one.recorder.walks[-1] == (2, 3)


def test_rules_that_differ_for_moments_send_frames_elsewhere_in_these_moments() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    for number in range(20):
        one.sees(frame(1, number))
        one.orders(PRODUCTION, to_host(number, 2))
        one.wait(1.5)
        one.orders(MIRROR, to_host(number, 2))
        one.wait(1.5)
    assert times(one)[1] == 0.0
    assert any(alike < count for alike, count in one.recorder.walks)


def test_a_wrong_bucket_of_a_group_is_named_and_sends_frames_elsewhere() -> None:
    one = Scene()
    for who, port in ((PRODUCTION, 2), (MIRROR, 3)):
        mod = GroupMod(GroupCommand.ADD, 1, GroupType.ALL, (Bucket(output(port)),))
        one.orders(who, TABLE_MISS, group_mod_message(mod))
    one.wait(20.0)
    (found,) = one.recorder.orders
    assert found.difference.field == "group 1"
    group = "group add group_id=1,type=all,bucket=actions=output"
    assert found.difference.text == f"{group}:3 for {group}:2"
    (*_, last) = one.recorder.tables
    assert last.differing == (
        "production: group add group_id=1,type=all,bucket=actions=output:2",
        "mirror: group add group_id=1,type=all,bucket=actions=output:3",
    )


def test_meters_and_groups_have_a_line() -> None:
    assert entry_text(Group(GroupKey(3), GroupType.ALL, ())) == "group add group_id=3,type=all"


def test_a_difference_is_resolved_when_the_tables_and_an_answer_are_equal_again() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(1.0)
    one.sees(frame(1, 2))
    one.orders(PRODUCTION, packet_out(frame(1, 2), output(2)))
    one.orders(MIRROR, packet_out(frame(1, 2), output(ReservedPort.FLOOD)))
    one.wait(40.0)
    assert one.recorder.resolutions == []
    one.sees(frame(1, 3))
    one.both(packet_out(frame(1, 3), output(2)))
    one.wait(10.0)
    assert len(one.recorder.resolutions) == 1
    one.wait(60.0)
    assert len(one.recorder.resolutions) == 1


def test_tables_that_are_not_followed_do_not_differ() -> None:
    one = Scene()
    one.both(TABLE_MISS)
    one.wait(6.0)
    one.judge.missed(one.now)
    for number in range(20):
        one.both(to_host(number, 2))
        one.wait(1.0)
    assert one.recorder.tables[-1].not_followed == "bytes-missing"
    assert [found.differing_count for found in one.recorder.tables if found.differing_count] == []
    assert times(one)[1] == 0.0
    one.both(flow_mod(FlowCommand.DELETE, table=ALL_TABLES))
    one.orders(MIRROR, to_host(30, 2))
    one.wait(10.0)
    assert one.recorder.tables[-1].differing_count == 1, "all rules are known again"


def test_a_deletion_of_all_rules_takes_small_steps() -> None:
    one = Scene()
    for number in range(4000):
        for who in (PRODUCTION, MIRROR):
            one.orders(who, flow_mod(match=fields(eth_dst=number), flags=TOLD))
    one.wait(10.0)
    one.longest_call = 0
    one.orders(PRODUCTION, flow_mod(FlowCommand.DELETE))
    assert one.longest_call > 60
    one.wait(1.0)
    one.longest_call = 0
    one.orders(MIRROR, flow_mod(FlowCommand.DELETE))
    assert one.longest_call > 60
    one.close()
