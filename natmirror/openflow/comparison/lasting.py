"""Which differences between production's tables and a mirror's count.

No difference is what may have another reason than the master: a rule that may be gone, and a rule of production's that
is older than the mirror's session, since the master never had the occasion to make it; unless both have made it before
on their own, without a PACKET_IN. Where the connection's beginning was not seen, production may have what its model
lacks: then a rule of the mirror's alone is no difference either.
"""

from natmirror.openflow.comparison.effects import value_of
from natmirror.openflow.tables.entries import Entry, Key, Rule, RuleKey
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.production import ProductionModel
from natmirror.openflow.tables.state import State


class Lasting:
    """The differences between two models."""

    def __init__(self, production: ProductionModel, mirror: MirrorModel, since: float, *, sees_beginning: bool) -> None:
        self._sees_beginning = sees_beginning
        self.production = production
        self.mirror = mirror
        self.since = since
        """From when on the mirror could have ordered what production has."""
        self.programmed: dict[Key, None] = {}
        """Entries that both have made without a PACKET_IN: a master that begins again has reason to make them again."""

    def state(self, *, is_mirror: bool) -> State:
        """Return one side's tables."""
        return self.mirror.state if is_mirror else self.production.state

    def is_difference(self, key: Key, now: float) -> bool:
        """Return whether an entry differs, for certain."""
        theirs, mine = self.production.state.get(key), self.mirror.state.get(key)
        if value_of(theirs) == value_of(mine):
            return False
        is_older = mine is None and isinstance(theirs, Rule) and theirs.modified_at <= self.since
        if is_older and key not in self.programmed:
            return False
        if theirs is None and not self._is_known(key):
            return False
        return not self._is_doubtful(theirs, mine, now)

    def _is_known(self, key: Key) -> bool:
        """Return whether production's model would have what is in the switch."""
        known = self.production.state.known
        if self._sees_beginning:
            return True
        return known.has(key.table) if isinstance(key, RuleKey) else known.groups and known.meters

    def _is_doubtful(self, theirs: Entry | None, mine: Entry | None, now: float) -> bool:
        if theirs is not None and mine is not None:
            return False
        one, model = (theirs, self.production) if mine is None else (mine, self.mirror)
        return isinstance(one, Rule) and model.is_doubtful(one, now)
