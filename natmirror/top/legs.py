"""The table of legs, sorted and filtered by the running natmirror."""

from collections.abc import Sequence

from natmirror.api.list_tables import LEGS
from natmirror.api.tables import Column, table
from natmirror.api.text import age
from natmirror.top.drawing import Glyphs
from natmirror.top.known import Known
from natmirror.top.view import View

_OLD = 3
"""Intervals after which an answer's age is coloured."""


def title(known: Known, view: View, now: float) -> tuple[str, bool]:
    """Return what the table shows, and whether it is old."""
    what = "legs that are behind, the longest first" if view.shows_worst else f"legs by {view.order.title}"
    parts = [what]
    if view.filter:
        parts.append("only " + " ".join(f"{key}={value}" for key, value in view.filter.items()))
    if known.legs_trouble:
        return ", ".join((*parts, known.legs_trouble)), True
    if known.legs_at is None:
        return ", ".join((*parts, "natmirror has not answered yet")), False
    old = now - known.legs_at
    parts.append(f"answer {age(old)} old")
    if not is_answered(known, view):
        parts.append("the answer to this question is under way")
    return ", ".join(parts), old > _OLD * view.interval


def is_answered(known: Known, view: View) -> bool:
    """Return whether the legs that are known answer the question that is asked now."""
    wanted = view.question(0)
    return {**known.legs_question, "limit": 0} == wanted


def lines(known: Known, view: View, width: int, rows: int, glyphs: Glyphs) -> list[str]:
    """Return the lines of the table, with at most ``rows`` rows below its titles."""
    shown = known.legs[:rows]
    if not shown:
        none = "no mirror is behind" if view.shows_worst else "there is none"
        if view.filter and view.shows_worst:
            none = "none of these is behind"
        return [none] if known.legs_at is not None and is_answered(known, view) else []
    return table(_columns(view, glyphs), shown, width)


def _columns(view: View, glyphs: Glyphs) -> Sequence[Column]:
    arrow = glyphs.descending if view.is_descending else glyphs.ascending
    columns = [_without(one) for one in LEGS.columns]
    at = next(number for number, one in enumerate(columns) if one.title == view.order.title)
    columns[at] = columns[at]._replace(title=f"{view.order.title} {arrow}", rank=0)
    return columns


def _without(column: Column) -> Column:
    """Return a column of the command ``natmirror legs`` as it fits here: its colour says that a leg is open, which is
    nothing to look at."""
    if column.title != "leg":
        return column
    return column._replace(colour=lambda leg: "red" if leg["state"] in ("ended", "none") else None)
