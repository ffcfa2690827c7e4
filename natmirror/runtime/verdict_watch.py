"""Tells when the verdict on a master changes, when differences begin and when all are resolved, and remembers the
verdicts for ``natmirror status``.

A master that differs may do so in each answer. So one event tells of the first difference, and the next one when all
are resolved, or when the verdict is another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.judging.reports import VerdictLook
from natmirror.openflow.comparison.numbers import WORDS
from natmirror.openflow.comparison.shown import Verdict
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
        """Look at all masters with a verdict, but for twins, which may differ. TimeoutError where
        their judges do not answer."""
        twins = self._verdicts.twins()
        compared = {key: one for key, one in self._verdicts.compared().items() if key not in twins}
        views: dict[Key, VerdictView] = {}
        for key, mirror in compared.items():
            found = self._verdicts.look(key, mirror, now - WINDOW)
            verdict = Verdict(found["verdict"])
            views[key] = VerdictView(verdict, found["summary"])
            self._follow(key, self._masters.setdefault(key, _Master()), verdict, found, now)
        self._masters = {key: one for key, one in self._masters.items() if key in compared}
        self._views = views

    def view(self, service: str, mirror: str) -> VerdictView | None:
        """Return the verdict of the last look; None for a mirror without one."""
        return self._views.get((service, mirror))

    def _follow(self, key: Key, master: _Master, verdict: Verdict, found: VerdictLook, now: float) -> None:
        since = found["differs_since"]
        if since is None and found["differing_rules"]:
            since = master.differs_since  # it happened more than an hour ago, and lasts in the tables
        if verdict is not master.verdict:
            self._tell_verdict(key, master.verdict, verdict, found)
        elif since is not None and master.differs_since is None:
            text = f"mirror {key[1]} of {key[0]} differs from production again: {found['worst']}"
            self._add(EventKind.DIFFERENCE_BEGAN, EventSeverity.WARNING, text, key)
        if since is None and master.differs_since is not None:
            lasted, between = now - master.differs_since, f"between mirror {key[1]} of {key[0]} and production"
            if found["began_at"] is None or found["began_at"] > master.differs_since:
                text = f"the difference {between} of the last {lasted:.0f} s is forgotten: the verdict has begun again"
            else:
                text = f"no difference lasts {between}, after {lasted:.0f} s; the verdict is about the last hour"
            self._add(EventKind.DIFFERENCE_ENDED, EventSeverity.INFO, text, key)
        master.verdict, master.differs_since = verdict, since

    def _tell_verdict(self, key: Key, before: Verdict, verdict: Verdict, found: VerdictLook) -> None:
        severity = EventSeverity.WARNING if verdict is Verdict.DIFFERS else EventSeverity.INFO
        text = f"verdict on mirror {key[1]} of {key[0]}: {WORDS[verdict]}, was {WORDS[before]}; "
        self._add(EventKind.VERDICT_CHANGED, severity, text + found["summary"], key, code=verdict)

    def _add(self, kind: EventKind, severity: EventSeverity, text: str, key: Key, code: Verdict | None = None) -> None:
        self._ring.add(kind, severity, text, service=key[0], mirror=key[1], code=code)
