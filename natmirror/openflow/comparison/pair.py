"""Production and one mirror: all that is compared between them for one connection of a switch."""

from collections import OrderedDict
from math import inf

from natmirror.openflow.bodies.values import Body
from natmirror.openflow.comparison.answer_comparison import AnswerComparison
from natmirror.openflow.comparison.attribution import HORIZON, Order
from natmirror.openflow.comparison.causes import BytesKey, Cause, PastFrames
from natmirror.openflow.comparison.comparable import why_not_comparable
from natmirror.openflow.comparison.effects import Effect
from natmirror.openflow.comparison.frame_comparison import Frames
from natmirror.openflow.comparison.lasting import Lasting
from natmirror.openflow.comparison.programme import Programme
from natmirror.openflow.comparison.readings import Readings, plain_of
from natmirror.openflow.comparison.results import Collector, NotComparable
from natmirror.openflow.comparison.side import REFUSAL_TIME, Side
from natmirror.openflow.comparison.table_comparison import TableComparison
from natmirror.openflow.messages import Message
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.production import ProductionModel, Removal
from natmirror.openflow.tables.steps import Steps

_RESOLVED_AFTER = 2 * HORIZON  # seconds without a difference after which it is resolved
_MAX_REFUSED = 64  # orders that the switch has refused


class Pair:
    """The comparison of a mirror with production."""

    def __init__(
        self,
        production: Side[ProductionModel],
        model: MirrorModel,
        frames: Frames,
        past: PastFrames,
        readings: Readings,
        collector: Collector,
        since: float,
        now: float,
        *,
        sees_beginning: bool,
    ) -> None:
        """``since``: from when on the mirror could have ordered what production has. ``sees_beginning``: production's
        orders are known from the connection's beginning on."""
        self.mirror: Side[MirrorModel] = Side(model, readings)
        self.is_joined = False
        """Whether there is a session."""
        self._ended_at: float | None = None
        """When the latest session ended; None before the first one's end."""
        self._production = production
        self._frames = frames
        self._past = past
        self._collector = collector
        self._lasting = Lasting(production.model, model, since, sees_beginning=sees_beginning)
        self._tables = TableComparison(collector, self._lasting, now)
        # None of these functions has this object: reference cycles would stay for ever (runtime/runner.py).
        attributions = production.attribution, self.mirror.attribution
        self._programme = programme = Programme(collector, self._lasting, production.has_given, self.mirror.has_given)
        self._answers = AnswerComparison(
            *(collector, production.has_given, self.mirror.has_given),
            lambda cause: any(one.has_dropped(cause) for one in attributions),
            lambda effect, is_mirror: programme.ordered(effect, is_mirror=is_mirror),
        )
        self._warm_up = 0.0
        self._warm_at = inf
        self._walked_from = 0
        self._is_unresolved = False
        self._refused = refused = OrderedDict[Body, float]()
        model.refuses = lambda body: bool(refused) and plain_of(body) in refused

    # The session

    def joined(self, collector: Collector, now: float, warm_up: float) -> Steps[None]:
        """Notice that a session begins. A mirror that is late begins with what is in the switch: it had no occasion to
        order what production has ordered before. One that has been away keeps its tables, but for what production has
        changed in them meanwhile."""
        if self._ended_at is not None:
            self._lasting.since = now
            yield from self._tables.forgive(self._ended_at, now)
        elif self._lasting.since > -inf:
            yield from self.mirror.model.inherit(now)
        self._collector = collector
        self._answers.collector = self._programme.collector = self._tables.collector = collector
        self.is_joined = True
        self._warm_up = warm_up
        self._begin_warm_up(now)
        self._programme.joined(now)

    def ended(self, reason: str, now: float, *, is_fault: bool) -> None:
        """Notice that the session has ended."""
        if not self.is_joined:
            return
        self.is_joined = False
        self._ended_at = now
        self._programme.joined_at = None
        self._tables.counts_from = inf
        if is_fault:
            self._collector.session_ended(now, reason)
        else:
            self._answers.session_ended()

    # The switch

    def saw(self, cause: Cause) -> None:
        """Notice a PACKET_IN."""
        if self.is_joined:
            self._answers.saw(cause)
        else:
            self._answers.not_reported(cause)

    def told(self, key: BytesKey, now: float) -> Steps[None]:
        """Notice that the master gets the PACKET_IN with this key."""
        cause = self._answers.find_untold(key)
        if cause is None:
            return
        if self.mirror.model.may_expire:
            yield from self.mirror.model.expire(now)
        why_not = yield from why_not_comparable(self.mirror.model, self._production.model, cause, now)
        self.mirror.attribution.told(cause, now)
        self._answers.told(cause, now, NotComparable.WARM_UP if now < self._warm_at else why_not)

    def withheld(self, key: BytesKey, now: float, *, is_wanted: bool) -> None:
        """Notice that the master does not get the PACKET_IN with this key; if it wants such messages, it warms up
        again."""
        cause = self._answers.find_untold(key)
        if cause is not None:
            self._answers.not_reported(cause)
            if is_wanted:
                self._begin_warm_up(now)

    def _begin_warm_up(self, now: float) -> None:
        self._warm_at = self._tables.counts_from = now + self._warm_up

    def production_lost(self, removal: Removal, now: float) -> Steps[None]:
        """Notice that a rule of production's is gone."""
        yield from self.mirror.model.production_lost(removal, now)

    # Orders

    def ordered(self, message: Message, now: float) -> Steps[None]:
        """Take a message of the master."""
        self._forget_refused(now)
        effects = yield from self.mirror.ordered(message, now)
        for effect in effects:
            self.effect(effect, is_mirror=True)

    def effect(self, effect: Effect, *, is_mirror: bool) -> None:
        """Take the effect of an order of the mirror, or else of production."""
        cause = effect.order.cause
        if self._refused and not is_mirror:
            self._refused.pop(effect.plain, None)
        if cause is None:
            if not self._past.has_frame_of(effect.order.body):  # else it is an answer that comes too late
                self._programme.ordered(effect, is_mirror=is_mirror)
        else:
            self._programme.answered(cause, is_mirror=is_mirror)
            self._answers.ordered(cause, effect, is_mirror=is_mirror)

    def refused(self, order: Order, now: float) -> None:
        """Notice that the switch has refused an order of production's: it would refuse the same of the mirror's."""
        plain = order.reading.plain
        self._refused[plain] = now
        self._forget_refused(now)
        self._take_back(order)
        for one in self.mirror.refuse_same(plain, now):
            self._take_back(one)
            state = self.mirror.model.state
            for change in reversed((one.done.changes if one.done is not None else None) or ()):
                if state.get(change.key) is change.new:
                    state.put(change.key, change.old, now)

    def _forget_refused(self, now: float) -> None:
        while self._refused and (
            len(self._refused) > _MAX_REFUSED or now - next(iter(self._refused.values())) > REFUSAL_TIME
        ):
            self._refused.popitem(last=False)

    def _take_back(self, order: Order) -> None:
        self._answers.refused(order)
        self._programme.refused(order)

    # Time

    def next_deadline(self) -> float:
        """Return when settle() has something to do."""
        return min(
            self.mirror.next_deadline(),
            self._answers.next_deadline(),
            self._programme.next_deadline(),
            self._tables.next_deadline(),
        )

    def settle(self, now: float) -> Steps[None]:
        """Report what is certain."""
        if self.mirror.model.may_expire:
            yield from self.mirror.model.expire(now)
        for effect in self.mirror.settle(now):
            self.effect(effect, is_mirror=True)
        yield from self._answers.settle(now)
        if now >= self._programme.next_deadline():
            yield from self._programme.settle(now)
        is_due = self._tables.is_due(now)
        yield from self._tables.settle(now)
        if is_due and self.is_joined:
            yield from self._walk(now)
            self._resolve(now)

    def _walk(self, now: float) -> Steps[None]:
        if now < self._tables.counts_from or not self._tables.are_known or not self._frames.count:
            return
        if self._tables.are_equal:
            alike = count = self._frames.count
        else:
            alike, count = yield from self._frames.walk(
                self._production.model, self.mirror.model, now, self._walked_from
            )
            self._walked_from += count
        if count:
            self._collector.walked(alike, count)

    def _resolve(self, now: float) -> None:
        """Say so if nothing differs any more."""
        differed_at = max(self._answers.differed_at, self._programme.differed_at)
        if self._tables.differs or now - differed_at < _RESOLVED_AFTER:
            self._is_unresolved = True
        elif self._is_unresolved and self._answers.agreed_at >= self._answers.differed_at:
            self._is_unresolved = False
            self._collector.resolved(now)

    # Memory

    @property
    def held(self) -> int:
        """Bytes that are kept, besides the model's rules."""
        return self.mirror.held + self._answers.held + self._programme.held

    def give_up(self, limit: int) -> None:
        """Forget all that ``held`` counts, and keep fewer PACKET_INs from now on."""
        self.mirror.attribution.limit = self._answers.limit = limit
        self._answers.give_up()
        self._programme.clear()
        self.mirror.clear()

    def close(self, now: float) -> None:
        """Report what is certain, and give all memory back."""
        self._answers.close()
        self.give_up(0)
        self._tables.close(now)
        self.mirror.model.close(now)
