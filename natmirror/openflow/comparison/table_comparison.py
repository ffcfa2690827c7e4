"""The tables of production and of one mirror, compared over time: how long they differ, and in what now.

Tables differ for milliseconds all the time, because one side is earlier. So only what lasts counts.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import inf

from natmirror.openflow.bodies.group_text import group_mod_text, meter_mod_text
from natmirror.openflow.bodies.group_values import GroupCommand, GroupMod, MeterCommand, MeterMod
from natmirror.openflow.bodies.text import flow_text
from natmirror.openflow.bodies.values import FlowStats
from natmirror.openflow.comparison.lasting import Lasting
from natmirror.openflow.comparison.results import Collector, ComparedTables
from natmirror.openflow.tables.difference import Difference
from natmirror.openflow.tables.entries import Entry, Group, Key, Rule
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.steps import Steps

LASTS = 2.0
"""Seconds after which a difference counts."""
INTERVAL = 5.0
"""Seconds between two reports."""
_LOOK_INTERVAL = 1.0  # seconds between two looks at what differs
_MAX_LOOKED_AT = 512  # differing entries; beyond them all count
_MAX_SHOWN = 8  # differing entries
_MAX_LINE_LEN = 300
_PER_STEP = 32  # entries that are looked at in one step


class TableComparison:
    """The comparison of a mirror's tables."""

    def __init__(self, collector: Collector, lasting: Lasting, now: float) -> None:
        self.collector = collector
        self.counts_from = inf
        """From when on it counts: after the session's ``warm-up``."""
        self.differs = False
        """Whether they differ now, for longer than LASTS."""
        self._lasting = lasting
        self._difference = Difference(lasting.production.state, lasting.mirror.state, now)
        self.are_known = self._difference.is_known
        self._looked_at = now
        self._reported_at = now
        self._seconds = self._differing_seconds = 0.0
        self._lasting_keys: list[Key] = []

    def close(self, now: float) -> None:
        """End the comparison, with a last report."""
        self._count(now)
        self._report(now, 0)
        self._difference.close()

    @property
    def are_equal(self) -> bool:
        """Whether nothing differs, not even for a moment."""
        return self.are_known and self._difference.oldest is None

    def forgive(self, since: float, now: float) -> Steps[None]:
        """Have the mirror follow production where only production can have changed the mirror's entries since a moment:
        its master was away."""
        self._count(now)
        self.differs, self._lasting_keys = False, []  # until the next look
        yield from self._difference.catch_up(now)
        state = self._lasting.mirror.state
        changed = [key for key, began in self._difference.since.items() if began >= since]
        for count, key in enumerate(changed, 1):
            if state.get(key) is not None:
                theirs = self._lasting.production.state.get(key)
                state.put(key, replace(theirs, is_baseline=True) if isinstance(theirs, Rule) else theirs, now)
            if not count % _PER_STEP:
                yield

    def is_due(self, now: float) -> bool:
        """Return whether report() has something to do."""
        return now >= self._reported_at + INTERVAL

    def next_deadline(self) -> float:
        """Return when settle() has something to do."""
        report_at = self._reported_at + INTERVAL
        oldest = self._difference.oldest
        if self.differs or self.are_known is not self._difference.is_known:
            return min(report_at, self._looked_at + _LOOK_INTERVAL)
        if oldest is None or oldest + LASTS <= self._looked_at:
            return report_at  # what has differed for long has another reason than the master
        return min(report_at, max(self._looked_at + _LOOK_INTERVAL, oldest + LASTS))

    def settle(self, now: float) -> Steps[None]:
        """Look at what differs, if that is due, and report each INTERVAL."""
        if now >= self._looked_at + _LOOK_INTERVAL:
            if self._difference.is_empty:
                self._count(now)
                self._note([])
            else:
                yield from self._look(now)
        if self.is_due(now):
            doubtful = 0
            for model in (self._lasting.production, self._lasting.mirror):
                doubtful += yield from _doubtful(model, now)
            self._report(now, doubtful)

    def _look(self, now: float) -> Steps[None]:
        yield from self._difference.catch_up(now)
        self._count(now)
        found: list[Key] = []
        oldest = now
        entries = list(self._difference.since.items())
        for count, (key, since) in enumerate(entries[:_MAX_LOOKED_AT], 1):
            if now - since >= LASTS and self._lasting.is_difference(key, now):
                found.append(key)
                oldest = min(oldest, since)
            if not count % _PER_STEP:
                yield
        found += (key for key, since in entries[_MAX_LOOKED_AT:] if found and now - since >= LASTS)
        if found and not self.differs:
            self._differing_seconds += max(0.0, now - max(oldest, self._reported_at, self.counts_from))
        self._note(found)

    def _note(self, found: list[Key]) -> None:
        """Note which entries differ for certain."""
        self.differs, self._lasting_keys = bool(found), found
        self.are_known = self._difference.is_known

    def _count(self, now: float) -> None:
        """Count the time since the last look."""
        begin = max(self._looked_at, self.counts_from)
        if self.are_known and now > begin:
            self._seconds += now - begin
            self._differing_seconds += (now - begin) * self.differs
        self._looked_at = now

    def _report(self, now: float, doubtful: int) -> None:
        states = (self._lasting.production.state, self._lasting.mirror.state)
        not_followed = next((one.not_followed for one in states if one.not_followed is not None), None)
        lines = tuple(line for key in self._lasting_keys[:_MAX_SHOWN] for line in self._lines(key))
        counts = now >= self.counts_from
        self.collector.compared_tables(
            ComparedTables(
                now,
                self._seconds,
                min(self._differing_seconds, self._seconds),
                lines if counts else (),
                len(self._lasting_keys) if counts else 0,
                doubtful,
                not_followed,
            )
        )
        self._seconds = self._differing_seconds = 0.0
        self._reported_at = now

    def _lines(self, key: Key) -> Iterator[str]:
        for name, state in (("production", self._lasting.production.state), ("mirror", self._lasting.mirror.state)):
            entry = state.get(key)
            if entry is not None:
                yield f"{name}: {entry_text(entry)}"[:_MAX_LINE_LEN]


def entry_text(entry: Entry) -> str:
    """Return an entry as ovs-ofctl writes it."""
    if isinstance(entry, Rule):
        timeouts = entry.idle_timeout, entry.hard_timeout
        return flow_text(FlowStats(*entry.key, entry.instructions, entry.cookie, *timeouts, entry.flags))
    if isinstance(entry, Group):
        mod = GroupMod(GroupCommand.ADD, entry.key.group_id, entry.type, entry.buckets, properties=entry.properties)
        return group_mod_text(mod)
    return meter_mod_text(MeterMod(MeterCommand.ADD, entry.key.meter_id, entry.flags, entry.bands))


def _doubtful(model: Model, now: float) -> Steps[int]:
    """Return how many rules may be gone."""
    found = 0
    for count, rule in enumerate(list(model.state.rules.values()), 1):
        found += model.is_doubtful(rule, now)
        if not count % _PER_STEP:
            yield
    return found
