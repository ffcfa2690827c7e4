"""Shows the results of the checks: a mark for each check, each problem and its remedy below it, and a summary."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import click

from natmirror import __version__
from natmirror.doctor.checks import CHECKS
from natmirror.doctor.outcome import CheckState, Outcome, Visit, document, findings_of
from natmirror.findings import Severity

_MARKS = {
    CheckState.OK: ("ok", "green"),
    CheckState.WARNING: ("WARN", "yellow"),
    CheckState.FAILURE: ("FAIL", "red"),
    CheckState.UNKNOWN: ("?", "yellow"),
    CheckState.SKIPPED: ("-", None),
}
_WIDTH = max(len(mark) for mark, _ in _MARKS.values()) + 2


def screen(visit: Visit) -> Iterator[str]:
    """Yield the lines of the screen."""
    yield f"natmirror doctor {__version__}: rules {visit.rules}; {visit.runs}"
    for section, members in groupby(visit.outcomes, lambda one: one.section):
        outcomes = list(members)
        if len({(one.state, one.why) for one in outcomes}) == 1 and outcomes[0].why:
            yield f"{click.style(section, bold=True)}{_why(outcomes[0])}"
            continue
        yield click.style(section, bold=True)
        for one in outcomes:
            yield from _shown(one)
    yield _summary(visit.outcomes)


def _shown(one: Outcome) -> Iterator[str]:
    mark, colour = _MARKS[one.state]
    shown = click.style(f"[{mark}]".ljust(_WIDTH), fg=colour)
    yield f"  {shown} {one.title}{_why(one)}"
    for finding in one.findings:
        yield f"         {finding.code} ({finding.code.severity}): {finding.problem}"
        yield from (f"           -> {line}" for line in finding.mend.splitlines())
        yield f"           see {document(finding.code)}"


def _why(one: Outcome) -> str:
    if one.said:
        return f": {one.said}"
    return f": {'not checked' if one.is_unclear else 'nothing to check'}: {one.why}" if one.why else ""


def _summary(outcomes: Sequence[Outcome]) -> str:
    """Return the last line."""
    counts = Counter(one.code.severity for one in findings_of(outcomes))
    unclear = sum(one.is_unclear for one in outcomes)
    parts = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for name, count in (("failure", counts[Severity.FAILURE]), ("warning", counts[Severity.WARNING]))
        if count
    ]
    if unclear:
        parts.append(f"{unclear} {'check' if unclear == 1 else 'checks'} could not be made")
    return ", ".join(parts) if parts else "no problem found"


def listing() -> Iterator[str]:
    """Yield a line for each check: its name, and what is so if it finds nothing."""
    width = max(len(check.name) for check in CHECKS)
    section = ""
    for check in CHECKS:
        if check.section != section:
            section = check.section
            yield section
        yield f"  {check.name:{width}}  {check.title}"
