"""Orders that answer no PACKET_IN, such as a controller's rules at the start: its programme.

Both sides give them at their own time, and in their own way. So an order that only one side has given is a difference
only if it lasts: if the tables, or the settings, still differ in what it has changed when the other side had its time.

That is after five seconds; or after two, as long as a difference of tables has to last, if both sides have gone on
since the last such order of either: if they have answered several PACKET_INs that came later. Such a controller has
done with its programme.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from natmirror.openflow.bodies.values import Body, PortMod, TableMod
from natmirror.openflow.comparison.answer_comparison import HasGiven
from natmirror.openflow.comparison.attribution import Order
from natmirror.openflow.comparison.causes import Cause
from natmirror.openflow.comparison.effects import Effect, value_of
from natmirror.openflow.comparison.lasting import Lasting
from natmirror.openflow.comparison.own_frames import OwnFrames
from natmirror.openflow.comparison.results import Collector, ComparedOrder
from natmirror.openflow.comparison.words import Found, differences, evidence, name_of, named
from natmirror.openflow.tables.steps import Steps

MAX_UNASKED = 256
"""Orders of each side that wait for the other side's."""
_TIME = 5.0  # seconds after an order, or after the session began, in which the other side may give it
_MIN_AGE = 2.0  # seconds that a difference lasts
_ANSWERED = 8  # later PACKET_INs that show that a side has gone on
_MAX_SETTINGS = 256  # ports and tables
_KEY_COST = 400  # bytes that Python needs for an entry's key
_PER_STEP = 4  # orders that are looked at in one step


@dataclass(slots=True)
class _Side:
    waiting: deque[Effect] = field(default_factory=deque)
    settings: dict[str, Body] = field(default_factory=dict)
    """The latest order about each port and table."""
    answered: deque[float] = field(default_factory=lambda: deque(maxlen=_ANSWERED))
    """When the switch sent the latest PACKET_INs that this side has answered, but for those that were overtaken."""
    answered_up_to: int = -1
    """The number of the last one."""
    ordered_at: float = -inf
    """When it last gave an order that answers no PACKET_IN."""

    def answers(self, cause: Cause) -> None:
        """Notice an answer."""
        if cause.number > self.answered_up_to:
            self.answered.append(cause.at)
            self.answered_up_to = cause.number

    def has_gone_on_since(self, at: float) -> bool:
        """Return whether it has answered enough PACKET_INs that came later."""
        return len(self.answered) == _ANSWERED and self.answered[0] > at


class Programme:
    """The programmes of production and of one mirror."""

    def __init__(self, collector: Collector, lasting: Lasting, production_has: HasGiven, mirror_has: HasGiven) -> None:
        self.collector = collector
        self.joined_at: float | None = None
        """When the session began; None while there is none."""
        self.differed_at = -inf
        """When the latest difference was reported."""
        self._waiting_cost = 0
        self._lasting = lasting
        self._have_given = {False: production_has, True: mirror_has}
        self._sides = {is_mirror: _Side() for is_mirror in (False, True)}
        self._own_frames = OwnFrames()

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return self._waiting_cost + self._own_frames.held + _KEY_COST * len(self._lasting.programmed)

    def joined(self, now: float) -> None:
        """Notice that a session begins: what production has ordered without one is nothing to wait for."""
        self.joined_at = now
        side = self._sides[False]
        while side.waiting and side.waiting[0].order.at <= self._lasting.since:
            self._forget(side, side.waiting[0])
        self._own_frames.clear()

    def ordered(self, effect: Effect, *, is_mirror: bool) -> None:
        """Notice an order of the mirror, or else of production."""
        side, other = self._sides[is_mirror], self._sides[not is_mirror]
        if effect.sent is not None:
            if self.joined_at is not None:
                self._own_frames.sent(effect, is_mirror=is_mirror)
            return
        side.ordered_at = max(side.ordered_at, effect.order.at)
        if effect.is_idle or self._is_said_again(effect, side):
            return
        same = next((one for one in other.waiting if one.is_same(effect)), None)
        if same is not None:
            self._forget(other, same)
            self._note_programmed(effect)
            return
        side.waiting.append(effect)
        self._waiting_cost += effect.cost
        if len(side.waiting) > MAX_UNASKED:
            self._forget(side, side.waiting[0])

    def _note_programmed(self, effect: Effect) -> None:
        """Note the entries that both sides have made."""
        programmed = self._lasting.programmed
        for key, value in effect.changed or ():
            if value is None:
                programmed.pop(key, None)
            elif len(programmed) < MAX_UNASKED:
                programmed[key] = None

    def answered(self, cause: Cause, *, is_mirror: bool) -> None:
        """Notice that the mirror, or else production, answers a PACKET_IN."""
        self._sides[is_mirror].answers(cause)

    def refused(self, order: Order) -> None:
        """Take back an order that the switch has refused, or would have."""
        for side in self._sides.values():
            for effect in [effect for effect in side.waiting if effect.order is order]:
                self._forget(side, effect)

    def clear(self) -> None:
        """Forget the orders that wait."""
        for side in self._sides.values():
            side.waiting.clear()
            side.answered.clear()
        self._own_frames.clear()
        self._lasting.programmed.clear()
        self._waiting_cost = 0

    def next_deadline(self) -> float:
        """Return when settle() has something to do."""
        if self.joined_at is None:
            return inf
        waiting = [side.waiting for side in self._sides.values() if side.waiting]
        if not waiting:
            return self._own_frames.next_deadline()
        due_at = max(min(one[0].order.at for one in waiting), self.joined_at) + _TIME
        sides = self._sides.values()
        latest_at = max(self.joined_at, *(side.ordered_at for side in sides))
        if all(side.has_gone_on_since(latest_at) for side in sides):
            due_at = min(due_at, latest_at + _MIN_AGE)
        return min(due_at, self._own_frames.next_deadline())

    def settle(self, now: float) -> Steps[None]:
        """Report what lasts; to be called at next_deadline()."""
        for found in self._own_frames.settle(now):
            self._report(found, now)
        production = yield from self._lasting_of(self._sides[False], now)
        mirror = yield from self._lasting_of(self._sides[True], now)
        for found in differences(production, mirror):
            self._report(found, now)
            yield

    def _lasting_of(self, side: _Side, now: float) -> Steps[list[Effect]]:
        """Remove one side's orders that are old enough; return those of which the difference lasts."""
        old = [one for one in side.waiting if now - one.order.at >= _MIN_AGE]
        for effect in old:  # all at once: clear() may be called between two steps
            self._forget(side, effect)
        found = []
        for count, effect in enumerate(old, 1):
            if self._lasts(effect, now, is_mirror=side is self._sides[True]):
                found.append(effect)
            if not count % _PER_STEP:
                yield
        return found

    def _lasts(self, effect: Effect, now: float, *, is_mirror: bool) -> bool:
        """Return whether what only one side has ordered still differs, as it has ordered it."""
        if isinstance(effect.plain, PortMod | TableMod):
            name = name_of(effect.plain)
            return self._sides[is_mirror].settings.get(name) != self._sides[not is_mirror].settings.get(name)
        if self._have_given[not is_mirror](effect):
            return False
        state = self._lasting.state(is_mirror=is_mirror)
        return any(
            self._lasting.is_difference(key, now) and value_of(state.get(key)) == value
            for key, value in effect.changed or ()
        )

    def _is_said_again(self, effect: Effect, side: _Side) -> bool:
        """Return whether an order sets a port or a table to what it is."""
        if not isinstance(effect.plain, PortMod | TableMod):
            return False
        name = name_of(effect.plain)
        before = side.settings.get(name)
        if name in side.settings or len(side.settings) < _MAX_SETTINGS:
            side.settings[name] = effect.plain
            return before == effect.plain
        return True  # beyond the limit they are not compared

    def _report(self, found: Found, now: float) -> None:
        self.differed_at = now
        first = (*found.production, *found.mirror)[0]
        shown = evidence(None, found.production, found.mirror)
        self.collector.ordered(ComparedOrder(first.order.at, named(found), shown))

    def _forget(self, side: _Side, effect: Effect) -> None:
        side.waiting.remove(effect)
        self._waiting_cost -= effect.cost
