"""Tells when the verdict on a master changes, when differences begin and when all are resolved, and remembers the
verdicts for ``natmirror status``.

A master that differs may do so in each answer. So one event tells of the first difference, and the next one when all
are resolved, or when the verdict is another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.openflow.comparison.found import Found
from natmirror.openflow.comparison.noise import comparable
from natmirror.openflow.comparison.numbers import WORDS, share
from natmirror.openflow.comparison.results import AnswerResult
from natmirror.openflow.comparison.shown import Verdict
from natmirror.openflow.comparison.verdict import Limits, Outcome, in_words
from natmirror.runtime.verdicts import WINDOW, Key, Verdicts


class VerdictView(NamedTuple):
    """The verdict on the last hour, as the last look has found it."""

    verdict: Verdict
    summary: str
    """What it rests on, in one line."""


@dataclass(slots=True)
class _Master:
    """What the last look at a master has found."""

    verdict: Verdict = Verdict.TOO_LITTLE
    differs_since: float | None = None
    """When the first difference that is not resolved has happened; None where there is none."""


class VerdictWatch:
    """Looks at the verdicts on the last hour, and adds events to ``ring``. Time is the engines'."""

    def __init__(self, verdicts: Verdicts, ring: EventRing) -> None:
        self._verdicts = verdicts
        self._ring = ring
        self._masters: dict[Key, _Master] = {}
        self._views: Mapping[Key, VerdictView] = {}  # replaced at each look, because other threads read it

    def look(self, now: float) -> None:
        """Look at all masters with a verdict, but for twins, which may differ. TimeoutError where an engine does not
        answer."""
        twins = self._verdicts.twins()
        compared = {key: one for key, one in self._verdicts.compared().items() if key not in twins}
        views: dict[Key, VerdictView] = {}
        for key, _, found, _, outcome in self._verdicts.judge(compared, now - WINDOW, Limits()):
            views[key] = VerdictView(outcome.verdict, _summary(found, outcome))
            self._follow(key, self._masters.setdefault(key, _Master()), found, outcome, now)
        self._masters = {key: one for key, one in self._masters.items() if key in compared}
        self._views = views

    def view(self, service: str, mirror: str) -> VerdictView | None:
        """Return the verdict of the last look; None for a mirror without one."""
        return self._views.get((service, mirror))

    def _follow(self, key: Key, master: _Master, found: Found, outcome: Outcome, now: float) -> None:
        lasting = [one.signature for one in outcome.differences if one.is_counted and one.signature.unresolved]
        since = min((one.first_at for one in lasting), default=None)
        if since is None and found.tables.differing_count:
            since = master.differs_since  # it happened more than an hour ago, and lasts in the tables
        if outcome.verdict is not master.verdict:
            self._tell_verdict(key, master.verdict, found, outcome)
        elif since is not None and master.differs_since is None:
            worst = next(one for one in outcome.differences if one.is_counted and one.signature.unresolved)
            text = f"mirror {key[1]} of {key[0]} differs from production again: {in_words(worst, found)}"
            self._add(EventKind.DIFFERENCE_BEGAN, EventSeverity.WARNING, text, key)
        if since is None and master.differs_since is not None:
            text = f"no difference lasts between mirror {key[1]} of {key[0]} and production, after"
            self._add(
                *(EventKind.DIFFERENCE_ENDED, EventSeverity.INFO),
                f"{text} {now - master.differs_since:.0f} s; the verdict is about the last hour",
                key,
            )
        master.verdict, master.differs_since = outcome.verdict, since

    def _tell_verdict(self, key: Key, before: Verdict, found: Found, outcome: Outcome) -> None:
        severity = EventSeverity.WARNING if outcome.verdict is Verdict.DIFFERS else EventSeverity.INFO
        text = f"verdict on mirror {key[1]} of {key[0]}: {WORDS[outcome.verdict]}, was {WORDS[before]}; "
        self._add(EventKind.VERDICT_CHANGED, severity, text + _summary(found, outcome), key, code=outcome.verdict)

    def _add(self, kind: EventKind, severity: EventSeverity, text: str, key: Key, code: Verdict | None = None) -> None:
        self._ring.add(kind, severity, text, service=key[0], mirror=key[1], code=code)


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
