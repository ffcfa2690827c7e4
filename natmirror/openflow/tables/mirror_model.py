"""A mirror's model of a switch's flow tables: what the switch would have, had the mirror been its only controller.

No switch has these rules. So refusals are predicted, and when an idle timeout ends is taken from production's rules for
the same frames: as long as one of those lives, and keeps frames from the controller, the mirror's rule may be in use.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from heapq import heappop, heappush

from natmirror.openflow.bodies.elements import ReservedPort
from natmirror.openflow.bodies.values import Body
from natmirror.openflow.tables.entries import Rule, sends_to_port
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.production import ProductionModel, Removal, RemovalReason
from natmirror.openflow.tables.state import MAX_ENTRIES, Account, NotFollowed
from natmirror.openflow.tables.steps import PER_STEP, Steps

_LATE = 1.0  # seconds that a mirror's rule may be younger than production's


class MirrorModel(Model):
    """The model of the tables that a mirror's orders would make in the switch of ``production``."""

    def __init__(self, version: int, account: Account, production: ProductionModel) -> None:
        super().__init__(version, account)
        self.refused = 0
        """Orders that the switch would have refused."""
        self.refuses: Callable[[Body], bool] = lambda body: False
        """Return whether the switch has lately refused the same order of production's."""
        self._production = production
        self._ends: list[tuple[float, int, Rule]] = []
        """A heap of the times at which rules end that no rule of production's uses any more."""
        self._serial = 0

    def inherit(self, now: float) -> Steps[None]:
        """Begin with the rules, groups and meters that are in the switch now, for a mirror that joins."""
        self._ends.clear()
        theirs = self._production.state
        if theirs.not_followed is not None:
            self.lose(theirs.not_followed, now)
            return
        self.state.clear(now)
        self.state.begin(now)
        for group in theirs.groups.values():
            self.state.put(group.key, group, now)
        for meter in theirs.meters.values():
            self.state.put(meter.key, meter, now)
        for count, rule in enumerate(list(theirs.rules.values()), 1):
            self.state.put(rule.key, replace(rule, is_baseline=True), now)
            if not count % PER_STEP:
                yield
        if self.state.not_followed is None:
            self.state.known = theirs.known

    def lose(self, reason: NotFollowed, now: float) -> None:
        super().lose(reason, now)
        self._ends.clear()

    def _refusal(self, body: Body) -> str | None:
        refusal = "the switch has refused the same" if self.refuses(body) else self.predicted_refusal(body)
        self.refused += refusal is not None
        return refusal

    # Idle timeouts

    def production_lost(self, removal: Removal, now: float) -> Steps[list[Rule]]:
        """Apply to the mirror's rules that one of production's is gone; return the rules that end with it."""
        gone: list[Rule] = []
        index = self.state.index(removal.rule.key.table)
        if index is None:
            return gone
        for rule in list(index.overlapping(removal.rule.packed)):
            if removal.used_at is not None:
                rule.used_at = max(rule.used_at, removal.used_at)
            if self._ends_with(rule, removal) or self._has_ended(rule, now):
                self.state.put(rule.key, None, now)
                gone.append(rule)
            elif rule.idle_timeout:
                self._end_later(rule)
            yield
        return gone

    @staticmethod
    def _ends_with(rule: Rule, removal: Removal) -> bool:
        """Return whether a rule has the same life as one of production's that has ended by a timeout. A rule that the
        mirror has made again since then has a life of its own."""
        if rule.key != removal.rule.key or rule.made_at > removal.rule.made_at + _LATE:
            return False
        if removal.reason is RemovalReason.HARD_TIMEOUT:
            return 0 < rule.hard_timeout <= removal.rule.hard_timeout
        by_idle = removal.reason is RemovalReason.IDLE_TIMEOUT or removal.reason is None
        return by_idle and 0 < rule.idle_timeout <= removal.rule.idle_timeout

    def _has_ended(self, rule: Rule, now: float) -> bool:
        """Return whether a rule has been idle for too long, and no rule of production's can have hidden its use."""
        return bool(rule.idle_timeout) and now - rule.used_at >= rule.idle_timeout and not self._may_be_in_use(rule)

    def _may_be_in_use(self, rule: Rule) -> bool:
        """Return whether frames may pass by a rule of production's that would have passed by this one. Frames that
        production's rules send to the controller are seen as PACKET_INs."""
        index = self._production.state.index(rule.key.table)
        return index is not None and any(
            not sends_to_port(one.instructions, ReservedPort.CONTROLLER) for one in index.overlapping(rule.packed)
        )

    def _end_later(self, rule: Rule) -> None:
        self._serial += 1
        heappush(self._ends, (rule.used_at + rule.idle_timeout, self._serial, rule))
        if len(self._ends) > 2 * MAX_ENTRIES:
            latest = {id(one[2]): one for one in self._ends if self.state.rules.get(one[2].key) is one[2]}
            self._ends = sorted(latest.values())

    @property
    def may_expire(self) -> bool:
        return bool(self._ends) or self.state.has_deadlines

    def expire(self, now: float) -> Steps[list[Rule]]:
        gone = yield from super().expire(now)
        while self._ends and self._ends[0][0] <= now:
            _, _, rule = heappop(self._ends)
            if self.state.rules.get(rule.key) is not rule:
                continue
            if self._has_ended(rule, now):
                self.state.put(rule.key, None, now)
                gone.append(rule)
            elif now - rule.used_at < rule.idle_timeout:
                self._end_later(rule)
            yield
        return gone

    def next_deadline(self) -> float | None:
        hard, idle = super().next_deadline(), self._ends[0][0] if self._ends else None
        return hard if idle is None else idle if hard is None else min(hard, idle)

    def is_doubtful(self, rule: Rule, now: float) -> bool:
        return super().is_doubtful(rule, now) and not (
            self._is_within_hard(rule, now) and self._may_be_in_use(rule) and rule.key.table not in self.evicting
        )

    @staticmethod
    def _is_within_hard(rule: Rule, now: float) -> bool:
        return not rule.hard_timeout or now - rule.made_at < rule.hard_timeout

    def end_idle(self, rules: Iterable[Rule], now: float) -> bool:
        """Remove those of some rules that have been idle for too long; return whether there are any."""
        ended = [rule for rule in rules if self._has_ended(rule, now)]
        for rule in ended:
            self.state.put(rule.key, None, now)
        return bool(ended)

    def note_use(self, rules: tuple[Rule, ...], now: float) -> None:
        """Notice that a frame has met rules."""
        for rule in rules:
            rule.used_at = max(rule.used_at, now)
