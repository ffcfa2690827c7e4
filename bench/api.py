"""``python -m bench.api``: is production slower while clients ask natmirror's API? (root)

In the lab, natmirror has 10,000 connections that say nothing, 5,000 of them with a leg. Each measure is taken in pairs:
while no client asks, and right afterwards while clients do, or the other way round:

- ``scraped``: a client asks for the metrics and the status each second;
- ``watched``: the status page is open, which asks for the status each second and for events every other one, and
  natmirror top runs in a terminal of 120 columns and 40 lines;
- ``flooded``: as with ``scraped``, and eight connections ask for whole lists, sorted lists, single rows and the status,
  the next one as soon as they have their answer;
- ``other``: the same eight connections ask a program without any limits that has nothing to do with natmirror, on the
  same cores: so much a busy neighbour costs here. These rows, of latency alone, do not change the exit status.

Production is measured without a mirror (``plain``) and with one (``copied``): round trips of small packets as fast as
they go, new connections, the time from request to reply at 1,000 requests a second, and how late the mirror's
application has small messages.

natmirror has half of the cores, with the weight that its unit gives it; the API's process and its clients share them.
The lab's other programs have the others. Ratios, intervals and verdicts are those of ``make compare``.

Exit status: 0 no measure is slower, 1 a measure is slower, 2 a measure could not be made.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

import click

from bench.compare import MIN_PAIRS, Comparison, choose, table
from bench.delay import percentiles
from bench.delay_peers import Reader
from bench.gauges import Gauge, Measure
from bench.machine import CONTENDER_CORES, LOAD_CORES, give_weight, running_on
from bench.measures import LATENCY_CONNECTIONS, LATENCY_RATE, OPENING_CONNECTIONS, PACKETS_CONNECTIONS
from bench.network import BACKEND, MIRRORS, PORT, Network, raise_files_limit
from bench.programs import compile_programs
from bench.sides import ComparisonError, Side
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for
from natmirror.lab.topology import SERVICE

_FLOWS, _LEGS = 10_000, 5_000
_PORTS = {"plain": PORT, "copied": PORT + 1}
_DELAY_PORT = 6600
_POOL = f"pool: {{backends: [{{name: c1, address: {BACKEND}}}]}}"
_MIRRORS = f"mirrors: [{{name: m, address: {MIRRORS[0]}}}]"
_RULES = f"""
switches: [10.10.0.0/24]
services:
  - {{name: plain, address: {SERVICE}, port: {_PORTS["plain"]}, {_POOL}}}
  - {{name: copied, address: {SERVICE}, port: {_PORTS["copied"]}, {_POOL}, {_MIRRORS}}}
  - {{name: delay, address: {SERVICE}, port: {_DELAY_PORT}, {_POOL}, {_MIRRORS}}}
"""
_REPOSITORY = Path(__file__).parents[1]

# Seconds
_OPEN_TIMEOUT = 60.0
_WARM_UP = 0.5
_END_TIMEOUT = 30.0


class Asking(StrEnum):
    """What clients ask for while production is measured."""

    SCRAPED = "scraped"
    WATCHED = "watched"
    FLOODED = "flooded"
    OTHER = "other"


_COMMANDS = {Asking.SCRAPED: "scrape", Asking.WATCHED: "watch", Asking.FLOODED: "flood", Asking.OTHER: "flood"}
"""The programs of bench.api_clients."""
ALONE = Side("no client asks", Path("alone"))
ASKED = Side("clients ask", Path("asked"))


@dataclass(slots=True)
class Asked:
    """What clients have got: answers by their status code, and bytes; and the seconds and processor seconds of it."""

    answers: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, printed: str) -> None:
        """Add what a program of bench.api_clients has printed."""
        counts = json.loads(printed)
        self.answers.update(counts["answers"])
        self.bytes += counts["bytes"]
        self.seconds += counts["seconds"]
        self.cpu_seconds += counts["cpu_seconds"]

    def __str__(self) -> str:
        if not self.seconds:
            return "not measured"
        codes = ", ".join(f"{count / self.seconds:,.1f} with {code}" for code, count in sorted(self.answers.items()))
        return (
            f"answers a second: {codes}; {self.bytes / self.seconds / 1e6:,.1f} MB/s;"
            f" the clients took {self.cpu_seconds / self.seconds:.1%} of a core"
        )


class Scene:
    """natmirror with its silent connections, between clients and servers."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.asked = {asking: Asked() for asking in Asking}
        rules = network.lab.directory / "rules.yaml"
        rules.write_text(_RULES)
        with running_on(CONTENDER_CORES):
            self._balancer = LoadBalancer(network.lab, rules)
        give_weight(self._balancer.program.popen.pid)
        self._sockets = dict.fromkeys(Asking, self._balancer.api)
        self._sockets[Asking.OTHER] = other = network.lab.directory / "other.sock"
        self._start("serve", other).wait_for_text("serving")
        for port, count in ((_PORTS["copied"], _LEGS), (_PORTS["plain"], _FLOWS - _LEGS)):
            _, opened, _ = network.hold(SERVICE, count, _OPEN_TIMEOUT, port=port)
            if opened < count:
                raise HostError(f"only {opened:,} of {count:,} connections could be opened")
        wait_for(lambda: self._legs() >= _LEGS, "all legs", _OPEN_TIMEOUT)

    def _legs(self) -> int:
        status = self._balancer.status()
        return sum(mirror["legs"] for mirror in status["mirrors"])

    def close(self) -> None:
        """Stop natmirror."""
        self._balancer.stop()

    @contextmanager
    def asking(self, asking: Asking) -> Iterator[None]:
        """Have clients ask, already for a while when the context begins."""
        clients = self._start(_COMMANDS[asking], self._sockets[asking])
        try:
            clients.wait_for_text("asking")
            time.sleep(_WARM_UP)
            yield
        finally:
            clients.end(timeout=_END_TIMEOUT)
        self.asked[asking].add(clients.text.splitlines()[-1])

    def _start(self, what: str, path: Path) -> Program:
        """Start a program of bench.api_clients on natmirror's cores."""
        command = [sys.executable, "-m", "bench.api_clients", what, str(path)]
        with running_on(CONTENDER_CORES):
            return self.network.lab.start("lb", command, name=what, cwd=_REPOSITORY)

    def delays(self, seconds: float) -> list[float]:
        """Return how late the mirror's application has each message, in seconds."""
        lab = self.network.lab
        receivers = [self._peer(host, "receive", _DELAY_PORT, Reader.ANSWERS) for host in ("c1", "m")]
        for receiver in receivers:
            receiver.wait_for_text("ready")
        send = [sys.executable, "-m", "bench.delay_peers", "send", SERVICE, str(_DELAY_PORT), str(seconds)]
        lab.run("s1", send, cwd=_REPOSITORY, timeout=seconds + _END_TIMEOUT)
        for receiver in receivers:
            _wait_for_end(receiver)
        return list(json.loads(receivers[-1].text.splitlines()[-1]).values())

    def _peer(self, host: str, *words: object) -> Program:
        command = [sys.executable, "-m", "bench.delay_peers", *map(str, words)]
        return self.network.lab.start(host, command, name="peer", cwd=_REPOSITORY)


def _wait_for_end(receiver: Program) -> None:
    wait_for(lambda: not receiver.running(), "a receiver to have all messages", _END_TIMEOUT)


# Production's measures


Take = Callable[[Scene, float], tuple[float, ...]]
"""Measures for these seconds; returns a figure for each of the measures' units."""


def _packets(port: int, scene: Scene, seconds: float) -> tuple[float, ...]:
    got = scene.network.measure("packets", SERVICE, connections=PACKETS_CONNECTIONS, seconds=seconds, port=port)
    return (got["round_trips"] / got["seconds"],)


def _connections(port: int, scene: Scene, seconds: float) -> tuple[float, ...]:
    got = scene.network.measure("connections", SERVICE, connections=OPENING_CONNECTIONS, seconds=seconds, port=port)
    return (got["connections"] / got["seconds"],)


def _latency(port: int, scene: Scene, seconds: float) -> tuple[float, ...]:
    load = {"connections": LATENCY_CONNECTIONS, "rate": LATENCY_RATE, "port": port}
    got = scene.network.measure("latency", SERVICE, seconds=seconds, **load)
    if got["unanswered"]:
        raise HostError(f"{got['unanswered']} requests have no answer")
    return got["p50_us"], got["p99_us"]


def _delay(scene: Scene, seconds: float) -> tuple[float, ...]:
    p50, p99 = percentiles(scene.delays(seconds))
    return 1e6 * p50, 1e6 * p99


_PERCENTILES = (Measure("p50", "us"), Measure("p99", "us"))
_PRODUCTION: dict[str, tuple[tuple[Measure, ...], Take]] = {
    **{
        f"{service}.{name}": (measures, partial(take, port))
        for service, port in _PORTS.items()
        for name, measures, take in (
            ("packets", (Measure("", "trips/s", is_speed=True),), _packets),
            ("connections", (Measure("", "conn/s", is_speed=True),), _connections),
            ("latency", _PERCENTILES, _latency),
        )
    },
    "copied.delay": (_PERCENTILES, _delay),
}
"""What is measured, by its name: its figures, and the function that takes them."""


class ProductionGauge(Gauge):
    """One of production's measures, while clients ask so, and without them. ``scene`` returns the scene."""

    def __init__(self, name: str, asking: Asking, seconds: float, scene: Callable[[], Scene]) -> None:
        self.name = f"{asking}.{name}"
        self.is_ours = asking is not Asking.OTHER
        self._asking = asking
        self._seconds = seconds
        self._scene = scene
        measures, self._take = _PRODUCTION[name]
        self.measures = [
            Measure(f"{self.name}.{one.name}".rstrip("."), one.unit, is_speed=one.is_speed) for one in measures
        ]

    def take(self, side: Side, wanted: Collection[str]) -> dict[str, float]:
        scene = self._scene()
        try:
            if side is ALONE:
                figures = self._take(scene, self._seconds)
            else:
                with scene.asking(self._asking):
                    figures = self._take(scene, self._seconds)
        except HostError as error:
            raise ComparisonError(str(error)) from None
        return {measure.name: figure for measure, figure in zip(self.measures, figures, strict=True)}


def all_gauges(seconds: float, scene: Callable[[], Scene]) -> Sequence[ProductionGauge]:
    """Return the gauges of all measures, each taking this time."""
    asked = [(name, asking) for name in _PRODUCTION for asking in (Asking.SCRAPED, Asking.WATCHED, Asking.FLOODED)]
    asked += [(f"{service}.latency", Asking.OTHER) for service in _PORTS]
    return [ProductionGauge(name, asking, seconds, scene) for name, asking in asked]


@click.command()
@click.option("--only", multiple=True, help="Take only measures whose names begin so; may be repeated.")
@click.option(
    "--pairs", default=20, show_default=True, type=click.IntRange(MIN_PAIRS), help="The most pairs to measure."
)
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Duration of each measure.")
def main(only: tuple[str, ...], pairs: int, seconds: float) -> None:
    """Compare production while clients ask natmirror's API with production while none does."""
    scenes: list[Scene] = []
    try:
        every = all_gauges(seconds, lambda: scenes[0])
        chosen = choose(every, only, _report)
        raise_files_limit()
        with (
            tempfile.TemporaryDirectory(prefix="natmirror-bench-") as place,
            running_on(LOAD_CORES),
            Network(compile_programs(Path(place)), flows=_FLOWS) as network,
        ):
            scenes.append(Scene(network))
            own = [one for one in every if one in chosen and one.is_ours]
            beside = [one for one in every if one in chosen and not one.is_ours]
            ours, others = (Comparison([ALONE, ASKED], gauges, only, _report) for gauges in (own, beside))
            try:
                ours.run(pairs)
                others.run(pairs)
            finally:  # after Ctrl-C, print what was found so far
                click.echo(table(ours))
                click.echo(f"\nBeside another program:\n{table(others)}")
                for asking, asked in scenes[0].asked.items():
                    click.echo(f"{asking}: {asked}")
            scenes[0].close()
    except (HostError, ComparisonError) as error:
        _report(str(error))
        sys.exit(2)
    sys.exit(ours.status())


def _report(line: str) -> None:
    click.echo(f"api: {line}", err=True)


if __name__ == "__main__":
    main()
