"""The metrics of masters that are compared with production. ``natmirror verdict`` and ``GET /v1/verdict`` have more."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from natmirror.metrics.metric import Kind, Metric, Read, Sample, Status, rows, states

VERDICTS = ("agrees", "differs", "too-little")
_MIRROR = ("service", "mirror")
_MIRROR_KEYS = ("service", "name")


def _verdicts(status: Status) -> Iterable[Sample]:
    for row in status["mirrors"]:
        if row["verdict"] is not None:
            yield from states(VERDICTS, row["verdict"]["verdict"], tuple(row[key] for key in _MIRROR_KEYS))


def _words(field: str) -> Read:
    """Return a function that reads an object of each comparison; its words are the last label."""

    def read(status: Status) -> Iterable[Sample]:
        for row in status["mirrors"]:
            for word, value in (row["comparison"] or {}).get(field, {}).items():
                yield (row["service"], row["name"], word), value

    return read


def _of_comparison(field: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: None if row["comparison"] is None else row["comparison"][field]


VERDICT_METRICS = (
    Metric(
        "natmirror_verdict",
        Kind.GAUGE,
        "1 for the verdict on the master about the last hour, 0 for the others.",
        _verdicts,
        (*_MIRROR, "verdict"),
    ),
    Metric(
        "natmirror_verdict_answers_total",
        Kind.COUNTER,
        "PACKET_INs of the switches that are compared, by the result of the comparison.",
        _words("answers"),
        (*_MIRROR, "result"),
    ),
    Metric(
        "natmirror_verdict_differences_total",
        Kind.COUNTER,
        "Differences between the master and production, by kind.",
        _words("differences"),
        (*_MIRROR, "kind"),
    ),
    Metric(
        "natmirror_verdict_table_seconds_total",
        Kind.COUNTER,
        "Seconds in which the tables of both sides were known, by their state, added up over the switches.",
        _words("table_seconds"),
        (*_MIRROR, "state"),
    ),
    Metric(
        "natmirror_verdict_table_differing_rules",
        Kind.GAUGE,
        "Rules of switches that differ now.",
        rows("mirrors", _MIRROR_KEYS, _of_comparison("differing_rules")),
        _MIRROR,
    ),
    Metric(
        "natmirror_verdict_lag_seconds",
        Kind.HISTOGRAM,
        "By how much the master's answers came later than production's; faster ones count as 0.",
        rows("mirrors", _MIRROR_KEYS, _of_comparison("lag")),
        _MIRROR,
    ),
    Metric(
        "natmirror_verdict_held_bytes",
        Kind.GAUGE,
        "Memory for the sums and examples of the comparison, as a part of the memory for mirrors.",
        rows("mirrors", _MIRROR_KEYS, _of_comparison("held_bytes")),
        _MIRROR,
    ),
)
"""The metrics of masters that are compared with production."""
