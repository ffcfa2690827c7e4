"""Makes the whole screen, line by line, from what is known and what the operator wants to see.

What matters most comes first: the condition with its problems, services, backends, mirrors, threads; the legs have the
rest. Tables that have too many rows for the terminal are cut, and then show first what is not as it should be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any, NamedTuple

from rich.text import Text

from natmirror.api.status_screen import BACKENDS, MIRRORS, head_line, problem_lines
from natmirror.api.tables import Column, table
from natmirror.api.text import age, counted, size
from natmirror.top import legs
from natmirror.top.drawing import Glyphs, curve, percent, short
from natmirror.top.history import LENGTH
from natmirror.top.known import Known
from natmirror.top.view import View

_MIN_LEGS = 5  # lines: what the table shows, its titles, three rows
_MIN_TABLE = 3  # lines of a table: its titles, one row, how many there are
_MIN_CURVE, _MAX_CURVE = 8, LENGTH
_CURVES = 3  # of a service
_TITLE, _KEY = "bold reverse", "bold"
_WELL = frozenset(("up", "unchecked", "sorry", "untried"))
_BUSY = 0.8  # of a processor
KEYS = (
    ("s", "sort"),
    ("r", "reverse"),
    ("f", "filter"),
    ("p", "pause"),
    ("+-", "pace"),
    ("?", "help"),
    ("q", "quit"),
)
_HELP = """\
s S    sort the legs by the next column, by the one before it
r      reverse the order
f /    filter the legs: an address or a network, the name of a backend, mirror or service, a state;
       several words mean all of them; backend=c1 where a name is not enough
Esc    take the filter away
p      pause: ask nothing, show the same; p again goes on
+ -    ask more often, less often
?      this text
q      quit, as Ctrl-C does; Ctrl-Z suspends

Curves show the last answers, the latest at the right, each scaled to its own highest point.
While legs that are behind are shown first, natmirror finds them at little cost. For another
order or with a filter it may look at all connections, which it does beside traffic: the age
of the table tells how long ago that was."""


class Frame(NamedTuple):
    """The screen, and for how many legs it has room."""

    text: Text
    leg_rows: int


class _Block(NamedTuple):
    """A table: its titles, its rows, and which rows come first where not all fit."""

    lines: Sequence[str]
    is_well: Sequence[bool]


def frame(known: Known, view: View, width: int, height: int, glyphs: Glyphs, now: float, wall: float) -> Frame:
    """Return the screen. ``now`` is the monotonic time of ``known``, ``wall`` the same moment in seconds since 1970."""
    top = list(_head(known, view, width, height, now, wall))
    if view.shows_help:
        shown = [*top[:1], Text(), *(_plain(line, width) for line in _HELP.splitlines())]
        return Frame(_whole(shown, _footer(view, width), height, glyphs), 0)
    status = known.status
    below: list[Text] = []
    if status is not None:
        threads = _threads(known, width, 2 if height > 30 else 1)
        room = height - len(top) - len(threads) - _MIN_LEGS - 1
        blocks = [block for block in _blocks(known, view, width, glyphs) if len(block.lines) > 1]
        for block, most in zip(blocks, _shares([len(block.lines) for block in blocks], room), strict=True):
            below += _cut(block, most, width)
        below += threads
    left = height - len(top) - len(below) - 1
    what, is_old = legs.title(known, view, now)
    rows = max(left - 2, 0)
    listed = [_line(line, width) for line in legs.lines(known, view, width, rows, glyphs)]
    if known.legs and listed:
        listed[0] = _titles(listed[0], width)
    about = _plain(what, width)
    about.stylize("bold")
    if is_old:
        about.stylize("yellow")
    return Frame(_whole([*top, *below, about, *listed], _footer(view, width), height, glyphs), rows)


def _whole(lines: Sequence[Text], footer: Text, height: int, glyphs: Glyphs) -> Text:
    """Return lines as one text of this height, the footer last."""
    kept = list(lines[: height - 1])
    kept += [Text()] * (height - 1 - len(kept))
    whole = Text("\n", no_wrap=True, end="").join([*kept, footer])
    if glyphs.is_ascii:
        whole.plain = glyphs.fit(whole.plain)
    return whole


def _plain(line: str, width: int) -> Text:
    text = Text(line, no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def _line(line: str, width: int) -> Text:
    """Return a line with click's colours as a text."""
    text = Text.from_ansi(line, no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def _titles(line: Text, width: int) -> Text:
    """Return the titles of a table as a bar across the screen."""
    line.pad_right(width - line.cell_len)
    line.stylize(_TITLE)
    return line


# The head


def _head(known: Known, view: View, width: int, height: int, now: float, wall: float) -> Iterator[Text]:
    status = known.status
    state = "PAUSED" if view.is_paused else f"every {view.interval:g} s"
    right = f"{_clock(wall)}, {state}"
    if status is None:
        yield from _no_answer(known, width, now, wall)
        return
    left = _line(head_line(status), width)
    if left.cell_len + len(right) + 2 <= width:
        left.append(right.rjust(width - left.cell_len), "bold yellow" if view.is_paused else "")
    yield left
    if known.trouble:
        yield from _no_answer(known, width, now, wall)
    yield from _problems(status, width, max(2, height // 7))
    yield _facts(known, view, width, now)


def _problems(status: Mapping[str, Any], width: int, most: int) -> Iterator[Text]:
    """Yield at most so many lines of problems, the worst first: each problem has as many as the others."""
    problems = status["condition"]["problems"]
    each = max(1, most // max(1, len(problems)))
    shown = len(problems) if len(problems) <= most else most - 1
    for one in problems[:shown]:
        alone = {**status, "condition": {"problems": [one]}}
        lines = [_line(line, width) for line in problem_lines(alone, width, None)]
        if len(lines) > each:
            lines[each - 1].truncate(width - 1)
            lines[each - 1].append("…")
        yield from lines[:each]
    if shown < len(problems):
        yield _plain(f"    and {len(problems) - shown} more: natmirror status", width)


def _no_answer(known: Known, width: int, now: float, wall: float) -> Iterator[Text]:
    if not known.trouble:
        return
    since = now - known.trouble_at
    words = f"NO ANSWER since {_clock(wall - since)}, for {age(since)}: {known.trouble}"
    for number, line in enumerate(wrap(words, width, subsequent_indent="    ", break_on_hyphens=False)[:3]):
        yield Text(line, "bold red" if not number else "red", no_wrap=True)


def _clock(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%H:%M:%SZ}"


def _facts(known: Known, view: View, width: int, now: float) -> Text:
    status, history = known.status, known.history
    assert status is not None, "the caller has looked"
    memory = status["mirror_memory"]
    old = now - known.status_at
    facts = Text(f"answer {age(old)} old", "yellow" if old > 3 * view.interval else "", no_wrap=True)
    facts.append(f", {counted(status['flows'], 'connection')}")
    for what in ("dropped", "missed"):
        rate = history.latest(what)
        facts.append(f", {what} {short(rate)}/s", "yellow" if rate and what == "missed" else "")
    facts.append(f", mirror-memory {size(memory['used_bytes'])} of {size(memory['limit_bytes'])}")
    facts.truncate(width, overflow="ellipsis")
    return facts


# Tables


def _blocks(known: Known, view: View, width: int, glyphs: Glyphs) -> Iterator[_Block]:
    status = known.status
    assert status is not None, "the caller has looked"

    def of_service(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [one for one in rows if view.service in (None, one["service"])]

    services, backends, mirrors = (of_service(status[name]) for name in ("services", "backends", "mirrors"))
    yield _Block(table(_services(known, services, width, glyphs), services, width), [True] * len(services))
    accepted = _curve_of(known, "accepted", glyphs, _curve_width(width))
    yield _Block(table(_with_curve(BACKENDS, "new/s", accepted), backends, width), [_is_well(one) for one in backends])
    copied = _curve_of(known, "copied", glyphs, _curve_width(width))
    yield _Block(table(_with_curve(MIRRORS, "rate", copied), mirrors, width), [_is_well(one) for one in mirrors])


def _is_well(row: Mapping[str, Any]) -> bool:
    return row["state"] in _WELL


def _curve_width(width: int) -> int:
    return max(_MIN_CURVE, min(width // 6, 30))


def _curve_of(known: Known, what: str, glyphs: Glyphs, width: int) -> Callable[[Mapping[str, Any]], str]:
    history = known.history
    return lambda row: curve(history.rates(what, row["service"], row["name"]), history.number, width, glyphs)


def _with_curve(columns: Sequence[Column], title: str, show: Callable[[Mapping[str, Any]], str]) -> list[Column]:
    """Return columns with a curve behind the one with this title; it goes before the columns that matter less."""
    at = next(number for number, one in enumerate(columns) if one.title == title)
    added = Column("", columns[at].rank + 0.5, show, colour=lambda row: "cyan")
    return [*columns[: at + 1], added, *columns[at + 1 :]]


def _services(known: Known, rows: Sequence[Mapping[str, Any]], width: int, glyphs: Glyphs) -> list[Column]:
    """Return the columns of services: each rate as a number and as a curve, and the curves as wide as there is room."""
    names = max([len("service"), *(len(row["service"]) for row in rows)])
    numbers = len("  99999  packets/s  bits/s  conn/s") + 3 * 2
    room = max(_MIN_CURVE, min((width - names - numbers) // _CURVES, _MAX_CURVE))
    history = known.history

    def rate(title: str, rank: int, what: str) -> list[Column]:
        return [
            Column(title, rank, lambda row: short(history.latest(what, row["service"])), is_number=True),
            Column(
                "",
                rank + 3,
                lambda row: curve(history.rates(what, row["service"]), history.number, room, glyphs),
                colour=lambda row: "cyan",
            ),
        ]

    return [
        Column("service", 1, lambda row: str(row["service"])),
        Column("open", 2, lambda row: str(row["flows"]), is_number=True),
        *rate("packets/s", 3, "packets"),
        *rate("bits/s", 4, "bits"),
        *rate("conn/s", 5, "connections"),
    ]


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """Return how many lines each table gets: all that it wants, or the longest ones get fewer."""
    given = list(wanted)
    while sum(given) > room and max(given, default=0) > _MIN_TABLE:
        given[given.index(max(given))] -= 1
    return given


def _cut(block: _Block, most: int, width: int) -> Iterator[Text]:
    """Yield the lines of a table, at most so many: rows that are not well first, if not all fit."""
    titles, *rows = block.lines
    yield _titles(_line(titles, width), width)
    order = sorted(range(len(rows)), key=lambda at: block.is_well[at]) if len(block.lines) > most else range(len(rows))
    kept = order if len(block.lines) <= most else order[: most - 2]
    for at in kept:
        yield _line(rows[at], width)
    if left := len(rows) - len(kept):
        bad = sum(not block.is_well[at] for at in order[len(kept) :])
        yield Text(f"and {left} more" + (f", {bad} of them not up" if bad else ", all well"), "dim", no_wrap=True)


def _threads(known: Known, width: int, most: int) -> list[Text]:
    """Return the processor time of each thread: packet threads first, then the others, the busiest first."""
    status, history = known.status, known.history
    assert status is not None, "the caller has looked"
    shares = {name: history.latest("processor", name) for name in status["machine"]["thread_cpu_seconds"]}
    order = sorted(shares, key=lambda name: (not name.startswith("packets-"), -(shares[name] or 0.0), name))
    lines = [Text(no_wrap=True).append("threads", _KEY)]
    for name in order:
        share = shares[name]
        word = Text(f"  {name} ", no_wrap=True)
        word.append(percent(share), "bold yellow" if share is not None and share > _BUSY else "")
        if lines[-1].cell_len + word.cell_len > width:
            if len(lines) == most:
                break
            lines.append(Text("       ", no_wrap=True))
        lines[-1].append_text(word)
    return lines


# The last line


def _footer(view: View, width: int) -> Text:
    if view.message:
        text = Text(view.message, "bold red", no_wrap=True)
    else:
        text = Text(no_wrap=True)
        for key, word in KEYS:
            text.append(f" {key} ", "bold reverse").append(f" {word}  ")
    text.truncate(width, overflow="ellipsis")
    return text
