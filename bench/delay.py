"""``python -m bench.delay``: how late a mirror's application has a small message, by how its backend reads (root).

A client sends messages of 64 bytes through natmirror, in network namespaces. Backend and mirror note when their
applications have each message. The mirror always reads at once. delay_peers.py says how each kind of backend reads.
Each kind is measured in each release mode that the rules know, and with ``--base`` for another commit too, which is
built in a temporary directory.

The columns are milliseconds from the client's send: until the backend's application has the message, and until the
mirror's has it.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.delay_lab import END_TIMEOUT, PORT
from bench.delay_peers import Reader
from bench.sides import REPOSITORY, ComparisonError, build, export, resolve, run, temporary_directory
from natmirror.lab.topology import SERVICE

_MODES = ("acknowledged", "seen")
_CHECK_TIMEOUT = 60.0
_RULES = f"""
switches: [10.10.0.0/24]
threads: 1
services:
  - name: delay
    address: {SERVICE}
    port: {PORT}
    pool: {{backends: [{{name: c1, address: 10.20.0.11}}]}}
    mirrors: [{{name: m, address: 10.20.0.13}}]
"""
_HEAD = f"{'backend':13} {'release':13} {'messages':>8}  {'backend p50':>11} {'p99':>7}  {'mirror p50':>10} {'p99':>7}"


@dataclass(frozen=True, slots=True)
class Variant:
    """What is measured: natmirror of ``tree``, by its interpreter, with a rules file."""

    title: str
    python: str
    tree: Path
    rules: Path

    def why_refused(self) -> str | None:
        """Return why natmirror refuses the rules; None: it accepts them."""
        words = [self.python, "-m", "natmirror", "--rules", str(self.rules), "--check"]
        done = subprocess.run(words, cwd=self.tree, capture_output=True, text=True, timeout=_CHECK_TIMEOUT, check=False)
        return None if done.returncode == 0 else done.stderr.strip()

    def measure(self, reader: Reader, seconds: float) -> dict[str, list[float]]:
        """Return the delays at ``backend`` and ``mirror``, in seconds."""
        words = [self.python, str(self.tree), str(self.rules), str(reader), str(seconds)]
        printed = run([sys.executable, "-m", "bench.delay_lab", *words], REPOSITORY, timeout=seconds + 4 * END_TIMEOUT)
        return dict(json.loads(printed))


def row(backend: str, release: str, delays: dict[str, list[float]]) -> str:
    """Return a line of the table."""
    shown = [f"{1000 * part:.2f}" for host in ("backend", "mirror") for part in percentiles(delays[host])]
    backend_p50, backend_p99, mirror_p50, mirror_p99 = shown
    count = len(delays["mirror"])
    return f"{backend:13} {release:13} {count:8}  {backend_p50:>11} {backend_p99:>7}  {mirror_p50:>10} {mirror_p99:>7}"


def percentiles(delays: Sequence[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile."""
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    return cuts[49], cuts[98]


def variants(directory: Path, base: str | None) -> list[Variant]:
    """Return the variants of this checkout and of the commit ``base``, which is built in ``directory`` and has its
    default release mode. Leave out those whose rules natmirror refuses, and say so."""
    found = []
    for mode in _MODES:
        rules = directory / f"{mode}.yaml"
        rules.write_text(f"{_RULES}    release: {mode}\n")
        found.append(Variant(mode, sys.executable, REPOSITORY, rules))
    if base is not None:
        side = export(resolve(base, REPOSITORY), directory / "base", REPOSITORY)
        click.echo(f"base: {side.title}", err=True)
        build(side, with_bench=False)
        rules = directory / "base.yaml"
        rules.write_text(_RULES)
        found.append(Variant("base", side.python, side.tree, rules))
    accepted = []
    for variant in found:
        if (why := variant.why_refused()) is None:
            accepted.append(variant)
        else:
            click.echo(f"{variant.title} is not measured: {why}", err=True)
    return accepted


@click.command()
@click.option("--base", metavar="COMMIT", help="Measure this commit too.")
@click.option("--seconds", default=10.0, show_default=True, help="Duration of one measure.")
def main(base: str | None, seconds: float) -> None:
    """Measure how late a mirror's application has a small message."""
    try:
        with temporary_directory() as directory:
            measured = variants(directory, base)
            click.echo(_HEAD)
            for reader in Reader:
                for variant in measured:
                    click.echo(row(reader, variant.title, variant.measure(reader, seconds)))
    except ComparisonError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
