"""A verdict as text: the word, its reasons, what it rests on, and what differs, with examples.

On a terminal, lines are broken at spaces and commas so that they fit, and the examples that have no room are left out.
Elsewhere each fact is one line, and nothing is left out.
"""

import re
from collections.abc import Iterator, Mapping
from os import terminal_size
from typing import Any

import click

from natmirror.api.text import listed, moment
from natmirror.openflow.comparison.numbers import WORDS, share

Verdict = Mapping[str, Any]

_COLOURS = {"agrees": "green", "differs": "red", "too-little": "yellow"}
_LABEL_WIDTH = 10
_INDENT = 2
_EXAMPLE_INDENT = 7
_BREAKS = re.compile(r"(?<=[ ,])")
_LEFT_OUT = 3
"""Differences that are shown in one line each where there is no room for their examples, or no wish."""


def verdict_screen(verdict: Verdict, terminal: terminal_size | None, *, with_examples: bool) -> str:
    """Return the text; ``terminal`` is None for another program, a file or a pipe."""
    width = None if terminal is None else terminal.columns
    lines = [_head(verdict)]
    for text in verdict["reasons"]:
        lines += _wrapped(text, width, _INDENT)
    for label, text in facts(verdict):
        lines += _wrapped(f"{label:{_LABEL_WIDTH}}{text}", width, _INDENT, _INDENT + _LABEL_WIDTH)
    for note in verdict["notes"]:
        lines += _wrapped(f"note: {note}", width, _INDENT, 2 * _INDENT)
    room = None if terminal is None else terminal.lines - 1 - len(lines)
    return "\n".join((*lines, *_differences(verdict, width, room, with_examples=with_examples)))


def _head(verdict: Verdict) -> str:
    shown = click.style(WORDS[verdict["verdict"]], fg=_COLOURS[verdict["verdict"]], bold=True)
    since = "nothing compared yet" if verdict["since"] is None else f"since {moment(verdict['since'])}"
    return f"{shown}  {verdict['service']}/{verdict['mirror']}, {since}"


# What it rests on


def facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield what the verdict rests on, each with its label. A share of equal answers is never told alone."""
    yield "answers", _answers(verdict["answers"], verdict["twin_answers"])
    yield "tables", _tables(verdict["tables"], verdict["twin_tables"])
    frames = verdict["frames"]
    if frames["walked"]:
        alike = share(frames["alike"], frames["walked"])
        yield "frames", f"{alike} leave the switch alike by both tables ({frames['walked']} tried)"
    if (lag := verdict["lag"])["answers"]:
        beside = "" if verdict["twin_lag"] is None else f" (twin {_lag(verdict['twin_lag'])})"
        yield "behind", f"{_lag(lag)}{beside}"
    sessions = verdict["sessions"]
    ended = f", ended by the master or the network: {sessions['ended']}" if sessions["ended"] else ""
    if sessions["latest_ended"]:
        last = sessions["latest_ended"][-1]
        ended += f", the last at {moment(last['at'])} ({last['reason']})"
    yield "sessions", f"{sessions['open']} open, connections of switches: {sessions['connections']}{ended}"


def _answers(answers: Mapping[str, Any], twin: Mapping[str, Any] | None) -> str:
    results, of = answers["results"], answers["comparable"]
    others = {name: count for name, count in results.items() if count and name not in ("equal", "not-comparable")}
    text = f"{results['equal']} of {of} comparable equal ({share(results['equal'], of)})"
    text += f", {listed(others)}" if others else ""
    text += f"; {of} of {answers['packet_ins']} PACKET_INs comparable"
    if of != answers["packet_ins"]:
        text += f", the others not: {listed(answers['not_comparable'])}"
    if twin is not None:
        text += f"; twin {twin['results']['equal']} of {twin['comparable']} equal"
    return text


def _tables(tables: Mapping[str, Any], twin: Mapping[str, Any] | None) -> str:
    if not tables["seconds"]:
        return "not compared"
    text = f"equal {_equal(tables)} of the time"
    if twin is not None and twin["seconds"]:
        text += f" (twin {_equal(twin)})"
    count = tables["differing_rules"]
    text += f", {count} rule{' differs' if count == 1 else 's differ'} now" if count else ", equal now"
    if tables["doubtful_rules"]:
        text += f", {tables['doubtful_rules']} doubtful"
    if tables["not_followed"]:
        text += f"; not followed: {listed(tables['not_followed'])}"
    return text


def _equal(tables: Mapping[str, Any]) -> str:
    return share(tables["seconds"] - tables["differing_seconds"], tables["seconds"])


def _lag(lag: Mapping[str, Any]) -> str:
    if not lag["answers"]:
        return "unknown"
    return f"{_milliseconds(lag['median_seconds'])}, p95 {_milliseconds(lag['p95_seconds'])}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:+.1f} ms" if abs(seconds) < 0.1 else f"{1000 * seconds:+.0f} ms"


# What differs


def _differences(verdict: Verdict, width: int | None, room: int | None, *, with_examples: bool) -> Iterator[str]:
    """Yield the differences, and the rules that differ now: the first one with its example in any case, the others as
    long as there is room."""
    used, differences = 0, verdict["differences"]
    for number, one in enumerate(differences):
        head = _wrapped(f"{one['count']} x {in_words(one)}", width, _INDENT, _EXAMPLE_INDENT)
        example = ["", *head, *_example(verdict, one, width)]
        left = len(differences) - number
        if with_examples and (not number or room is None or used + len(example) + left <= room):
            lines = example
        elif with_examples or number < _LEFT_OUT:
            lines = head
        else:
            yield f"{' ' * _INDENT}and {left} more: natmirror verdict {verdict['service']}/{verdict['mirror']}"
            return
        used += len(lines)
        yield from lines
    rules = [*_rules(verdict["tables"], width)] if with_examples else []
    if room is None or used + len(rules) <= room:
        yield from rules


def _rules(tables: Mapping[str, Any], width: int | None) -> Iterator[str]:
    """Yield the rules that differ now."""
    if tables["differing"]:
        yield ""
        some = "" if len(tables["differing"]) == tables["differing_rules"] else "some of the "
        yield f"{' ' * _INDENT}{some}rules that differ now"
        for line in tables["differing"]:
            yield from _wrapped(line, width, _EXAMPLE_INDENT)


def in_words(one: Mapping[str, Any]) -> str:
    """Return a difference as text, with what its causes have in common and what the twin does."""
    text = str(one["text"]) + (f", all where {one['where']}" if one["where"] else "")
    text += "" if one["answers_packet_in"] or one["kind"] == "session-ended" else ", without a PACKET_IN"
    if one["twin_count"] is not None:
        text += f"; twin {one['twin_count']} x" + ("" if one["counts"] else ", so it does not count")
    return text


def _example(verdict: Verdict, one: Mapping[str, Any], width: int | None) -> Iterator[str]:
    end = "not resolved" if one["resolved_at"] is None else f"resolved {moment(one['resolved_at'])}"
    times = f"first {moment(one['first_at'])}, last {moment(one['last_at'])}, {end}"
    yield from _wrapped(times, width, _EXAMPLE_INDENT)
    if (example := one["example"]) is None:
        return
    for label, text in example_lines(verdict, example):
        yield from _wrapped(f"{label}  {text}", width, _EXAMPLE_INDENT, _EXAMPLE_INDENT + len(label) + 2)


def example_lines(verdict: Verdict, example: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of an example, each with the side that it is about."""
    switch = example["switch"].partition(":")[0]
    datapath = "" if example["datapath_id"] is None else f", datapath {example['datapath_id']}"
    sides = {"production": example["production"], verdict["mirror"]: example["mirror"]}
    width = max(map(len, sides))
    packet_in = f": {example['packet_in']}" if example["packet_in"] else ""
    yield "switch".ljust(width), f"{switch}{datapath}{packet_in}"
    for side, lines in sides.items():
        for line in lines or ["nothing"]:
            yield side.ljust(width), line


def _wrapped(text: str, width: int | None, indent: int, further: int | None = None) -> list[str]:
    """Return a text as lines that fit, broken behind spaces and commas; ``further`` is the indent of further lines."""
    lines, line = [], " " * indent
    for part in _BREAKS.split(text):
        if width is not None and len(line.rstrip()) > indent and len((line + part).rstrip()) > width:
            lines.append(line.rstrip())
            line = " " * (indent + 2 if further is None else further)
        line += part
    return [*lines, line.rstrip()]
