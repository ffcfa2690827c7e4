"""``python -m natmirror.reference``: write the reference or the man page, or name the files that are out of date."""

import sys
from pathlib import Path

import click

from natmirror.reference import manual, openapi
from natmirror.reference.pages import FOLDER, stale, write


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; name the files that are out of date and exit with 1.")
@click.option(
    "--manual",
    "manual_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the man page natmirror(8) to this file, and nothing else.",
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER)
def main(folder: Path, check: bool, manual_file: Path | None) -> None:
    """Write the generated pages to FOLDER (docs/reference of the checkout by default), and the API's description."""
    if manual_file is not None:
        manual_file.write_text(manual.page(), encoding="utf-8")
        return
    if not check:
        write(folder)
        openapi.PATH.write_text(openapi.page(), encoding="utf-8")
        return
    paths = [folder / name for name in stale(folder)]
    if openapi.PATH.read_text(encoding="utf-8") != openapi.page():
        paths.append(openapi.PATH)
    for path in paths:
        click.echo(f"{path} is out of date: run make reference", err=True)
    sys.exit(1 if paths else 0)


main()
