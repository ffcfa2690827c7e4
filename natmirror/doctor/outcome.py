"""The results of doctor's checks, as values and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from natmirror import __version__
from natmirror.doctor import COPIES_FAIL, PRODUCTION_FAILS, WARNED
from natmirror.findings import Affected, Finding, FindingCode, Severity

PAGE = "docs/reference/findings.md"


class CheckState(StrEnum):
    """The result of a check."""

    OK = "ok"
    """The check has found nothing."""
    WARNING = "warning"
    """Traffic passes, but something is missing or wrong, or may be."""
    FAILURE = "failure"
    """Production or the copies cannot pass."""
    UNKNOWN = "unknown"
    """The check could not be made."""
    SKIPPED = "skipped"
    """There is nothing to check."""


class DoctorFinding(TypedDict):
    """A fault, and what mends it."""

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
    fix: list[str]
    """The command that ``--fix`` runs, word by word; empty if none is safe to run unseen."""
    document: str
    """Where the documents describe this kind of fault."""


class DoctorCheck(TypedDict):
    """A check, and what it has found."""

    name: str
    """The check's name."""
    section: str
    """The section that it belongs to."""
    title: str
    """What is so if the check finds nothing."""
    state: CheckState
    """The result."""
    why: str
    """Why it could not be made, or why there is nothing to check; empty otherwise."""
    said: str
    """What ``--send`` has seen; empty otherwise."""
    findings: list[DoctorFinding]
    """What it has found."""


class FixEntry(TypedDict):
    """A command that ``--fix`` has run."""

    command: list[str]
    """The command, word by word."""
    error: str | None
    """Why it failed; null: it did not."""


class DoctorAnswer(TypedDict):
    """What ``natmirror doctor --json`` prints."""

    version: str
    """natmirror's version."""
    rules: str
    """The path of the rules file."""
    pid: int | None
    """The process id of the running natmirror that has answered; null: none has."""
    state: CheckState
    """The worst result; ``unknown`` counts as a warning."""
    checks: list[DoctorCheck]
    """Each check, in the order of the screen; after ``--fix``, as it is then."""
    fixes: list[FixEntry]
    """What ``--fix`` has run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check has found. ``why`` is why it could not be made, or why there is nothing to check,
    ``said`` what a check by packets has seen."""

    name: str
    section: str
    title: str
    findings: Sequence[Finding] = ()
    state: CheckState = CheckState.OK
    why: str = ""
    said: str = ""

    @property
    def is_unclear(self) -> bool:
        """Whether it could not be made."""
        return self.state is CheckState.UNKNOWN

    def show(self) -> DoctorCheck:
        """Return this as values for JSON."""
        return {
            "name": self.name,
            "section": self.section,
            "title": self.title,
            "state": self.state,
            "why": self.why,
            "said": self.said,
            "findings": [
                {
                    "code": one.code,
                    "severity": one.code.severity,
                    "affects": one.code.affects,
                    "subject": one.subject,
                    "problem": one.problem,
                    "mend": one.mend,
                    "fix": list(one.fix),
                    "document": document(one.code),
                }
                for one in self.findings
            ],
        }


def document(code: FindingCode) -> str:
    """Return where the documents describe a kind of finding."""
    return f"{PAGE}#{code}"


def state_of(findings: Sequence[Finding]) -> CheckState:
    """Return the result of a check that has found these."""
    if not findings:
        return CheckState.OK
    is_failure = any(one.code.severity is Severity.FAILURE for one in findings)
    return CheckState.FAILURE if is_failure else CheckState.WARNING


def worst(outcomes: Sequence[Outcome]) -> CheckState:
    """Return the worst result."""
    states = {one.state for one in outcomes}
    for state in (CheckState.FAILURE, CheckState.WARNING, CheckState.UNKNOWN):
        if state in states:
            return state
    return CheckState.OK


def findings_of(outcomes: Sequence[Outcome]) -> list[Finding]:
    """Return what all checks have found."""
    return [finding for one in outcomes for finding in one.findings]


@dataclass(frozen=True, slots=True)
class Visit:
    """What doctor has found and done."""

    rules: str
    """The path of the rules file."""
    runs: str
    """The natmirror that runs, as text."""
    pid: int | None
    outcomes: Sequence[Outcome]
    fixes: Sequence[FixEntry] = ()

    @property
    def exit_code(self) -> int:
        """Return the exit code of the worst result."""
        found = findings_of(self.outcomes)
        if any(one.stops_production for one in found):
            return PRODUCTION_FAILS
        if any(one.code.severity is Severity.FAILURE for one in found):
            return COPIES_FAIL
        return WARNED if found or any(one.is_unclear for one in self.outcomes) else 0

    def show(self) -> DoctorAnswer:
        """Return this as values for JSON."""
        return {
            "version": __version__,
            "rules": self.rules,
            "pid": self.pid,
            "state": worst(self.outcomes),
            "checks": [one.show() for one in self.outcomes],
            "fixes": list(self.fixes),
        }
