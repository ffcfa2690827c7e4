"""Shows a verdict and what it rests on as values for JSON; openflow/comparison/shown.py declares their fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from natmirror.api import times
from natmirror.openflow.comparison.found import Found
from natmirror.openflow.comparison.lags import quantile
from natmirror.openflow.comparison.noise import Weighed, comparable
from natmirror.openflow.comparison.results import AnswerResult, NotComparable
from natmirror.openflow.comparison.shown import (
    AnswersEntry,
    DifferenceEntry,
    ExampleEntry,
    LagEntry,
    MessageEntry,
    TablesEntry,
    VerdictEntry,
)
from natmirror.openflow.comparison.signatures import Example
from natmirror.openflow.comparison.verdict import Outcome

_NOISE = "it is the twin of another mirror, so what differs here is noise"


class MasterRule(NamedTuple):
    """What a verdict needs of the rules about a master."""

    service: str
    mirror: str
    address: str
    """With the port: at another address is another program."""
    twin: str | None
    twin_address: str
    """Empty where there is no twin."""
    is_paused: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """One moment on two clocks: the time of day in seconds since 1970, and the engines'."""

    time_of_day: float
    monotonic: float

    def to_monotonic(self, at: float) -> float:
        """Return a time of day on the engines' clock."""
        return self.monotonic + at - self.time_of_day

    def to_time_of_day(self, at: float) -> float:
        """Return a time of the engines as a time of day."""
        return self.time_of_day + at - self.monotonic

    def show(self, at: float) -> str:
        """Return a time of the engines as text, in UTC (RFC 3339)."""
        return times.show(self.to_time_of_day(at))


def verdict_entry(
    rule: MasterRule,
    found: Found,
    twin: Found | None,
    outcome: Outcome,
    clock: Clock,
    *,
    is_twin: bool,
    with_messages: bool,
) -> VerdictEntry:
    """Return a verdict."""
    window = found.window
    notes = [*outcome.notes, *([_NOISE] if is_twin else [])]
    return {
        "service": rule.service,
        "mirror": rule.mirror,
        "twin": rule.twin,
        "is_twin": is_twin,
        "verdict": outcome.verdict,
        "reasons": outcome.reasons,
        "notes": notes,
        "since": clock.show(window.begins_at) if found.has_begun else None,
        "answers": _answers(found),
        "twin_answers": None if twin is None else _answers(twin),
        "lag": _lag(found),
        "twin_lag": None if twin is None else _lag(twin),
        "tables": _tables(found),
        "twin_tables": None if twin is None else _tables(twin),
        "frames": {"walked": window.walked, "alike": window.alike},
        "sessions": {
            "open": found.tables.sessions,
            "connections": found.tables.connections,
            "ended": window.sessions_ended,
            "latest_ended": [
                {"at": clock.show(end.at), "switch": end.client, "reason": end.reason} for end in found.ends
            ],
        },
        "differences": _differences(outcome.differences, found, clock, with_messages=with_messages),
        "other_differences": window.other_differences,
        "earlier_differences": found.earlier_differences,
        "held_bytes": found.held,
    }


def _answers(found: Found) -> AnswersEntry:
    window = found.window
    return {
        "packet_ins": sum(window.results.values()),
        "comparable": comparable(found),
        "results": {result: window.results[result] for result in AnswerResult},
        "not_comparable": {reason: window.not_comparable[reason] for reason in NotComparable},
    }


def _lag(found: Found) -> LagEntry:
    lags = found.window.lags
    median, p95 = quantile(lags, 0.5), quantile(lags, 0.95)
    return {
        "answers": sum(lags.values()),
        "median_seconds": None if median is None else round(median, 4),
        "p95_seconds": None if p95 is None else round(p95, 4),
    }


def _tables(found: Found) -> TablesEntry:
    window, now = found.window, found.tables
    return {
        "seconds": round(window.table_seconds, 3),
        "differing_seconds": round(window.differing_seconds, 3),
        "differing_rules": now.differing_count,
        "differing": now.differing,
        "doubtful_rules": now.doubtful,
        "followed_switches": now.followed,
        "not_followed": dict(now.not_followed),
    }


def _differences(
    differences: Sequence[Weighed], found: Found, clock: Clock, *, with_messages: bool
) -> list[DifferenceEntry]:
    return [
        {
            "kind": one.signature.family.kind,
            "text": one.signature.text,
            "field": one.signature.family.field,
            "answers_packet_in": one.signature.family.is_asked,
            "count": one.count,
            "counts": one.is_counted,
            "twin_count": one.twin_count,
            "chance": None if one.chance is None else float(f"{one.chance:.2g}"),
            "where": one.signature.where(found.agreed),
            "first_at": clock.show(one.signature.first_at),
            "last_at": clock.show(one.signature.last_at),
            "resolved_at": None if one.signature.resolved_at is None else clock.show(one.signature.resolved_at),
            "example": _example(one.signature.example, clock, with_messages=with_messages),
        }
        for one in differences
    ]


def _example(example: Example | None, clock: Clock, *, with_messages: bool) -> ExampleEntry | None:
    if example is None:
        return None
    evidence = example.evidence
    return {
        "switch": example.client,
        "datapath_id": example.datapath_id,
        "at": clock.show(example.at),
        "packet_in": evidence.packet_in,
        "production": list(evidence.production),
        "mirror": list(evidence.mirror),
        "messages": _messages(example, clock) if with_messages else None,
    }


def _messages(example: Example, clock: Clock) -> list[MessageEntry]:
    return [
        {"sender": sender, "at": _show_exactly(clock.to_time_of_day(at)), "hex": message.raw.hex()}
        for sender, at, message in example.evidence.messages
    ]


def _show_exactly(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
