"""The command events: what has happened, as the running natmirror or the file of events tells it."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from natmirror.cli import exit_codes, terminal
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option, read_duration
from natmirror.errors import NatmirrorError, NoAnswerError
from natmirror.events import EventKind, EventQuery, EventSeverity
from natmirror.events.event import show_time
from natmirror.events.query import MAX_EVENTS, read_since

_POLL_INTERVAL = 1.0  # seconds
_COLOURS = {"warning": "yellow", "error": "red"}
_FIRST = 10  # events with which --follow begins
_DEFAULT_FILE = Path("/var/lib/natmirror/events.jsonl")


@click.command(epilog=epilog(exit_codes.EVENTS))
@click.option(
    "--since",
    metavar="TIME",
    help="Show the events from TIME on: 90s, 30m, 1h or 2d ago, or a time such as 2026-11-30T03:00 (UTC without an"
    " offset); or those after the event with the number TIME.",
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice([*map(str, EventKind)]),
    multiple=True,
    metavar="KIND",
    help="Show the events of this kind; may be repeated.",
)
@click.option(
    "--severity",
    type=click.Choice([*map(str, EventSeverity)]),
    metavar="SEVERITY",
    help="Show the events of this severity, and worse ones: info, warning or error.",
)
@click.option("--limit", type=click.IntRange(1, MAX_EVENTS), metavar="COUNT", help="Show the latest COUNT events.")
@click.option(
    "--follow",
    is_flag=True,
    help="Go on with new events as they come, also over a restart of natmirror. Without --since and --limit, begin with"
    " the latest ten.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list, or with --follow one object a line.")
@click.option(
    "--file",
    type=FILE,
    default=_DEFAULT_FILE,
    show_default=True,
    metavar="FILE",
    help="The file of events, which is read where no natmirror answers.",
)
@api_option
def events(
    since: str | None,
    kinds: tuple[str, ...],
    severity: str | None,
    limit: int | None,
    follow: bool,
    as_json: bool,
    file: Path,
    api_path: Path,
) -> None:
    """Show what has happened: one line for each event, the latest last.

    Backends and mirrors that went down or came back, reloads, roles, repairs of the kernel's rules, findings, losses,
    starts, stops and crashes. docs/reference/state.md lists the kinds. Where no natmirror answers, the events come from
    FILE, which keeps them over restarts.
    """
    words = {"since": _since(since), "severity": severity}
    if follow and since is None and limit is None:
        limit = _FIRST
    wanted = {*kinds} or {*map(str, EventKind)}
    found = _of_kinds(_fetch(words, file, api_path), wanted)[-(limit or MAX_EVENTS) :]
    if as_json and not follow:
        click.echo(json.dumps(found, indent=2))
        return
    _print(found, as_json=as_json)
    if follow:
        last = str(found[-1]["number"]) if found else words["since"]
        for fresh in _later({**words, "since": last}, file, api_path):
            _print(_of_kinds(fresh, wanted), as_json=as_json)


def _of_kinds(found: list[dict[str, Any]], wanted: set[str]) -> list[dict[str, Any]]:
    return [one for one in found if one["kind"] in wanted]


def _since(text: str | None) -> str | None:
    """Return what the API takes; UsageError where ``text`` is neither a time nor a number."""
    if text is None:
        return None
    if (seconds := read_duration(text)) is not None:
        return show_time(max(time.time() - seconds, 0.0))
    try:
        read_since(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or a duration such as 1h", param_hint="--since") from None
    return text


def _fetch(words: Mapping[str, Any], file: Path, api_path: Path) -> list[dict[str, Any]]:
    """Return the events, from the running natmirror or from the file; NoAnswerError where neither has any."""
    from natmirror.api.client import ask_list
    from natmirror.runtime.event_file import read_events

    try:
        return ask_list("events", api_path, **words)
    except NoAnswerError:
        kept = read_events(file)
        if not kept:
            raise
        return [{**one.entry()} for one in EventQuery.read(words).select(kept)]


def _later(words: dict[str, Any], file: Path, api_path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield new events until the operator interrupts. natmirror may restart meanwhile, so no answer is no error."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(_POLL_INTERVAL)
            with suppress(NatmirrorError):
                found = _fetch(words, file, api_path)
                if found:
                    words["since"] = str(found[-1]["number"])
                yield found


def _print(found: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    for one in found:
        if as_json:
            click.echo(json.dumps(one))
            continue
        line = f"{one['time']} {one['severity']:7} {one['kind']:17} {one['text']}"
        terminal.echo(click.style(line, fg=_COLOURS.get(one["severity"])))
