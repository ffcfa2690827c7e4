"""The JSON of this host's condition, field by field: whether all is well, and the problems. The reference shows these
sentences. problems.py finds the problems."""

from enum import StrEnum
from typing import TypedDict

from natmirror.findings import Affected, FindingCode, Severity


class Condition(StrEnum):
    """Whether all is well with this host and with what it serves."""

    OK = "ok"
    """There is no problem, or only such as are mended already."""
    DEGRADED = "degraded"
    """There are problems, but this host can be active: it passes what it can, or another host would do no better."""
    NOT_FIT = "not-fit"
    """This host cannot be active: ``natmirror health`` says the same."""


class ProblemKind(StrEnum):
    """A problem that is no finding."""

    HOST_NOT_FIT = "host-not-fit"
    """``natmirror health`` has a reason that is no finding: natmirror starts or stops, or a packet thread is stuck."""
    BACKEND_DOWN = "backend-down"
    """The health checks of a backend fail."""
    MIRROR_DOWN = "mirror-down"
    """The legs to a mirror fail."""
    MIRROR_BEHIND = "mirror-behind"
    """Bytes have waited for a mirror's acknowledgement for more than 5 s."""
    NOT_COPIED = "not-copied"
    """A mirror does not get the bytes of open connections, for a reason that the rules and the operator do not give."""
    MIRRORING_OFF = "mirroring-off"
    """natmirror has switched a part of mirroring off after internal errors."""
    CHORE_FAILS = "chore-fails"
    """Background work of natmirror fails or hangs."""
    RULES_FILE = "rules-file"
    """The rules file cannot be used: neither a reload nor a restart could apply it."""


class ProblemEntry(TypedDict):
    """A problem: a finding, or what else is wrong now."""

    code: FindingCode | ProblemKind
    """The finding's code, or the kind of the problem."""
    severity: Severity
    """How bad it is."""
    affects: Affected
    """What it affects."""
    subject: str
    """The backend, mirror or other thing at fault; empty if there is only one."""
    problem: str
    """What is wrong."""
    mend: str
    """What mends it."""
    since: str | None
    """Since when natmirror has seen it, in UTC (RFC 3339); null if it does not know that."""
    mended: bool
    """Whether it is mended already: natmirror only tells of it for a while."""


class ConditionEntry(TypedDict):
    """The condition of this host and of what it serves."""

    state: Condition
    """Whether all is well."""
    unfit_because: str
    """Why ``natmirror health`` calls this host unfit; empty if it is fit."""
    problems: list[ProblemEntry]
    """What is wrong now, the worst first; what is mended already comes last."""
