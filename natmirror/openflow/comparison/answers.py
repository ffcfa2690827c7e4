"""The answers of production and of one mirror's master to one PACKET_IN."""

from dataclasses import dataclass, field
from math import inf

from natmirror.openflow.comparison.causes import Cause
from natmirror.openflow.comparison.effects import Effect
from natmirror.openflow.comparison.words import unmatched, without_idle

_MAX_EFFECTS = 32  # of one side's answer


@dataclass(slots=True)
class Answer:
    """What one side has made of a PACKET_IN."""

    effects: list[Effect] = field(default_factory=list)
    first_at: float = inf
    last_at: float = -inf
    is_whole: bool = True
    """Whether all its effects are kept."""
    elsewhere: list[Effect] = field(default_factory=list)
    """Effects of the other side that this side has had for another PACKET_IN, or for none."""

    @property
    def frames(self) -> int:
        """How often it sends a frame on."""
        return sum(one.sent is not None for one in self.effects)

    def add(self, effect: Effect) -> bool:
        """Add an effect; return False if there are too many."""
        self.first_at, self.last_at = min(self.first_at, effect.order.at), max(self.last_at, effect.order.at)
        self.is_whole = self.is_whole and len(self.effects) < _MAX_EFFECTS
        if self.is_whole:
            self.effects.append(effect)
        return self.is_whole

    def has_more_than(self, other: "Answer", effect: Effect) -> bool:
        """Return whether it has an effect more often than another answer."""
        mine, theirs = (sum(one.is_same(effect) for one in answer.effects) for answer in (self, other))
        return mine > theirs


@dataclass(slots=True, eq=False)
class Comparison:
    """Both sides' answers to one PACKET_IN."""

    cause: Cause
    check_at: float
    told_at: float | None = None
    is_reported: bool = False
    is_different: bool = False
    """Whether a difference was reported."""
    is_equal: bool = False
    """Whether it was reported that nothing differs."""
    theirs: Answer = field(default_factory=Answer)
    """Production's."""
    mine: Answer = field(default_factory=Answer)
    """The master's."""

    @property
    def is_whole(self) -> bool:
        """Whether all effects of both answers are kept."""
        return self.theirs.is_whole and self.mine.is_whole

    @property
    def unmatched(self) -> tuple[list[Effect], list[Effect]]:
        """The effects that only one side has."""
        return unmatched(self.theirs.effects + self.theirs.elsewhere, self.mine.effects + self.mine.elsewhere)

    @property
    def left(self) -> tuple[list[Effect], list[Effect]]:
        """The effects that change something and that only one side has."""
        theirs, mine = self.unmatched
        return without_idle(theirs), without_idle(mine)

    @property
    def lag(self) -> float | None:
        """How much later than production the master began to answer, each counted from when it got the PACKET_IN;
        None if one has not."""
        if self.told_at is None or self.theirs.first_at == inf or self.mine.first_at == inf:
            return None
        return (self.mine.first_at - self.told_at) - (self.theirs.first_at - self.cause.at)


def move(wanted: list[Effect], source: Answer, against: Answer, into: Answer, *, is_same_frame: bool) -> None:
    """Move frames that are wanted, and that ``source`` has more often than ``against``: those of the PACKET_IN only if
    it is about an equal frame."""
    for effect in list(wanted):
        if not is_same_frame and (effect.sent is None or effect.sent.own is None):
            continue
        found = next((one for one in source.effects if one.is_same(effect)), None)
        if found is not None and source.has_more_than(against, effect) and into.add(found):
            source.effects.remove(found)
            wanted.remove(effect)
