"""The registry of the findings that last: what each part of the run has found."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import TypedDict

from natmirror.findings.code import Affected, Finding, FindingCode, Severity, Trait
from natmirror.findings.consequences import without_consequences

log = logging.getLogger("natmirror")


class FindingEntry(TypedDict):
    """A fault on this host or around it, as long as it lasts."""

    code: FindingCode
    """The kind of fault."""
    severity: Severity
    """How bad it is."""
    affects: Affected
    """What it affects."""
    subject: str
    """The backend, mirror, interface or other thing at fault; empty if there is only one."""
    problem: str
    """What is wrong."""
    mend: str
    """What mends it: a line for each step or alternative. A command stands behind ``run: ``, and ends its line."""
    makes_unfit: bool
    """Whether it makes this host unfit: it stops production, and another host may do better."""
    mended: bool
    """Whether it is mended already: natmirror only tells of it for a while."""
    since: str
    """The time at which natmirror found it, in UTC (RFC 3339)."""


_Key = tuple[FindingCode, str]


class Findings:
    """The faults that last, from all parts of the run. Any thread may report and read them. ``time_of_day`` returns the
    time as text; ``on_change`` is called with each finding when it begins (True), and when it ends."""

    def __init__(
        self,
        time_of_day: Callable[[], str] | None = None,
        on_change: Callable[[Finding, bool], None] = lambda one, has_begun: None,
    ) -> None:
        self._time_of_day = time_of_day or _time_of_day
        self._on_change = on_change
        self._lock = threading.Lock()
        self._found: dict[str, dict[_Key, Finding]] = {}  # by source; a source's dict is never changed
        self._since: dict[_Key, str] = {}
        self._begun: dict[_Key, Finding] = {}  # whose beginning was logged, and whose end was not
        self._blamed: frozenset[str] = frozenset()

    def replace(self, source: str, findings: Iterable[Finding]) -> None:
        """Take all that ``source`` finds now, in place of what it found before. Log each finding when it begins, and
        when it ends; one that follows from another, if it lasts longer."""
        fresh = {(one.code, one.subject): one for one in findings}
        with self._lock:
            self._found = {**self._found, source: fresh}
            after = self._all()
            now = self._time_of_day()
            self._since = {key: self._since.get(key, now) for key in after}
            begun = [one for one in self.all() if (one.code, one.subject) not in self._begun]
            ended = [one for key, one in self._begun.items() if key not in after]
            lasting = {key: one for key, one in self._begun.items() if key in after}
            self._begun = {**lasting, **{(one.code, one.subject): one for one in begun}}
        for one in begun:
            log.log(logging.ERROR if one.code.severity is Severity.FAILURE else logging.WARNING, "%s", one)
            self._on_change(one, True)
        for one in ended:
            log.info("%s: no longer so: %s", one.code, one.problem)
            self._on_change(one, False)

    def all(self) -> list[Finding]:
        """Return the findings of all sources but those that follow from others: failures of production come first, then
        other failures, then warnings, and what is mended already comes last."""
        return sorted(without_consequences(self._all().values()), key=_rank)

    def subjects(self, codes: Collection[FindingCode]) -> set[str]:
        """Return the subjects of the findings of these kinds, also of those that follow from others."""
        return {subject for code, subject in self._all() if code in codes}

    def show(self) -> list[FindingEntry]:
        """Return the findings as values for JSON, in the order of all()."""
        with self._lock:
            found, since = self.all(), self._since
        return [
            {
                "code": one.code,
                "severity": one.code.severity,
                "affects": one.code.affects,
                "subject": one.subject,
                "problem": one.problem,
                "mend": one.mend,
                "makes_unfit": self._makes_unfit(one),
                "mended": one.code.trait is Trait.FADES,
                "since": since[one.code, one.subject],
            }
            for one in found
        ]

    def why_unfit(self) -> str:
        """Return the first failure of production that another host may not have, or an empty text."""
        return next((str(one) for one in self.all() if self._makes_unfit(one)), "")

    def blame(self, services: frozenset[str]) -> None:
        """Set the services for whose failure this host is to blame, as far as is known."""
        self._blamed = services

    def _makes_unfit(self, one: Finding) -> bool:
        is_to_blame = one.code.trait is not Trait.MAY_LIE_BEYOND or one.subject in self._blamed
        return one.stops_production and is_to_blame

    def _all(self) -> dict[_Key, Finding]:
        return {key: one for source in self._found.values() for key, one in source.items()}


def _rank(one: Finding) -> tuple[bool, bool, bool]:
    """Return what sorts a finding before others that matter less to the operator."""
    return not one.stops_production, one.code.severity is not Severity.FAILURE, one.code.trait is Trait.FADES


def _time_of_day() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
