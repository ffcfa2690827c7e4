"""Finds the problems with which ``natmirror status`` begins, the worst first, and this host's condition.

A problem is a finding, or what else the state shows to be wrong: a backend or mirror that is down, connections that are
not copied, work that fails. What follows from a finding that names the cause is not told twice. Pure: the parts of the
state come as arguments.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from natmirror import docstrings
from natmirror.api import times
from natmirror.backends.shown import BackendState
from natmirror.findings import Affected, FindingEntry, OwnCode, PathCode, Severity
from natmirror.ha.exit_codes import FIT, HOST_FAILS, RULES_MISSING, STUCK
from natmirror.mirror.faults import OffEntry
from natmirror.mirror.shown import MirrorState
from natmirror.reasons import NOT_LOST, EndReason
from natmirror.runtime.chores import ChoreFailure
from natmirror.runtime.condition import Condition, ConditionEntry, ProblemEntry, ProblemKind
from natmirror.runtime.mirror_watch import MENDS
from natmirror.runtime.shown import BackendEntry, LoadedRules, MirrorStatus, RunSums

_TOLD_OF_POOL = (PathCode.NO_BACKEND_UP, PathCode.SORRY_ALONE, PathCode.POOL_IN_PANIC)
"""The findings that name the backends of a pool that are down. Their subject is the service."""
_FINDINGS_OF_CHORES = {
    "record": OwnCode.ORDERS_NOT_RECORDED,
    "known-switches": OwnCode.SWITCHES_NOT_SAVED,
    "overrides": OwnCode.OVERRIDES_NOT_SAVED,
    "events": OwnCode.EVENTS_NOT_SAVED,
}
"""The finding that tells more about the failure of a chore."""
_NOTHING_TO_DO = "Nothing to do"


def _remedies() -> dict[EndReason, str]:
    """Return the remedy of each reason for which a mirror misses bytes, as the reference has it."""
    told = docstrings.sentences(EndReason)
    return {reason: told[reason.name].partition("\n\n")[2] for reason in EndReason}


_REMEDIES = _remedies()  # now, because packet threads do not wait yet


@dataclass(frozen=True, slots=True)
class Observed:
    """What the condition depends on: the counters and states, and the answer of ``natmirror health``. ``now`` is the
    time of day, in seconds since 1970."""

    now: float
    sums: RunSums
    findings: list[FindingEntry]
    failing_chores: list[ChoreFailure]
    rules: LoadedRules
    health: tuple[int, str]


def condition(seen: Observed) -> ConditionEntry:
    """Return the condition as values for JSON."""
    code, reason = seen.health
    problems = sorted(_problems(seen), key=_rank)
    is_fit = code == FIT
    lasts = any(not one["mended"] for one in problems)
    state = Condition.NOT_FIT if not is_fit else Condition.DEGRADED if lasts else Condition.OK
    return {"state": state, "unfit_because": "" if is_fit else reason, "problems": problems}


def _rank(one: ProblemEntry) -> tuple[bool, bool, bool]:
    """Return what sorts a problem before others that matter less."""
    is_failure = one["severity"] is Severity.FAILURE
    return one["mended"], not (is_failure and one["affects"] is Affected.PRODUCTION), not is_failure


def _problems(seen: Observed) -> Iterator[ProblemEntry]:
    """Yield the problems. Of those that are equally bad, natmirror's own state comes first, then findings."""
    findings, sums = seen.findings, seen.sums
    code, reason = seen.health
    is_told = any(one["affects"] is Affected.PRODUCTION and one["severity"] is Severity.FAILURE for one in findings)
    if code != FIT and not (is_told and code in (HOST_FAILS, RULES_MISSING)):
        mend = "restart natmirror if that lasts; the log has the cause" if code == STUCK else "the log has the cause"
        yield _problem(ProblemKind.HOST_NOT_FIT, "", f"this host is not fit: {reason}", mend, is_failure=True)
    told = {one["subject"] for one in findings}
    pools = {one["subject"] for one in findings if one["code"] in _TOLD_OF_POOL}
    for backend in sums["backends"]:
        if backend["service"] not in pools:
            yield from _of_backend(backend, told, seen.now)
    for mirror in sums["mirrors"]:
        if f"{mirror['service']}/{mirror['name']}" not in told:
            yield from _of_mirror(mirror, seen.now)
    for off in sums["faults"]["off"]:
        yield _off(off)
    codes = {one["code"] for one in findings}
    for chore in seen.failing_chores:
        if _FINDINGS_OF_CHORES.get(chore["name"]) in codes:
            continue
        text = f"{chore['name']}: {chore['error']}"
        since = seen.now - chore["failing_seconds"]
        yield _problem(ProblemKind.CHORE_FAILS, chore["name"], text, "natmirror tries again", since)
    if error := seen.rules["file_error"]:
        text = f"the rules file cannot be used: {error}"
        yield _problem(ProblemKind.RULES_FILE, "", text, "correct it, and see with: natmirror reload --dry-run")
    for one in findings:
        yield {
            "code": one["code"],
            "severity": one["severity"],
            "affects": one["affects"],
            "subject": one["subject"],
            "problem": one["problem"],
            "mend": one["mend"],
            "since": one["since"],
            "mended": one["mended"],
        }


def _problem(
    kind: ProblemKind,
    subject: str,
    text: str,
    mend: str,
    since: float | None = None,
    *,
    affects: Affected = Affected.PRODUCTION,
    is_failure: bool = False,
) -> ProblemEntry:
    return {
        "code": kind,
        "severity": Severity.FAILURE if is_failure else Severity.WARNING,
        "affects": affects,
        "subject": subject,
        "problem": text,
        "mend": mend,
        "since": None if since is None else times.show(since),
        "mended": False,
    }


def _of_backend(backend: BackendEntry, told: Collection[str], now: float) -> Iterator[ProblemEntry]:
    subject, seconds = f"{backend['service']}/{backend['name']}", backend["state_seconds"]
    if backend["state"] in (BackendState.DOWN, BackendState.PANIC) and subject not in told:
        yield _problem(
            ProblemKind.BACKEND_DOWN,
            subject,
            f"backend {subject} ({backend['address']}) is down: {backend['reason']}",
            "see whether its program runs; natmirror doctor looks for causes on this host",
            None if seconds is None else now - seconds,
        )


def _of_mirror(mirror: MirrorStatus, now: float) -> Iterator[ProblemEntry]:
    """Yield a mirror's problems. While it is down, connections that are not copied need no line of their own."""
    subject = f"{mirror['service']}/{mirror['name']}"
    name, since = f"mirror {subject} ({mirror['address']})", now - mirror["state_seconds"]
    uncopied = {
        reason: count
        for reason, count in mirror["connections_not_copied"].items()
        if reason not in NOT_LOST and not _REMEDIES[reason].startswith(_NOTHING_TO_DO)
    }
    count = sum(uncopied.values())
    shown = ", ".join(f"{one} {number}" for one, number in uncopied.items())
    connections = f"{count} open connection{'' if count == 1 else 's'} ({shown})"
    if mirror["state"] is MirrorState.DOWN:
        assert mirror["reason"] is not None, "the reason why its legs fail"
        lacks = f", and lacks {connections}" if count else ""
        text, mend = f"{name} is down ({mirror['reason']}){lacks}", MENDS[mirror["reason"]]
        yield _problem(ProblemKind.MIRROR_DOWN, subject, text, mend, since, affects=Affected.COPIES, is_failure=True)
        return
    if mirror["state"] is MirrorState.BEHIND:
        text = f"{name} is {mirror['lag_seconds']:.1f} s behind"
        mend = "see whether its program reads, and look for losses on the way to it"
        yield _problem(ProblemKind.MIRROR_BEHIND, subject, text, mend, since, affects=Affected.COPIES)
    if uncopied:
        reason = max(uncopied, key=lambda one: uncopied[one])
        text = f"{name} does not get {connections}"
        yield _problem(ProblemKind.NOT_COPIED, subject, text, _REMEDIES[reason], affects=Affected.COPIES)


def _off(off: OffEntry) -> ProblemEntry:
    return _problem(
        ProblemKind.MIRRORING_OFF,
        f"thread {off['thread']}",
        f"{off['work']} is switched off in packet thread {off['thread']} after internal errors",
        f"it is on again in {off['on_again_seconds']:.0f} s, or at once with: natmirror resume-mirroring; report the"
        " tracebacks in the log",
        affects=Affected.COPIES,
    )
