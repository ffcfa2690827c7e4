"""The entries in which two states differ, kept up to date with each change, so that a comparison costs nothing.

A rule is the same in both if table, priority, match, instructions and timeouts are; a group if its type and buckets
are; a meter if its bands are.
"""

from natmirror.openflow.tables.entries import Key
from natmirror.openflow.tables.state import State
from natmirror.openflow.tables.steps import PER_STEP, Steps

_MANY = 4 * PER_STEP  # entries; more are compared in steps


class Difference:
    """The difference between production's state and a mirror's."""

    def __init__(self, production: State, mirror: State, now: float) -> None:
        self.production = production
        self.mirror = mirror
        self.since: dict[Key, float] = {}
        """The keys of differing entries, each with the time since which it has differed; the longest first."""
        self._uncompared: list[Key] = []
        """Entries to compare again, of many."""
        self._before: dict[Key, float] = {}
        """What has differed before they are compared again."""
        production.watch(self)
        mirror.watch(self)
        self.reset(now)

    def close(self) -> None:
        """End the comparison."""
        self.production.unwatch(self)
        self.mirror.unwatch(self)

    @property
    def is_known(self) -> bool:
        """Whether both states are followed and compared; else it is not known what differs."""
        return self._are_followed and not self._uncompared

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known to differ, and nothing has to be compared."""
        return not self.since and not self._uncompared

    @property
    def _are_followed(self) -> bool:
        return self.production.not_followed is None and self.mirror.not_followed is None

    def changed(self, key: Key, now: float) -> None:
        """Compare one entry again. While one of the states is not known, nothing is known to differ."""
        if not self._are_followed:
            return
        one, other = self.production.get(key), self.mirror.get(key)
        if one is other or (one is not None and other is not None and one.effect == other.effect):
            self.since.pop(key, None)
        else:
            self.since.setdefault(key, now)

    def reset(self, now: float) -> None:
        """Compare all entries again; if there are many, in catch_up()."""
        self._uncompared.clear()
        if not self._are_followed:
            self.since.clear()
            self._before.clear()
            return
        self._before, self.since = {**self._before, **self.since}, {}
        self._uncompared = [*self._before, *self.production.all_keys(), *self.mirror.all_keys()]
        self._uncompared.reverse()
        if len(self._uncompared) <= _MANY:
            self._compare(_MANY, now)

    def catch_up(self, now: float) -> Steps[None]:
        """Compare the entries that reset() has left."""
        while self._uncompared:
            self._compare(PER_STEP, now)
            yield

    def _compare(self, count: int, now: float) -> None:
        for _ in range(min(count, len(self._uncompared))):
            key = self._uncompared.pop()
            if key not in self.since:
                self.changed(key, self._before.get(key, now))
        if not self._uncompared:
            self._before = {}
            self.since = dict(sorted(self.since.items(), key=lambda one: one[1]))

    @property
    def oldest(self) -> float | None:
        """Since when the entry that has differed for longest has done so; None if none differs."""
        return next(iter(self.since.values()), None)

    def lasting(self, now: float, seconds: float) -> list[Key]:
        """Return the entries that have differed for so long."""
        found = []
        for key, since in self.since.items():
            if now - since < seconds:
                break
            found.append(key)
        return found
