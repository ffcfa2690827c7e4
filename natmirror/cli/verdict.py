"""The command ``natmirror verdict``: would a master have done what production's controller did?"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from natmirror.cli import exit_codes, terminal
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option, json_option, read_duration
from natmirror.errors import HostError, RefusedError
from natmirror.events.event import read_time, show_time

_POLL_INTERVAL = 1.0  # seconds
_SHORTEST_WAIT = 20  # seconds: one whole part, in which answers are counted, and the time until they are judged
_CODES = {
    "agrees": exit_codes.AGREES,
    "too-little": exit_codes.TOO_LITTLE,
    "differs": exit_codes.DIFFERS,
}
"""The exit codes of verdicts, the best first."""
_DURATIONS = "90s, 30m, 1h or 1d"


@click.command(epilog=epilog(exit_codes.VERDICT))
@click.argument("mirror", metavar="[SERVICE/MIRROR]", required=False)
@click.option(
    "--since",
    metavar="TIME",
    show_default="the last hour, with --wait from now on",
    help=f"Judge what was compared from TIME on: {_DURATIONS} ago, or a time such as 2026-11-30T03:00 (UTC without an"
    " offset). One day is kept, the last five minutes in parts of ten seconds, what is older in longer ones.",
)
@click.option(
    "--wait",
    metavar="TIME",
    show_default="do not wait",
    help=f"Wait at most TIME ({_DURATIONS}, at least {_SHORTEST_WAIT}s) for a verdict: until something differs, or"
    " enough answers were compared.",
)
@click.option(
    "--at-least",
    type=click.IntRange(1),
    metavar="COUNT",
    show_default="100",
    help="Fewer comparable answers are too few.",
)
@click.option(
    "--fail-below",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    show_default="each difference of an answer counts",
    help="Let answers and tables differ, as long as this percentage is equal. Rules that answer no PACKET_IN, sessions"
    " that the master ends, and slowness count all the same.",
)
@click.option("--markdown", type=FILE, metavar="FILE", help="Write the verdict to FILE, too, as a report in Markdown.")
@click.option(
    "--pcap",
    "pcap_directory",
    type=FILE,
    metavar="DIRECTORY",
    help="Write a pcap file for each difference into DIRECTORY, for Wireshark: the PACKET_IN and the messages of both"
    " sides.",
)
@api_option
@json_option
def verdict(
    mirror: str | None,
    since: str | None,
    wait: str | None,
    at_least: int | None,
    fail_below: float | None,
    markdown: Path | None,
    pcap_directory: Path | None,
    api_path: Path,
    as_json: bool,
) -> None:
    """Say whether masters would have done what production's controller did.

    Without SERVICE/MIRROR, of all mirrors with verdict: on. Below the verdict stand its reasons, what it rests on, and
    what differs, each with an example. docs/verdict.md says what it can tell and what it cannot.
    """
    waits = None if wait is None else _wait(wait)
    words: dict[str, Any] = {"since": _since(since, waits), "at_least": at_least, "fail_below": fail_below}
    if mirror is not None:
        words["service"], slash, words["mirror"] = mirror.partition("/")
        if not slash:
            raise click.UsageError(f"expected SERVICE/MIRROR, found {mirror}")
    if pcap_directory is not None:
        words["messages"] = True
    with _own_exit_codes():
        found = _fetch(words, api_path, waits)
        _show(found, is_one=mirror is not None, as_json=as_json)
        if markdown is not None:
            from natmirror.api.verdict_markdown import report

            _write(markdown, lambda: markdown.write_text(report(found), encoding="utf-8"))
        if pcap_directory is not None:
            from natmirror.cli.evidence import write_evidence

            files: list[Path] = []
            if _write(pcap_directory, lambda: files.extend(write_evidence(found, pcap_directory))):
                click.echo(f"evidence of {len(files)} differences in {pcap_directory}", err=as_json)
    click.get_current_context().exit(max((_CODES[one["verdict"]] for one in _deciding(found)), key=_badness))


def _deciding(found: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return the verdicts that decide: a twin may differ, unless nothing else was asked about."""
    return [one for one in found if not one["is_twin"]] or found


def _badness(code: int) -> int:
    return [*_CODES.values()].index(code)


def _wait(text: str) -> int:
    seconds = read_duration(text)
    if seconds is None or seconds < _SHORTEST_WAIT:
        why = "" if seconds is None else f" of at least {_SHORTEST_WAIT}s, since answers are counted in parts of 10 s"
        raise click.BadParameter(f"expected a duration such as {_DURATIONS}{why}, found {text}", param_hint="--wait")
    return seconds


def _since(text: str | None, waits: int | None) -> str | None:
    """Return what the API takes; UsageError where ``text`` is no time."""
    if text is None:
        return None if waits is None else show_time(time.time())
    if (seconds := read_duration(text)) is not None:
        return show_time(max(time.time() - seconds, 0.0))
    try:
        return show_time(read_time(text))
    except (ValueError, OverflowError):
        hint = f"expected a duration such as {_DURATIONS}, or a time such as 2026-11-30T03:00, found {text:.50}"
        raise click.BadParameter(hint, param_hint="--since") from None


@contextmanager
def _own_exit_codes() -> Iterator[None]:
    """Give natmirror's errors, and an interrupt, the codes of this command: 1 stands for a master that differs."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("natmirror: interrupted", err=True)
        click.get_current_context().exit(exit_codes.INTERRUPTED)
    except HostError as error:
        error.exit_code = exit_codes.MISUSED_VERDICT if isinstance(error, RefusedError) else exit_codes.NO_ANSWER
        raise


def _fetch(words: dict[str, Any], api_path: Path, waits: int | None) -> list[dict[str, Any]]:
    """Return the verdicts, after waiting for them."""
    from natmirror.api.client import ask_list

    until = None if waits is None else time.monotonic() + waits
    while True:
        found = ask_list("verdict", api_path, **words)
        if not found:
            raise RefusedError("no mirror is compared with production: write verdict: on below one in the rules")
        verdicts = {one["verdict"] for one in _deciding(found)}
        if "differs" in verdicts or "too-little" not in verdicts or until is None or time.monotonic() >= until:
            return found
        time.sleep(max(0.0, min(_POLL_INTERVAL, until - time.monotonic())))


def _show(found: Sequence[dict[str, Any]], *, is_one: bool, as_json: bool) -> None:
    from natmirror.api.verdict_screen import verdict_screen

    if as_json:
        click.echo(json.dumps(found[0] if is_one else found, indent=2))
    else:
        size = terminal.size()
        terminal.echo("\n\n".join(verdict_screen(one, size, with_examples=is_one) for one in found))


def _write(path: Path, write: Callable[[], object]) -> bool:
    """Write a file beside the verdict, and return whether that has worked: the exit code is the verdict's either
    way."""
    try:
        write()
    except OSError as error:
        click.echo(f"natmirror: {error.filename or path}: {error.strerror}", err=True)
        return False
    return True
