"""Verdicts as a report in Markdown, for a ticket or a mail."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from natmirror.api.text import moment
from natmirror.api.verdict_screen import example_lines, facts, in_words
from natmirror.openflow.comparison.numbers import WORDS


def report(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return the report."""
    return "\n".join(line for verdict in verdicts for line in _lines(verdict))


def _lines(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {verdict['service']}/{verdict['mirror']}: {WORDS[verdict['verdict']]}"
    yield ""
    since = verdict["since"]
    yield "Nothing compared yet." if since is None else f"Compared with production since {moment(since)}."
    yield ""
    yield from (f"- {reason}" for reason in verdict["reasons"])
    yield from (f"- Note: {note}" for note in verdict["notes"])
    if verdict["reasons"] or verdict["notes"]:
        yield ""
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {label} | {_cell(text)} |" for label, text in facts(verdict))
    yield ""
    for one in verdict["differences"]:
        yield from _difference(verdict, one)
    if verdict["tables"]["differing"]:
        yield "## Rules that differ now"
        yield ""
        yield from _block(verdict["tables"]["differing"])


def _difference(verdict: Mapping[str, Any], one: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {one['count']} x {_text(in_words(one))}"
    yield ""
    end = "not resolved" if one["resolved_at"] is None else f"resolved {moment(one['resolved_at'])}"
    yield f"First {moment(one['first_at'])}, last {moment(one['last_at'])}, {end}."
    yield ""
    if (example := one["example"]) is not None:
        yield from _block(f"{label}  {text}" for label, text in example_lines(verdict, example))


def _block(lines: Any) -> Iterator[str]:
    yield "```"
    yield from lines
    yield "```"
    yield ""


def _text(text: str) -> str:
    """Return a text in which Markdown finds no markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_<>[]|" else sign for sign in text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
