"""Watches by the counters whether backends and mirrors answer, and whether packets come that the kernel has to cut."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from natmirror.engine.shown import Snapshot
from natmirror.findings import Finding, PathCode
from natmirror.linux.counters import QueueCounter

_SILENT_AFTER = 2
"""SYNs or repeated packets without an answer in a row, from which on a backend or mirror is silent: one may be lost."""
_CUT_TIME = 30.0
"""Seconds for which the finding about BIG TCP outlasts the last packet."""

_Name = tuple[str, str, str]


@dataclass(slots=True)
class _Progress:
    """What a peer had answered, and what had been sent in vain, when it last answered."""

    answered: int
    in_vain: int


class AnswerWatch:
    """Compares counters with those of earlier calls. Time is an argument, in seconds of any steady clock."""

    def __init__(self) -> None:
        self._seen: dict[_Name, _Progress] = {}
        self._cut = 0
        self._cut_until = 0.0

    def look(self, sums: Snapshot, queues: Mapping[str, Mapping[QueueCounter, int]], now: float) -> list[Finding]:
        """Return what the counters show: of all engines together, and of each queue."""
        before, self._seen = self._seen, {}
        found = [*self._backends(sums, before), *self._mirrors(sums, before)]
        cut = sum(counters.get(QueueCounter.PACKETS_CUT, 0) for counters in queues.values())
        if cut > self._cut:
            self._cut, self._cut_until = cut, now + _CUT_TIME
        return [*found, PathCode.BIG_TCP.found()] if now < self._cut_until else found

    def _backends(self, sums: Snapshot, before: Mapping[_Name, _Progress]) -> Iterator[Finding]:
        for one in sums["backends"]:
            if one["removed"]:
                continue
            name = (one["service"], one["name"], one["address"])
            answered = one["connections"] + one["refused_syns"]
            if count := self._silent(name, before, answered, one["unanswered_syns"]):
                yield PathCode.BACKEND_SILENT.found(
                    name=one["name"],
                    service=one["service"],
                    address=one["address"],
                    host=one["address"].partition(":")[0],
                    count=count,
                )

    def _mirrors(self, sums: Snapshot, before: Mapping[_Name, _Progress]) -> Iterator[Finding]:
        for one in sums["mirrors"]:
            name = (one["service"], one["name"], one["address"])
            answered = one["acked_bytes"] + one["consumed_bytes"]
            count = self._silent(name, before, answered, one["retransmits"])
            if count and one["legs"]:
                yield PathCode.MIRROR_SILENT.found(
                    name=one["name"],
                    service=one["service"],
                    address=one["address"],
                    host=one["address"].partition(":")[0],
                    count=count,
                )

    def _silent(self, name: _Name, before: Mapping[_Name, _Progress], answered: int, in_vain: int) -> int:
        """Return how much was sent in vain since the last answer, 0 if that may be a loss on the way."""
        last = before.get(name)
        if last is None or answered != last.answered:
            last = _Progress(answered, in_vain)
        self._seen[name] = last
        count = in_vain - last.in_vain
        return count if count >= _SILENT_AFTER else 0
