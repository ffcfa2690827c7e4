"""The samples of a benchmark, their medians over the rounds, and ratios between contenders."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(slots=True)
class Ledger:
    """natmirror's ledger of one measure, summed over all mirrors."""

    client_bytes: int = 0
    acked_bytes: int = 0
    pending_bytes: int = 0
    lost_bytes: dict[str, int] = field(default_factory=dict)
    legs_opened: int = 0
    legs_ended: dict[str, int] = field(default_factory=dict)
    wait_seconds: float = 0.0
    """Seconds that the mirrors needed after the measure to get the rest."""


@dataclass(slots=True)
class Sample:
    """One measure of one contender in one round."""

    way: str
    """The contender's name."""
    measure: str
    round: int
    values: dict[str, float] = field(default_factory=dict)
    ledger: Ledger | None = None
    counters: dict[str, float] = field(default_factory=dict)
    """How natmirror's own counters changed."""
    failure: str | None = None


@dataclass(slots=True)
class Step:
    """One contender with a number of idle flows."""

    way: str
    flows: int
    values: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass(slots=True)
class Results:
    """The results of a whole run."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    ways: dict[str, str]
    """The contenders' titles by name, in the order of the tables."""
    samples: list[Sample] = field(default_factory=list)
    growth: list[Step] = field(default_factory=list)
    isolated: dict[str, float] = field(default_factory=dict)
    """Nanoseconds of natmirror's C code, by measure."""
    notes: list[str] = field(default_factory=list)
    """Complaints in the contenders' logs."""

    def measures(self) -> list[str]:
        """Return the names of the measures that were made, in order."""
        return list(dict.fromkeys(sample.measure for sample in self.samples))

    def rounds(self, contender: str, measure: str, value: str) -> dict[int, float]:
        """Return a value by round, for the rounds in which the measure did not fail."""
        return {
            sample.round: sample.values[value]
            for sample in self.samples
            if (sample.way, sample.measure) == (contender, measure) and value in sample.values
        }

    def median(self, contender: str, measure: str, value: str) -> float | None:
        """Return the median over the rounds; None where the measure failed in all of them."""
        return _median(self.rounds(contender, measure, value).values())

    def ratio(self, contender: str, other: str, measure: str, value: str) -> float | None:
        """Return the ratio of one contender's value to another's: the median of the rounds' ratios, since the machine's
        speed changes less within a round than between rounds."""
        ours, theirs = self.rounds(contender, measure, value), self.rounds(other, measure, value)
        return _median(ours[number] / theirs[number] for number in ours.keys() & theirs.keys() if theirs[number])

    def step(self, contender: str, flows: int) -> Step | None:
        """Return a contender's step of growth with this number of idle flows, or None."""
        return next((step for step in self.growth if (step.way, step.flows) == (contender, flows)), None)

    def failures(self) -> list[str]:
        """Return a line for each measure that failed: how often, and the first reason."""
        lines = []
        for contender, title in self.ways.items():
            for measure in self.measures():
                samples = [sample for sample in self.samples if (sample.way, sample.measure) == (contender, measure)]
                reasons = [sample.failure for sample in samples if sample.failure]
                if reasons:
                    lines.append(f"{title}, {measure}, {len(reasons)} of {len(samples)} rounds: {reasons[0]}")
        lines += [
            f"{self.ways[step.way]}, {step.flows:,} idle flows: {step.failure}" for step in self.growth if step.failure
        ]
        return lines

    def write(self, path: Path) -> None:
        """Write all samples and their medians as JSON."""
        medians = {
            contender: {
                measure: {
                    value: self.median(contender, measure, value)
                    for sample in self.samples
                    if (sample.way, sample.measure) == (contender, measure)
                    for value in sample.values
                }
                for measure in self.measures()
            }
            for contender in self.ways
        }
        path.write_text(json.dumps({"medians": medians, **asdict(self)}, indent=1) + "\n")


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None
