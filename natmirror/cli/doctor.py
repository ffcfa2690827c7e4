"""The command doctor: what keeps the rules from working on this host."""

import json
from pathlib import Path

import click

from natmirror.cli import exit_codes
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option, iptables_option


@click.command(epilog=epilog(exit_codes.DOCTOR))
@click.option(
    "--rules",
    "rules_file",
    type=FILE,
    metavar="FILE",
    show_default="those of the running natmirror, else /etc/natmirror/rules.yaml",
    help="Check this host for the rules in FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--fix",
    "mends",
    is_flag=True,
    help="Run the commands that mend a finding for certain, each printed before, and check again. They change sysctls,"
    " load kernel modules, and remove kernel rules of natmirror's own if none runs; other programs' rules and routes"
    " stay as they are.",
)
@click.option("--list-checks", is_flag=True, help="List the checks, and exit.")
@iptables_option
@api_option
@click.pass_context
def doctor(
    ctx: click.Context,
    rules_file: Path | None,
    as_json: bool,
    mends: bool,
    list_checks: bool,
    backend: str | None,
    api_path: Path,
) -> None:
    """Check this host, the rules and the running natmirror.

    It makes the checks that natmirror itself makes, those of what a start needs, and asks the running natmirror, if one
    runs, for its own findings. Without --fix it changes nothing. A check that cannot be made, as without root, is shown
    as such.
    """
    from natmirror.doctor.screen import listing, screen
    from natmirror.doctor.subject import Subject
    from natmirror.doctor.visit import visit

    if list_checks:
        click.echo("\n".join(listing()))
        return
    found = visit(
        lambda: Subject(rules_file, api_path, backend), mends=mends, say=lambda text: click.echo(text, err=as_json)
    )
    click.echo(json.dumps(found.show(), indent=2) if as_json else "\n".join(screen(found)))
    ctx.exit(found.exit_code)
