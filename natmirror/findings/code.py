"""A finding, and what each kind of finding has: a stable code, a severity, what it affects, a problem and a remedy."""

from dataclasses import dataclass
from enum import StrEnum
from string import Formatter
from typing import Self


class Severity(StrEnum):
    """How bad a finding is."""

    FAILURE = "failure"
    """Production or the copies, as ``affects`` says, cannot pass."""
    WARNING = "warning"
    """Traffic passes, but something is missing or wrong, or may be."""


class Affected(StrEnum):
    """What a finding affects."""

    PRODUCTION = "production"
    """The connections between clients and backends, and so their copies too."""
    COPIES = "copies"
    """Only what mirrors get."""


class FindingCode(StrEnum):
    """A kind of finding: its stable code, its severity, what it affects, the problem and the remedy. Words in braces
    stand for the values of a single finding."""

    def __new__(
        cls, code: str, severity: Severity, affects: Affected, problem: str, mend: str, fades: bool = False
    ) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.severity, member.affects, member.problem, member.mend = severity, affects, problem, mend
        member.fades = fades
        return member

    severity: Severity
    affects: Affected
    problem: str
    mend: str
    fades: bool
    """Whether what was wrong is mended already, so that the finding only tells of it for a while."""

    def found(self, **values: object) -> "Finding":
        """Return a finding of this kind. The first value identifies it among those of its kind, ``service`` with it if
        there is one; the others may change while it lasts."""
        key, first = next(iter(values.items()), ("", ""))
        subject = f"{values['service']}/{first}" if "service" in values and key != "service" else str(first)
        return Finding(self, subject, self.problem.format(**values), self.mend.format(**values))

    def values(self) -> set[str]:
        """Return the names of the values that a finding of this kind has."""
        texts = Formatter().parse(f"{self.problem} {self.mend}")
        return {name for _, name, _, _ in texts if name}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, its meaning, and what mends it. Code and subject identify it as long as it lasts."""

    code: FindingCode
    subject: str
    problem: str
    mend: str
    is_excused: bool = False
    """Whether it leaves this host fit, though it stops production: another host would not do better, as far as is
    known."""

    def __str__(self) -> str:
        return f"{self.code}: {self.problem}; {self.mend}"

    @property
    def stops_production(self) -> bool:
        """Return whether production cannot pass."""
        return self.code.severity is Severity.FAILURE and self.code.affects is Affected.PRODUCTION
