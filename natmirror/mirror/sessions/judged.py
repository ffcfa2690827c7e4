"""What belongs to the judgement of one observed connection: its judge, and the judge's memory.

A judge can always be done without. So its memory waits like the pieces behind a gap: it is given up before a living leg
or session ends. And it takes only a part of what its client, and all clients together, may hold, because a copy that
waits is worth more.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from natmirror.fastpath import ClientMemory
from natmirror.openflow.comparison.judge import Judge
from natmirror.openflow.comparison.sums import SwitchResults

_JUDGE_COST, _PAIR_COST = 8000, 9000  # bytes that Python needs for a judge's own objects, and those of each master
_STEP_OF_MEMORY = 4096  # bytes: what a judge keeps changes with each message
_FRACTION = 4  # judges may hold a quarter of the memory, and a quarter of a client's


class JudgesMemory:
    """The memory of all judges of an engine."""

    def __init__(self, memory: ClientMemory) -> None:
        self.memory = memory
        self.used = 0
        self._of_holders: Counter[int] = Counter()

    def take(self, account: "JudgeAccount", count: int) -> bool:
        """Take bytes for a judge; return False if it may not hold them."""
        if self.used + count > self.memory.limit // _FRACTION:
            return False
        if self._of_holders[account.holder] + count > self.memory.client_limit // _FRACTION:
            return False
        if not self.memory.take_waiting(account, account.holder, count):
            return False
        self._add(account.holder, count)
        return True

    def give(self, account: "JudgeAccount", count: int) -> None:
        """Give bytes back."""
        self.memory.give_waiting(account, account.holder, count)
        self._add(account.holder, -count)

    def _add(self, holder: int, count: int) -> None:
        self.used += count
        self._of_holders[holder] += count
        if not self._of_holders[holder]:
            del self._of_holders[holder]


class JudgeAccount:
    """The memory of one judge: an Account for the rules of its models, and what it keeps besides."""

    def __init__(self, memory: JudgesMemory, holder: int, on_needed: Callable[[], None]) -> None:
        """``holder``: the client's number. ``on_needed`` is called when the memory is needed for something else; it
        has to close()."""
        self.holder = holder
        self._memory = memory
        self._on_needed = on_needed
        self._used = 0
        self._spare = 0
        """Bytes that are taken for rules and not used: to take each rule's alone would cost more than the rule."""
        self._kept = 0
        self._is_closed = False

    def take(self, count: int) -> bool:
        """Take bytes for rules; return False if there are no more."""
        if count > self._spare:
            more = _in_steps(count - self._spare)
            if not self._memory.take(self, more):
                return False
            if self._is_closed:  # to make room for these bytes
                self._memory.give(self, more)
                return False
            self._spare += more
        self._spare -= count
        self._used += count
        return True

    def give(self, count: int) -> None:
        """Give bytes of rules back."""
        count = min(count, self._used)  # after close(), a judge that is still at work gives back what was given back
        self._used -= count
        self._spare += count
        if self._spare > 2 * _STEP_OF_MEMORY:
            more = self._spare - _STEP_OF_MEMORY
            self._memory.give(self, more)
            self._spare -= more

    def keep(self, count: int) -> bool:
        """Take or give back memory, so that ``count`` bytes are taken besides those of rules, in whole chunks; return
        False if there are no more."""
        count = _in_steps(count)
        more = count - self._kept
        if more < 0:
            self._memory.give(self, -more)
        elif more and not self._memory.take(self, more):
            return False
        if self._is_closed:  # to make room for these bytes
            self._memory.give(self, max(0, more))
            return True
        self._kept = count
        return True

    def give_up(self) -> None:
        """Have the judge closed: its memory is needed."""
        self._on_needed()

    def close(self) -> None:
        """Give all memory back; none can be taken any more."""
        self._is_closed = True
        self._memory.give(self, self._used + self._spare + self._kept)
        self._used = self._spare = self._kept = 0


def _in_steps(count: int) -> int:
    return -(-count // _STEP_OF_MEMORY) * _STEP_OF_MEMORY


@dataclass(slots=True, eq=False)
class Judged:
    """The judgement of one connection."""

    judge: Judge | None
    """None once the connection is not followed any more."""
    account: JudgeAccount
    why_stopped: str | None = None
    """Why the connection is not followed any more; None while it is."""
    waiting_len: int = 0
    """Bytes of messages that the judge got since it worked."""
    due_at: float | None = None
    """When the judge is to work; None where it has nothing to do."""
    collectors: dict[str, SwitchResults] = field(default_factory=dict)
    """Those of the masters that are, or were, judged, by name."""

    def count(self) -> bool:
        """Take or give back memory for what the judge keeps besides rules; return False if there is no more."""
        held = 0 if self.judge is None else self.judge.held
        return self.account.keep(_JUDGE_COST + _PAIR_COST * len(self.collectors) + held)
