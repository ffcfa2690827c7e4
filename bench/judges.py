"""``python -m bench.judges``: what does ``verdict: on`` cost with a thousand switches? (root)

A thousand synthetic switches speak to one controller through natmirror, with a master beside it. Controller and master
are the same program (judges_peer.py). Each measure is taken in pairs: with ``verdict: off`` and right afterwards with
``verdict: on``, or the other way round; each time natmirror and both controllers are started again.

================== =============================================================================================
production.p50,    the time from a switch's PACKET_IN to its answer. The master runs on the controller's core: the
production.p99     sooner it has a PACKET_IN, the later is the controller's answer
session.p50, .p99  how much later than the controller the master has a PACKET_IN
================== =============================================================================================

Ratios and intervals are those of ``make compare``; with its 3 % for production, and with 10 % for sessions. Besides, it
prints natmirror's processor time, the memory in use, and what the verdicts say: both sides are the same program.

Exit status: 0 no measure is slower, 1 a measure is slower, 2 a measure could not be made, or the memory exceeds its
account.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.compare import MIN_PAIRS, Comparison, table
from bench.gauges import Gauge, Measure
from bench.judges_peer import PORT
from bench.machine import CONTENDER_CORES, LOAD_CORES, running_on
from bench.network import raise_files_limit
from bench.sides import ComparisonError, Side
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_listen
from natmirror.lab.topology import CONTROLLER_SIDE, CONTROLLERS, SERVICE, SWITCH_SIDE, Lab

_FIRST_SOURCE, _SOURCES = 120, 16
_MARGIN = 120.0  # seconds that the switches may take besides the measure
_SESSION_BAND = 1.10
_RULES = f"""
switches: [{SWITCH_SIDE}.0/24]
services:
  - name: swarm
    address: {SERVICE}
    port: {PORT}
    pool: {{backends: [{{name: c1, address: {CONTROLLER_SIDE}.{CONTROLLERS["c1"]}}}]}}
    mirrors:
      - name: master
        address: {CONTROLLER_SIDE}.{CONTROLLERS["m"]}
        protocol: openflow
        reconnect: next-message
        warm-up: 0s
        verdict: """
OFF, ON = Side("verdict: off", Path("off")), Side("verdict: on", Path("on"))
_REPOSITORY = Path(__file__).parents[1]


@dataclass(slots=True)
class Sample:
    """What one run has shown besides its measures."""

    cpu_ms: float
    """The processor time of natmirror's packet threads for each PACKET_IN, in milliseconds."""
    judges_ms: float
    """The same of the judges' process."""
    used_bytes: int
    limit_bytes: int
    largest_client_bytes: int
    client_limit_bytes: int
    answers: dict[str, int]
    """The answers of the master by their result; empty with ``verdict: off``."""
    differences: dict[str, int]

    @property
    def is_within_account(self) -> bool:
        return self.used_bytes <= self.limit_bytes and self.largest_client_bytes <= self.client_limit_bytes


class JudgesGauge(Gauge):
    """The switches' waiting times, and those of the master."""

    name = "judges"

    def __init__(self, lab: Lab, switches: int, rate: int, seconds: float) -> None:
        self.measures = [
            *(Measure(f"production.{name}", "ms") for name in ("p50", "p99")),
            *(Measure(f"session.{name}", "ms", band=_SESSION_BAND) for name in ("p50", "p99")),
        ]
        self.samples: dict[Path, list[Sample]] = {OFF.tree: [], ON.tree: []}
        self._lab = lab
        self._words = ["--to", f"{SERVICE}:{PORT}", "--switches", str(switches), "--rate", str(rate)]
        self._words += ["--seconds", str(seconds), "--from", f"{SWITCH_SIDE}.{_FIRST_SOURCE}"]
        self._words += ["--sources", str(_SOURCES), "--together"]
        self._timeout = seconds + _MARGIN

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        try:
            return self._take(side)
        except HostError as error:
            raise ComparisonError(str(error)) from None

    def _take(self, side: Side) -> dict[str, float]:
        rules = self._lab.directory / "judges.yaml"
        rules.write_text(f"{_RULES}{side.tree}\n")
        with running_on(LOAD_CORES):
            backend, master = self._controller("c1"), self._controller("m")
        with running_on(CONTENDER_CORES):
            balancer = LoadBalancer(self._lab, rules)
        before, judges = _packet_seconds(balancer.status()), _judges_seconds(balancer.program)
        with running_on(LOAD_CORES):
            swarm = [sys.executable, "-m", "natmirror.lab.swarm", *self._words]
            figures = json.loads(self._lab.run("s1", swarm, timeout=self._timeout))
        balancer.wait_until_acknowledged()
        status = balancer.status()
        seconds = _packet_seconds(status) - before, _judges_seconds(balancer.program) - judges
        balancer.stop()
        came, told = _end(backend), _end(master)
        delays = sorted(told[number] - came[number] for number in told.keys() & came.keys())
        if figures["answered"] < figures["sent"] or len(delays) < figures["sent"]:
            raise HostError(f"of {figures['sent']} PACKET_INs, the master got {len(delays)}: choose a lower --rate")
        memory, comparison = status["mirror_memory"], status["mirrors"][0]["comparison"] or {}
        self.samples[side.tree].append(
            Sample(
                *(1000 * one / figures["sent"] for one in seconds),
                *(memory[name] for name in ("used_bytes", "limit_bytes", "largest_client_bytes", "client_limit_bytes")),
                *(dict(comparison.get(name, {})) for name in ("answers", "differences")),
            )
        )
        shares = {"p50": 0.5, "p99": 0.99}
        production = {f"production.{name}": float(figures[f"{name}_ms"]) for name in shares}
        return production | {f"session.{name}": 1000 * _share(delays, share) for name, share in shares.items()}

    def _controller(self, host: str) -> Program:
        program = self._lab.start(host, [sys.executable, "-m", "bench.judges_peer"], name="controller", cwd=_REPOSITORY)
        wait_listen(self._lab.ns(host), PORT)
        return program


def _packet_seconds(status: dict[str, Any]) -> float:
    """Return the processor time of natmirror's packet threads."""
    seconds: dict[str, float] = status["machine"]["thread_cpu_seconds"]
    return sum(taken for name, taken in seconds.items() if name.startswith("packets-"))


def _judges_seconds(natmirror: Program) -> float:
    """Return the processor time of the process of natmirror's judges; 0 without one."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if fields[1] == str(natmirror.pid) and b"natmirror.judging" in (path / "cmdline").read_bytes():
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _end(controller: Program) -> dict[str, float]:
    controller.end(signal.SIGTERM)
    return dict(json.loads(controller.text.splitlines()[-1]))


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]


def report(samples: dict[Path, list[Sample]]) -> list[str]:
    """Return lines about what the runs have shown besides their measures."""
    lines = []
    for side in (OFF, ON):
        if mine := samples[side.tree]:
            largest = max(mine, key=lambda sample: sample.used_bytes)
            lines.append(
                f"{side.title}: processor time for each PACKET_IN {median(sample.cpu_ms for sample in mine):.3f} ms of"
                f" the packet thread, {median(sample.judges_ms for sample in mine):.3f} ms of the judges;"
                f" at most {largest.used_bytes / 1e6:,.1f} of {largest.limit_bytes / 1e6:,.1f} MB, of one client"
                f" {max(sample.largest_client_bytes for sample in mine) / 1e6:,.1f} of"
                f" {largest.client_limit_bytes / 1e6:,.1f} MB"
            )
    for name in ("answers", "differences"):
        counts: dict[str, int] = {}
        for sample in samples[ON.tree]:
            for result, count in getattr(sample, name).items():
                counts[result] = counts.get(result, 0) + count
        shown = ", ".join(f"{count:,} {result}" for result, count in counts.items() if count)
        lines.append(f"{name}: {shown or 'none'}")
    return lines


@click.command()
@click.option("--switches", default=1000, show_default=True)
@click.option("--rate", default=300, show_default=True, help="PACKET_INs a second, from all switches together.")
@click.option(
    "--pairs", default=20, show_default=True, type=click.IntRange(MIN_PAIRS), help="The most pairs to measure."
)
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Duration of each run.")
def main(switches: int, rate: int, pairs: int, seconds: float) -> None:
    """Compare a thousand switches whose master is compared with production with the same without a verdict."""
    try:
        raise_files_limit()
        with Lab() as lab:
            for number in range(_SOURCES):
                lab.address("s1", "eth0", f"{SWITCH_SIDE}.{_FIRST_SOURCE + number}")
            gauge = JudgesGauge(lab, switches, rate, seconds)
            comparison = Comparison([OFF, ON], [gauge], (), _report)
            try:
                comparison.run(pairs)
            finally:  # after Ctrl-C, print what was found so far
                click.echo(table(comparison))
                click.echo("\n".join(report(gauge.samples)))
    except (HostError, ComparisonError) as error:
        _report(str(error))
        sys.exit(2)
    is_within = all(sample.is_within_account for some in gauge.samples.values() for sample in some)
    sys.exit(comparison.status() if is_within else 2)


def _report(line: str) -> None:
    click.echo(f"judges: {line}", err=True)


if __name__ == "__main__":
    main()
