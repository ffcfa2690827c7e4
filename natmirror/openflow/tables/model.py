"""The flow tables of one switch as one side's orders make them.

ordered() takes a controller's message. What the switch does by itself is different for production's controller, whose
switch reports (production.py), and for a mirror's, which has no switch (mirror_model.py). What may change many rules
works in steps (steps.py).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from natmirror.openflow.bodies.elements import ALL_GROUPS, ALL_METERS, ALL_TABLES
from natmirror.openflow.bodies.group_values import GroupCommand, GroupMod, MeterCommand, MeterMod
from natmirror.openflow.bodies.values import Body, BundleAdd, BundleControl, FlowMod, Opaque, TableMod
from natmirror.openflow.messages import V10, Message, Type
from natmirror.openflow.tables.bundles import Bundle, Bundles, Order
from natmirror.openflow.tables.entries import Rule
from natmirror.openflow.tables.flow_mods import apply_flow_mod, empties, predicted_refusal
from natmirror.openflow.tables.group_mods import (
    apply_group_mod,
    apply_meter_mod,
    predicted_group_refusal,
    predicted_meter_refusal,
)
from natmirror.openflow.tables.state import Account, Change, NotFollowed, State
from natmirror.openflow.tables.steps import PER_STEP, Steps

EXPIRY_GRACE = 1.0
"""Seconds that a switch may take to remove a rule after its hard timeout: Open vSwitch looks about once a second."""
_EVICTION = 4  # OFPTC_EVICTION (1.4.1 §7.3.4.2)


class Done(NamedTuple):
    """An order, and what it has changed."""

    body: Body
    changes: tuple[Change, ...] | None
    """None where that is not known."""
    refusal: str | None = None
    """Why a mirror's order was not done; None if it was."""


class Model:
    """The model of one switch's flow tables for one side.

    Eviction is not modelled: in a table that may evict rules, those that report no removal are doubtful.
    """

    def __init__(self, version: int, account: Account) -> None:
        self.version = version
        self.state = State(account)
        self.evicting: set[int] = set()
        """The tables that may evict rules."""
        self._bundles = Bundles(account)

    def close(self, now: float) -> None:
        """Give all memory back."""
        self._bundles.clear()
        self.state.clear(now)

    def lose(self, reason: NotFollowed, now: float) -> None:
        """Give the tables up, until the controller deletes all rules."""
        self.state.lose(reason, now)

    def ordered(self, message: Message, body: Body, now: float) -> Steps[list[Done]]:
        """Do what a message of the controller orders. Return the orders that take effect with it: for the commit of a
        bundle all in the bundle."""
        if self.may_expire:
            yield from self.expire(now)
        match body:
            case FlowMod() | GroupMod() | MeterMod():
                return (yield from self._order(message, [(message.xid, body)], now))
            case TableMod():
                self._set_eviction(body)
            case BundleAdd():
                self._bundles.add(body, message.xid, len(message.raw))
                return []
            case BundleControl():
                bundle = self._bundles.control(body, message.xid)
                return [] if bundle is None else (yield from self._commit(message, bundle, now))
            case Opaque() if message.kind in (Type.FLOW_MOD, Type.GROUP_MOD, Type.METER_MOD):
                yield from self.ordered_unknown(message, now)
            case _:
                pass
        return [Done(body, ())]

    def ordered_unknown(self, message: Message, now: float) -> Steps[None]:
        """Notice an order that natmirror cannot decode: the tables are unknown, unless a switch refuses it."""
        self.lose(NotFollowed.UNKNOWN_ORDER, now)
        yield from ()

    def _commit(self, message: Message, bundle: Bundle, now: float) -> Steps[list[Done]]:
        if bundle.is_whole:
            return (yield from self._order(message, bundle.orders, now))
        yield from self.ordered_unknown(message, now)
        return []

    def _order(self, message: Message, orders: list[Order], now: float) -> Steps[list[Done]]:
        """Do orders together. Return them with their changes."""
        if self.state.not_followed is not None:
            if not any(isinstance(body, FlowMod) and self._emptied_by(body) == ALL_TABLES for _, body in orders):
                return [Done(body, None) for _, body in orders]
            self.state.begin(now)
        return (yield from self._do(message, orders, now))

    def _do(self, message: Message, orders: list[Order], now: float) -> Steps[list[Done]]:
        done: list[Done] = []
        for count, _ in enumerate(self._apply_all(orders, done, now), 1):
            if not count % PER_STEP:
                yield
        return done

    def _apply_all(self, orders: list[Order], done: list[Done], now: float) -> Iterator[Change]:
        """Do orders in turn; if one is refused, undo all. ``done`` gets what was done."""
        done.clear()
        known = self.state.known
        for _, body in orders:
            refusal = self._refusal(body)
            if refusal is not None:
                for change in [change for one in reversed(done) for change in reversed(one.changes or ())]:
                    yield self.state.put(change.key, change.old, now)
                self.state.known = known
                done[:] = [Done(one, (), refusal) for _, one in orders]
                return
            changes = []
            for change in self._apply(body, now):
                changes.append(change)
                yield change
            done.append(Done(body, tuple(changes)))

    def _refusal(self, body: Body) -> str | None:
        """Return why the switch refuses an order, where it can only be predicted; else None."""
        return None

    def predicted_refusal(self, body: Body) -> str | None:
        """Return why a switch with these tables refuses an order; None if it accepts it, as far as is known."""
        match body:
            case FlowMod():
                return predicted_refusal(self.state, body, self.version)
            case GroupMod():
                return predicted_group_refusal(self.state, body)
            case MeterMod():
                return predicted_meter_refusal(self.state, body)
            case _:
                return None

    def _apply(self, body: Body, now: float) -> Iterable[Change]:
        if isinstance(body, FlowMod) and not body.command.is_delete:
            return apply_flow_mod(self.state, body, self.version, now)
        return self._apply_in_steps(body, now)

    def _apply_in_steps(self, body: Body, now: float) -> Iterator[Change]:
        state = self.state
        match body:
            case FlowMod():
                yield from apply_flow_mod(state, body, self.version, now)
                table = self._emptied_by(body)
                if table is not None:
                    state.known = state.known.with_table(table)
            case GroupMod():
                yield from apply_group_mod(state, body, now)
                if body.command is GroupCommand.DELETE and body.group_id == ALL_GROUPS:
                    state.known = state.known._replace(groups=True)
            case MeterMod():
                yield from apply_meter_mod(state, body, now)
                if body.command is MeterCommand.DELETE and body.meter_id == ALL_METERS:
                    state.known = state.known._replace(meters=True)
            case _:
                pass

    def _emptied_by(self, mod: FlowMod) -> int | None:
        """Return the table, or ALL_TABLES, from which an order takes all rules; None if it is no such order."""
        table = empties(mod)
        return ALL_TABLES if table is not None and self.version == V10 else table

    def _set_eviction(self, mod: TableMod) -> None:
        tables = range(ALL_TABLES) if mod.table == ALL_TABLES else (mod.table,)
        change: Callable[[int], None] = self.evicting.add if mod.config & _EVICTION else self.evicting.discard
        for table in tables:
            change(table)

    # Time

    @property
    def may_expire(self) -> bool:
        """Whether expire() may have something to do."""
        return self.state.has_deadlines

    def expire(self, now: float) -> Steps[list[Rule]]:
        """Remove the rules whose hard timeouts have ended. Return them."""
        gone: list[Rule] = []
        while (rule := self.state.pop_ended(now - EXPIRY_GRACE)) is not None:
            self.state.put(rule.key, None, now)
            gone.append(rule)
            if not len(gone) % PER_STEP:
                yield
        return gone

    def next_deadline(self) -> float | None:
        """Return when expire() has something to do; None where it has not."""
        deadline = self.state.next_deadline()
        return None if deadline is None else deadline + EXPIRY_GRACE

    def is_doubtful(self, rule: Rule, now: float) -> bool:
        """Return whether a rule may be gone: its hard timeout has ended and it is about to go, or its idle timeout may
        have ended, or its table may have evicted it."""
        if rule.hard_timeout and now - rule.made_at >= rule.hard_timeout:
            return True
        if self._is_told(rule):
            return False
        if rule.key.table in self.evicting:
            return True
        return bool(rule.idle_timeout) and now - rule.used_at >= rule.idle_timeout

    def _is_told(self, rule: Rule) -> bool:
        """Return whether the switch would have reported the rule's end."""
        return False

    def doubtful_rules(self, now: float) -> list[Rule]:
        """Return the rules that may be gone."""
        return [rule for rule in self.state.rules.values() if self.is_doubtful(rule, now)]
