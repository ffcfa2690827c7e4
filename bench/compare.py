"""``python -m bench.compare``: judge whether one commit is slower than another (``make compare``).

Both sides are written into a temporary directory and built there, each with its own script. Then each gauge measures
pairs: one side and right afterwards the other; the next pair begins with the other side. A measure that is decided
drops out. The comparison ends when no measure is left, or after --pairs. ``verdicts.py`` defines the verdicts and the
statistic.

============= ======================================================================================
gauge         what it measures
============= ======================================================================================
instructions  the C code's instructions per packet, counted once a side by valgrind
engine        an engine alone in one process: CPU time per packet and per connection, in both gears
code          the C code alone, by a side's own ``python -m bench --only isolated``
live          natmirror between network namespaces, by a side's own ``python -m bench`` (root): speed, and
              the machine's CPU seconds
============= ======================================================================================

This checkout's programs measure instructions and engine of both sides. Each side's own benchmark measures code and
live, so a change of the benchmark is compared too.

Exit status: 0 no measure is slower, 1 a measure is slower, 2 the sides, or some of the measures, could not be compared.
An undecided measure does not change the status: it is neither slower nor equal.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click

from bench.gauges import Gauge, Measure, all_gauges
from bench.sides import REPOSITORY, ComparisonError, Side, build, export, resolve, temporary_directory
from bench.verdicts import Verdict, interval_of_median, is_decided, judge, judge_counts

MAX_PAIRS = 60
MIN_PAIRS = 6  # the fewest that give an interval
_MAX_FAILURES = 3  # of a gauge, in a row

Report = Callable[[str], None]


@dataclass(slots=True)
class Row:
    """A measure and its figures so far."""

    measure: Measure
    is_exact: bool
    base: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """The ratio of each pair: the new side's cost over the base's."""
        return [self.measure.cost_ratio(*pair) for pair in zip(self.base, self.new, strict=True)]

    @property
    def is_done(self) -> bool:
        """Whether the measure needs no more pairs."""
        return bool(self.base) if self.is_exact else is_decided(self.ratios, self.measure.band)

    @property
    def verdict(self) -> Verdict:
        """The verdict by the pairs so far."""
        if self.is_exact and self.base:
            return judge_counts(self.base[0], self.new[0])
        return judge(interval_of_median(self.ratios), self.measure.band)


class Comparison:
    """The comparison of two built sides, the base first; ``only`` selects measures, ``report`` gets lines of
    progress."""

    def __init__(self, sides: Sequence[Side], gauges: Sequence[Gauge], only: Sequence[str], report: Report) -> None:
        self._sides = sides
        self._report = report
        self._gauges = {gauge: [one for one in gauge.measures if is_wanted(one.name, only)] for gauge in gauges}
        self.rows = {one.name: Row(one, gauge.is_exact) for gauge, own in self._gauges.items() for one in own}
        self._failures = dict.fromkeys(gauges, 0)
        self.given_up: list[str] = []
        """The measures that were given up, and why."""

    def run(self, pairs: int) -> None:
        """Measure pairs until every measure is decided."""
        for number in range(pairs):
            for gauge in list(self._gauges):
                self._pair(gauge, number)
            undecided = sum(map(len, map(self._open, self._gauges)))
            self._report(f"pair {number + 1} of at most {pairs}: {undecided} measures are undecided")
            if not undecided:
                break

    def _open(self, gauge: Gauge) -> list[str]:
        return [one.name for one in self._gauges[gauge] if not self.rows[one.name].is_done]

    def _pair(self, gauge: Gauge, number: int) -> None:
        wanted = self._open(gauge)
        if not wanted:
            return
        order = self._sides if number % 2 == 0 else self._sides[::-1]
        try:
            found = {side.tree: gauge.take(side, wanted) for side in order}
        except ComparisonError as error:
            self._fail(gauge, str(error))
            return
        base, new = (found[side.tree] for side in self._sides)
        missing = [name for name in wanted if not (base.get(name) and new.get(name))]
        if missing:
            self._gauges[gauge] = [one for one in self._gauges[gauge] if one.name not in missing]
            self.given_up.append(f"{', '.join(missing)}: one side does not have this measure")
        for name in set(wanted) - set(missing):
            self.rows[name].base.append(base[name])
            self.rows[name].new.append(new[name])
        self._failures[gauge] = 0

    def _fail(self, gauge: Gauge, reason: str) -> None:
        """Leave the pair out; give the gauge up after several failures."""
        self._report(f"{gauge.name}: {reason}")
        self._failures[gauge] += 1
        if self._failures[gauge] >= _MAX_FAILURES:
            del self._gauges[gauge]
            self.given_up.append(f"{gauge.name}: {reason}")

    def status(self) -> int:
        """Return the exit status."""
        if any(row.verdict is Verdict.SLOWER for row in self.rows.values()):
            return 1
        return 2 if self.given_up else 0


def is_wanted(name: str, only: Iterable[str]) -> bool:
    """Return whether ``only`` has the measure's name, or its beginning up to a dot, or is empty."""
    names = list(only)
    return not names or any(f"{name}.".startswith(f"{one}.") for one in names)


def table(comparison: Comparison) -> str:
    """Return the rows as a table, and the number of measures with each verdict."""
    head = (
        f"{'measure':<32} {'base':>10} {'new':>10} {'unit':<9}  {'cost of new / base (95 %)':<26} {'pairs':>5}  verdict"
    )
    lines = [head, *(_line(row) for row in comparison.rows.values()), ""]
    names: dict[Verdict, list[str]] = {verdict: [] for verdict in Verdict}
    for name, row in comparison.rows.items():
        names[row.verdict].append(name)
    lines += [f"{each}: {', '.join(names[each])}" for each in (Verdict.SLOWER, Verdict.FASTER) if names[each]]
    lines += [f"not measured: {reason}" for reason in comparison.given_up]
    lines.append(", ".join(f"{len(some)} {verdict}" for verdict, some in names.items()))
    return "\n".join(lines)


def _line(row: Row) -> str:
    base, new, ratio = "-", "-", "-"
    if row.base:
        base, new = (f"{median(values):,.5g}" for values in (row.base, row.new))
        ratio = f"{median(row.ratios):.3f}"
        interval = interval_of_median(row.ratios)
        ratio += " (exact)" if row.is_exact else f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else ""
    measure = row.measure
    return f"{measure.name:<32} {base:>10} {new:>10} {measure.unit:<9}  {ratio:<26} {len(row.base):>5}  {row.verdict}"


def choose(gauges: Sequence[Gauge], only: Sequence[str], report: Report) -> list[Gauge]:
    """Return the wanted gauges that can measure here; ComparisonError where one that ``only`` names cannot."""
    names = [measure.name for gauge in gauges for measure in gauge.measures]
    for one in only:
        if not any(is_wanted(name, [one]) for name in names):
            known = ", ".join(gauge.name for gauge in gauges)
            raise ComparisonError(f"no measure is called {one!r}; gauges: {known}; a run lists all measures")
    chosen = []
    for gauge in gauges:
        if not any(is_wanted(measure.name, only) for measure in gauge.measures):
            continue
        reason = gauge.obstacle()
        if reason is None:
            chosen.append(gauge)
        elif only:
            raise ComparisonError(f"{gauge.name}: {reason}")
        else:
            report(f"{gauge.name} is left out: {reason}")
    return chosen


def compare(
    repository: Path,
    base: str,
    new: str | None,
    gauges: Sequence[Gauge],
    only: Sequence[str],
    pairs: int,
    report: Report,
) -> int:
    """Compare two commits, print the table, and return the exit status."""
    ids = resolve(base, repository), resolve(new, repository) if new else None
    with temporary_directory() as place:
        # Paths of equal length: the length of a program's path moves its stack, which changes some figures.
        sides = [export(commit, place / name, repository) for name, commit in zip(("base", "head"), ids, strict=True)]
        for name, side in zip(("base", "new"), sides, strict=True):
            report(f"{name}: {side.title}")
        for side in sides:
            build(side, with_bench=any(gauge.needs_bench for gauge in gauges))
        comparison = Comparison(sides, gauges, only, report)
        try:
            comparison.run(pairs)
        finally:  # after Ctrl-C, print what was found so far
            click.echo(table(comparison))
        return comparison.status()


@click.command()
@click.option("--base", default="origin/main", show_default=True, help="The commit to compare with.")
@click.option("--new", help="The commit to judge; default: the work tree as it is, with uncommitted changes.")
@click.option(
    "--only", multiple=True, help="Measure only this gauge, or measures whose names begin so; may be repeated."
)
@click.option(
    "--pairs", default=MAX_PAIRS, show_default=True, type=click.IntRange(MIN_PAIRS), help="The most pairs to measure."
)
@click.option(
    "--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Duration of each live measure."
)
@click.option(
    "--repository",
    default=REPOSITORY,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The repository with the commits and the work tree; default: this checkout.",
)
def main(base: str, new: str | None, only: tuple[str, ...], pairs: int, seconds: float, repository: Path) -> None:
    """Compare two commits, and print whether each measure is slower, equal, faster or undecided."""

    def report(line: str) -> None:
        click.echo(f"compare: {line}", err=True)

    try:
        gauges = choose(all_gauges(seconds), only, report)
        sys.exit(compare(repository, base, new, gauges, only, pairs, report))
    except ComparisonError as error:
        report(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        report("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
