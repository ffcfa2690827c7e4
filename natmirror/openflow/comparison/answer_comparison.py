"""The answers of one mirror's master and of production to the same PACKET_INs, until each comparison is certain.

Answers are equal as soon as both sides have given the same orders and are quiet. What differs waits: the master may be
late, and an order may have been attributed to another PACKET_IN on one side than on the other. So a frame that one
side lacks is taken from an equal PACKET_IN to which the same side has sent it too often; and a rule that the side has
made at about the same time, for whatever PACKET_IN, is not missing. Only what is left then is a difference.
"""

from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf

from natmirror.openflow.comparison.answers import Comparison, move
from natmirror.openflow.comparison.attribution import BURST, HORIZON, MAX_CAUSES, Order
from natmirror.openflow.comparison.causes import BytesKey, Cause
from natmirror.openflow.comparison.effects import Effect
from natmirror.openflow.comparison.results import AnswerResult, Collector, ComparedAnswer, NotComparable
from natmirror.openflow.comparison.words import NO_ANSWER, differences, evidence, without_idle
from natmirror.openflow.tables.steps import Steps

PATIENCE = 2.0
"""Seconds after which a master's answer is late."""
_QUIET = 3 * BURST  # seconds without an order after which an answer is complete
_BOTH_ANSWERED = PATIENCE + 1.0  # seconds after which two answers differ
_SETTLED = 1.0  # seconds without an order after which they do, if both sides have sent the frame on
_SHARED_COST = 100  # bytes for an effect of production's, which the comparisons of all mirrors share
_COST = 700  # bytes that Python needs for a comparison besides its effects
_MAX_CHECKS = 8 * MAX_CAUSES
_PER_STEP = 8  # comparisons that are looked at in one step

HasGiven = Callable[[Effect], bool]
"""Returns whether a side has given the same order at about the same time."""


class AnswerComparison:
    """The comparison of one mirror's answers."""

    def __init__(
        self,
        collector: Collector,
        production_has: HasGiven,
        mirror_has: HasGiven,
        has_dropped: Callable[[Cause], bool],
        on_left: Callable[[Effect, bool], None],
    ) -> None:
        """``has_dropped`` returns whether a side may have orders for a PACKET_IN that are not attributed to it.
        ``on_left`` is called for orders of the mirror, or else of production, that come after the report."""
        self.collector = collector
        self.limit = MAX_CAUSES
        """The comparisons that are kept at most."""
        self.differed_at = -inf
        """When the switch sent the PACKET_IN whose answer was the latest to differ."""
        self.agreed_at = -inf
        """The same of an equal answer."""
        self.held = 0
        """Bytes that are kept."""
        self._production_has = production_has
        self._mirror_has = mirror_has
        self._has_dropped = has_dropped
        self._on_left = on_left
        self._open: OrderedDict[int, Comparison] = OrderedDict()
        self._untold: OrderedDict[int, Comparison] = OrderedDict()
        self._sent_up_to = {False: -1, True: -1}
        """The latest PACKET_IN whose frame production, or the master, has sent on."""
        self._checks: list[tuple[float, int]] = []
        """A heap of the times at which comparisons are checked, by their numbers; some are out of date."""
        self._ends: list[tuple[float, int]] = []
        """A heap of the times at which those are forgotten that were reported, whenever settle() is called."""

    # What happens

    def saw(self, cause: Cause) -> None:
        """Notice a PACKET_IN that the master may get."""
        one = Comparison(cause, cause.at + HORIZON)
        self._open[cause.number] = self._untold[cause.number] = one
        self.held += _COST
        self._check_at(one, one.check_at)
        if len(self._open) > self.limit:
            self._end_due(cause.at)
        if len(self._open) > self.limit:
            reported = (other for other in self._open.values() if other.is_reported)
            self._drop(next(reported, next(iter(self._open.values()))))

    def not_reported(self, cause: Cause) -> None:
        """Notice a PACKET_IN that the master does not get."""
        one = self._open.get(cause.number)
        if one is None:
            self._report(Comparison(cause, 0.0), AnswerResult.NOT_COMPARABLE, NotComparable.NOT_REPORTED)
        elif one.told_at is None and not one.is_reported:
            self._report(one, AnswerResult.NOT_COMPARABLE, NotComparable.NOT_REPORTED)

    def find_untold(self, key: BytesKey) -> Cause | None:
        """Return the oldest PACKET_IN with these bytes that the master has not got."""
        for one in self._untold.values():
            if one.cause.message_key == key:
                return one.cause
        return None

    def told(self, cause: Cause, now: float, why_not: NotComparable | None) -> None:
        """Notice that the master gets a PACKET_IN."""
        one = self._untold.pop(cause.number, None)
        if one is None:
            return
        one.told_at = now
        if why_not is not None:
            self._report(one, AnswerResult.NOT_COMPARABLE, why_not)
        if not one.is_reported:
            self._check_at(one, now + PATIENCE)

    def ordered(self, cause: Cause, effect: Effect, *, is_mirror: bool) -> None:
        """Notice an order that answers a PACKET_IN."""
        one = self._open.get(cause.number)
        if one is None or (one.is_reported and effect.order.at >= one.check_at):
            return
        is_needed = not one.is_reported or one.is_equal or effect.sent is not None  # a frame may be another one's
        if is_needed and not one.is_different and (one.mine if is_mirror else one.theirs).add(effect):
            self.held += effect.cost if is_mirror else _SHARED_COST
            if one.is_equal:
                heappush(self._checks, (one.check_at, cause.number))  # it may answer nothing
        if effect.sent is not None:
            self._sent_up_to[is_mirror] = max(self._sent_up_to[is_mirror], cause.number)
        if not one.is_reported and effect.order.at + _QUIET < one.check_at:
            self._check_at(one, effect.order.at + _QUIET)

    def refused(self, order: Order) -> None:
        """Take back an order that the switch has refused, or would have."""
        for one in self._open.values():
            for answer in (one.theirs, one.mine):
                for effect in [effect for effect in answer.effects if effect.order is order]:
                    answer.effects.remove(effect)
                    self.held -= effect.cost if answer is one.mine else _SHARED_COST

    def session_ended(self) -> None:
        """Notice that natmirror has ended the session: what is open is no silence of the master."""
        for one in self._open.values():
            if not one.is_reported:
                self._report(one, AnswerResult.NOT_COMPARABLE, NotComparable.NOT_REPORTED)

    def give_up(self) -> None:
        """Forget all; report what is open as not known."""
        while self._open:
            self._drop(next(iter(self._open.values())))

    def close(self) -> None:
        """Report what is certain, and the rest as not known."""
        for one in self._open.values():
            if not one.is_reported and one.told_at is not None and one.mine.effects and not any(one.left):
                self._report_equal(one, one.unmatched)
        self.give_up()

    # Time

    def next_deadline(self) -> float:
        """Return when settle() has something to do."""
        while self._checks:
            at, number = self._checks[0]
            one = self._open.get(number)
            if one is not None and one.check_at == at:
                return at
            heappop(self._checks)
        return inf

    def settle(self, now: float) -> Steps[None]:
        """Report what is certain."""
        count = 0
        while self._checks and now >= self._checks[0][0]:
            at, number = heappop(self._checks)
            self._end_due(at)
            one = self._open.get(number)
            if one is None or one.check_at != at:
                continue
            yield from self._check(one, now)
            count += 1
            if not count % _PER_STEP:
                yield
        self._end_due(now)

    def _check_at(self, one: Comparison, at: float) -> None:
        one.check_at = at
        heappush(self._checks, (at, one.cause.number))
        if len(self._checks) > _MAX_CHECKS:
            self._checks = [(other.check_at, number) for number, other in self._open.items()]
            heapify(self._checks)

    def _end_due(self, now: float) -> None:
        """Forget the comparisons whose time is over."""
        while self._ends and now >= self._ends[0][0]:
            at, number = heappop(self._ends)
            one = self._open.get(number)
            if one is not None and one.check_at == at:
                self._end(one)

    def _check(self, one: Comparison, now: float) -> Steps[None]:
        if one.is_reported:
            self._end(one)
            return
        if one.told_at is None:
            self._report(one, AnswerResult.NOT_COMPARABLE, NotComparable.NOT_REPORTED)
            self._end(one)
            return
        if not one.is_whole:
            self._report(one, AnswerResult.NOT_COMPARABLE, NotComparable.NOT_KNOWN)
            return
        only = one.unmatched
        theirs, mine = map(without_idle, only)
        if (theirs or mine) and self._has_dropped(one.cause):
            self._report(one, AnswerResult.NOT_COMPARABLE, NotComparable.NOT_KNOWN)
            return
        have_both = one.theirs.last_at > -inf and one.mine.last_at > -inf
        if not theirs and not mine:
            quiet_at = max(one.theirs.last_at, one.mine.last_at) + _QUIET if have_both else inf
            due_at = min(quiet_at, one.told_at + PATIENCE)
            if now >= due_at:
                self._report_equal(one, only)
            else:
                self._check_at(one, due_at)
            return
        due_at = one.told_at + _BOTH_ANSWERED
        if now >= due_at and not have_both and not self._is_passed_over(one):  # by then, it may have been passed over
            due_at = one.told_at + HORIZON
        if one.theirs.frames and one.theirs.frames == one.mine.frames:
            due_at = min(due_at, max(one.theirs.last_at, one.mine.last_at, one.told_at) + _SETTLED)
        if now < due_at:
            self._check_at(one, due_at)
            return
        yield from self._borrow(one, theirs, mine)
        if one.is_reported:
            return
        if one.is_whole:
            self._report_unequal(one)
        else:
            self._report(one, AnswerResult.NOT_COMPARABLE, NotComparable.NOT_KNOWN)

    def _is_passed_over(self, one: Comparison) -> bool:
        """Return whether a side that has not answered a PACKET_IN has answered a later one."""
        silent = one.mine if one.mine.last_at == -inf else one.theirs
        return self._sent_up_to[silent is one.mine] > one.cause.number

    def _borrow(self, one: Comparison, theirs: list[Effect], mine: list[Effect]) -> Steps[None]:
        """Take the frames that a side lacks from where it has them too often, and the rules that it has made."""
        for wanted, answer, has_given in (
            (theirs, one.mine, self._mirror_has),
            (mine, one.theirs, self._production_has),
        ):
            for effect in [effect for effect in wanted if has_given(effect)]:
                answer.elsewhere.append(effect)
        frames, others = ([effect for effect in effects if effect.sent is not None] for effects in (theirs, mine))
        for count, other in enumerate(list(self._open.values()), 1):
            if not frames and not others:
                return
            if other is not one and not other.is_different:
                is_same_frame = other.cause.frame_key == one.cause.frame_key
                move(frames, other.mine, other.theirs, one.mine, is_same_frame=is_same_frame)
                move(others, other.theirs, other.mine, one.theirs, is_same_frame=is_same_frame)
            if not count % _PER_STEP:
                yield

    def _end(self, one: Comparison) -> None:
        """Forget a comparison; orders that came after its report, and that only one side has, answer nothing."""
        if one.is_equal:
            theirs, mine = one.left
            for effects, is_mirror in ((theirs, False), (mine, True)):
                for effect in effects:
                    self._on_left(effect, is_mirror)
        self._forget(one)

    def _drop(self, one: Comparison) -> None:
        if not one.is_reported:
            self._report(one, AnswerResult.NOT_COMPARABLE, NotComparable.NOT_KNOWN)
        self._forget(one)

    def _forget(self, one: Comparison) -> None:
        if self._open.pop(one.cause.number, None) is None:
            return
        self._untold.pop(one.cause.number, None)
        self._release(one, [], [])
        self.held -= _COST
        if not self._open:
            self.held = 0
            self._checks.clear()
            self._ends.clear()

    def _release(self, one: Comparison, theirs: list[Effect], mine: list[Effect]) -> None:
        """Forget the effects of an answer except some."""
        self.held -= _SHARED_COST * (len(one.theirs.effects) - len(theirs))
        self.held -= sum(effect.cost for effect in one.mine.effects) - sum(effect.cost for effect in mine)
        one.theirs.effects, one.mine.effects = theirs, mine
        one.theirs.elsewhere, one.mine.elsewhere = [], []

    # Reports

    def _report_equal(self, one: Comparison, only: tuple[list[Effect], list[Effect]]) -> None:
        """Report that nothing differs that counts; ``only`` are the effects that only one side has."""
        assert one.told_at is not None
        one.is_equal = True
        is_late = one.mine.effects and one.mine.first_at - one.told_at > PATIENCE
        self._report(one, AnswerResult.LATE if is_late else AnswerResult.EQUAL)
        theirs, mine = only
        self._release(
            one,
            [effect for effect in one.theirs.effects if effect in theirs],
            [effect for effect in one.mine.effects if effect in mine],
        )

    def _report_unequal(self, one: Comparison) -> None:
        only = one.unmatched
        theirs, mine = map(without_idle, only)
        if not theirs and not mine:
            self._report_equal(one, only)
            return
        one.is_different = True
        self.differed_at = one.cause.at
        shown = evidence(one.cause, one.theirs.effects, one.mine.effects)
        found = tuple(dict.fromkeys(each.difference for each in differences(theirs, mine)))
        result = AnswerResult.DIFFERS
        if one.mine.last_at == -inf:
            found, result = (NO_ANSWER,), AnswerResult.UNANSWERED
        self._send(one, ComparedAnswer(one.cause.at, result, None, found, one.cause.fields, one.lag, shown))
        self._release(one, [], [])

    def _report(self, one: Comparison, result: AnswerResult, why_not: NotComparable | None = None) -> None:
        if result is AnswerResult.EQUAL and one.mine.effects:
            self.agreed_at = one.cause.at
        lag = None if why_not is not None else one.lag
        has_rules = any(effect.sent is None for effect in one.theirs.effects)
        self._send(one, ComparedAnswer(one.cause.at, result, why_not, (), one.cause.fields, lag, has_rules=has_rules))

    def _send(self, one: Comparison, compared: ComparedAnswer) -> None:
        one.is_reported = True
        self._untold.pop(one.cause.number, None)
        if one.cause.number in self._open:
            one.check_at = (one.cause.at if one.told_at is None else one.told_at) + _BOTH_ANSWERED
            heappush(self._ends, (one.check_at, one.cause.number))
        self.collector.answered(compared)
