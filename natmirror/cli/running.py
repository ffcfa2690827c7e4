"""The commands that talk to a running natmirror."""

import json
from pathlib import Path

import click

from natmirror.cli import exit_codes, terminal
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import api_option, json_option
from natmirror.ha import keepalived_hooks

_RELOAD_TIMEOUT = 60.0  # seconds

_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}
"""For the commands whose arguments keepalived_hooks.py parses."""


@click.command(epilog=epilog(exit_codes.ASK))
@click.option("--counters", "with_counters", is_flag=True, help="Print all counters, too.")
@api_option
@json_option
def status(with_counters: bool, api_path: Path, as_json: bool) -> None:
    """Show on one screen whether all is well.

    The first line says OK, DEGRADED or NOT FIT. Below it stand the problems with what mends them, the worst first; then
    backends and mirrors, with rates of the last 10 s, and what a restart would cost now. On a terminal the columns that
    matter least are left out first.
    """
    from natmirror.api.client import ask
    from natmirror.api.status_screen import status_screen

    state = ask("status", api_path)
    if as_json:
        click.echo(json.dumps(state, indent=2))
    else:
        terminal.echo(status_screen(state, terminal.size(), with_counters=with_counters))


@click.command(context_settings=_PASSED_ON, epilog=epilog(exit_codes.HEALTH))
@click.argument("arguments", nargs=-1)
@click.pass_context
def health(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Check whether natmirror is fit to be active.

    Prints one line, or with --json an object. keepalived runs this command every second. It needs no root. SOCKET is
    the Unix socket of the running natmirror's API; NATMIRROR_API or /run/natmirror/api.sock by default.
    """
    ctx.exit(keepalived_hooks.main("health", list(arguments)))


@click.command(context_settings=_PASSED_ON, epilog=epilog(exit_codes.ROLE))
@click.argument("arguments", nargs=-1)
@click.pass_context
def role(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Report this host's keepalived role to natmirror.

    The role is master (the host is active), backup or fault. keepalived runs this command at each change, with the
    arguments that it gives to notify scripts: TYPE NAME STATE PRIORITY. SOCKET is the Unix socket of the running
    natmirror's API; NATMIRROR_API or /run/natmirror/api.sock by default.
    """
    ctx.exit(keepalived_hooks.main("role", list(arguments)))


@click.command(epilog=epilog(exit_codes.RELOAD))
@click.option("--dry-run", is_flag=True, help="Print the changes and what they would cost connections; change nothing.")
@api_option
@json_option
def reload(dry_run: bool, api_path: Path, as_json: bool) -> None:
    """Read the rules file again, and print the changes.

    Lines that begin with - are gone, lines that begin with + are new. Connections and legs stay unless the new rules
    exclude them. Wrong rules change nothing. SIGHUP does the same, and logs the changes. What commands have set stays:
    the last lines name the backends that natmirror backend has added or removed.
    """
    from natmirror.api.client import send_command

    answer = send_command("reload", {"dry_run": dry_run}, api_path, timeout=_RELOAD_TIMEOUT)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    click.echo("\n".join([*(answer["changes"] or ["no changes"]), *answer["costs"], *answer["by_commands"]]))
    if dry_run:
        click.echo("nothing has changed: this was a dry run")


@click.command(epilog=epilog(exit_codes.ASK))
@api_option
@json_option
def rules(api_path: Path, as_json: bool) -> None:
    """Show the rules that run, and how those in the file differ.

    The rules are shown with all defaults, and with the backends that natmirror backend has added or removed. Lines
    that begin with - are only in the rules that run, lines that begin with + only in the file; natmirror reload
    applies them.
    """
    from natmirror.api.client import ask

    answer = ask("rules", api_path)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    file, path = answer["file"], answer["path"]
    if file["error"] is not None:
        verdict = f"natmirror reload cannot apply the file: {file['error']}"
    elif file["differs"]:
        verdict = f"{path}, changed at {file['changed_at']}, differs; natmirror reload applies:"
    else:
        verdict = f"{path} still has the rules that were loaded"
    commands = ["of these, commands have changed:", *answer["by_commands"]] if answer["by_commands"] else []
    lines = [f"running since {answer['loaded_at']}:", *answer["running"], *commands, verdict, *file["differences"]]
    click.echo("\n".join(lines))


@click.command(name="resume-mirroring", epilog=epilog(exit_codes.COMMAND))
@api_option
@json_option
def resume_mirroring(api_path: Path, as_json: bool) -> None:
    """Resume mirroring after internal errors.

    natmirror switches a kind of mirroring off when its internal errors repeat, and on again after ten minutes. This
    command switches it on now, for new connections.
    """
    from natmirror.api.client import send_command

    answer = send_command("resume-mirroring", {}, api_path)
    click.echo(json.dumps(answer) if as_json else answer["done"])
