"""What the state of a running natmirror shows. Each function yields findings."""

from collections.abc import Iterator
from pathlib import Path

from natmirror.api.client import send_command
from natmirror.doctor.subject import NothingToCheckError, Subject
from natmirror.errors import HostError
from natmirror.findings import Finding, SetupCode

_PREVIEW_TIMEOUT = 30.0  # seconds; a large file takes a second


def rules_in_use(subject: Subject) -> Iterator[Finding]:
    """The running natmirror uses the rules file as it is."""
    status = subject.run()
    if subject.rules_path.absolute() != _absolute(status["rules"], int(status["pid"])):
        yield SetupCode.OTHER_RULES_IN_USE.found(path=subject.rules_path, used=status["rules"])
        return
    if subject.rules_error:
        raise NothingToCheckError("the rules file cannot be used")
    try:
        changes = send_command("reload", {"dry_run": True}, subject.api, _PREVIEW_TIMEOUT)["changes"]
    except HostError as error:
        changes = [str(error)]
    if changes:
        yield SetupCode.RULES_NOT_APPLIED.found(path=subject.rules_path, changes="; ".join(changes))


def threads(subject: Subject) -> Iterator[Finding]:
    """Its packet threads and its background work go on."""
    status = subject.run()
    for number, error in status["machine"]["ended_threads"].items():
        yield SetupCode.THREAD_ENDED.found(number=number, error=error)
    for one in status["failing_chores"]:
        yield SetupCode.CHORE_FAILS.found(name=one["name"], error=one["error"])


def translation(subject: Subject) -> Iterator[Finding]:
    """The kernel translates large packets."""
    if (why := subject.run()["machine"]["kernel_translation_off_because"]) is not None:
        yield SetupCode.NOT_TRANSLATED.found(why=why)


def backends(subject: Subject) -> Iterator[Finding]:
    """Its backends are up, or have no health checks."""
    for one in subject.run()["backends"]:
        if one["state"] == "down":
            yield SetupCode.BACKEND_DOWN.found(
                name=one["name"],
                address=one["address"],
                service=one["service"],
                seconds=f"{one['state_seconds'] or 0:.0f}",
                reason=one["reason"],
                host=one["address"].rpartition(":")[0],
            )


def copies(subject: Subject) -> Iterator[Finding]:
    """Each open connection is copied as the rules say."""
    mirrors = subject.run()["mirrors"]
    if not mirrors:
        raise NothingToCheckError("the rules have no mirrors")
    for one in mirrors:
        if missing := one["connections_not_copied"]:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in missing.items())
            yield SetupCode.CONNECTIONS_NOT_COPIED.found(
                name=one["name"], service=one["service"], count=sum(missing.values()), reasons=reasons
            )


def _absolute(path: str, pid: int) -> Path:
    """Return the rules file of a run, whose path may be relative to the directory in which it was started."""
    found = Path(path)
    if found.is_absolute():
        return found
    try:
        return Path(f"/proc/{pid}/cwd").readlink() / found
    except OSError:
        return found.absolute()
