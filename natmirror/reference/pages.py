"""The pages of the reference, and whether the files in docs/reference still agree with the code."""

from collections.abc import Callable
from pathlib import Path

from natmirror.reference import commands, findings, metrics, rules, rules_schema, state

FOLDER = Path(__file__).parents[2] / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "findings.md": findings.page,
    "metrics.md": metrics.page,
    "rules.md": rules.page,
    "rules.schema.json": rules_schema.page,
    "state.md": state.page,
}
"""The function that returns the text of each file in docs/reference."""


def write(folder: Path) -> None:
    """Write all pages to a folder, whose parent exists."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


def stale(folder: Path) -> list[str]:
    """Return the names of the files in a folder that differ from what the code gives, are missing or are not pages."""
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")} if folder.is_dir() else {}
    given = {name: page() for name, page in PAGES.items()}
    return sorted(name for name in found.keys() | given.keys() if found.get(name) != given.get(name))
