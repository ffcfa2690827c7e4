"""The commands that list flows and legs of a running natmirror."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from natmirror.cli import exit_codes, terminal
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import api_option, json_option

_Command = TypeVar("_Command", bound=Callable[..., Any])

_ONE_SECOND = "1"


def _filters(command: _Command) -> _Command:
    """Give a command the options that choose rows."""
    options = (
        click.option("--client", metavar="CLIENT", help="Only this address, network, or address and port."),
        click.option("--service", metavar="NAME", help="Only this service."),
        click.option("--backend", metavar="NAME", help="Only connections to this backend."),
        click.option("--mirror", metavar="NAME", help="Only legs to this mirror, or connections with one."),
        click.option("--state", metavar="STATE", help="Only this state: of the leg, or for flows of the connection."),
        click.option(
            "--lagging",
            is_flag=False,
            flag_value=_ONE_SECOND,
            metavar="[SECONDS]",
            help="Only legs, or connections with one, whose mirror is behind for this time; one second by default.",
        ),
        click.option("--sort", metavar="FIELD", help="Sort by this field of the JSON; by -FIELD, the largest first."),
        click.option("--limit", type=click.IntRange(1), metavar="COUNT", help="Print at most this many rows."),
        api_option,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog=epilog(exit_codes.ASK))
@_filters
def flows(api_path: Path, as_json: bool, **filters: Any) -> None:
    """List the clients' connections, each with its copies.

    On a terminal the columns that matter least are left out first. Otherwise each flow is one line, with the JSON's
    fields between tabs, below a line with their names.
    """
    from natmirror.api.list_tables import FLOWS

    _list("flows", FLOWS, api_path, as_json, filters)


@click.command(epilog=epilog(exit_codes.ASK))
@_filters
@click.option("--ended", is_flag=True, help="List the legs that ended last instead, with the time and the reason.")
@click.option("--sessions", is_flag=True, help="List the legs' OpenFlow sessions instead.")
def legs(api_path: Path, as_json: bool, ended: bool, sessions: bool, **filters: Any) -> None:
    """List the legs: the connections to mirrors.

    On a terminal the columns that matter least are left out first. Otherwise each leg is one line, with the JSON's
    fields between tabs, below a line with their names.
    """
    from natmirror.api.list_tables import ENDED, LEGS, SESSIONS, session_rows

    if ended and sessions:
        raise click.UsageError("expected --ended or --sessions, found both")
    if ended:
        _list("ended", ENDED, api_path, as_json, filters)
    elif sessions:
        _list("legs", SESSIONS, api_path, as_json, filters, session_rows)
    else:
        _list("legs", LEGS, api_path, as_json, filters)


def _list(
    name: str, listing: Any, api_path: Path, as_json: bool, filters: dict[str, Any], choose: Callable[..., Any] = list
) -> None:
    from natmirror.api.client import ask_list
    from natmirror.api.list_tables import lines, table

    rows = choose(ask_list(name, api_path, **filters))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif (size := terminal.size()) is not None:
        terminal.echo(table(listing, rows, size.columns))
    else:
        click.echo(lines(listing, rows))
