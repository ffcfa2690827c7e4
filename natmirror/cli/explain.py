"""The command ``natmirror explain``: of a running natmirror, or of a rules file alone."""

import json
from pathlib import Path
from typing import Any

import click

from natmirror.cli import exit_codes
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option, json_option


@click.command(epilog=epilog(exit_codes.EXPLAIN))
@click.argument("client", metavar="CLIENT[:PORT]")
@click.argument("service", required=False)
@click.option(
    "--rules",
    "rules_file",
    type=FILE,
    metavar="FILE",
    help="Ask no running natmirror: say what it would do after a start with the rules in FILE.",
)
@json_option
@api_option
def explain(client: str, service: str | None, rules_file: Path | None, as_json: bool, api_path: Path) -> None:
    """Say what natmirror does with a client's connections, and why.

    For each service, or for SERVICE: the backend that a new connection of the client gets, what keeps it from others,
    and the mirrors that get its bytes. Then the client's connections now: the backend and the copies of each, and what
    a restart, a stop, a move to the other host of a pair and a reload of the rules file would do to it. CLIENT is an
    IPv4 address; with a PORT the answer is about one connection.
    """
    from natmirror.cli.explained import text

    answer = _running(client, service, api_path) if rules_file is None else _from_rules(rules_file, client, service)
    click.echo(json.dumps(answer, indent=2) if as_json else text(answer))


def _running(client: str, service: str | None, api_path: Path) -> Any:
    from natmirror.api.client import ask

    return ask("explain", api_path, client=client, service=service)


def _from_rules(rules_file: Path, client: str, service: str | None) -> Any:
    from natmirror.linux.cores import thread_count
    from natmirror.rules import load_rules
    from natmirror.runtime.explanation import explain_rules

    rules = load_rules(rules_file)
    try:
        return explain_rules(rules, thread_count(rules), client, service)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
