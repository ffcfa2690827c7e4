"""Properties of the models for any orders: undoing, comparing and accounting give what the slow, obvious way gives."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import MalformedBody, MatchField
from natmirror.openflow.bodies.frames import frame_fields
from natmirror.openflow.bodies.values import BundleAdd, BundleControl, FlowCommand, FlowMod, FlowRemoved, PacketIn
from natmirror.openflow.messages import HEADER, V10, V13, V15, parse
from natmirror.openflow.tables.difference import Difference
from natmirror.openflow.tables.entries import Rule, RuleKey
from natmirror.openflow.tables.evidence import prove_gone
from natmirror.openflow.tables.index import MAX_MASKS, RuleIndex
from natmirror.openflow.tables.packed import covers, overlaps, pack_frame, pack_match
from natmirror.openflow.tables.state import MAX_ENTRIES, NotFollowed
from natmirror.openflow.tables.steps import finish
from natmirror.openflow.tables.walk import walk
from tests.helpers.flow_tables import (
    TestAccount,
    barrier,
    contents,
    flow_mods,
    matches,
    message,
    mirror,
    order,
    orders,
    production,
    refuse,
    removed,
    report,
)
from tests.helpers.openflow_bodies import corpus

versions = st.sampled_from([V10, V13])
removals = st.builds(
    lambda match, priority, duration, reason: removed(match, priority=priority, duration=duration, reason=reason),
    matches,
    st.integers(1, 2),
    st.sampled_from([0.0, 0.05, 1.0, 3.0]),
    st.integers(0, 4),
)
bundles = st.lists(flow_mods, max_size=3)
events = st.one_of(orders, orders, removals, bundles)


def _give(model: Any, event: Any, xid: int, now: float, left_out: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    """Give an event to production's model; of a bundle leave some orders out. Each has ten transaction ids."""
    if isinstance(event, FlowRemoved):
        report(model, event, now)
    elif isinstance(event, list):
        finish(model.ordered(message(None, xid + 8), BundleControl(1, 0, 0), now))
        for at, body in enumerate(event):
            if xid + at not in left_out:
                finish(model.ordered(message(None, xid + at), BundleAdd(1, 0, body, xid + at), now))
        finish(model.ordered(message(None, xid + 9), BundleControl(1, 4, 0), now))
    else:
        order(model, event, now, xid)


@given(versions, st.lists(st.tuples(events, st.floats(0, 0.4), st.booleans(), st.integers(0, 3)), max_size=25))
def test_an_order_that_the_switch_refuses_might_as_well_never_have_been_given(
    version: int, steps: list[tuple[Any, float, bool, int]]
) -> None:
    account, now = TestAccount(), 100.0
    refused, plain = production(version, account), production(version)
    waiting: list[tuple[int, int]] = []  # refusals that are due: after which step, and the transaction id
    for number, (event, pause, is_refused, delay) in enumerate(steps):
        now += pause
        xid = number * 10
        ids = set()
        if is_refused and not isinstance(event, FlowRemoved):
            ids = {xid + 9} if isinstance(event, list) and delay % 2 else {xid}
            waiting += [(number + delay, one) for one in ids]
        _give(refused, event, xid, now)
        if not (ids & {xid + 9}) and not (ids and not isinstance(event, list)):
            _give(plain, event, xid, now, ids)
        for due in [one for one in waiting if one[0] <= number]:
            refuse(refused, due[1], now)
        waiting = [one for one in waiting if one[0] > number]
    for _, xid in waiting:
        refuse(refused, xid, now)
    finish(refused.expire(now))
    finish(plain.expire(now))
    assert contents(refused.state) == contents(plain.state)
    assert refused.state.known == plain.state.known
    barrier(refused, 5000, now)
    assert contents(refused.state) == contents(plain.state)
    refused.close(now)
    assert account.used == 0


def _fresh(difference: Difference) -> set[Any]:
    one, other = difference.production, difference.mirror
    keys = {*one.all_keys(), *other.all_keys()}
    return {key for key in keys if getattr(one.get(key), "effect", None) != getattr(other.get(key), "effect", None)}


@given(st.lists(st.tuples(events, st.sampled_from(["both", "production", "mirror", "refused"])), max_size=25))
def test_the_difference_that_is_kept_equals_the_one_that_is_made_afresh(steps: list[tuple[Any, str]]) -> None:
    one = production()
    other = mirror(one)
    difference = Difference(one.state, other.state, 0.0)
    since: dict[Any, float] = {}
    for number, (event, side) in enumerate(steps):
        now = number * 0.3
        if side != "mirror":
            _give(one, event, number * 10, now)
        if side != "production" and not isinstance(event, FlowRemoved):
            _give(other, event, number * 10, now)
        if side == "refused":
            refuse(one, number * 10, now)
        finish(one.expire(now))
        finish(other.expire(now))
        assert set(difference.since) == _fresh(difference)
        since = {key: since.get(key, now) for key in difference.since}
        assert list(difference.since.values()) == sorted(difference.since.values())
        assert difference.oldest == min(difference.since.values(), default=None)
        assert difference.lasting(now, 1.0) == [key for key, at in difference.since.items() if now - at >= 1.0]
    finish(other.inherit(99.0))
    assert difference.since == {}


@given(st.lists(flow_mods, max_size=60), st.integers(0, 20_000))
def test_what_is_beyond_the_account_is_not_followed_and_costs_nothing(mods: list[FlowMod], limit: int) -> None:
    account = TestAccount(limit)
    model = production(V13, account)
    for number, mod in enumerate(mods):
        order(model, mod, number, number)
        assert account.used <= limit
        assert not (model.state.not_followed and model.state.count)
    model.close(100.0)
    assert account.used == 0


def test_a_switch_with_too_many_rules_is_not_followed_until_its_controller_deletes_all() -> None:
    account = TestAccount()
    model = production(V13, account)
    for number in range(MAX_ENTRIES + 1):
        mod = FlowMod(FlowCommand.ADD, 0, 1, (MatchField("eth_dst", number),), ())
        order(model, mod, 0.0, number)
    assert model.state.not_followed is NotFollowed.TOO_MANY_RULES
    assert (model.state.count, account.used) == (0, 0)
    order(model, FlowMod(FlowCommand.DELETE, 0, 0, (), ()), 1.0, 1)
    assert model.state.not_followed is NotFollowed.TOO_MANY_RULES
    order(model, FlowMod(FlowCommand.DELETE, 0xFF, 0, (), ()), 2.0, 2)
    order(model, FlowMod(FlowCommand.ADD, 0, 1, (), ()), 3.0, 3)
    assert model.state.not_followed is None
    assert list(model.state.rules) == [RuleKey(0, 1, ())]
    assert model.state.known.has(7)


def test_a_switch_with_too_many_masks_is_not_followed() -> None:
    model = production(V13, TestAccount())
    for number in range(MAX_MASKS):
        for value in (0, 1):  # two rules of one mask
            mod = FlowMod(FlowCommand.ADD, 0, 1, (MatchField("eth_dst", value, 2 * number + 1),), ())
            order(model, mod, 0.0, number)
    assert model.state.not_followed is None
    order(model, FlowMod(FlowCommand.ADD, 1, 1, (MatchField("eth_dst", 0, 0xF0F0F0F0F0),), ()), 0.0, 1)
    assert model.state.not_followed is None, "another table"
    order(model, FlowMod(FlowCommand.ADD, 0, 1, (MatchField("eth_dst", 0, 0xF0F0F0F0F0),), ()), 0.0, 1)
    assert model.state.not_followed is NotFollowed.TOO_MANY_RULES


# The index beside a look at each rule

frames = st.fixed_dictionaries(
    {"in_port": st.integers(1, 3)}, optional={"eth_dst": st.integers(0, 3), "eth_src": st.integers(0, 3)}
)


def _rules(mods: list[FlowMod]) -> list[Rule]:
    rules = {RuleKey(0, mod.priority, mod.match): mod for mod in mods}
    return [Rule(key, mod.instructions, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0) for key, mod in rules.items()]


@given(st.lists(flow_mods, max_size=20), st.lists(flow_mods, max_size=5), matches, frames)
def test_the_index_finds_what_a_look_at_each_rule_finds(
    mods: list[FlowMod], gone: list[FlowMod], match: Any, frame: dict[str, int]
) -> None:
    index, rules = RuleIndex(), _rules(mods)
    for rule in rules:
        index.add(rule)
    for key in {RuleKey(0, mod.priority, mod.match) for mod in gone}:
        for rule in [one for one in rules if one.key == key]:
            index.remove(rule)
            rules.remove(rule)
    packed, fields = pack_match(match), pack_frame(frame)
    assert index.count == len(rules)
    assert set(index.covered_by(packed)) == {rule for rule in rules if covers(packed, rule.packed)}
    assert set(index.overlapping(packed)) == {rule for rule in rules if overlaps(packed, rule.packed)}
    fitting = [
        rule
        for rule in rules
        if all(
            one.name in frame and not (frame[one.name] ^ one.value) & (-1 if one.mask is None else one.mask)
            for one in rule.key.match
        )
    ]
    highest = max((rule.key.priority for rule in fitting), default=0)
    assert set(index.find(fields)) == {rule for rule in fitting if rule.key.priority == highest}


# Any bytes

raw_messages = st.builds(
    lambda kind, xid, body: build_raw(kind, xid, body),
    st.sampled_from([1, 10, 11, 14, 15, 17, 18, 19, 20, 21, 29, 33, 34]),
    st.integers(0, 3),
    st.one_of(st.binary(max_size=120), st.binary(max_size=60).map(lambda end: bytes(8) + end)),
)


def build_raw(kind: int, xid: int, body: bytes) -> bytes:
    """Return a message of 1.5."""
    return HEADER.pack(V15, kind, 8 + len(body), xid) + body


@given(st.lists(st.one_of(raw_messages, st.sampled_from(corpus(V15)), flow_mods), max_size=20), st.integers(0, 40_000))
def test_any_messages_of_both_ends_raise_nothing_and_stay_within_the_account(
    messages: list[bytes | FlowMod], limit: int
) -> None:
    account = TestAccount(limit)
    one = production(V15, account)
    other = mirror(one, account)
    difference = Difference(one.state, other.state, 0.0)
    for number, raw in enumerate(messages):
        if isinstance(raw, FlowMod):
            order(one, raw, number, number)
            continue
        said = parse(raw)
        try:
            body = decode(said)
        except MalformedBody:
            finish(one.ordered_unknown(said, number))
            finish(other.ordered_unknown(said, number))
            continue
        for model in (one, other):
            finish(model.ordered(said, body, number))
        removal = finish(one.reported(said, body, number))
        if removal is not None:
            finish(other.production_lost(removal, number))
        if isinstance(body, PacketIn):
            frame = frame_fields(body.frame, body.in_port)
            finish(prove_gone(one, body, frame, pack_frame(frame), number))
            walk(other, frame, number, table=body.table)
        assert account.used <= limit
        assert not difference.is_known or set(difference.since) == _fresh(difference)
    for model in (one, other):
        model.close(100.0)
    assert account.used == 0
