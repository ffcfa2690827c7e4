"""The rules, groups and meters that one switch has, or would have, as values that can be put back.

put() is the only way to change them. It returns the change, so that a caller can undo it, tells the watchers, and
accounts for the memory. Beyond a limit the state is given up as a whole: what natmirror no longer follows has no rules,
instead of wrong ones.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from natmirror.openflow.bodies.elements import ALL_TABLES
from natmirror.openflow.tables.entries import (
    Entry,
    Group,
    GroupKey,
    Key,
    Meter,
    MeterKey,
    Rule,
    RuleKey,
)
from natmirror.openflow.tables.index import RuleIndex
from natmirror.openflow.tables.steps import PER_STEP, Steps

MAX_ENTRIES = 4096
"""Limit on the rules, groups and meters of one switch and side together."""
_MIN_STALE = 64  # stale deadlines that are kept at least


class NotFollowed(StrEnum):
    """Why natmirror does not know a switch's tables."""

    TOO_MANY_RULES = "too-many-rules"
    """The switch has more rules than natmirror follows, or they match on too many combinations of fields."""
    NO_MEMORY = "no-memory"
    """The rules need more memory than mirroring may take."""
    REFUSED_LATE = "refused-late"
    """The switch refused an order after so many others that natmirror could no longer undo it."""
    BYTES_MISSING = "bytes-missing"
    """Bytes of the switch or of its controller are missing."""
    UNKNOWN_ORDER = "unknown-order"
    """The controller gave an order that natmirror cannot decode, and that may change rules."""


class Account(Protocol):
    """The memory of one switch's tables, in bytes."""

    def take(self, count: int) -> bool:
        """Take bytes; return False if there are no more."""

    def give(self, count: int) -> None:
        """Give bytes back."""


class Watcher(Protocol):
    """An object that follows the changes of a state."""

    def changed(self, key: Key, now: float) -> None:
        """Notice that an entry was added, replaced or removed."""

    def reset(self, now: float) -> None:
        """Notice that all may be different."""


class Change(NamedTuple):
    """One entry before and after a change; None where there is none."""

    key: Key
    old: Entry | None
    new: Entry | None


class Known(NamedTuple):
    """What is known to be complete: the model has all rules, groups and meters that the switch has."""

    tables: frozenset[int] = frozenset()
    all_tables: bool = False
    groups: bool = False
    meters: bool = False

    def has(self, table: int) -> bool:
        """Return whether the model has all rules of a table."""
        return self.all_tables or table in self.tables

    def with_table(self, table: int) -> "Known":
        """Return the same with all rules of a table, or of all tables."""
        if self.all_tables:
            return self
        if table == ALL_TABLES:
            return self._replace(all_tables=True, tables=frozenset())
        return self._replace(tables=self.tables | {table})


NOTHING_KNOWN = Known()


class State:
    """The entries of one switch as one side made them."""

    def __init__(self, account: Account) -> None:
        self.not_followed: NotFollowed | None = None
        """Why the state is not known; None while it is."""
        self.known = NOTHING_KNOWN
        self.rules: dict[RuleKey, Rule] = {}
        self.groups: dict[GroupKey, Group] = {}
        self.meters: dict[MeterKey, Meter] = {}
        self._indexes: dict[int, RuleIndex] = {}
        self._users: dict[GroupKey | MeterKey, dict[Rule, None]] = {}  # the rules of a group or meter
        self._deadlines: list[tuple[float, int, Rule]] = []
        """A heap of the times at which rules end by their hard timeout; some are of rules that are gone."""
        self._serial = 0
        self._with_deadline = 0
        self._account = account
        self._used = 0
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Tell a watcher of all changes from now on."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.remove(watcher)

    def get(self, key: Key) -> Entry | None:
        """Return an entry, or None."""
        if isinstance(key, RuleKey):
            return self.rules.get(key)
        return self.groups.get(key) if isinstance(key, GroupKey) else self.meters.get(key)

    def all_keys(self) -> Iterator[Key]:
        """Yield the keys of all entries."""
        yield from self.rules
        yield from self.groups
        yield from self.meters

    @property
    def count(self) -> int:
        return len(self.rules) + len(self.groups) + len(self.meters)

    def put(self, key: Key, new: Entry | None, now: float) -> Change:
        """Set, or with None remove, an entry. If it does not fit, give up the whole state."""
        old = self.get(key)
        if self.not_followed is not None or new is old:
            return Change(key, old, old)
        cost = (0 if new is None else new.cost) - (0 if old is None else old.cost)
        if new is not None and old is None and not self._has_room_for(new):
            self.lose(NotFollowed.TOO_MANY_RULES, now)
        elif cost > 0 and not self._account.take(cost):
            self.lose(NotFollowed.NO_MEMORY, now)
        else:
            self._used += cost
            if cost < 0:
                self._account.give(-cost)
            self._enter(key, old, new)
            for watcher in self._watchers:
                watcher.changed(key, now)
        return Change(key, old, new)

    def _has_room_for(self, new: Entry) -> bool:
        index = self._indexes.get(new.key.table) if isinstance(new, Rule) else None
        return self.count < MAX_ENTRIES and (index is None or index.has_room_for(new.packed))  # type: ignore[union-attr]

    def _enter(self, key: Key, old: Entry | None, new: Entry | None) -> None:
        if isinstance(old, Rule):
            self._unlink(old)
        if isinstance(new, Rule):
            self._link(new)
        entries: dict[Key, Entry] = (
            self.rules
            if isinstance(key, RuleKey)
            # type: ignore[assignment]
            else (self.groups if isinstance(key, GroupKey) else self.meters)
        )
        if new is None:
            del entries[key]
        else:
            entries[key] = new

    def _link(self, rule: Rule) -> None:
        self._indexes.setdefault(rule.key.table, RuleIndex()).add(rule)
        for used in rule.uses:
            self._users.setdefault(used, {})[rule] = None
        if rule.hard_timeout:
            self._with_deadline += 1
            self._serial += 1
            if len(self._deadlines) > 2 * self._with_deadline + _MIN_STALE:
                self._deadlines = [one for one in self._deadlines if self.rules.get(one[2].key) is one[2]]
                heapify(self._deadlines)
            heappush(self._deadlines, (rule.modified_at + rule.hard_timeout, self._serial, rule))

    def _unlink(self, rule: Rule) -> None:
        index = self._indexes[rule.key.table]
        index.remove(rule)
        if not index.count:
            del self._indexes[rule.key.table]
        self._with_deadline -= bool(rule.hard_timeout)
        for used in rule.uses:
            users = self._users[used]
            del users[rule]
            if not users:
                del self._users[used]

    def undo(self, changes: Iterable[Change], now: float) -> Steps[None]:
        """Undo changes, the latest of which come first."""
        for count, (key, old, _) in enumerate(changes, 1):
            self.put(key, old, now)
            if not count % PER_STEP:
                yield

    def lose(self, reason: NotFollowed, now: float) -> None:
        """Give up the state, because it is not known any more."""
        self.not_followed = reason
        self.clear(now)

    def begin(self, now: float) -> None:
        """Follow the switch again, from empty tables on."""
        self.not_followed = None
        for watcher in self._watchers:
            watcher.reset(now)

    def clear(self, now: float) -> None:
        """Forget all entries, and give their memory back."""
        self._account.give(self._used)
        self._used = 0
        self.known = NOTHING_KNOWN
        for entries in (self.rules, self.groups, self.meters, self._indexes, self._users):
            entries.clear()
        self._deadlines.clear()
        self._with_deadline = 0
        for watcher in self._watchers:
            watcher.reset(now)

    # Rules by what they match

    def tables(self) -> list[int]:
        """Return the numbers of the tables with rules."""
        return sorted(self._indexes)

    def index(self, table: int) -> RuleIndex | None:
        """Return the rules of one table, or None if it has none."""
        return self._indexes.get(table)

    def indexes(self, table: int) -> list[RuleIndex]:
        """Return the rules of a table, or those of each table for ALL_TABLES."""
        if table == ALL_TABLES:
            return list(self._indexes.values())
        index = self._indexes.get(table)
        return [] if index is None else [index]

    def users_of(self, key: GroupKey | MeterKey) -> list[Rule]:
        """Return the rules that use a group or meter."""
        return list(self._users.get(key, ()))

    def count_in(self, table: int) -> int:
        """Return the number of rules of a table."""
        index = self._indexes.get(table)
        return 0 if index is None else index.count

    # Hard timeouts

    @property
    def has_deadlines(self) -> bool:
        """Whether there may be rules with hard timeouts."""
        return bool(self._deadlines)

    def next_deadline(self) -> float | None:
        """Return the earliest time at which a rule's hard timeout may end; None without one."""
        while self._deadlines and self.rules.get(self._deadlines[0][2].key) is not self._deadlines[0][2]:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def pop_ended(self, deadline: float) -> Rule | None:
        """Return a rule whose hard timeout ended before a time, and do not return it again; None without one."""
        first = self.next_deadline()
        return None if first is None or first >= deadline else heappop(self._deadlines)[2]
