"""The command line: ``natmirror`` itself, which runs, and its commands.

The help texts are the reference of the commands: natmirror.reference writes them to a page.
"""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from natmirror import __version__
from natmirror.cli import events, exit_codes, lists, overrides, running, tools
from natmirror.cli.capture import capture
from natmirror.cli.doctor import doctor
from natmirror.cli.exit_codes import epilog
from natmirror.cli.explain import explain
from natmirror.cli.options import FILE, api_option, iptables_option
from natmirror.cli.shown import CheckedRules, KernelRules
from natmirror.cli.support_dump import support_dump
from natmirror.cli.top import top
from natmirror.cli.verdict import verdict
from natmirror.errors import NatmirrorError, NoAnswerError
from natmirror.linux import systemd
from natmirror.linux.addresses import taken_addresses
from natmirror.rules import Rules, load_rules, text

log = logging.getLogger("natmirror")

_PROGRAMS_OF_ROOT = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def _find_programs_of_root() -> None:
    """Have programs such as iptables found also where PATH lacks their directories, as in cron and for users."""
    found = [one for one in os.environ.get("PATH", os.defpath).split(os.pathsep) if one]
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys((*found, *_PROGRAMS_OF_ROOT)))


class _Commands(click.Group):
    """The group of all commands: prints natmirror's own errors line by line, and exits with their codes."""

    def invoke(self, ctx: click.Context) -> Any:
        _find_programs_of_root()
        try:
            return super().invoke(ctx)
        except NoAnswerError as error:
            from natmirror.cli import absence

            click.echo(f"natmirror: {error}{absence.explain()}", err=True)
            ctx.exit(error.exit_code)
        except NatmirrorError as error:
            for note in getattr(error, "__notes__", ()):
                click.echo(note)
            for line in error.lines:
                click.echo(f"natmirror: {line}", err=True)
            ctx.exit(error.exit_code)
        except (LookupError, TypeError, ValueError):
            from natmirror.api.client import other_version

            if (other := other_version()) is None:
                raise
            click.echo(
                f"natmirror: natmirror {other} runs, and this command is of {__version__}, so that it cannot show the"
                " answer: --json does; restart natmirror to run the version that is installed",
                err=True,
            )
            ctx.exit(1)


@click.group(cls=_Commands, invoke_without_command=True, epilog=epilog(exit_codes.RUN))
@click.version_option(__version__, help="Print the version and exit.")
@click.option("--rules", "rules_file", type=FILE, metavar="FILE", help="Run with the rules in FILE.")
@click.option("--check", is_flag=True, help="Check the rules, print them with their defaults, and exit.")
@click.option("--dry-run", is_flag=True, help="Print the nftables and iptables rules that a start installs, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Have --check or --dry-run print JSON.")
@click.option(
    "--on-stop",
    type=click.Choice(["remove", "keep"]),
    show_default="keep if a service manager runs natmirror, else remove",
    help="Remove the iptables rules when natmirror stops, or keep them. Kept rules drop the packets of services with a"
    " pool until the next start; TCP sends them again, so derived connections survive a restart.",
)
@api_option
@iptables_option
@click.option(
    "--log-format",
    type=click.Choice(["text", "logfmt", "json"]),
    default="text",
    show_default=True,
    envvar="NATMIRROR_LOG_FORMAT",
    show_envvar=True,
    help="Write the log in this form: lines of text, or one record of named fields a line.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="NATMIRROR_LOG_LEVEL",
    show_envvar=True,
    help="Log messages of this level and above. debug has a line for each leg that ends.",
)
@click.pass_context
def main(
    ctx: click.Context,
    rules_file: Path | None,
    check: bool,
    dry_run: bool,
    as_json: bool,
    on_stop: str | None,
    api_path: Path,
    backend: str | None,
    log_format: str,
    log_level: str,
) -> None:
    """Translate the connections of clients to a pool of backends, and copy them to mirrors.

    natmirror --rules FILE runs in the foreground until SIGINT or SIGTERM. SIGHUP reloads the rules.
    """
    keep_rules = systemd.is_service(os.environ) if on_stop is None else on_stop == "keep"
    service = systemd.take_variables(os.environ)  # no program that this process starts may inherit them
    if ctx.invoked_subcommand is not None:
        _refuse_misplaced(ctx)
        return
    if rules_file is None:
        raise click.UsageError("expected --rules FILE or a command")
    if as_json and not (check or dry_run):
        raise click.UsageError("--json goes with --check or --dry-run; the log of a run has --log-format json")
    loaded = load_rules(rules_file, {} if check or dry_run else taken_addresses())
    if check:
        _print_rules(loaded, as_json=as_json)
        return
    if dry_run:
        _print_kernel_rules(loaded, as_json=as_json)
        return
    from natmirror.linux.iptables import Firewall
    from natmirror.linux.rights import require_net_admin
    from natmirror.runtime import event_file, override_file
    from natmirror.runtime.log_formats import Formatter, LogFormat
    from natmirror.runtime.logs import Logs, print_line
    from natmirror.runtime.runner import Runner

    require_net_admin("natmirror")
    formatter = Formatter(LogFormat(log_format), to_journal=systemd.is_journal(os.environ))
    logs, code, runner = Logs(formatter=formatter), 0, None
    directory = systemd.state_directory(os.environ)
    logs.start(logging.getLevelNamesMapping()[log_level.upper()])
    try:
        firewall = Firewall(backend)
        for warning in loaded.warnings:
            log.warning("rules: %s", warning)
        notifier = systemd.Notifier(service)
        runner = Runner(
            *(loaded, firewall, notifier, logs),
            loaded.events or (directory and directory / event_file.FILE_NAME),
            overrides=directory and directory / override_file.FILE_NAME,
            keep_rules=keep_rules,
            api_path=api_path,
        )
        summary = runner.run()
    except NatmirrorError as error:
        code, summary = error.exit_code, "\n".join(getattr(error, "__notes__", ()))
        last_words = str(error)
    except Exception:
        log.exception("internal error: natmirror exits")
        code, summary, last_words = 1, "", "internal error, see the log"
    logs.close()
    if summary:
        print_line(summary)
    if code:
        print_line(formatter.last_words(last_words), is_error=True)
    if runner is not None and runner.hangs:
        os._exit(code)
    ctx.exit(code)


def _refuse_misplaced(ctx: click.Context) -> None:
    """UsageError where an option of a run stands before a command, which would not see it."""
    for one in ctx.command.params:
        if one.name is not None and ctx.get_parameter_source(one.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{one.opts[0]} belongs to a run, not to {ctx.invoked_subcommand}: put it behind it")


def _print_rules(loaded: Rules, *, as_json: bool) -> None:
    lines = text.describe(replace(loaded, warnings=())).splitlines()
    checked: CheckedRules = {"path": loaded.path, "rules": lines, "warnings": [*loaded.warnings]}
    click.echo(json.dumps(checked, indent=2) if as_json else text.describe(loaded))


def _print_kernel_rules(loaded: Rules, *, as_json: bool) -> None:
    from natmirror.linux import iptables, nftables
    from natmirror.linux.cores import thread_count

    shown: KernelRules = {"nftables": nftables.plan(loaded), "iptables": iptables.plan(loaded, thread_count(loaded))}
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(f"# nft -f -\n{shown['nftables']}\n# iptables-restore --noflush\n{shown['iptables']}")


for _command in (
    *(running.status, top, lists.flows, lists.legs, overrides.drain, overrides.undrain, overrides.weight),
    *(overrides.backend, overrides.mirror, running.reload, running.rules),
    *(running.resume_mirroring, explain, verdict, capture, doctor, running.health, running.role, events.events),
    *(support_dump, tools.keepalived, tools.cleanup, tools.replay, tools.demo),
):
    main.add_command(_command)
