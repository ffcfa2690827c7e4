"""A whole run: all ways interleaved, round after round, then each way's growth. What fails is noted, and it goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from bench.growth import FEW, GROWTH, compare, grow
from bench.isolated import ISOLATED, measure
from bench.machine import LOAD_CORES, WAY_CORES, describe, running_on
from bench.measures import MEASURES, Measure, take
from bench.network import Network
from bench.programs import Programs
from bench.results import Results, Sample, Step
from bench.ways import Contender, Natmirror, all_ways
from natmirror.errors import HostError

GROWING = ("dnat", "haproxy", "nginx", "bare-loop", "natmirror-0", "natmirror-1")
"""The ways whose growth is measured: those with a state for each flow, and one without any."""

_MAX_NOTES = 5  # of each way
_FAILURES = (HostError, OSError, ValueError, KeyError)


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured; times are in seconds."""

    rounds: int
    seconds: float
    growth_seconds: float
    growth_samples: int
    growth_pairs: int
    growth_steps: list[int]
    growing: list[str]
    patience: float
    only: list[str]
    ways: list[str]


QUICK = Settings(
    rounds=1,
    seconds=0.5,
    growth_seconds=0.5,
    growth_samples=1,
    growth_pairs=0,
    growth_steps=[100, 5000],
    growing=["natmirror-0", "natmirror-1"],
    patience=5.0,
    only=[],
    ways=[],
)
FULL = Settings(
    rounds=5,
    seconds=2.5,
    growth_seconds=2.0,
    growth_samples=5,
    growth_pairs=12,
    growth_steps=[1, FEW, 10_000, 100_000],
    growing=list(GROWING),
    patience=60.0,
    only=[],
    ways=[],
)


class Suite:
    """One run; ``tell`` gets a line at each step."""

    def __init__(self, settings: Settings, programs: Programs, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._programs = programs
        self._tell = tell
        self._ways = [way for way in all_ways() if not settings.ways or way.name in settings.ways]
        titles = {way.name: way.title for way in self._ways}
        pinning = {"way_cores": sorted(WAY_CORES), "load_cores": sorted(LOAD_CORES)}
        self.results = Results(describe(), {**asdict(settings), **pinning}, titles)

    def run(self) -> Results:
        """Everything that is wanted. All that is started is pinned, so that ways share the machine alike with the
        load."""
        start = time.monotonic()
        with running_on(LOAD_CORES):
            self._run()
        self.results.settings["took_seconds"] = round(time.monotonic() - start, 1)
        return self.results

    def _run(self) -> None:
        measures = [measure for measure in MEASURES if self._wanted(measure.name)]
        if measures:
            with Network(self._programs) as network:
                for number in range(self._settings.rounds):
                    self._round(number, measures, network)
        if self._wanted(ISOLATED):
            self._tell("natmirror's C code alone")
            self.results.isolated = measure(self._programs)
        if self._wanted(GROWTH):
            for way in self._ways:
                if way.name in self._settings.growing:
                    self._growth(way)

    def _wanted(self, name: str) -> bool:
        return not self._settings.only or name in self._settings.only

    def _round(self, number: int, measures: list[Measure], network: Network) -> None:
        """All ways once; each round begins with another one, so that none always comes after the same."""
        first = number % len(self._ways)
        for way in self._ways[first:] + self._ways[:first]:
            samples = [Sample(way.name, measure.name, number) for measure in measures]
            self.results.samples += samples
            try:
                with self._running(way, network):
                    for measure, sample in zip(measures, samples, strict=True):
                        self._measure(measure, way, network, sample)
            except _FAILURES as error:
                self._tell(f"{way.title}: {error}")
                for sample in samples:
                    if not sample.values:
                        sample.failure = sample.failure or str(error)

    @contextmanager
    def _running(self, way: Contender, network: Network) -> Iterator[None]:
        try:
            with running_on(WAY_CORES):
                way.start(network)
            yield
        finally:
            self._note(way)
            way.stop()

    def _note(self, way: Contender) -> None:
        """Some of what a way's log complains of."""
        known = [note for note in self.results.notes if note.startswith(f"{way.title}: ")]
        room = max(0, _MAX_NOTES - len(known))
        self.results.notes += [f"{way.title}: {line}" for line in way.complaints()][:room]

    def _measure(self, measure: Measure, way: Contender, network: Network, sample: Sample) -> None:
        try:
            take(measure, way, network, self._settings.seconds, sample)
        except _FAILURES as error:
            sample.failure = str(error)
        self._tell(f"round {sample.round + 1}, {way.title}, {measure.title}: {_shown(sample)}")

    def _growth(self, way: Contender) -> None:
        """In a network of its own, which takes the idle connections with it at its end."""
        settings = self._settings
        try:
            flows = settings.growth_steps[-1]
            with Network(self._programs, flows=flows) as network:
                try:
                    span = settings.growth_seconds
                    steps = grow(way, network, settings.growth_steps, span, settings.patience, settings.growth_samples)
                    if settings.growth_pairs and isinstance(way, Natmirror) and way.mirrors and not steps[-1].failure:
                        self._compare(way, network, steps[-1])
                finally:
                    self._note(way)
        except _FAILURES as error:
            steps = [Step(way.name, settings.growth_steps[0], failure=str(error))]
        self.results.growth += steps
        for step in steps:
            self._tell(f"{way.title}, {step.flows:,} idle flows: {_shown(step)}")

    def _compare(self, way: Natmirror, network: Network, step: Step) -> None:
        """Beside another one with few flows, in a network of its own."""
        settings = self._settings
        few = Natmirror(way.mirrors)
        with Network(self._programs, flows=step.flows) as its_network:
            try:
                step.values["of_few"] = compare(
                    way, network, few, its_network, settings.growth_seconds, settings.growth_pairs
                )
            finally:
                few.stop()


def _shown(result: Sample | Step) -> str:
    words = [f"{key} {value:,.6g}" for key, value in result.values.items()]
    words += [f"FAILED: {result.failure}"] * bool(result.failure)
    if isinstance(result, Sample) and result.ledger is not None:
        ours = result.ledger
        words.append(f"mirrored {ours.acked_bytes:,} of {ours.client_bytes:,} bytes, lost {ours.lost_bytes}")
    return "; ".join(words)
