"""Adds up what several engines have found about one master."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from natmirror.histograms import add_histograms
from natmirror.openflow.comparison.conditions import Agreed
from natmirror.openflow.comparison.found import MAX_LINES, Found, TablesNow
from natmirror.openflow.comparison.hosts import HostCounts
from natmirror.openflow.comparison.periods import Period
from natmirror.openflow.comparison.shown import ComparisonEntry
from natmirror.openflow.comparison.signatures import Signatures

_Name = TypeVar("_Name")
_Number = TypeVar("_Number", int, float)


class _Unbounded:
    """An account for values that live only as long as a request."""

    def take(self, count: int) -> bool:
        return True

    def give(self, count: int) -> None:
        pass


def merge(parts: Sequence[Found]) -> Found:
    """Return the sum of what engines have found since the same moment. There has to be at least one."""
    counts: Counter[int] = Counter()

    def renumber(old: int, new: int) -> None:
        counts[new] += counts.pop(old, 0)

    signatures = Signatures(_Unbounded(), renumber)
    parts = [part for part in parts if part.has_begun] or parts[:1]
    begins_at = min(part.window.begins_at for part in parts)
    window, agreed, hosts, tables = Period(begins_at, begins_at), Agreed(), HostCounts(), TablesNow()
    for part in parts:
        window.add(part.window)
        agreed.merge(part.agreed)
        hosts.merge(part.hosts)
        _add_tables(tables, part.tables)
        for one, level, count in part.signatures:
            mine = signatures.take(one, level)
            if mine is None:
                window.other_differences += count
            else:
                counts[mine.number] += count
    window.differences.clear()  # by numbers of different engines
    return Found(
        min(part.began_at for part in parts),
        window,
        sum(part.earlier_differences for part in parts),
        agreed,
        hosts,
        [(one, signatures.level(one.family), counts[one.number]) for one in signatures],
        tables,
        sorted((end for part in parts for end in part.ends), key=lambda end: end.at),
        sum(part.held for part in parts),
    )


def _add_tables(sums: TablesNow, more: TablesNow) -> None:
    sums.differing += more.differing[: MAX_LINES - len(sums.differing)]
    sums.differing_count += more.differing_count
    sums.doubtful += more.doubtful
    sums.followed += more.followed
    sums.not_followed += more.not_followed
    sums.connections += more.connections
    sums.sessions += more.sessions
    sums.lacked_memory += more.lacked_memory
    sums.left_out += more.left_out


def add_comparisons(one: ComparisonEntry | None, other: ComparisonEntry | None) -> ComparisonEntry | None:
    """Return the sums of both engines' comparisons; if one is None, the other."""
    if one is None or other is None:
        return one or other
    return {
        "answers": _added(one["answers"], other["answers"]),
        "differences": _added(one["differences"], other["differences"]),
        "table_seconds": _added(one["table_seconds"], other["table_seconds"]),
        "differing_rules": one["differing_rules"] + other["differing_rules"],
        "lag": add_histograms((one["lag"], other["lag"])),
        "held_bytes": one["held_bytes"] + other["held_bytes"],
    }


def _added(one: Mapping[_Name, _Number], other: Mapping[_Name, _Number]) -> dict[_Name, _Number]:
    return {
        name: one.get(name, 0) + other.get(name, 0) for name in (*one, *(more for more in other if more not in one))
    }
