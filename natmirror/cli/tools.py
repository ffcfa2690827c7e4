"""The commands that need no running natmirror."""

import json
import pwd
import sys
from pathlib import Path

import click

from natmirror.cli import exit_codes
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option, json_option
from natmirror.cli.shown import RemovedRules
from natmirror.errors import HostError
from natmirror.rules import load_rules

_RELEASE_TIMEOUT = 10.0  # seconds


@click.command(epilog=epilog(exit_codes.KEEPALIVED))
@click.option("--rules", "rules_file", type=FILE, required=True, metavar="FILE", help="Use the pair in the rules FILE.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    show_default="standard output",
    help="Write the configuration to FILE.",
)
@click.option(
    "--host",
    metavar="NAME",
    show_default="the one with this host's addresses",
    help="Write the configuration of the host NAME.",
)
@click.option(
    "--command",
    metavar="PATH",
    show_default="this program",
    help="Have keepalived run natmirror as PATH.",
)
@click.option(
    "--script-user",
    metavar="USER",
    show_default="natmirror if there is such a user, else root",
    help="Have keepalived run natmirror as USER.",
)
@api_option
def keepalived(
    rules_file: Path,
    output: Path | None,
    host: str | None,
    command: str | None,
    script_user: str | None,
    api_path: Path,
) -> None:
    """Write keepalived.conf for one host of a pair.

    The configuration follows from the section ha of the rules. Write it again after each change there.
    """
    from natmirror.ha import keepalived_conf as configuration
    from natmirror.linux.addresses import own_addresses

    pair = load_rules(rules_file).ha
    if pair is None:
        raise HostError(f"{rules_file}: expected a section ha, found none: the rules have no pair")
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
    """Return the command that runs this natmirror from any directory."""
    here = Path(sys.executable).with_name("natmirror")
    return str(here) if here.exists() else f"{sys.executable} -m natmirror"


def _script_user() -> str:
    try:
        return pwd.getpwnam("natmirror").pw_name
    except KeyError:
        return "root"


@click.command(epilog=epilog(exit_codes.CLEANUP))
@click.option("--force", is_flag=True, help="Remove the rules of a running natmirror too; this cuts its connections.")
@api_option
@json_option
def cleanup(force: bool, api_path: Path, as_json: bool) -> None:
    """Remove the kernel rules that natmirror has left behind.

    These are the iptables chains NATMIRROR-*, in both variants of iptables, and the nftables table natmirror, in this
    network namespace. Prints what it removes. With --force a running natmirror stops to install them again.
    """
    from natmirror.linux import instance, iptables, nftables
    from natmirror.linux.rights import require_net_admin

    require_net_admin("natmirror cleanup")
    owner, not_told = instance.running(), None
    if owner is not None:
        if not force:
            raise HostError(
                f"natmirror is running here, {owner}: stop it, and it removes its rules; natmirror cleanup --force"
                " removes them now, and cuts all connections through it"
            )
        not_told = _release_kernel(owner, api_path)
    try:
        removed = nftables.remove()
    except HostError:  # the iptables rules divert packets: remove them nevertheless
        for name in iptables.cleanup():
            click.echo(name)
        raise
    removed += iptables.cleanup()
    if as_json:
        shown: RemovedRules = {"removed": removed}
        click.echo(json.dumps(shown))
    else:
        click.echo("\n".join(removed) if removed else "nothing to remove")
    if not_told is not None:
        raise not_told


def _release_kernel(owner: str, api_path: Path) -> HostError | None:
    """Have the running natmirror keep its rules no longer; return what to report if it does not obey."""
    from natmirror.api.client import send_command

    try:
        send_command("release-kernel", {}, api_path, _RELEASE_TIMEOUT)
    except HostError as error:
        return HostError(f"natmirror, {owner}, may install its rules again: stop it ({error})")
    return None


@click.command(epilog=epilog(exit_codes.REPLAY))
@click.option("--rules", "rules_file", type=FILE, required=True, metavar="FILE", help="Replay with the rules in FILE.")
@click.argument("capture", type=FILE)
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="OUT.PCAP",
    help="Write the packets that natmirror would send to OUT.PCAP.",
)
@click.option(
    "--mirror",
    type=click.Choice(["model", "capture"]),
    default="model",
    show_default=True,
    help="Let an ideal receiver (model) answer for the mirrors, or their own packets in the capture.",
)
@click.option(
    "--streams", type=FILE, metavar="DIR", help="Write the byte stream of each leg to a file of its own in DIR."
)
@json_option
def replay(rules_file: Path, capture: Path, output: Path, mirror: str, streams: Path | None, as_json: bool) -> None:
    """Run natmirror's engine over a capture.

    CAPTURE is a pcap or pcapng file; the times of its packets are the engine's clock. Prints a report. Needs no root
    and no network.
    """
    from natmirror.replay.replay import Report
    from natmirror.replay.replay import replay as run

    def shown(report: Report) -> str:
        return json.dumps(report.show(), indent=2) if as_json else str(report)

    click.echo(shown(run(load_rules(rules_file), capture, output, mirror=mirror, streams=streams, show=shown)))


@click.command(epilog=epilog(exit_codes.DEMO))
@click.option(
    "--rules",
    "rules_file",
    type=FILE,
    default="rules/demo.yaml",
    show_default=True,
    metavar="FILE",
    help="Run with the rules in FILE.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    metavar="SECONDS",
    default=8.0,
    show_default=True,
    help="Have this much time of traffic before and after each event.",
)
@click.option(
    "--switches",
    type=click.IntRange(1, 4),
    metavar="COUNT",
    default=2,
    show_default=True,
    help="Run this number of switches.",
)
@click.option("--page", is_flag=True, help="Go on until Ctrl-C, for those who look at the status page.")
@click.pass_context
def demo(ctx: click.Context, rules_file: Path, seconds: float, switches: int, *, page: bool) -> None:
    """Run natmirror between real switches and controllers.

    Builds network namespaces with them and serves the status page on this machine's loopback address. Kills a
    controller, freezes the mirror and brings it back; then compares what each of them got, and prints the facts. Needs
    root.
    """
    from natmirror.lab.demo import run as show

    ctx.exit(show(rules_file, seconds, switches, page=page))
