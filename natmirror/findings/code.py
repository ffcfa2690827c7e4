"""A finding, and what each kind of finding has: a stable code, a severity, what it affects, a problem and a remedy."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from string import Formatter
from typing import Self

_NAMES_OF_SERVICES = ("service", "pool")


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


class Trait(Enum):
    """What else a kind of finding may be."""

    FADES = auto()
    """What was wrong is mended already: the finding only tells of it for a while."""
    MAY_LIE_BEYOND = auto()
    """Its cause may lie beyond this host, so that another host would not do better. It makes this host unfit only while
    the host is blamed for that service."""


class FindingCode(StrEnum):
    """A kind of finding: its stable code, its severity, what it affects, the problem and the remedy. Words in braces
    stand for the values of a single finding.

    The remedy has a line for each step or alternative. A command stands behind ``run: ``, and the line ends with it, so
    that an operator can copy it.

    ``fix`` is a command that mends a finding of this kind for certain. It changes no rules and no routes, makes no
    filter let more pass, and ends no connection: ``natmirror doctor --fix`` runs it. ``{fix}`` in the remedy stands for
    it.
    """

    def __new__(
        cls,
        code: str,
        severity: Severity,
        affects: Affected,
        problem: str,
        mend: str,
        trait: Trait | None = None,
        fix: tuple[str, ...] = (),
    ) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.severity, member.affects, member.problem, member.mend = severity, affects, problem, mend
        member.trait, member.fix = trait, fix
        return member

    severity: Severity
    affects: Affected
    problem: str
    mend: str
    trait: Trait | None
    fix: tuple[str, ...]

    def found(self, **values: object) -> "Finding":
        """Return a finding of this kind. The first value identifies it among those of its kind, ``service`` with it if
        there is one; the others may change while it lasts."""
        key, first = next(iter(values.items()), ("", ""))
        subject = f"{values['service']}/{first}" if "service" in values and key != "service" else str(first)
        command = tuple(word for part in self.fix for word in part.format(**values).split())
        mended_by = self.mend.format(**values, fix=" ".join(command))
        services = frozenset(str(values[name]) for name in _NAMES_OF_SERVICES if name in values)
        return Finding(self, subject, self.problem.format(**values), mended_by, command, services)

    @property
    def remedy(self) -> str:
        """The remedy with the words in braces, but with the command of ``fix``."""
        return self.mend.replace("{fix}", " ".join(self.fix))

    def values(self) -> set[str]:
        """Return the names of the values that a finding of this kind has."""
        texts = Formatter().parse(f"{self.problem} {self.remedy}")
        return {name for _, name, _, _ in texts if name}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, its meaning, and what mends it. Code and subject identify it as long as it lasts."""

    code: FindingCode
    subject: str
    problem: str
    mend: str
    fix: tuple[str, ...] = ()
    """The command that mends it, word by word; empty if there is none that is safe to run unseen."""
    services: frozenset[str] = frozenset()
    """The services that it is about; empty: all, or they are unknown."""

    def __str__(self) -> str:
        return f"{self.code}: {self.problem}; {self.remedy}"

    @property
    def remedy(self) -> str:
        """What mends it, in one line."""
        return "; ".join(self.mend.splitlines())

    @property
    def stops_production(self) -> bool:
        """Return whether production cannot pass."""
        return self.code.severity is Severity.FAILURE and self.code.affects is Affected.PRODUCTION
