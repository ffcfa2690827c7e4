"""The command ``natmirror capture``."""

import shlex
import sys
from pathlib import Path

import click

from natmirror.cli import exit_codes
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option
from natmirror.net.endpoint import parse_client

_MEGABYTE = 1_000_000


@click.command(epilog=epilog(exit_codes.CAPTURE))
@click.argument("client", metavar="CLIENT[:PORT]")
@click.option(
    "-w",
    "--write",
    "path",
    type=FILE,
    required=True,
    metavar="FILE",
    help="Write the capture to FILE, in place of what is there; - is standard output, as for | wireshark -k -i -.",
)
@click.option("--limit", type=click.IntRange(1), metavar="COUNT", help="End after COUNT packets.")
@click.option(
    "--size",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    metavar="MB",
    help="End before FILE has more than this many megabytes.",
)
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    show_default="until SIGINT or SIGTERM",
    help="End after this time.",
)
@api_option
def capture(client: str, path: Path, limit: int | None, size: int, seconds: float | None, api_path: Path) -> None:
    """Write a client's packets on all sides of natmirror into one file for Wireshark.

    The packets as they come in from the client and as they are sent on, those of the backend likewise, the copies to
    each mirror and what the mirrors answer: each side is an interface of its own in a pcapng file. Comments at the
    packets say which backend natmirror chose and why, when legs begin and end and for what reason, and what else
    happened. With a PORT, one connection alone. Waits for the client's first connection if it has none. The engine has
    no part in this. Needs root or CAP_NET_RAW.
    """
    from natmirror.capture.recorder import Bounds
    from natmirror.capture.run import Wanted, run
    from natmirror.capture.story import Words
    from natmirror.cli import explained
    from natmirror.threads import yield_to_packets

    try:
        parse_client(client)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="CLIENT") from None
    yield_to_packets()
    words = Words(explained.choice, explained.binding, explained.copy_line, explained.reason)
    command = shlex.join(("natmirror", *sys.argv[1:]))
    wanted = Wanted(client, path, api_path, Bounds(limit, size * _MEGABYTE), seconds)
    run(wanted, words, lambda line: click.echo(line, err=True), command)
