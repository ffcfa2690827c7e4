"""What a verdict said about each master, and what should have been said."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.live.verdict.variants import Variant

MOST_UNTIL_NAMED = 100
"""PACKET_INs from a bug's first effect until it has to be named."""
_SHOWN = 3  # differences


class Said(NamedTuple):
    """What a verdict says about a difference."""

    counts: bool
    words: str
    """``kind: text, all where …``, and the PACKET_IN of its example."""
    is_shown: bool
    """Whether there is an example; an end of a session has none."""


@dataclass
class Outcome:
    """One master, with the latest verdict about it."""

    name: str
    variant: Variant
    is_twin: bool = False
    """Whether the others are compared with it: what is said about itself does not matter."""
    entry: dict[str, Any] = field(default_factory=dict)
    effect: int | None = None
    """How many PACKET_INs the master had got when its bug had its first effect; None if it had none."""
    named_after: int | None = None
    """How many more PACKET_INs there were until the verdict named it."""
    named: str = ""
    """In which words."""
    alarms: list[str] = field(default_factory=list)
    """All that was ever said about an equal master."""

    def take(self, entry: dict[str, Any]) -> None:
        """Take the verdict's present state."""
        self.entry = entry
        if self.variant.is_equal:
            counted = [one.words for one in differences(entry) if one.counts]
            self.alarms += [words for words in counted if words not in self.alarms]
        elif self.named_after is None and self.effect is not None and (words := self._words()):
            self.named, self.named_after = words, max(0, entry["answers"]["packet_ins"] - self.effect)

    def _words(self) -> str:
        """Return the words that name the bug, or an empty string."""
        counted = [one.words for one in differences(self.entry) if one.counts and one.is_shown]
        return next((one for one in [*counted, *self.entry["reasons"]] if self.variant.is_named_by(one)), "")

    @property
    def comparable(self) -> int:
        return int(self.entry["answers"]["comparable"]) if self.entry else 0

    def mistakes(self, answers: int) -> Iterable[str]:
        """Yield what is wrong with the verdict after this number of answers."""
        if not self.entry:
            yield "no verdict"
        elif self.is_twin:
            return
        elif self.variant.is_equal:
            yield from (f"false alarm: {text}" for text in self.alarms)
            if self.entry["tables"]["differing_seconds"] and self.entry["twin"] is None:
                yield f"the tables differ for {self.entry['tables']['differing_seconds']:.1f} s"
            if self.comparable < answers:
                yield f"only {self.comparable} comparable answers"
            elif self.entry["verdict"] != "agrees":
                yield f"the verdict is {self.entry['verdict']}: {'; '.join(self.entry['reasons'])}"
        elif self.effect is None:
            yield "the bug had no effect"
        elif self.named_after is None:
            said = "; ".join(one.words for one in differences(self.entry)) or "nothing"
            yield f"not named as {self.variant.named}: {said}"
        else:
            if self.named_after > MOST_UNTIL_NAMED:
                yield f"named after {self.named_after} PACKET_INs only"
            if self.entry["verdict"] != "differs":
                yield f"the verdict is {self.entry['verdict']}"


def differences(entry: dict[str, Any]) -> list[Said]:
    """Return what a verdict says about each difference."""
    found = []
    for one in entry["differences"]:
        where = f", all where {one['where']}" if one["where"] else ""
        example = f"; {one['example']['packet_in']}" if one["example"] and one["example"]["packet_in"] else ""
        is_shown = one["example"] is not None or one["kind"] == "session-ended"
        found.append(Said(bool(one["counts"]), f"{one['kind']}: {one['text']}{where}{example}", is_shown))
    return found


def table(outcomes: Iterable[Outcome]) -> str:
    """Return the outcomes as a table."""
    heads = ("master", "verdict", "equal/comparable of PACKET_INs", "tables differ", "lag ms p50, p95", "named after")
    rows = [heads, *(_row(one) for one in outcomes)]
    widths = [max(map(len, column)) for column in zip(*(row[: len(heads)] for row in rows), strict=True)]
    lines = []
    for row in rows:
        lines.append("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=False)).rstrip())
        lines += [f"    {line}" for line in row[len(heads) :]]
    return "\n".join(lines)


def _row(outcome: Outcome) -> tuple[str, ...]:
    entry = outcome.entry
    if not entry:
        return outcome.name, "none", "", "", "", ""
    answers, tables, lag = entry["answers"], entry["tables"], entry["lag"]
    share = tables["differing_seconds"] / tables["seconds"] if tables["seconds"] else 0.0
    lags = (lag["median_seconds"], lag["p95_seconds"])
    return (
        outcome.name,
        entry["verdict"],
        f"{answers['results'].get('equal', 0)}/{answers['comparable']} of {answers['packet_ins']}",
        f"{share:.1%}",
        ", ".join("-" if one is None else f"{one * 1000:.1f}" for one in lags),
        "" if outcome.named_after is None else str(outcome.named_after),
        *([f"named: {outcome.named}"] if outcome.named else []),
        *(f"{one['count']} x {one['kind']}: {one['text']}" for one in entry["differences"][:_SHOWN]),
        *([f"not comparable: {_counts(answers['not_comparable'])}"] if any(answers["not_comparable"].values()) else []),
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
