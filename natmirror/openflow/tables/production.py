"""Production's model of a switch's flow tables: its controller's orders, and what the switch says about them.

The switch decides: an ERROR undoes the order that it refuses, FLOW_REMOVED removes a rule, and an answer to a request
for flow statistics says which rules there are. Where the switch says nothing, a PACKET_IN may prove that a rule is gone
(evidence.py).
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial

from natmirror.openflow.bodies.elements import ALL_TABLES, ANY_GROUP, ReservedPort
from natmirror.openflow.bodies.group_values import GroupCommand, GroupMod, MeterCommand, MeterMod
from natmirror.openflow.bodies.values import (
    Body,
    ErrorMessage,
    FlowMod,
    FlowRemoved,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    SetAsync,
)
from natmirror.openflow.messages import V10, Message, Multipart, Type, multipart_of
from natmirror.openflow.tables.bundles import ORDER_COST, Order
from natmirror.openflow.tables.entries import STATE_FLAGS, GroupKey, Key, MeterKey, Rule, RuleKey
from natmirror.openflow.tables.flow_mods import touches_one_key
from natmirror.openflow.tables.journal import HEAD_LEN, Journal, Step
from natmirror.openflow.tables.model import Done, Model
from natmirror.openflow.tables.packed import ALL, PackedMatch, pack_match
from natmirror.openflow.tables.state import MAX_ENTRIES, Account, Change, NotFollowed
from natmirror.openflow.tables.steps import PER_STEP, Steps


class RemovalReason(IntEnum):
    """OFPRR_* (1.5.1 §7.4.2)."""

    IDLE_TIMEOUT = 0
    HARD_TIMEOUT = 1
    DELETE = 2
    GROUP_DELETE = 3
    METER_DELETE = 4
    EVICTION = 5


_USUAL_REASONS = 1 << RemovalReason.IDLE_TIMEOUT | 1 << RemovalReason.HARD_TIMEOUT | 1 << RemovalReason.DELETE
_BY_ORDER = (RemovalReason.DELETE, RemovalReason.GROUP_DELETE, RemovalReason.METER_DELETE)
_AGE_TOLERANCE = 0.1  # seconds by which a switch's clock may differ from ours over a rule's life
_EXPECTED_TIMEOUT = 10.0  # seconds in which a switch reports a rule that was deleted
_MAX_EXPECTED = MAX_ENTRIES
_MAX_TIMES = 64  # deletions of one rule
_MAX_BARRIERS = 64
_MAX_POLLS = 4
_EXPECTED_COST = 700  # bytes that Python needs for a removal that is expected
# OFPET_FLOW_MOD_FAILED and its neighbours, and BUNDLE_FAILED: the errors of orders that change tables
_ORDER_ERRORS_V10, _ORDER_ERRORS = {3}, {2, 3, 4, 5, 6, 12, 17}


@dataclass(frozen=True, slots=True)
class Removal:
    """A rule that is gone from production's switch, for mirrors' rules that the same frames have used."""

    rule: Rule
    reason: RemovalReason | None
    """None where only a PACKET_IN shows it."""
    used_at: float | None
    """When the rule was last used, if the switch says it."""


@dataclass(slots=True)
class _Poll:
    """A request for the statistics of all rules that a match covers, and the parts of the answer so far."""

    table: int
    match: PackedMatch
    at: float
    first_step: int
    """The number of the first step after the request."""
    flows: dict[RuleKey, FlowStats] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return ORDER_COST * len(self.flows)


class ProductionModel(Model):
    """The model of the tables that a switch in production has."""

    def __init__(self, version: int, account: Account) -> None:
        super().__init__(version, account)
        self._account = account
        self._journal = Journal(self.state, account)
        self.reports_removals = True
        """Whether the switch sends FLOW_REMOVED; not if its controller has masked a reason."""
        self._barriers: OrderedDict[int, int] = OrderedDict()  # by transaction id: the steps before the BARRIER
        self._expected: OrderedDict[RuleKey, list[float]] = OrderedDict()
        """Rules that were deleted by order and whose FLOW_REMOVED may still come, with the times of their deletion."""
        self._polls: OrderedDict[int, _Poll] = OrderedDict()

    def ordered(self, message: Message, body: Body, now: float) -> Steps[list[Done]]:
        if message.kind is Type.BARRIER_REQUEST:
            self._barriers[message.xid] = self._journal.end
            self._barriers.move_to_end(message.xid)
            if len(self._barriers) > _MAX_BARRIERS:
                self._barriers.popitem(last=False)
        elif isinstance(body, FlowStatsRequest):
            self._asked(message, body, now)
        elif isinstance(body, SetAsync):
            for mask in body.masks:
                if mask.kind is Type.FLOW_REMOVED and not mask.is_for_slave:
                    self.reports_removals = mask.reasons & _USUAL_REASONS == _USUAL_REASONS
        return (yield from super().ordered(message, body, now))

    def close(self, now: float) -> None:
        self._forget()
        super().close(now)

    def lose(self, reason: NotFollowed, now: float) -> None:
        self._forget()
        super().lose(reason, now)

    def _forget(self) -> None:
        """Forget what is not state, and give its memory back."""
        self._journal.clear()
        self._drop_polls()
        while self._expected:
            self._drop_expected()

    def ordered_unknown(self, message: Message, now: float) -> Steps[None]:
        if self.state.not_followed is None:
            yield from self._take(Step(lambda at: (), now, message.xid, message.raw[:HEAD_LEN], is_unknown=True))

    def _order(self, message: Message, orders: list[Order], now: float) -> Steps[list[Done]]:
        done = yield from super()._order(message, orders, now)
        if self.state.not_followed is not None:
            self._drop_polls()  # no step stands for this order, so no list can be corrected by it
        return done

    def _do(self, message: Message, orders: list[Order], now: float) -> Steps[list[Done]]:
        only_key = only_key_of(orders[0][1]) if len(orders) == 1 else None
        done: list[Done] = []
        action = partial(self._apply_all, orders, done)
        changes = yield from self._take(Step(action, now, message.xid, message.raw[:HEAD_LEN], orders, only_key))
        for count, rule in enumerate(_removed_by(changes), 1):
            if self._is_told(rule):
                self._expect(rule.key, now)
            if not count % PER_STEP:
                yield
        return done

    def _take(self, step: Step) -> Steps[list[Change]]:
        changes = yield from self._journal.do(step)
        self._check(step.at)
        return changes

    def _check(self, now: float) -> None:
        """Give up if the switch has done an order that natmirror does not know, or after the state has given up."""
        if self.state.not_followed is not None:
            self._journal.clear()
        elif self._journal.has_unknown:
            self.lose(NotFollowed.UNKNOWN_ORDER, now)

    def reported(self, message: Message, body: Body, now: float) -> Steps[Removal | None]:
        """Take a message of the switch. Return the rule that it says is gone."""
        if self.may_expire:
            yield from self.expire(now)
        if message.kind is Type.BARRIER_REPLY:
            end = self._barriers.pop(message.xid, None)
            if end is not None:
                self._journal.confirm(end)
                self._check(now)
        elif isinstance(body, ErrorMessage):
            yield from self._refused(message, body, now)
        elif isinstance(body, FlowRemoved):
            return (yield from self._removed(body, now))
        elif isinstance(body, FlowStatsReply):
            yield from self._counted(message, body, now)
        return None

    def _is_told(self, rule: Rule) -> bool:
        return self.reports_removals and rule.reports_removal

    # Refusals

    def _refused(self, message: Message, body: ErrorMessage, now: float) -> Steps[None]:
        step = self._journal.find(message.xid, body.data)
        if step is not None:
            for count, rule in enumerate(_removed_by(step.changes), 1):
                self._take_expected(rule.key, now)
                if not count % PER_STEP:
                    yield
            yield from self._journal.refuse(step, message.xid, now)
            self._check(now)
        elif not self._bundles.refuse(message.xid):
            kinds = _ORDER_ERRORS_V10 if self.version == V10 else _ORDER_ERRORS
            if body.kind in kinds and self._journal.has_dropped(now):
                self.lose(NotFollowed.REFUSED_LATE, now)

    # Removals

    def _expect(self, key: RuleKey, now: float) -> None:
        while self._expected:
            oldest = next(iter(self._expected.values()))
            if len(self._expected) < _MAX_EXPECTED and now - oldest[-1] <= _EXPECTED_TIMEOUT:
                break
            self._drop_expected()
        times = self._expected.get(key, [])
        if len(times) >= _MAX_TIMES:
            times.pop(0)
        elif not self._account.take(_EXPECTED_COST):
            return
        times.append(now)
        self._expected[key] = times
        self._expected.move_to_end(key)

    def _drop_expected(self) -> None:
        _, times = self._expected.popitem(last=False)
        self._account.give(_EXPECTED_COST * len(times))

    def _take_expected(self, key: RuleKey, now: float) -> bool:
        """Return whether a FLOW_REMOVED of a rule that was deleted by order may be due, and count it as come."""
        times = self._expected.get(key)
        if times is None:
            return False
        is_recent = now - times.pop(0) <= _EXPECTED_TIMEOUT
        self._account.give(_EXPECTED_COST)
        if not times:
            del self._expected[key]
        return is_recent

    def _removed(self, body: FlowRemoved, now: float) -> Steps[Removal | None]:
        """Remove a rule. A FLOW_REMOVED may be late, and about an older rule with the same match: it says how long the
        rule has lived."""
        key = RuleKey(body.table, body.priority, body.match)
        rule = self.state.rules.get(key)
        is_by_order = body.reason in _BY_ORDER
        if is_by_order and self._take_expected(key, now):
            return None
        step = Step(partial(self._remove_older_than, key, body.duration), now, only_key=key)
        changes = yield from self._take(step)
        if not changes or rule is None:
            return None
        reason = RemovalReason(body.reason) if body.reason in tuple(RemovalReason) else RemovalReason.DELETE
        used_at = now - rule.idle_timeout if reason is RemovalReason.IDLE_TIMEOUT else None
        return Removal(rule, reason, used_at)

    def _remove_older_than(self, key: RuleKey, age: float, now: float) -> list[Change]:
        rule = self.state.rules.get(key)
        if rule is None or (age > now - rule.made_at + _AGE_TOLERANCE and not rule.is_baseline):
            return []
        return [self.state.put(key, None, now)]

    def prove_gone(self, rule: Rule, now: float) -> Steps[Removal]:
        """Remove a rule that a PACKET_IN has proved to be gone."""
        yield from self._take(Step(partial(self._remove_if_same, rule), now, only_key=rule.key))
        return Removal(rule, None, None)

    def _remove_if_same(self, rule: Rule, now: float) -> list[Change]:
        return [self.state.put(rule.key, None, now)] if self.state.rules.get(rule.key) is rule else []

    # Flow statistics

    def _asked(self, message: Message, body: FlowStatsRequest, now: float) -> None:
        """Notice a request whose answer lists all rules that a match covers."""
        is_plain = body.out_port == ReservedPort.ANY and body.out_group == ANY_GROUP and not body.cookie_mask
        if is_plain and not body.is_aggregate and multipart_of(message)[0] == Multipart.FLOW:
            self._drop_poll(message.xid)
            self._polls[message.xid] = _Poll(body.table, pack_match(body.match), now, self._journal.end)
            if len(self._polls) > _MAX_POLLS:
                self._drop_poll(next(iter(self._polls)))

    def _drop_poll(self, xid: int) -> None:
        poll = self._polls.pop(xid, None)
        if poll is not None:
            self._account.give(poll.cost)

    def _drop_polls(self) -> None:
        for xid in list(self._polls):
            self._drop_poll(xid)

    def _counted(self, message: Message, body: FlowStatsReply, now: float) -> Steps[None]:
        poll = self._polls.get(message.xid)
        if poll is None or multipart_of(message)[0] != Multipart.FLOW:
            return
        if not self._account.take(ORDER_COST * len(body.flows)):
            self._drop_poll(message.xid)
            return
        before = len(poll.flows)
        poll.flows.update((RuleKey(one.table, one.priority, one.match), one) for one in body.flows)
        self._account.give(ORDER_COST * (before + len(body.flows) - len(poll.flows)))
        if len(poll.flows) > MAX_ENTRIES:
            self.lose(NotFollowed.TOO_MANY_RULES, now)
        elif not body.has_more:
            self._drop_poll(message.xid)
            yield from self._take_list(poll, now)

    def _take_list(self, poll: _Poll, now: float) -> Steps[None]:
        """Correct the rules by the switch's own list. It is as old as the request, so later steps are done after it;
        earlier ones were done, for the switch answers in order."""
        if self.state.not_followed is not None:
            if poll.table != ALL_TABLES or poll.match != ALL:
                return
            self.state.begin(now)
        if poll.first_step < self._journal.kept_from:
            return  # orders after the request were dropped, so the list does not show what they have changed
        self._journal.confirm(poll.first_step)
        self._check(now)
        yield from self._journal.do_first(Step(partial(self._correct, poll), now), now)
        self._check(now)

    def _correct(self, poll: _Poll, now: float) -> Iterable[Change | None]:
        for index in self.state.indexes(poll.table):
            for rule in index.covered_by(poll.match):
                yield None if rule.key in poll.flows else self.state.put(rule.key, None, now)
        for key, flow in poll.flows.items():
            yield self._correct_rule(key, flow, poll.at, now)
        if poll.match == ALL:
            self.state.known = self.state.known.with_table(poll.table)

    def _correct_rule(self, key: RuleKey, flow: FlowStats, asked_at: float, now: float) -> Change | None:
        """Enter a rule of the list, or notice that the rule was there: so it was used within its idle timeout."""
        rule = self.state.rules.get(key)
        is_same = rule is not None and (rule.instructions, rule.idle_timeout, rule.hard_timeout, rule.cookie) == (
            flow.instructions,
            flow.idle_timeout,
            flow.hard_timeout,
            flow.cookie,
        )
        if rule is not None and is_same:
            rule.used_at = max(rule.used_at, asked_at - rule.idle_timeout)
            return None
        made_at = asked_at - flow.duration
        used_at = max(made_at, asked_at - flow.idle_timeout)
        new = Rule(
            key,
            flow.instructions,
            flow.cookie,
            flow.idle_timeout,
            flow.hard_timeout,
            flow.flags & STATE_FLAGS,
            flow.importance,
            made_at=made_at,
            modified_at=made_at,
            used_at=used_at,
            is_baseline=True,
        )
        return self.state.put(key, new, now)


def only_key_of(body: Body) -> Key | None:
    """Return the only entry by which an order decides and which it can change; None if there may be several."""
    match body:
        case FlowMod():
            return touches_one_key(body)
        case GroupMod() if body.command is not GroupCommand.DELETE:
            return GroupKey(body.group_id)
        case MeterMod() if body.command is not MeterCommand.DELETE:
            return MeterKey(body.meter_id)
        case _:
            return None


def _removed_by(changes: list[Change]) -> Iterator[Rule]:
    for change in changes:
        if change.new is None and isinstance(change.old, Rule):
            yield change.old
