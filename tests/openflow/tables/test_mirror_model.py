"""A mirror's rules end when those of production for the same frames do."""

from natmirror.openflow.bodies.elements import Match, ReservedPort
from natmirror.openflow.bodies.group_values import Bucket, GroupCommand, GroupMod, GroupType
from natmirror.openflow.bodies.values import FlowCommand, FlowFlag, FlowMod, Opaque
from natmirror.openflow.messages import Type
from natmirror.openflow.tables.difference import Difference
from natmirror.openflow.tables.entries import GroupKey, RuleKey
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.production import ProductionModel, Removal, RemovalReason
from natmirror.openflow.tables.state import NotFollowed
from natmirror.openflow.tables.steps import finish
from tests.helpers.flow_tables import apply, fields, flow_mod, message, mirror, order, production, removed, report

ADD = FlowCommand.ADD
TOLD = FlowFlag.SEND_FLOW_REM
HOST, WIDER = fields(eth_dst=5, in_port=1), fields(eth_dst=5)


def _pair(
    production_rule: FlowMod | None = None, mirror_rule: FlowMod | None = None
) -> tuple[ProductionModel, MirrorModel]:
    one = production()
    other = mirror(one)
    if production_rule is not None:
        order(one, production_rule, 0.0)
    if mirror_rule is not None:
        order(other, mirror_rule, 0.0)
    return one, other


def _idle(match: Match = HOST, seconds: int = 5) -> FlowMod:
    return flow_mod(ADD, match, idle_timeout=seconds, instructions=apply(2), flags=TOLD)


def _lost(one: ProductionModel, now: float, reason: RemovalReason = RemovalReason.IDLE_TIMEOUT) -> Removal:
    removal = report(one, removed(HOST, duration=now, reason=reason), now)
    assert removal is not None
    return removal


def test_the_same_rule_ends_with_productions() -> None:
    one, other = _pair(_idle(), _idle())
    (gone,) = finish(other.production_lost(_lost(one, 20.0), 20.0))
    assert gone.key == RuleKey(0, 1, HOST)
    assert not other.state.rules


def test_a_rule_that_the_mirror_has_made_again_lives_on() -> None:
    one, other = _pair(_idle(), _idle())
    order(other, _idle(), 4.9)
    assert finish(other.production_lost(_lost(one, 5.0), 5.0)) == []
    assert finish(other.expire(9.8)) == []
    assert len(finish(other.expire(9.9))) == 1


def test_a_rule_with_a_longer_timeout_ends_that_much_later() -> None:
    one, other = _pair(_idle(), _idle(seconds=15))
    assert finish(other.production_lost(_lost(one, 20.0), 20.0)) == []  # last used at 15
    assert other.next_deadline() == 30.0
    assert finish(other.expire(29.9)) == []
    assert [rule.key.match for rule in finish(other.expire(30.0))] == [HOST]
    assert other.next_deadline() is None


def test_a_rule_that_a_frame_has_met_lives_on() -> None:
    one, other = _pair(_idle(), _idle(seconds=15))
    finish(other.production_lost(_lost(one, 20.0), 20.0))
    other.note_use(tuple(other.state.rules.values()), 25.0)
    assert finish(other.expire(30.0)) == []
    assert other.next_deadline() == 40.0


def test_a_wider_rule_lives_as_long_as_a_rule_of_productions_for_some_of_its_frames() -> None:
    one, other = _pair(_idle(), _idle(WIDER))
    order(one, _idle(fields(eth_dst=5, in_port=2)), 0.0)
    assert finish(other.production_lost(_lost(one, 20.0), 20.0)) == []
    assert finish(other.expire(30.0)) == []
    (rule,) = other.state.rules.values()
    assert not other.is_doubtful(rule, 30.0)
    second = report(one, removed(fields(eth_dst=5, in_port=2), duration=40.0), 40.0)
    assert second is not None
    assert finish(other.production_lost(second, 40.0)) == [rule]


def test_a_rule_that_sends_to_the_controller_hides_no_use() -> None:
    one, other = _pair(_idle(), _idle(seconds=6))
    order(one, flow_mod(ADD, (), instructions=apply(ReservedPort.CONTROLLER), priority=0), 0.0)
    finish(other.production_lost(_lost(one, 20.0), 20.0))
    assert len(finish(other.expire(22.0))) == 1


def test_a_rule_without_a_counterpart_in_production_is_doubtful() -> None:
    _, other = _pair(None, _idle())
    (rule,) = other.state.rules.values()
    assert not other.is_doubtful(rule, 4.9)
    assert other.is_doubtful(rule, 5.0)  # nothing reports its end, though it asks for a report


def test_a_deletion_in_production_says_nothing_about_a_mirrors_rule() -> None:
    one, other = _pair(_idle(), _idle(seconds=50))
    assert finish(other.production_lost(_lost(one, 20.0, RemovalReason.DELETE), 20.0)) == []


def test_hard_timeouts_end_together() -> None:
    rule = flow_mod(ADD, HOST, hard_timeout=5, flags=TOLD)
    one, other = _pair(rule, rule)
    assert len(finish(other.production_lost(_lost(one, 5.2, RemovalReason.HARD_TIMEOUT), 5.2))) == 1
    _, other = _pair(None, rule)
    assert len(finish(other.expire(6.1))) == 1  # by the clock


def test_a_removal_that_a_packet_in_proves_ends_the_same_rule() -> None:
    one, other = _pair(flow_mod(ADD, HOST, idle_timeout=5), _idle())
    (rule,) = one.state.rules.values()
    assert len(finish(other.production_lost(finish(one.prove_gone(rule, 9.0)), 9.0))) == 1


def test_many_ends_of_one_rule_are_kept_once() -> None:
    one, other = _pair(None, _idle(WIDER, seconds=60_000))
    for number in range(20_000):
        order(one, _idle(), number / 1000)
        removal = report(one, removed(HOST), number / 1000)
        assert removal is not None
        finish(other.production_lost(removal, number / 1000))
    assert len(other._ends) < 10_000


def test_a_mirror_that_joins_begins_with_what_is_in_the_switch() -> None:
    one, other = _pair(_idle(), None)
    order(one, GroupMod(GroupCommand.ADD, 1, GroupType.ALL, (Bucket(()),)), 0.0)
    order(one, flow_mod(FlowCommand.DELETE, table=3), 0.0)
    difference = Difference(one.state, other.state, 1.0)
    assert set(difference.since) == {RuleKey(0, 1, HOST), GroupKey(1)}
    finish(other.inherit(2.0))
    assert difference.since == {}
    assert other.state.known.has(3)
    (rule,) = other.state.rules.values()
    assert rule.is_baseline
    one.lose(NotFollowed.NO_MEMORY, 3.0)
    assert not difference.is_known
    finish(other.inherit(3.0))
    assert other.state.not_followed is NotFollowed.NO_MEMORY
    difference.close()


def test_an_unknown_order_of_a_mirror_ends_the_following_at_once() -> None:
    _, other = _pair(None, _idle())
    finish(other.ordered(message(Type.GROUP_MOD), Opaque("group_mod", b""), 1.0))
    assert other.state.not_followed is NotFollowed.UNKNOWN_ORDER
    order(other, flow_mod(FlowCommand.DELETE, table=0xFF), 2.0)
    assert other.state.not_followed is None


def test_differing_groups_and_meters_are_differences() -> None:
    one, other = _pair()
    difference = Difference(one.state, other.state, 0.0)
    order(one, GroupMod(GroupCommand.ADD, 1, GroupType.ALL, (Bucket(()),)), 1.0)
    assert difference.since == {GroupKey(1): 1.0}
    order(other, GroupMod(GroupCommand.ADD, 1, GroupType.SELECT, (Bucket(()),)), 2.0)
    assert difference.oldest == 1.0
    order(other, GroupMod(GroupCommand.MODIFY, 1, GroupType.ALL, (Bucket(()),)), 3.0)
    assert difference.oldest is None
