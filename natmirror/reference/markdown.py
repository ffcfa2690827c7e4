"""The Markdown of the pages."""

from collections.abc import Iterable, Sequence

WARNING = "<!-- Generated from the code by `make reference`. Do not edit. -->"
"""The first line of each page."""


def page(title: str, *blocks: str) -> str:
    """Return a whole page: its title, then its blocks, with an empty line between them. Empty blocks are left out."""
    return "\n\n".join((WARNING, f"# {title}", *(block.strip("\n") for block in blocks if block))) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown, and their line ends become spaces."""
    lines = [_row(header), _row(["---"] * len(header)), *map(_row, rows)]
    return "\n".join(lines)


def code(text: str, language: str = "") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def literal(text: object) -> str:
    """Return a word of code inside a sentence."""
    return f"`{text}`"


def anchor(title: str) -> str:
    """Return the anchor that GitHub makes of a title."""
    return "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char in "-_")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
