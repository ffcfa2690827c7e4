"""What the switch says about production's rules: refusals, removals, and lists of its rules; and what a PACKET_IN
proves."""

from struct import pack

import pytest

from natmirror.openflow.bodies.elements import ALL_TABLES, Action, Match, ReservedPort
from natmirror.openflow.bodies.group_values import Bucket, GroupCommand, GroupMod, GroupType
from natmirror.openflow.bodies.values import (
    AsyncMask,
    BundleAdd,
    BundleControl,
    FlowCommand,
    FlowFlag,
    FlowMod,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    Opaque,
    PacketIn,
    SetAsync,
    TableMod,
)
from natmirror.openflow.messages import V10, V13, V15, Message, Multipart, Type, build, parse
from natmirror.openflow.tables.bundles import ORDER_COST
from natmirror.openflow.tables.evidence import prove_gone
from natmirror.openflow.tables.journal import MAX_STEPS, REFUSAL_TIMEOUT
from natmirror.openflow.tables.packed import pack_frame
from natmirror.openflow.tables.production import ProductionModel, RemovalReason
from natmirror.openflow.tables.state import MAX_ENTRIES, NotFollowed
from natmirror.openflow.tables.steps import finish
from tests.helpers.flow_tables import (
    TestAccount,
    apply,
    applying,
    barrier,
    contents,
    fields,
    flow_mod,
    message,
    order,
    production,
    refuse,
    removed,
    report,
)

ADD, _, _, DELETE, _ = FlowCommand
HOST, OTHER = fields(eth_dst=5, in_port=1), fields(eth_dst=6, in_port=1)
TOLD = FlowFlag.SEND_FLOW_REM


def _matches(model: ProductionModel) -> list[Match]:
    return sorted(key.match for key in model.state.rules)


# Refusals


def test_a_refused_deletion_gives_back_what_a_later_order_then_meets() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, instructions=apply(1)), 0.0, 1)
    order(model, flow_mod(DELETE), 1.0, 2)
    order(model, flow_mod(FlowCommand.MODIFY, instructions=apply(7)), 2.0, 3)
    order(model, flow_mod(ADD, OTHER), 2.0, 4)
    refuse(model, 2, 3.0)
    assert [(rule.key.match, rule.instructions) for rule in model.state.rules.values()] == [
        (HOST, apply(7)),
        (OTHER, ()),
    ]
    assert not model.state.known.has(0)


def test_orders_with_one_transaction_id_are_told_apart_by_their_bytes() -> None:
    model = production()
    for number, match in enumerate((HOST, OTHER)):
        order(model, flow_mod(ADD, match), 0.0, 0, raw=bytes((number,)) * 90)
    refuse(model, 0, 1.0, data=b"\1" * 64)
    assert _matches(model) == [HOST]
    refuse(model, 0, 1.0, data=b"?")
    assert _matches(model) == []


def test_after_a_barrier_nothing_is_refused() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST), 0.0, 1)
    barrier(model, 2, 0.0)
    refuse(model, 1, 0.1)
    assert _matches(model) == [HOST]
    refuse(model, 77, 0.1)  # of a request that the model has never seen
    assert model.state.not_followed is None


def test_a_refusal_of_an_order_that_can_no_longer_be_undone_ends_the_following() -> None:
    model = production()
    for number in range(MAX_STEPS + 1):
        order(model, flow_mod(ADD, fields(eth_dst=number % 9)), number / 1000, number)
    refuse(model, 5, 2.0)
    assert model.state.not_followed is None
    refuse(model, 0, 2.0, kind=1)  # an error that is about no order
    assert model.state.not_followed is None
    refuse(model, 0, 2.0)
    assert model.state.not_followed is NotFollowed.REFUSED_LATE


def test_a_journal_without_memory_is_shorter() -> None:
    account = TestAccount(6 * ORDER_COST)
    model = production(V13, account)
    for number in range(20):
        order(model, flow_mod(ADD, HOST), number / 100, number)
    assert model.state.not_followed is None
    refuse(model, 1, 1.0)
    assert model.state.not_followed is NotFollowed.REFUSED_LATE
    assert account.used == 0


def test_a_deletion_of_all_rules_begins_again_in_version_1_0_too() -> None:
    model = production(V10)
    model.lose(NotFollowed.NO_MEMORY, 0.0)
    order(model, flow_mod(ADD, HOST), 1.0)
    order(model, flow_mod(DELETE, HOST), 1.0)
    assert model.state.not_followed is NotFollowed.NO_MEMORY
    order(model, flow_mod(DELETE), 2.0)
    order(model, flow_mod(ADD, OTHER), 3.0)
    assert _matches(model) == [OTHER]
    assert model.state.known.has(0)


def test_an_order_that_is_unknown_here_ends_the_following_unless_it_is_refused() -> None:
    model = production()
    unknown = message(Type.FLOW_MOD, 1)
    finish(model.ordered(unknown, Opaque("flow_mod", b""), 0.0))
    refuse(model, 1, 0.1)
    barrier(model, 2, 0.2)
    assert model.state.not_followed is None
    finish(model.ordered_unknown(unknown, 1.0))
    assert model.state.not_followed is None
    order(model, flow_mod(ADD, HOST), 1.0 + REFUSAL_TIMEOUT + 1, 3)
    assert model.state.not_followed is NotFollowed.UNKNOWN_ORDER
    order(model, flow_mod(DELETE, table=ALL_TABLES), 20.0, 4)
    assert model.state.not_followed is None


# Bundles


def _control(model: ProductionModel, kind: int, xid: int) -> None:
    finish(model.ordered(message(Type.BUNDLE_CONTROL, xid), BundleControl(1, kind, 0), 0.0))


def _add(model: ProductionModel, xid: int, body: FlowMod) -> None:
    finish(model.ordered(message(Type.BUNDLE_ADD_MESSAGE, xid), BundleAdd(1, 0, body, xid), 0.0))


def _bundle(model: ProductionModel, end: int = 4) -> None:
    _control(model, 0, 1)
    _add(model, 2, flow_mod(ADD, HOST))
    _add(model, 3, flow_mod(ADD, OTHER))
    _control(model, 2, 4)
    assert _matches(model) == []
    _control(model, end, 5)


def test_a_bundle_counts_when_it_is_committed() -> None:
    model = production(V15)
    _bundle(model)
    assert _matches(model) == [HOST, OTHER]
    model = production(V15)
    _bundle(model, end=6)
    assert _matches(model) == []


@pytest.mark.parametrize(("xid", "kept"), [(2, [OTHER]), (5, [])], ids=["one order", "commit"])
def test_a_switch_refuses_an_order_of_a_bundle_or_its_commit(xid: int, kept: list[Match]) -> None:
    model = production(V15)
    _bundle(model)
    refuse(model, xid, 0.0)
    assert _matches(model) == kept


def test_an_order_that_is_refused_before_the_commit_is_not_in_the_bundle() -> None:
    model = production(V15)
    _control(model, 0, 1)
    _add(model, 2, flow_mod(ADD, HOST))
    _add(model, 3, flow_mod(ADD, OTHER))
    refuse(model, 3, 0.0)
    _control(model, 4, 5)
    assert _matches(model) == [HOST]


def test_a_bundle_with_too_many_orders_ends_the_following() -> None:
    account = TestAccount()
    model = production(V15, account)
    for number in range(1100):
        _add(model, number + 10, flow_mod(ADD, fields(eth_dst=number)))
    _control(model, 4, 5)
    order(model, flow_mod(ADD), 20.0, 6)
    assert model.state.not_followed is NotFollowed.UNKNOWN_ORDER
    assert account.used == 0


# Removals


def test_a_rule_that_the_switch_reports_removed_is_gone() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, idle_timeout=5, flags=TOLD), 0.0)
    removal = report(model, removed(HOST, duration=8.0), 8.0)
    assert removal is not None
    assert (removal.rule.key.match, removal.reason, removal.used_at) == (HOST, RemovalReason.IDLE_TIMEOUT, 3.0)
    assert not model.state.rules
    assert report(model, removed(HOST, duration=8.0), 8.0) is None


def test_a_report_about_an_older_rule_leaves_the_newer_one() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, idle_timeout=5, flags=TOLD), 0.0)
    order(model, flow_mod(ADD, HOST, idle_timeout=5, flags=TOLD, cookie=2), 8.0)
    assert report(model, removed(HOST, duration=7.9), 8.01) is None
    assert _matches(model) == [HOST]


def test_a_report_about_a_deletion_by_order_leaves_the_rule_that_was_added_after_it() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, flags=TOLD), 0.0, 1)
    order(model, flow_mod(DELETE), 0.01, 2)
    order(model, flow_mod(ADD, HOST, flags=TOLD), 0.02, 3)
    by_order = removed(HOST, reason=RemovalReason.DELETE, duration=0.01)
    assert report(model, by_order, 0.05) is None
    assert _matches(model) == [HOST]
    assert report(model, by_order, 0.06) is not None  # another one: by another controller


def test_a_report_after_a_refused_deletion_is_about_the_rule() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, flags=TOLD), 0.0, 1)
    order(model, flow_mod(DELETE), 1.0, 2)
    refuse(model, 2, 1.1)
    assert report(model, removed(HOST, reason=RemovalReason.DELETE, duration=1.9), 2.0) is not None


def test_a_hard_timeout_ends_by_the_clock() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, hard_timeout=5), 0.0)
    order(model, flow_mod(FlowCommand.MODIFY, instructions=apply(2)), 2.0)  # Open vSwitch counts from here
    rule = next(iter(model.state.rules.values()))
    assert not model.is_doubtful(rule, 4.9)
    assert model.is_doubtful(rule, 5.0)
    deadline = model.next_deadline()
    assert deadline == 8.0
    assert finish(model.expire(deadline)) == []
    assert finish(model.expire(deadline + 0.01)) == [rule]
    assert model.next_deadline() is None


def test_deadlines_take_no_memory_of_their_own_for_rules_that_are_gone() -> None:
    model = production()
    for number in range(1000):
        order(model, flow_mod(ADD, HOST, hard_timeout=60_000), number / 1000)
    assert len(model.state._deadlines) < 100


def test_a_rule_is_doubtful_when_it_may_have_gone_without_a_report() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, idle_timeout=5), 0.0)
    order(model, flow_mod(ADD, OTHER, idle_timeout=5, flags=TOLD), 0.0)
    assert model.doubtful_rules(4.9) == []
    assert [rule.key.match for rule in model.doubtful_rules(5.0)] == [HOST]
    masked = SetAsync((AsyncMask(Type.FLOW_REMOVED, False, 0b110),))
    finish(model.ordered(message(Type.SET_ASYNC), masked, 5.0))
    assert len(model.doubtful_rules(5.0)) == 2
    finish(model.ordered(message(Type.SET_ASYNC), SetAsync((AsyncMask(Type.FLOW_REMOVED, False, 0b111),)), 5.0))
    assert len(model.doubtful_rules(5.0)) == 1


def test_a_table_that_evicts_rules_has_doubtful_ones() -> None:
    model = production(V15)
    order(model, flow_mod(ADD, HOST), 0.0)
    order(model, flow_mod(ADD, OTHER, flags=TOLD), 0.0)
    finish(model.ordered(message(Type.TABLE_MOD), TableMod(0, 4), 0.0))
    assert [rule.key.match for rule in model.doubtful_rules(1.0)] == [HOST]
    finish(model.ordered(message(Type.TABLE_MOD), TableMod(ALL_TABLES, 0), 0.0))
    assert model.doubtful_rules(1.0) == []


# Lists of rules


def _statistics(kind: Type, xid: int) -> Message:
    return parse(build(V13, kind, xid, pack("!HH4x", Multipart.FLOW, 0)))


def _ask(model: ProductionModel, xid: int, now: float, table: int = ALL_TABLES, match: Match = ()) -> None:
    finish(model.ordered(_statistics(Type.MULTIPART_REQUEST, xid), FlowStatsRequest(table, match), now))


def _answer(model: ProductionModel, xid: int, now: float, *flows: FlowStats, has_more: bool = False) -> None:
    finish(model.reported(_statistics(Type.MULTIPART_REPLY, xid), FlowStatsReply(flows, has_more), now))


def _listed(match: Match, port: int = 1, **more: float) -> FlowStats:
    return FlowStats(0, 1, match, apply(port), **more)  # type: ignore[arg-type]


def test_a_list_of_the_switch_gives_the_rules_that_were_there_before() -> None:
    model = production()
    order(model, flow_mod(ADD, OTHER), 9.0)
    _ask(model, 1, 10.0)
    _answer(model, 1, 10.1, _listed(HOST, duration=100.0, idle_timeout=5), has_more=True)
    assert _matches(model) == [OTHER]
    _answer(model, 1, 10.1, _listed(fields(eth_dst=9)))
    assert _matches(model) == sorted([fields(eth_dst=9), HOST])
    assert model.state.known.has(3)
    rule = next(rule for rule in model.state.rules.values() if rule.key.match == HOST)
    assert (rule.made_at, rule.used_at, rule.is_baseline) == (-90.0, 5.0, True)


def test_a_list_is_as_old_as_its_request() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, instructions=apply(1)), 9.0, 1)
    _ask(model, 2, 10.0)
    order(model, flow_mod(FlowCommand.MODIFY, instructions=apply(3)), 10.01, 3)
    order(model, flow_mod(ADD, OTHER), 10.02, 4)
    _answer(model, 2, 10.1, _listed(HOST), _listed(fields(eth_dst=9)))
    assert {key.match: rule.instructions for key, rule in model.state.rules.items()} == {
        HOST: apply(3),
        OTHER: (),
        fields(eth_dst=9): apply(3),
    }
    refuse(model, 3, 10.2)
    assert {rule.instructions for rule in model.state.rules.values()} == {apply(1), ()}


def test_a_list_shows_that_a_rule_was_in_use() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, instructions=apply(1), idle_timeout=5), 0.0)
    _ask(model, 1, 20.0)
    _answer(model, 1, 20.1, _listed(HOST, idle_timeout=5))
    assert [rule.used_at for rule in model.state.rules.values()] == [15.0]


def test_a_list_of_some_rules_says_nothing_about_the_others() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST), 0.0)
    order(model, flow_mod(ADD, OTHER), 0.0)
    _ask(model, 1, 1.0, match=fields(eth_dst=6))
    _answer(model, 1, 1.1)
    assert _matches(model) == [HOST]
    assert not model.state.known.has(0)
    finish(model.ordered(_statistics(Type.MULTIPART_REQUEST, 2), FlowStatsRequest(ALL_TABLES, (), out_port=4), 2.0))
    _answer(model, 2, 2.1)
    assert _matches(model) == [HOST]


def test_the_parts_of_a_list_count_in_the_account_until_it_is_whole() -> None:
    account = TestAccount(20 * ORDER_COST)
    model = production(V13, account)
    flows = [_listed(fields(eth_dst=number)) for number in range(15)]
    _ask(model, 1, 0.0)
    _answer(model, 1, 0.1, *flows, has_more=True)
    assert account.used == 15 * ORDER_COST
    _answer(model, 1, 0.1, *flows)
    assert account.used == 0
    for xid in range(10):
        _ask(model, xid, 1.0)
        _answer(model, xid, 1.0, flows[0], has_more=True)
    assert account.used <= 4 * ORDER_COST
    model.close(2.0)
    assert account.used == 0


def test_a_rule_that_is_deleted_again_and_again_is_expected_so_many_times_at_most() -> None:
    account = TestAccount()
    model = production(V13, account)
    for number in range(500):
        order(model, flow_mod(ADD, HOST, flags=TOLD), number / 1000)
        order(model, flow_mod(DELETE, HOST), number / 1000)
    [times] = model._expected.values()
    assert (len(times), times[-1]) == (64, 0.499)
    model.close(1.0)
    assert account.used == 0


def test_reports_that_are_expected_count_in_the_account() -> None:
    account = TestAccount()
    model = production(V13, account)
    for number in range(100):
        order(model, flow_mod(ADD, fields(eth_dst=number), flags=TOLD), 0.0, number)
    order(model, flow_mod(DELETE), 0.0, 200)
    barrier(model, 201, 0.0)
    assert 0 < account.used < 200_000
    order(model, flow_mod(ADD, HOST, flags=TOLD), 30.0, 202)
    order(model, flow_mod(DELETE), 30.0, 203)
    assert len(model._expected) == 1
    model.close(31.0)
    assert account.used == 0


def test_a_list_that_is_too_long_is_not_followed_and_a_short_one_begins_again() -> None:
    model = production()
    _ask(model, 1, 0.0)
    many = [_listed(fields(eth_dst=number)) for number in range(MAX_ENTRIES + 1)]
    _answer(model, 1, 0.1, *many[:3000], has_more=True)
    _answer(model, 1, 0.1, *many[3000:])
    assert model.state.not_followed is NotFollowed.TOO_MANY_RULES
    _ask(model, 2, 1.0)
    order(model, flow_mod(ADD, HOST), 1.0)
    _answer(model, 2, 1.1, _listed(OTHER))
    assert model.state.not_followed is NotFollowed.TOO_MANY_RULES  # the list lacks an order that was ignored
    _ask(model, 3, 2.0)
    _answer(model, 3, 2.1, _listed(OTHER))
    assert _matches(model) == [OTHER]


# Proof

FRAME = {"in_port": 1, "eth_dst": 5, "eth_type": 0x806}


def _packet_in(reason: int = 0, table: int = 0) -> PacketIn:
    return PacketIn(0xFFFF_FFFF, reason, table, 0, fields(in_port=1), 0, b"")


PACKED = pack_frame(FRAME)


def test_a_packet_in_proves_that_an_idle_rule_is_gone() -> None:
    model = production()
    order(model, flow_mod(ADD, HOST, instructions=apply(2), idle_timeout=5, priority=3), 0.0)
    order(model, flow_mod(ADD, fields(eth_dst=5), instructions=apply(2), idle_timeout=1, priority=2), 0.0)
    order(model, flow_mod(ADD, (), instructions=apply(ReservedPort.CONTROLLER), priority=0), 0.0)
    assert finish(prove_gone(model, _packet_in(), FRAME, PACKED, 4.9)) == []  # it may have left before the rule came
    assert finish(prove_gone(model, _packet_in(reason=2), FRAME, PACKED, 6.0)) == []
    cut_off = {"in_port": 1, "eth_dst": 5}
    assert finish(prove_gone(model, _packet_in(), cut_off, pack_frame(cut_off), 6.0)) == []
    removals = finish(prove_gone(model, _packet_in(), FRAME, PACKED, 6.0))
    assert [one.rule.key.match for one in removals] == [HOST, fields(eth_dst=5)]
    assert _matches(model) == [()]


def test_a_packet_in_proves_nothing_about_a_rule_that_may_have_sent_it() -> None:
    model = production()
    to_controller = apply(2, ReservedPort.CONTROLLER)
    order(model, flow_mod(ADD, HOST, instructions=to_controller, idle_timeout=5), 0.0)
    assert finish(prove_gone(model, _packet_in(), FRAME, PACKED, 6.0)) == []
    order(model, GroupMod(GroupCommand.ADD, 1, GroupType.ALL, (Bucket(()),)), 6.0)
    order(model, flow_mod(ADD, HOST, instructions=applying(Action("group", (1,))), idle_timeout=5), 6.0)
    assert finish(prove_gone(model, _packet_in(), FRAME, PACKED, 12.0)) == []
    order(model, flow_mod(ADD, HOST, instructions=apply(2), idle_timeout=5, flags=TOLD), 12.0)
    assert finish(prove_gone(model, _packet_in(), FRAME, PACKED, 20.0)) == []
    assert contents(model.state)
