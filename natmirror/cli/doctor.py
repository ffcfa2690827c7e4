"""The command doctor: what keeps the rules from working on this host."""

import json
from ipaddress import IPv4Address
from pathlib import Path

import click

from natmirror.cli import exit_codes, terminal
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option, iptables_option
from natmirror.cli.shown import ListedCheck


def _address(_: click.Context, __: click.Parameter, value: str | None) -> IPv4Address | None:
    try:
        return None if value is None else IPv4Address(value)
    except ValueError:
        raise click.BadParameter(f"expected an IPv4 address such as 10.10.0.99, found {value}") from None


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
    help="Run the commands that mend a finding for certain, each printed before, and check again. They make the kernel"
    " forward packets and load kernel modules; rules, routes, filters and connections stay as they are.",
)
@click.option(
    "--send",
    "sends",
    is_flag=True,
    help="Prove by real packets that services answer and mirrors get their copies: open a connection to each service"
    " with a pool, through the running natmirror, and close it. Needs --client.",
)
@click.option(
    "--client",
    callback=_address,
    metavar="ADDRESS",
    help="Send from ADDRESS, which lies in a network of switches and which no host has.",
)
@click.option(
    "--data",
    default="",
    metavar="TEXT",
    help="Send TEXT to services that do not speak OpenFlow, which get no bytes otherwise; escapes such as \\r\\n and"
    " \\x00 stand for bytes.",
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
    sends: bool,
    client: IPv4Address | None,
    data: str,
    list_checks: bool,
    backend: str | None,
    api_path: Path,
) -> None:
    """Check this host, the rules and the running natmirror.

    It makes the checks that natmirror itself makes, those of what a start needs, and asks the running natmirror, if one
    runs, for its own findings. Without --fix it changes nothing. A check that cannot be made, as without root, is shown
    as such.
    """
    from natmirror.doctor.checks import CHECKS
    from natmirror.doctor.screen import listing, screen
    from natmirror.doctor.sending import send
    from natmirror.doctor.subject import Subject
    from natmirror.doctor.visit import visit

    if list_checks:
        listed: list[ListedCheck] = [{"name": one.name, "section": one.section, "title": one.title} for one in CHECKS]
        click.echo(json.dumps(listed, indent=2) if as_json else "\n".join(listing()))
        return
    if sends != (client is not None):
        raise click.UsageError("--send and --client ADDRESS go together: doctor sends from an address that no host has")
    found = visit(
        lambda: Subject(rules_file, api_path, backend),
        mends=mends,
        say=lambda text: click.echo(text, err=as_json),
        send=None if client is None else lambda subject: send(subject, client, _bytes(data)),
    )
    terminal.echo(json.dumps(found.show(), indent=2) if as_json else "\n".join(screen(found)))
    ctx.exit(found.exit_code)


def _bytes(text: str) -> bytes:
    """Return a text with escapes as bytes."""
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except ValueError as error:
        raise click.UsageError(f"--data: expected text with escapes such as \\r\\n, found {text}: {error}") from None
