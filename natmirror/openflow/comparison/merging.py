"""Adds up what several engines have found about one master."""

from collections import Counter
from collections.abc import Sequence

from natmirror.openflow.comparison.conditions import Agreeing
from natmirror.openflow.comparison.periods import Period
from natmirror.openflow.comparison.signatures import Signatures
from natmirror.openflow.comparison.sums import MAX_LINES, Found, TablesNow


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
    window, agreeing, tables = Period(parts[0].window.begins_at, parts[0].window.ends_at), Agreeing(), TablesNow()
    for part in parts:
        window.add(part.window)
        agreeing.merge(part.agreeing)
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
        agreeing,
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
