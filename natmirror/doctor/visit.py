"""A visit: makes all checks, mends what is safe to mend, and checks again.

A command that mends changes no rule and no route, makes no filter let more pass, and ends no connection. It is this
program's own, never a socket's.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from natmirror.doctor.checks import CHECKS, Check
from natmirror.doctor.outcome import CheckState, FixEntry, Outcome, Visit, findings_of, state_of
from natmirror.doctor.subject import NotCheckedError, NothingToCheckError, Subject
from natmirror.errors import HostError
from natmirror.findings import Finding
from natmirror.linux import commands

_PACKAGES = {"sysctl": "procps", "modprobe": "kmod"}
# Seconds
_NOTED_WITHIN = 8.0  # in which a running natmirror takes note of what is mended
_PAUSE = 0.5


def visit(
    new_subject: Callable[[], Subject],
    *,
    mends: bool,
    say: Callable[[str], None],
    send: Callable[[Subject], list[Outcome]] | None = None,
) -> Visit:
    """Make all checks, and return what they find. With ``mends``, run the commands that mend it for certain, have each
    printed before, and return what is found afterwards; then ``send`` makes connections, None: it makes none."""
    subject = new_subject()
    outcomes = examine(subject)
    fixes: list[FixEntry] = []
    for command in _fixes(outcomes) if mends else []:
        say(f"$ {' '.join(command)}")
        error = _run(command)
        if error is not None:
            say(f"  {error}")
        fixes.append({"command": list(command), "error": error})
    if fixes:
        mended = {tuple(one["command"]) for one in fixes if one["error"] is None}
        codes = {one.code for one in findings_of(outcomes) if one.fix in mended}
        until = time.monotonic() + _NOTED_WITHIN
        while True:
            subject = new_subject()
            outcomes = examine(subject)
            is_noted = subject.status is None or not codes & {one.code for one in findings_of(outcomes)}
            if is_noted or time.monotonic() > until:
                break
            time.sleep(_PAUSE)
    runs = "natmirror does not run" if subject.owner is None else f"natmirror runs, {subject.owner}"
    pid = None if subject.status is None else int(subject.status["pid"])
    if send is not None:
        outcomes += send(subject)
    return Visit(str(subject.rules_path), runs, pid, outcomes, fixes)


def examine(subject: Subject, checks: Iterable[Check] = CHECKS) -> list[Outcome]:
    """Make checks; return what each has found."""
    return [_made(check, subject) for check in checks]


def _made(check: Check, subject: Subject) -> Outcome:
    named = check.name, check.section, check.title
    found: list[Finding] = []
    try:
        if check.look is not None:
            found += check.look(subject)
        if check.codes:
            found += subject.reported(check.codes) if check.of_run else subject.found(check.codes)
    except (NotCheckedError, HostError, OSError) as error:
        if not found:
            return Outcome(*named, state=CheckState.UNKNOWN, why=str(error))
    except NothingToCheckError as error:
        return Outcome(*named, state=CheckState.SKIPPED, why=str(error))
    except Exception as error:  # must not keep the other checks' results from the operator
        return Outcome(*named, state=CheckState.UNKNOWN, why=f"internal error of doctor, report it: {error!r}")
    return Outcome(*named, found, state_of(found))


def _fixes(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the commands that mend what was found, each once."""
    return list(dict.fromkeys(one.fix for one in findings_of(outcomes) if one.fix))


def _run(command: Sequence[str]) -> str | None:
    """Run a command; return why it failed, None where it did not."""
    try:
        commands.run(command, package=_PACKAGES[command[0]])
    except HostError as error:
        return str(error)
    return None
