"""What the judges have found, as values for JSON: verdicts, what the events need of them, and sums since the start."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from natmirror.judging.verdict_entry import Clock, MasterRule, verdict_entry
from natmirror.openflow.comparison.found import Found
from natmirror.openflow.comparison.merging import add_comparisons, merge
from natmirror.openflow.comparison.noise import comparable
from natmirror.openflow.comparison.numbers import share
from natmirror.openflow.comparison.results import AnswerResult
from natmirror.openflow.comparison.shown import ComparisonEntry, Verdict, VerdictEntry
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.comparison.verdict import Limits, Outcome, in_words, judge


class VerdictLook(TypedDict):
    """A verdict in short, for the status and the events."""

    verdict: Verdict
    summary: str
    """What it rests on, in one line."""
    began_at: float | None
    """When the first connection was compared, on the engines' clock; null for none. What was found before is lost."""
    differs_since: float | None
    """When the first difference that counts and is not resolved has happened, on the engines' clock; null for none."""
    worst: str
    """The worst of these differences in words."""
    differing_rules: int
    """Rules that differ now."""


class Reports:
    """Reports what all packet threads' judges have found, each in ``comparisons`` of its own."""

    def __init__(self, comparisons: Sequence[Comparisons]) -> None:
        self._comparisons = comparisons

    def answer(self, what: str, arguments: dict[str, Any]) -> Any:
        """Return the answer to a question of natmirror: ``verdict`` with the arguments of verdict(), or ``look``."""
        return self.verdict(**arguments) if what == "verdict" else self.look(**arguments)

    def verdict(
        self,
        master: list[Any],
        moment: float,
        at_least: int,
        fail_below: float,
        clock: list[float],
        *,
        is_twin: bool,
        with_messages: bool,
    ) -> VerdictEntry:
        """Return the verdict on a master (the fields of MasterRule) since a moment."""
        rule = MasterRule(*master)
        found, twin, outcome = self._judge(rule, moment, Limits(at_least, fail_below))
        return verdict_entry(rule, found, twin, outcome, Clock(*clock), is_twin=is_twin, with_messages=with_messages)

    def look(self, master: list[Any], moment: float) -> VerdictLook:
        """Return the verdict on a master since a moment, in short."""
        found, _, outcome = self._judge(MasterRule(*master), moment, Limits())
        lasting = [one for one in outcome.differences if one.is_counted and one.signature.unresolved]
        return {
            "verdict": outcome.verdict,
            "summary": _summary(found, outcome),
            "began_at": found.began_at if found.has_begun else None,
            "differs_since": min((one.signature.first_at for one in lasting), default=None),
            "worst": in_words(lasting[0], found) if lasting else "",
            "differing_rules": found.tables.differing_count,
        }

    def _judge(self, rule: MasterRule, moment: float, limits: Limits) -> tuple[Found, Found | None, Outcome]:
        found = self._found(rule.service, rule.mirror, rule.address, moment)
        twin = None if rule.twin is None else self._found(rule.service, rule.twin, rule.twin_address, moment)
        paused = f"{rule.service}/{rule.mirror}" if rule.is_paused else None
        return found, twin, judge(found, twin, limits, paused)

    def _found(self, service: str, mirror: str, address: str, moment: float) -> Found:
        return merge([one.since(service, mirror, address, moment) for one in self._comparisons])

    def sums(self) -> Iterator[tuple[str, str, ComparisonEntry]]:
        """Yield the sums of each master since the start, with its service and name."""
        for service, mirror in dict.fromkeys(key for one in self._comparisons for key, _ in one):
            total: ComparisonEntry | None = None
            for one in self._comparisons:
                total = add_comparisons(total, one.show(service, mirror))
            if total is not None:
                yield service, mirror, total


def _summary(found: Found, outcome: Outcome) -> str:
    """Return the main reason, and how many more there are; for a master that agrees, what that rests on."""
    if reasons := outcome.reasons:
        more = len(reasons) - 1
        return reasons[0] + (f"; and {more} more reason{'' if more == 1 else 's'}" if more else "")
    window, of = found.window, comparable(found)
    same = share(window.table_seconds - window.differing_seconds, window.table_seconds)
    return (
        f"{window.results[AnswerResult.EQUAL]} of {of} comparable answers equal, {of} of"
        f" {sum(window.results.values())} PACKET_INs comparable, tables equal {same} of the time"
    )
