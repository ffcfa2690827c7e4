"""Which differences between production's tables and a mirror's count.

No difference is what may have another reason than the master: a rule that may be gone, and a rule of production's that
is older than the mirror's session, since the master never had the occasion to make it.
"""

from natmirror.openflow.comparison.effects import value_of
from natmirror.openflow.tables.entries import Entry, Key, Rule
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.state import State


class Lasting:
    """The differences between two models."""

    def __init__(self, production: ProductionModel, mirror: MirrorModel, since: float) -> None:
        self.production = production
        self.mirror = mirror
        self.since = since
        """From when on the mirror could have ordered what production has."""

    def state(self, *, is_mirror: bool) -> State:
        """Return one side's tables."""
        return self.mirror.state if is_mirror else self.production.state

    def is_difference(self, key: Key, now: float) -> bool:
        """Return whether an entry differs, for certain."""
        theirs, mine = self.production.state.get(key), self.mirror.state.get(key)
        if value_of(theirs) == value_of(mine):
            return False
        if mine is None and isinstance(theirs, Rule) and theirs.modified_at <= self.since:
            return False
        return not self._is_doubtful(theirs, mine, now)

    def _is_doubtful(self, theirs: Entry | None, mine: Entry | None, now: float) -> bool:
        if theirs is not None and mine is not None:
            return False
        one, model = (theirs, self.production) if mine is None else (mine, self.mirror)
        return isinstance(one, Rule) and model.is_doubtful(one, now)
