"""Tables for a terminal: one line for each row, and no cell is wrapped.

A table drops the columns that matter least until the others fit. Where there is no terminal, it keeps all of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

Row = Mapping[str, Any]
_GAP = "  "
_ELLIPSIS = "…"
_MIN_CUT = 12
"""The least width of a cell that is cut: a narrower one would tell nothing, so its column is dropped."""


class Column(NamedTuple):
    """A column of a table. The columns with the smallest ``rank`` stay longest."""

    title: str
    rank: float
    show: Callable[[Row], str]
    is_number: bool = False
    colour: Callable[[Row], str | None] = lambda row: None
    """Returns the colour of a cell, in click's words."""
    may_be_cut: bool = False
    """Whether long cells may end in an ellipsis on a terminal. Only the last column may."""
    may_be_absent: bool = False
    """Whether the column is left out if all its cells are empty."""


def table(columns: Iterable[Column], rows: Iterable[Row], width: int | None) -> list[str]:
    """Return the lines of a table, the titles first, of at most ``width`` characters, unless the column that matters
    most is wider; None: as wide as they get."""
    columns, rows = list(columns), list(rows)
    colours = [[column.colour(row) for column in columns] for row in rows]
    cells = [[column.show(row) for column in columns] for row in rows]
    widths = [max(len(column.title), *(len(row[at]) for row in cells), 0) for at, column in enumerate(columns)]
    kept = [at for at, one in enumerate(columns) if not one.may_be_absent or any(row[at] for row in cells)]
    if width is not None:
        _fit(columns, widths, kept, width)
    titles = _line(columns, [column.title for column in columns], [None] * len(columns), kept, widths)
    return [titles, *(_line(columns, *row, kept, widths) for row in zip(cells, colours, strict=True))]


def _fit(columns: Sequence[Column], widths: list[int], kept: list[int], width: int) -> None:
    """Remove columns until the others fit, and narrow the last one if it may be cut."""
    least = [min(widths[at], _MIN_CUT) if one.may_be_cut else widths[at] for at, one in enumerate(columns)]

    def taken(some: Sequence[int]) -> int:
        return sum(least[at] for at in some) + len(_GAP) * (len(some) - 1)

    while len(kept) > 1 and taken(kept) > width:
        kept.remove(max(kept, key=lambda at: columns[at].rank))
    last = kept[-1]
    if columns[last].may_be_cut:
        widths[last] = min(widths[last], width - taken(kept) + least[last])


def _line(
    columns: Sequence[Column],
    cells: Sequence[str],
    colours: Sequence[str | None],
    kept: Sequence[int],
    widths: Sequence[int],
) -> str:
    shown = []
    for at in kept:
        cell = cells[at] if len(cells[at]) <= widths[at] else cells[at][: widths[at] - 1] + _ELLIPSIS
        space = " " * (widths[at] - len(cell))
        coloured = cell if colours[at] is None else click.style(cell, fg=colours[at])
        shown.append(space + coloured if columns[at].is_number else coloured + space)
    return _GAP.join(shown).rstrip()
