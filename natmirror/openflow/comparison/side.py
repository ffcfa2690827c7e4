"""One side of a comparison: the tables that its orders make, and whose answer each order is."""

from collections import OrderedDict, deque
from math import inf
from typing import Generic, TypeVar

from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.values import Body, PacketOut
from natmirror.openflow.comparison.attribution import HORIZON, Attribution, Order
from natmirror.openflow.comparison.causes import cut
from natmirror.openflow.comparison.effects import Effect, effects_of
from natmirror.openflow.comparison.readings import Reading, Readings
from natmirror.openflow.messages import Message, Multipart, Type, multipart_of
from natmirror.openflow.tables.bundles import cost_of_length
from natmirror.openflow.tables.journal import HEAD_LEN
from natmirror.openflow.tables.model import Done, Model
from natmirror.openflow.tables.steps import Steps

REFUSAL_TIME = 10.0
"""Seconds in which a switch refuses an order."""
_MAX_LATEST = 32  # orders that can still be refused
_COST = 1200  # bytes that Python needs for an order besides its message
_MAX_GIVEN, _GIVEN_COST = 2048, 200  # orders of which the time is kept, and the bytes for each
_GIVEN_TIME = 3 * HORIZON
_TABLES = frozenset((Type.FLOW_MOD, Type.GROUP_MOD, Type.METER_MOD, Type.BUNDLE_ADD_MESSAGE))
_READ = _TABLES | {
    *(Type.PACKET_OUT, Type.PORT_MOD, Type.TABLE_MOD, Type.BUNDLE_CONTROL, Type.EXPERIMENTER, Type.SET_ASYNC),
    Type.BARRIER_REQUEST,
}
_LISTS = frozenset((Multipart.FLOW, Multipart.FLOW_STATS))
_REPORTS = frozenset((Type.PACKET_IN, Type.FLOW_REMOVED, Type.ERROR, Type.BARRIER_REPLY))

M = TypeVar("M", bound=Model)


class Side(Generic[M]):
    """Production, or a mirror."""

    def __init__(self, model: M, readings: Readings) -> None:
        self.model = model
        self.attribution = Attribution()
        self._readings = readings
        self.held = 0
        """Bytes that are kept."""
        self._latest: deque[Order] = deque()
        self._given: OrderedDict[int, float] = OrderedDict()
        """When it gave which orders, by their hashes."""

    def ordered(self, message: Message, now: float) -> Steps[list[Effect]]:
        """Take a message of the controller. Return the effects of the orders whose causes are settled with it."""
        try:
            reading = self._readings.read(message)
        except MalformedBody:
            if message.kind in _TABLES:
                yield from self.model.ordered_unknown(message, now)
            return []
        body = reading.body
        if isinstance(body, PacketOut):
            if self.model.may_expire:
                yield from self.model.expire(now)
            done = [Done(body, ())]  # it changes no table
        else:
            done = yield from self.model.ordered(message, body, now)
        kept, length = cut(message), len(message.raw)
        more = length - len(kept.raw) if isinstance(body, PacketOut) else cost_of_length(length)
        settled: list[Order] = []
        for one in done:
            of_one = reading if one.body is body else Reading(one.body)  # a commit does the orders of its bundle
            order = Order(now, kept, of_one, more, one, is_refused=one.refusal is not None)
            self._keep(order)
            settled += self.attribution.ordered(order)
        return self._effects(settled)

    def next_deadline(self) -> float:
        """Return when settle(), or the model, has something to do."""
        order_at, rule_at = self.attribution.next_deadline(), self.model.next_deadline()
        if rule_at is None:
            return inf if order_at is None else order_at
        return rule_at if order_at is None else min(order_at, rule_at)

    def settle(self, now: float) -> list[Effect]:
        """Return the effects of the orders whose burst has ended."""
        self._forget_old(now)
        return self._effects(self.attribution.settle(now))

    def _forget_old(self, now: float) -> None:
        while self._given and now - next(iter(self._given.values())) > _GIVEN_TIME:
            self._given.popitem(last=False)
            self.held -= _GIVEN_COST
        while self._latest and now - self._latest[0].at > REFUSAL_TIME:
            self._forget_latest()

    def _forget_latest(self) -> None:
        self.held -= _cost_of(self._latest.popleft())

    def _effects(self, orders: list[Order]) -> list[Effect]:
        if not orders:
            return []
        effects = [effect for order in orders for effect in effects_of(order, self.model)]
        for effect in effects:
            if effect.sent is None:
                self._note_given(effect)
        return effects

    def _note_given(self, effect: Effect) -> None:
        number = effect.order.reading.number
        if number not in self._given:
            self.held += _GIVEN_COST
        self._given[number] = effect.order.at
        self._given.move_to_end(number)
        while len(self._given) > _MAX_GIVEN:
            self._given.popitem(last=False)
            self.held -= _GIVEN_COST

    def has_given(self, effect: Effect) -> bool:
        """Return whether this side has given an order at about the same time, for whatever PACKET_IN. To give it twice
        changes no more than to give it once."""
        if effect.sent is not None:
            return False
        at = self._given.get(effect.order.reading.number)
        return at is not None and abs(at - effect.order.at) <= HORIZON

    # Refusals

    def refuse(self, xid: int, data: bytes, now: float) -> list[Order]:
        """Notice that the switch refuses an order. Return it; for the commit of a bundle, return all in the bundle."""
        found = [one for one in self._recent(now) if one.message.xid == xid and not isinstance(one.body, PacketOut)]
        head = data[:HEAD_LEN]
        first = next((one for one in found if one.message.raw.startswith(head)), found[0] if found else None)
        refused = [one for one in found if first is not None and one.message is first.message]
        for one in refused:
            one.is_refused = True
        return refused

    def refuse_same(self, plain: Body, now: float) -> list[Order]:
        """Notice that the switch would refuse an order. Return those that say the same."""
        refused = [one for one in self._recent(now) if not one.is_refused and one.reading.plain == plain]
        for one in refused:
            one.is_refused = True
        return refused

    def _recent(self, now: float) -> list[Order]:
        return [one for one in self._latest if now - one.at <= REFUSAL_TIME]

    def _keep(self, order: Order) -> None:
        self._latest.append(order)
        self.held += _cost_of(order)
        if len(self._latest) > _MAX_LATEST:
            self._forget_latest()

    def clear(self) -> None:
        """Forget all orders."""
        self.attribution.clear()
        self._latest.clear()
        self._given.clear()
        self.held = 0


def _cost_of(order: Order) -> int:
    return len(order.message.raw) + order.more_cost + _COST


def is_order(message: Message) -> bool:
    """Return whether a message of a controller changes a switch, or asks what there is."""
    return message.kind in _READ or is_list(message)


def is_report(message: Message) -> bool:
    """Return whether a message of a switch tells of its tables, or asks its controller for orders."""
    return message.kind in _REPORTS or is_list(message)


def is_list(message: Message) -> bool:
    """Return whether a message asks for a list of rules, or is a part of one."""
    if message.kind not in (Type.MULTIPART_REQUEST, Type.MULTIPART_REPLY):
        return False
    try:
        return multipart_of(message)[0] in _LISTS
    except ValueError:
        return False
