"""The page of the findings: what each kind means, and what mends it. ``natmirror doctor`` links to its sections."""

from collections.abc import Iterator

from natmirror.docstrings import summary
from natmirror.doctor.checks import CHECKS
from natmirror.findings import ALL_CODES, FindingCode, HostCode, OwnCode, PathCode, SendCode, SetupCode
from natmirror.findings.code import Trait
from natmirror.reference import markdown
from natmirror.reference.markdown import literal

_INTRODUCTION = """
Each kind of finding has a stable code. The running natmirror logs what it finds, and shows it in `natmirror status` and
in the API; `natmirror doctor` shows that and more. Words in braces stand for the values of a single finding.
"""
_CHECKS_OF = {code: check.name for check in CHECKS for code in check.codes}


def page() -> str:
    """Return the page."""
    return markdown.page("Findings", _INTRODUCTION, *_blocks())


def _blocks() -> Iterator[str]:
    for kind in (HostCode, PathCode, OwnCode, SetupCode, SendCode):
        yield f"## {summary(kind).rstrip('.')}"
        yield from (_section(code) for code in ALL_CODES if isinstance(code, kind))


def _section(code: FindingCode) -> str:
    rows = [
        ("severity", f"{code.severity}, of {code.affects}"),
        ("problem", code.problem),
        ("remedy", "<br>".join(code.remedy.splitlines())),
    ]
    if code in _CHECKS_OF:
        rows.append(("check of `natmirror doctor`", literal(_CHECKS_OF[code])))
    if code.fix:
        rows.append(("`natmirror doctor --fix` runs", literal(" ".join(code.fix))))
    if code.trait is Trait.MAY_LIE_BEYOND:
        rows.append(("makes this host unfit", "only while it is to blame for that service (docs/pair.md)"))
    return f"### {code}\n\n{markdown.table(('', ''), rows)}"
