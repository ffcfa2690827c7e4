"""The command line of the benchmark."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from bench.contenders import all_contenders
from bench.growth import GROWTH
from bench.isolated import ISOLATED
from bench.measures import MEASURES
from bench.network import raise_files_limit
from bench.plots import plot
from bench.programs import compile_programs
from bench.report import report
from bench.suite import FULL, QUICK, Suite
from natmirror.errors import HostError

_DOCS = Path(__file__).parents[1] / "docs"
_NAMES = [*(measure.name for measure in MEASURES), ISOLATED, GROWTH]


@click.command()
@click.option("--quick", is_flag=True, help="Make one round of short measures, in under a minute; needs --output.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the results; default: docs."
)
@click.option("--only", multiple=True, type=click.Choice(_NAMES), help="Make only this measure; may be repeated.")
@click.option(
    "--way",
    "ways",
    multiple=True,
    type=click.Choice([contender.name for contender in all_contenders()]),
    help="Measure only this contender; may be repeated.",
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds in which everything is measured.")
@click.option("--seconds", type=click.FloatRange(0.1), help="Duration of each measure.")
def main(
    quick: bool,
    output: Path | None,
    only: tuple[str, ...],
    ways: tuple[str, ...],
    rounds: int | None,
    seconds: float | None,
) -> None:
    """Compare natmirror with other contenders; write benchmark.json, benchmark.md and plots."""
    if quick and output is None:
        raise click.UsageError("--quick needs --output: docs/ is for full runs")
    base = QUICK if quick else FULL
    settings = replace(
        base,
        rounds=rounds or base.rounds,
        seconds=seconds or base.seconds,
        only=list(only),
        ways=list(ways),
    )
    directory = output or _DOCS
    raise_files_limit()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="natmirror-bench-") as place:
            suite = Suite(settings, compile_programs(Path(place)), report=lambda line: click.echo(line, err=True))
            results = suite.run()
    except HostError as error:
        sys.exit(f"bench: {error}")
    results.write(directory / "benchmark.json")
    plots = plot(results, directory)
    (directory / "benchmark.md").write_text(report(results, plots))
    click.echo((directory / "benchmark.md").read_text())


if __name__ == "__main__":
    main()
