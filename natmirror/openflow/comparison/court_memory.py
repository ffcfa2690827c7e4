"""The memory of all judges and of what they have found, within a limit of their own.

A judge can always be done without, and what was found is worth more than a judge. So judges leave a part of the memory
to the sums (sums.py), and those of one client's connections take no more than the client's part.
"""

from collections import Counter

_STEP = 4096  # bytes: what a judge keeps changes with each message
_LEFT_TO_SUMS = 8  # judges leave an eighth


class CourtMemory:
    """The memory of all judges: an Account for the sums, and for JudgeAccount. Both limits are in bytes."""

    def __init__(self, limit: int, client_limit: int) -> None:
        self.limit = limit
        self.client_limit = client_limit
        """What the judges of one client may hold."""
        self.used = 0
        self._of_holders: Counter[str] = Counter()

    def take(self, count: int) -> bool:
        """Take bytes for sums; return False if there are no more."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Give bytes of sums back."""
        self.used -= count

    def take_for(self, holder: str, count: int) -> bool:
        """Take bytes for a judge of a client's; return False if it may not hold them."""
        if self.used + count > self.limit - self.limit // _LEFT_TO_SUMS:
            return False
        if self._of_holders[holder] + count > self.client_limit:
            return False
        self._add(holder, count)
        return True

    def give_for(self, holder: str, count: int) -> None:
        """Give bytes of a judge back."""
        self._add(holder, -count)

    def _add(self, holder: str, count: int) -> None:
        self.used += count
        self._of_holders[holder] += count
        if not self._of_holders[holder]:
            del self._of_holders[holder]

    @property
    def holders(self) -> int:
        """The clients whose judges hold memory."""
        return len(self._of_holders)


class JudgeAccount:
    """The memory of one judge: an Account for the rules of its models, and what it keeps besides. ``holder`` names the
    client."""

    def __init__(self, memory: CourtMemory, holder: str) -> None:
        self._holder = holder
        self._memory = memory
        self._used = 0
        self._spare = 0
        """Bytes that are taken for rules and not used: to take each rule's alone would cost more than the rule."""
        self._kept = 0

    def take(self, count: int) -> bool:
        """Take bytes for rules; return False if there are no more."""
        if count > self._spare:
            more = _in_steps(count - self._spare)
            if not self._memory.take_for(self._holder, more):
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
        if self._spare > 2 * _STEP:
            more = self._spare - _STEP
            self._memory.give_for(self._holder, more)
            self._spare -= more

    def keep(self, count: int) -> bool:
        """Take or give back memory, so that ``count`` bytes are taken besides those of rules, in whole chunks; return
        False if there are no more."""
        count = _in_steps(count)
        more = count - self._kept
        if more < 0:
            self._memory.give_for(self._holder, -more)
        elif more and not self._memory.take_for(self._holder, more):
            return False
        self._kept = count
        return True

    def close(self) -> None:
        """Give all memory back."""
        self._memory.give_for(self._holder, self._used + self._spare + self._kept)
        self._used = self._spare = self._kept = 0


def _in_steps(count: int) -> int:
    return -(-count // _STEP) * _STEP
