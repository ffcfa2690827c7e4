"""A metric: its name, its kind, its labels, its sentence, and the function that reads it from the status document."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Status = Mapping[str, Any]
"""The answer to GET /v1/status."""
Labels = tuple[str, ...]
Sample = tuple[Labels, Any]
"""The values of the labels, and the value: a number, or of a histogram its entry in the status document."""
Read = Callable[[Status], Iterable[Sample]]
"""Returns the series of a metric."""


class Kind(StrEnum):
    """How the values of a metric behave."""

    COUNTER = "counter"
    """It only grows, and begins at 0 when natmirror starts."""
    GAUGE = "gauge"
    """A value of this moment."""
    HISTOGRAM = "histogram"
    """Counters of observations, by size: ``_bucket``, ``_sum`` and ``_count``."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, with its whole name."""

    name: str
    kind: Kind
    sentence: str
    read: Read
    labels: Labels = ()


def one(path: str) -> Read:
    """Return a function that reads a single value; ``path`` names the field, with those inside it after dots."""
    return lambda status: [((), _at(status, path))]


def by_word(path: str, known: Iterable[str] = ()) -> Read:
    """Return a function that reads an object with a value for each word; the word is the label. ``known`` words have a
    series from the start: for Prometheus a counter that appears later has not grown."""
    return lambda status: [((word,), value) for word, value in _whole(_at(status, path), known)]


def rows(path: str, keys: Labels, value: Callable[[Mapping[str, Any]], Any]) -> Read:
    """Return a function that reads a list of objects. The fields ``keys`` of each are its labels; objects whose value
    is None have no series."""

    def read(status: Status) -> Iterable[Sample]:
        for row in _at(status, path):
            if (found := value(row)) is not None:
                yield tuple(row[key] for key in keys), found

    return read


def words_of_rows(path: str, keys: Labels, field: str, known: Iterable[str] = ()) -> Read:
    """Return a function that reads a list of objects, each of whose ``field`` has a value for each word: the word is
    the last label. ``known`` as in by_word()."""

    def read(status: Status) -> Iterable[Sample]:
        for row in _at(status, path):
            for word, value in _whole(row[field], known):
                yield (*(row[key] for key in keys), word), value

    return read


def states(known: Labels, current: str | None, labels: Labels = ()) -> list[Sample]:
    """Return a series for each known state: 1 for the current one, and 0 for the others."""
    return [((*labels, state), int(state == current)) for state in known]


def _whole(values: Mapping[str, Any], known: Iterable[str]) -> Iterable[tuple[str, Any]]:
    return {**dict.fromkeys(map(str, known), 0), **values}.items()


def _at(status: Status, path: str) -> Any:
    found: Any = status
    for name in path.split("."):
        found = found[name]
    return found
