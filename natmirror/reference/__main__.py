"""``python -m natmirror.reference [--check]``: write the reference, or say which of its files are out of date."""

import sys
from pathlib import Path

import click

from natmirror.reference.pages import FOLDER, stale, write


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; name the files that are out of date and exit with 1.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER)
def main(folder: Path, check: bool) -> None:
    """Write the generated pages to FOLDER (docs/reference of the checkout by default)."""
    if not check:
        write(folder)
        return
    names = stale(folder)
    for name in names:
        click.echo(f"{folder / name} is out of date: run make reference", err=True)
    sys.exit(1 if names else 0)


main()
