"""What has happened lately, by counters that only grow: the rates of the last 10 s, and the losses of the last hour.

A chore takes samples of the counters of all threads, which it has anyway, so they cost the packet threads nothing. The
growth since the newest sample that is old enough tells the rest.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

from natmirror.engine.shown import Snapshot
from natmirror.mirror.shown import MirrorEntry
from natmirror.nat.services import BackendCounts
from natmirror.reasons import EndReason

# Seconds
RATE_TIME = 10.0
LOSS_TIME = 3600.0
_RATE_INTERVAL = 1.0
_LOSS_INTERVAL = 60.0

_Value = TypeVar("_Value")
_Key = tuple[str, str, str]
_Lost = Mapping[EndReason, int]


class _Samples(Generic[_Value]):
    """The samples of one counter: at most one each ``interval`` seconds, back to one that is ``span`` seconds old."""

    def __init__(self, interval: float, span: float) -> None:
        self._interval = interval
        self._span = span
        self._points: tuple[tuple[float, _Value], ...] = ()  # never changed: other threads read it

    def add(self, at: float, value: _Value) -> None:
        """Take a sample."""
        points = self._points
        if points and at - points[-1][0] < self._interval:
            return
        points = (*points, (at, value))
        old = [index for index, (taken_at, _) in enumerate(points) if at - taken_at >= self._span]
        self._points = points[old[-1] if old else 0 :]

    def before(self, now: float) -> tuple[float, _Value]:
        """Return the newest sample that is a span old, or the oldest one, and when it was taken."""
        points = self._points
        return next((point for point in reversed(points) if now - point[0] >= self._span), points[0])


class RecentCounts:
    """The samples of a run that began at ``now``. One thread calls look(), any thread the other methods. Time is an
    argument, in seconds of any steady clock. A backend or mirror that a reload has added counts from the first look on
    that finds it."""

    def __init__(self, now: float) -> None:
        self._began_at = now
        self._has_looked = False
        self._connections: dict[_Key, _Samples[int]] = {}
        self._copied: dict[_Key, _Samples[int]] = {}
        self._lost: dict[_Key, _Samples[_Lost]] = {}

    def look(self, sums: Snapshot, now: float) -> None:
        """Take samples of the counters of all engines together."""
        backends, mirrors = sums["backends"], sums["mirrors"]
        rate, loss = (_RATE_INTERVAL, RATE_TIME), (_LOSS_INTERVAL, LOSS_TIME)
        connections = {_key(one): one["connections"] for one in backends}
        self._connections = self._sampled(self._connections, connections, 0, now, *rate)
        self._copied = self._sampled(self._copied, {_key(one): one["acked_bytes"] for one in mirrors}, 0, now, *rate)
        lost: dict[_Key, _Lost] = {_key(one): one["lost_bytes"] for one in mirrors}
        self._lost = self._sampled(self._lost, lost, {}, now, *loss)
        self._has_looked = True

    def connection_rate(self, backend: BackendCounts, now: float) -> float:
        """Return a backend's new connections per second, in the last 10 s."""
        return self._rate(self._connections.get(_key(backend)), backend["connections"], now)

    def copy_rate(self, mirror: MirrorEntry, now: float) -> float:
        """Return the bytes that a mirror has acknowledged per second, in the last 10 s."""
        return self._rate(self._copied.get(_key(mirror)), mirror["acked_bytes"], now)

    def lost_in_last_hour(self, mirror: MirrorEntry, now: float) -> dict[EndReason, int]:
        """Return the bytes that a mirror has lost in the last hour, by reason."""
        samples = self._lost.get(_key(mirror))
        before: _Lost = {} if samples is None else samples.before(now)[1]
        if samples is None and self._has_looked:
            before = mirror["lost_bytes"]
        grown = {reason: count - before.get(reason, 0) for reason, count in mirror["lost_bytes"].items()}
        return {reason: count for reason, count in grown.items() if count > 0}

    def _sampled(
        self,
        known: Mapping[_Key, _Samples[_Value]],
        values: Mapping[_Key, _Value],
        zero: _Value,
        now: float,
        interval: float,
        span: float,
    ) -> dict[_Key, _Samples[_Value]]:
        """Return the samples of what there is now, with a new one."""
        found = {key: known[key] if key in known else self._begun(zero, interval, span) for key in values}
        for key, value in values.items():
            found[key].add(now, value)
        return found

    def _begun(self, zero: _Value, interval: float, span: float) -> _Samples[_Value]:
        samples: _Samples[_Value] = _Samples(interval, span)
        if not self._has_looked:  # all counters were 0 when the run began
            samples.add(self._began_at, zero)
        return samples

    def _rate(self, samples: _Samples[int] | None, count: int, now: float) -> float:
        if samples is None and self._has_looked:
            return 0.0
        since, before = (self._began_at, 0) if samples is None else samples.before(now)
        return round(max(count - before, 0) / max(now - since, _RATE_INTERVAL), 3)


def _key(one: BackendCounts | MirrorEntry) -> _Key:
    return one["service"], one["name"], one["address"]
