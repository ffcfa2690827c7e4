"""The command that gathers what a bug report needs."""

import time
from pathlib import Path

import click

from natmirror.cli import exit_codes
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import FILE, api_option

_NAME = "natmirror-support-%Y%m%d-%H%M%S.tar.gz"


@click.command(name="support-dump", epilog=epilog(exit_codes.SUPPORT_DUMP))
@click.option(
    "-o",
    "--output",
    "file",
    type=FILE,
    metavar="FILE",
    show_default="natmirror-support-TIME.tar.gz in this directory",
    help="Write the archive to FILE, which must not exist.",
)
@click.option(
    "--map", "map_file", type=FILE, metavar="FILE", help="Write what was replaced to FILE. Keep it to yourself."
)
@click.option(
    "--rules",
    "rules_file",
    type=FILE,
    metavar="FILE",
    show_default="those of the running natmirror, else /etc/natmirror/rules.yaml",
    help="Take the rules in FILE.",
)
@api_option
def support_dump(file: Path | None, map_file: Path | None, rules_file: Path | None, api_path: Path) -> None:
    """Write an archive for a bug report, with addresses and names replaced.

    It has rules without secrets, state, events, doctor's findings, metrics, versions, natmirror's threads, and this
    host's kernel rules, routes, addresses and settings; no packets. Each part has a bounded time, so that it works too
    while natmirror hangs, is stopped or has never run; README.txt in the archive says what each file is, what could not
    be had and why, and how addresses and names were replaced. Run it as root, so that it may read all of that.
    """
    from natmirror.support import archive
    from natmirror.support.dump import gather

    now = time.time()
    file = file or Path(time.strftime(_NAME, time.gmtime(now)))
    for one in (file, map_file):
        if one is not None:
            archive.require_absent(one)  # before all the work
    found, scrubber = gather(api_path, rules_file)
    length = archive.write(file, found, scrubber, now)
    if map_file is not None:
        archive.write_map(map_file, scrubber)
    missing = sum(bool(one.error) for one in found)
    click.echo(f"{file}: {len(found)} parts, {length} bytes" + (f"; {missing} could not be had" if missing else ""))
    click.echo("README.txt in it says what it has; look through it before you pass it on")
