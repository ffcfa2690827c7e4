"""The rates of the last two minutes, from the counters of successive answers."""

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

LENGTH = 120
"""Rates that are kept of each counter: one for each answer."""
_GAP = 3  # intervals without an answer, after which the curve is interrupted

Status = Mapping[str, Any]
Key = tuple[str, ...]
"""What is counted: ``("bits", service)``, ``("copied", service, mirror)`` and so on."""


class History:
    """The rates of one natmirror's counters. Another process, or a restart, begins a new history."""

    def __init__(self) -> None:
        self._run: tuple[Any, ...] = ()
        self._at = 0.0
        self._counters: dict[Key, float] = {}
        self._rates: dict[Key, deque[float | None]] = {}
        self.number = 0
        """Rates of each counter since the first one, and gaps between them."""

    def add(self, status: Status, interval: float) -> None:
        """Take an answer's counters. ``interval`` is the time between two questions, in seconds."""
        run, at = (status["pid"], status["started_at"]), datetime.fromisoformat(status["at"]).timestamp()
        if run != self._run:
            self._run, self._counters, self._rates, self.number = run, {}, {}, 0
        elif at <= self._at:
            return  # the same answer, or the clock was set back
        counters = dict(_counters(status))
        passed = at - self._at
        has_gap = bool(self._counters) and passed > _GAP * interval
        self.number += bool(self._counters) + has_gap
        for key, count in counters.items():
            if (before := self._counters.get(key)) is None:
                continue
            rates = self._rates.setdefault(key, deque(maxlen=LENGTH))
            if has_gap:
                rates.append(None)
            rates.append(max(count - before, 0.0) / passed)
        for gone in self._rates.keys() - counters.keys():
            del self._rates[gone]
        self._counters, self._at = counters, at

    def rates(self, *key: str) -> list[float | None]:
        """Return the rates of a counter a second, the latest last; None where answers were missing."""
        return list(self._rates.get(key, ()))

    def latest(self, *key: str) -> float | None:
        """Return a counter's latest rate a second; None before there is one."""
        rates = self._rates.get(key)
        return rates[-1] if rates else None


def _counters(status: Status) -> Iterator[tuple[Key, float]]:
    for one in status["services"]:
        name = one["service"]
        yield ("packets", name), one["client_packets"] + one["backend_packets"]
        yield ("bits", name), 8 * (one["client_bytes"] + one["backend_bytes"])
        yield ("connections", name), one["connections"]
    for one in status["backends"]:
        yield ("accepted", one["service"], one["name"]), one["connections"]
    for one in status["mirrors"]:
        yield ("copied", one["service"], one["name"]), one["acked_bytes"]
    for name, seconds in status["machine"]["thread_cpu_seconds"].items():
        yield ("processor", name), seconds
    yield ("dropped",), sum(status["drops"].values())
    yield ("missed",), sum(one.get("packets_missed", 0) for one in status["machine"]["queues"].values())
