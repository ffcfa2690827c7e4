"""A whole run: all contenders in turn, round after round, then the growth of each. Failures are part of the results."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from bench.contenders import Contender, Natmirror, all_contenders
from bench.growth import FEW, GROWTH, compare, grow
from bench.isolated import ISOLATED, measure
from bench.machine import CONTENDER_CORES, LOAD_CORES, describe, running_on
from bench.measures import MEASURES, Measure, take
from bench.network import Network
from bench.programs import Programs
from bench.results import Results, Sample, Step
from natmirror.errors import HostError

GROWING = ("dnat", "haproxy", "nginx", "bare-loop", "natmirror-0", "natmirror-1")
"""The contenders whose growth is measured: those that keep state for each flow, and the bare loop, which keeps none."""

_MAX_NOTES = 5  # of each contender
_FAILURES = (HostError, OSError, ValueError, KeyError)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run; times are in seconds."""

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
    """One run; ``report`` gets a line at each step."""

    def __init__(self, settings: Settings, programs: Programs, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._programs = programs
        self._report = report
        self._contenders = [
            contender for contender in all_contenders() if not settings.ways or contender.name in settings.ways
        ]
        titles = {contender.name: contender.title for contender in self._contenders}
        pinning = {"way_cores": sorted(CONTENDER_CORES), "load_cores": sorted(LOAD_CORES)}
        self.results = Results(describe(), {**asdict(settings), **pinning}, titles)

    def run(self) -> Results:
        """Measure everything that the settings ask for. All programs are pinned to cores, so that each contender shares
        the machine with the load in the same way."""
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
            self._report("natmirror's C code alone")
            self.results.isolated = measure(self._programs)
        if self._wanted(GROWTH):
            for contender in self._contenders:
                if contender.name in self._settings.growing:
                    self._growth(contender)

    def _wanted(self, name: str) -> bool:
        return not self._settings.only or name in self._settings.only

    def _round(self, number: int, measures: list[Measure], network: Network) -> None:
        """Measure each contender once. Each round begins with another one, so that none always follows the same one."""
        first = number % len(self._contenders)
        for contender in self._contenders[first:] + self._contenders[:first]:
            samples = [Sample(contender.name, measure.name, number) for measure in measures]
            self.results.samples += samples
            try:
                with self._running(contender, network):
                    for measure, sample in zip(measures, samples, strict=True):
                        self._measure(measure, contender, network, sample)
            except _FAILURES as error:
                self._report(f"{contender.title}: {error}")
                for sample in samples:
                    if not sample.values:
                        sample.failure = sample.failure or str(error)

    @contextmanager
    def _running(self, contender: Contender, network: Network) -> Iterator[None]:
        try:
            with running_on(CONTENDER_CORES):
                contender.start(network)
            yield
        finally:
            self._note(contender)
            contender.stop()

    def _note(self, contender: Contender) -> None:
        """Keep the first complaints of a contender's log."""
        known = [note for note in self.results.notes if note.startswith(f"{contender.title}: ")]
        room = max(0, _MAX_NOTES - len(known))
        self.results.notes += [f"{contender.title}: {line}" for line in contender.complaints()][:room]

    def _measure(self, measure: Measure, contender: Contender, network: Network, sample: Sample) -> None:
        try:
            take(measure, contender, network, self._settings.seconds, sample)
        except _FAILURES as error:
            sample.failure = str(error)
        self._report(f"round {sample.round + 1}, {contender.title}, {measure.title}: {_shown(sample)}")

    def _growth(self, contender: Contender) -> None:
        """Measure a contender's growth in a network of its own, whose end closes the idle connections."""
        settings = self._settings
        try:
            flows = settings.growth_steps[-1]
            with Network(self._programs, flows=flows) as network:
                try:
                    span = settings.growth_seconds
                    steps = grow(
                        contender, network, settings.growth_steps, span, settings.patience, settings.growth_samples
                    )
                    if (
                        settings.growth_pairs
                        and isinstance(contender, Natmirror)
                        and contender.mirrors
                        and not steps[-1].failure
                    ):
                        self._compare(contender, network, steps[-1])
                finally:
                    self._note(contender)
        except _FAILURES as error:
            steps = [Step(contender.name, settings.growth_steps[0], failure=str(error))]
        self.results.growth += steps
        for step in steps:
            self._report(f"{contender.title}, {step.flows:,} idle flows: {_shown(step)}")

    def _compare(self, contender: Natmirror, network: Network, step: Step) -> None:
        """Compare the contender with a second one with few flows, in another network."""
        settings = self._settings
        few = Natmirror(contender.mirrors)
        with Network(self._programs, flows=step.flows) as its_network:
            try:
                step.values["of_few"] = compare(
                    contender, network, few, its_network, settings.growth_seconds, settings.growth_pairs
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
