"""The command line."""

import json
import logging
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import click

from natmirror import __version__
from natmirror.errors import HostError, NatmirrorError
from natmirror.ha import keepalived_hooks
from natmirror.linux import systemd
from natmirror.rules import load_rules, text

log = logging.getLogger("natmirror")

_RULES_FILE = click.Path(path_type=Path)
_iptables_option = click.option(
    "--iptables",
    "backend",
    type=click.Choice(["nft", "legacy"]),
    envvar="NATMIRROR_IPTABLES",
    help="Which iptables to use; the host's default otherwise.",
)
_api_option = click.option(
    "--api",
    "api_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=keepalived_hooks.DEFAULT_API,
    show_default=True,
    metavar="SOCKET",
    help="Where a running natmirror serves its state, as HTTP on a Unix socket.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


class _Commands(click.Group):
    """Prints natmirror's own errors as one line and exits with their code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NatmirrorError as error:
            for note in getattr(error, "__notes__", ()):
                click.echo(note)
            click.echo(f"natmirror: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, invoke_without_command=True)
@click.version_option(__version__)
@click.option("--rules", "rules_file", type=_RULES_FILE, metavar="FILE", help="The rules to run by.")
@click.option("--check", is_flag=True, help="Only check the rules, and print them with all defaults.")
@click.option("--dry-run", is_flag=True, help="Only print the iptables changes that a start would make.")
@click.option(
    "--on-stop",
    type=click.Choice(["remove", "keep"]),
    default="remove",
    show_default=True,
    help="What a stop does with the iptables rules. Kept, they hold the services' packets back until the next start.",
)
@_api_option
@_iptables_option
@click.pass_context
def main(
    ctx: click.Context,
    rules_file: Path | None,
    check: bool,
    dry_run: bool,
    on_stop: str,
    api_path: Path,
    backend: str | None,
) -> None:
    """NAT and TCP mirror for load-balancer hosts.

    natmirror --rules rules/lb.yaml runs in the foreground until SIGINT or SIGTERM.
    """
    service = systemd.take_variables(os.environ)  # no program that this process starts may inherit them
    if ctx.invoked_subcommand is not None:
        return
    if rules_file is None:
        raise click.UsageError("give the rules with --rules FILE, or a command (see --help)")
    loaded = load_rules(rules_file)
    if check:
        click.echo(text.describe(loaded))
        return
    from natmirror.linux import nftables, preflight
    from natmirror.linux.iptables import Firewall, plan
    from natmirror.runtime.logs import Logs, say
    from natmirror.runtime.runner import Runner, thread_count

    if dry_run:
        click.echo(f"# nft -f -\n{nftables.plan(loaded)}")
        click.echo(f"# iptables-restore --noflush\n{plan(loaded, thread_count(loaded))}")
        return

    logs, code, runner = Logs(), 0, None
    logs.start()
    try:
        firewall = Firewall(backend)
        preflight.log_findings(loaded, firewall)
        notifier = systemd.Notifier(service)
        runner = Runner(loaded, firewall, notifier, logs, keep_rules=on_stop == "keep", api_path=api_path)
        summary = runner.run()
    except NatmirrorError as error:
        code, summary = error.exit_code, "\n".join(getattr(error, "__notes__", ()))
        last_words = f"natmirror: {error}"
    except Exception:
        log.exception("internal error: natmirror ends")
        code, summary, last_words = 1, "", "natmirror: internal error, see the log"
    logs.close()
    if summary:
        say(summary)
    if code:
        say(last_words, is_error=True)
    if runner is not None and runner.hangs:
        os._exit(code)
    ctx.exit(code)


@main.command()
@_api_option
@_json_option
def status(api_path: Path, as_json: bool) -> None:
    """What a running natmirror does: backends, mirrors, what was lost and why, drops by reason."""
    from natmirror.api.client import ask
    from natmirror.api.report import status_screen

    state = ask("status", api_path)
    _show(json.dumps(state, indent=2) if as_json else status_screen(state))


@main.command()
@_api_option
@_json_option
@click.option("--ended", is_flag=True, help="The legs that ended last instead: when and why.")
def legs(api_path: Path, as_json: bool, ended: bool) -> None:
    """The flows of a running natmirror, and their legs."""
    from natmirror.api.client import ask
    from natmirror.api.report import ended_table, legs_table, sessions_table

    shown = ask("ended" if ended else "flows", api_path)
    if as_json:
        _show(json.dumps(shown, indent=2))
    elif ended:
        _show(ended_table(shown))
    else:
        _show(legs_table(shown))
        if sessions := sessions_table(shown):
            _show(sessions)


def _show(what: Any) -> None:
    """Print text as it is, and tables in the terminal's width."""
    if isinstance(what, str):
        click.echo(what)
    else:
        from rich.console import Console

        Console(highlight=False).print(what)


@main.command()
@click.argument("backend", metavar="SERVICE/BACKEND")
@click.option("--deadline", type=click.FloatRange(0), metavar="SECONDS", help="Then reset what is left of connections.")
@_api_option
def drain(backend: str, deadline: float | None, api_path: Path) -> None:
    """Lead no new connections to a backend; those that it has stay."""
    _order("drain", backend, api_path, deadline=deadline)


@main.command()
@click.argument("backend", metavar="SERVICE/BACKEND")
@_api_option
def undrain(backend: str, api_path: Path) -> None:
    """Lead new connections to a drained backend again."""
    _order("undrain", backend, api_path)


def _order(name: str, backend: str, api_path: Path, **more: Any) -> None:
    from natmirror.api.client import order

    service, slash, member = backend.partition("/")
    if not slash:
        raise click.UsageError(f"expected SERVICE/BACKEND, found {backend}")
    order(name, {"service": service, "backend": member, **more}, api_path)


_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}


@main.command(context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1)
@click.pass_context
def health(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Whether the running natmirror is fit: 0, or another exit code; what keepalived asks every second."""
    ctx.exit(keepalived_hooks.main("health", list(arguments)))


@main.command(context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1)
@click.pass_context
def role(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Tell the running natmirror that its host is master, backup or fault; what keepalived does at a change."""
    ctx.exit(keepalived_hooks.main("role", list(arguments)))


@main.command()
@click.option("--rules", "rules_file", type=_RULES_FILE, required=True, metavar="FILE", help="The rules of the pair.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; printed otherwise.")
@click.option(
    "--host", metavar="NAME", help="Which of the two it is for; the one with this host's addresses otherwise."
)
@click.option("--command", metavar="PATH", help="How keepalived is to call natmirror; this very one otherwise.")
@click.option(
    "--script-user",
    metavar="USER",
    help="As whom keepalived runs it; natmirror where there is one, else root.",
)
@_api_option
def keepalived(
    rules_file: Path,
    output: Path | None,
    host: str | None,
    command: str | None,
    script_user: str | None,
    api_path: Path,
) -> None:
    """Write keepalived.conf for one host of the pair in the rules."""
    from natmirror.ha import keepalived_conf as configuration
    from natmirror.linux.addresses import own_addresses

    pair = load_rules(rules_file).ha
    if pair is None:
        raise HostError(f"{rules_file}: expected a section ha, found none: there is no pair")
    one = configuration.choose(pair, host, set() if host else own_addresses())
    user = script_user or _script_user()
    text = configuration.text(pair, one, command or _own_command(), str(api_path.absolute()), user)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="ascii")
    except OSError as error:
        raise HostError(f"{output}: {error.strerror or error}") from None


def _own_command() -> str:
    """Return how this very natmirror is called, from any directory."""
    here = Path(sys.executable).with_name("natmirror")
    return str(here) if here.exists() else f"{sys.executable} -m natmirror"


def _script_user() -> str:
    try:
        return pwd.getpwnam("natmirror").pw_name
    except KeyError:
        return "root"


@main.command()
@_api_option
def reload(api_path: Path) -> None:
    """Have a running natmirror go by what its rules file says now. Connections and legs stay where they can; wrong
    rules change nothing."""
    from natmirror.api.client import order

    changes = order("reload", {}, api_path, timeout=60.0)["changes"]
    click.echo("\n".join(changes) if changes else "nothing has changed")


@main.command(name="resume-mirroring")
@_api_option
def resume_mirroring(api_path: Path) -> None:
    """Switch on again what a running natmirror has switched off after internal errors; new connections are mirrored."""
    from natmirror.api.client import order

    order("resume-mirroring", {}, api_path)
    click.echo("mirroring is on again for new connections")


@main.command()
@click.option("--force", is_flag=True, help="Even while natmirror runs here: connections through it are cut.")
def cleanup(force: bool) -> None:
    """Take away all iptables rules that a run of natmirror has left behind, of either iptables, and its table of
    nftables."""
    from natmirror.linux import instance, iptables, nftables

    if not force and (owner := instance.running()) is not None:
        raise HostError(
            f"natmirror is running here, {owner}: stop it, which takes its rules away, or cut all connections through"
            " it with: natmirror cleanup --force"
        )
    try:
        removed = nftables.remove()
    except HostError:  # the rules of iptables hold packets back: they go all the same
        for name in iptables.cleanup():
            click.echo(name)
        raise
    removed += iptables.cleanup()
    click.echo("\n".join(removed) if removed else "nothing of natmirror's is left here")


@main.command()
@click.option("--rules", "rules_file", type=_RULES_FILE, required=True, metavar="FILE", help="The rules to replay by.")
@click.argument("capture", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="OUT.PCAP", help="What would be sent."
)
@click.option(
    "--mirror",
    type=click.Choice(["model", "capture"]),
    default="model",
    show_default=True,
    help="Who answers for the mirrors: an ideal receiver, or the mirrors' own packets in the capture.",
)
@click.option(
    "--streams", type=click.Path(path_type=Path), metavar="DIR", help="Write each leg's byte stream to a file here."
)
def replay(rules_file: Path, capture: Path, output: Path, mirror: str, streams: Path | None) -> None:
    """Run the engine over a capture, with the capture's times as the clock, and write what it would send."""
    from natmirror.replay.replay import replay as run

    click.echo(str(run(load_rules(rules_file), capture, output, mirror=mirror, streams=streams)))


@main.command()
@click.option("--rules", "rules_file", type=_RULES_FILE, default="rules/lb.yaml", show_default=True, metavar="FILE")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=15.0, show_default=True, help="How long to show it.")
@click.option("--switches", type=click.IntRange(1, 4), default=2, show_default=True, help="How many switches it has.")
@click.pass_context
def demo(ctx: click.Context, rules_file: Path, seconds: float, switches: int) -> None:
    """Build a lab of network namespaces with real switches and controllers, and run natmirror between them."""
    from natmirror.lab.demo import run as show

    ctx.exit(show(rules_file, seconds, switches))
