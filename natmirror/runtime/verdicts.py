"""The verdicts on masters: asks the engines what they have found, adds it up, and judges."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from natmirror.api.values import closest
from natmirror.events.event import read_time
from natmirror.openflow.comparison.found import Found
from natmirror.openflow.comparison.merging import merge
from natmirror.openflow.comparison.shown import VerdictEntry
from natmirror.openflow.comparison.verdict import AT_LEAST, Limits, Outcome, judge
from natmirror.rules import Mirror, Rules
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.verdict_entry import Clock, verdict_entry

WINDOW = 3600.0
"""Seconds: without another moment a verdict is about the last hour, so that a mended master agrees again."""

Key = tuple[str, str]
"""A service's name, and a mirror's."""


class Verdicts:
    """Gives verdicts on the masters with ``verdict: on``; from any thread but those of the engines."""

    def __init__(self, engines: Sequence[EngineProxy], rules: Callable[[], Rules]) -> None:
        self._engines = engines
        self.rules = rules
        """Returns the rules that run; Reloader has it return them with what commands have changed."""

    def compared(self) -> dict[Key, Mirror]:
        """Return the masters with a verdict, in the order of the rules."""
        return {
            (service.name, mirror.name): mirror
            for service in self.rules().services
            for mirror in service.mirrors
            if mirror.is_compared
        }

    def twins(self) -> set[Key]:
        """Return the twins of those masters: what differs there is noise."""
        return {(service, mirror.twin) for (service, _), mirror in self.compared().items() if mirror.twin is not None}

    def show(self, arguments: Mapping[str, Any]) -> Iterator[VerdictEntry]:
        """Yield the verdicts as the API's parameters ask for them. ValueError for a master without one."""
        wanted = self._wanted(arguments.get("service"), arguments.get("mirror"))
        clock, since = Clock(time.time(), time.monotonic()), arguments.get("since")
        moment = clock.monotonic - WINDOW if since is None else clock.to_monotonic(read_time(since))
        limits = Limits(arguments.get("at_least") or AT_LEAST, arguments.get("fail_below") or 100.0)
        twins = self.twins()
        for key, mirror, found, twin, outcome in self.judge(wanted, moment, limits):
            yield verdict_entry(
                *(key[0], mirror, found, twin, outcome, clock),
                is_twin=key in twins,
                with_messages=bool(arguments.get("messages")),
            )

    def judge(
        self, wanted: Mapping[Key, Mirror], moment: float, limits: Limits
    ) -> Iterator[tuple[Key, Mirror, Found, Found | None, Outcome]]:
        """Yield what was found since a moment of the engines' clock about each of these masters and its twin, and the
        verdict."""
        known: dict[Key, Found] = {}

        def find(service: str, mirror: str) -> Found:
            if (service, mirror) not in known:
                parts = [engine.found(service, mirror, moment) for engine in self._engines]
                known[service, mirror] = merge(parts)
            return known[service, mirror]

        for (service, name), mirror in wanted.items():
            found, twin = find(service, name), None if mirror.twin is None else find(service, mirror.twin)
            yield (
                (service, name),
                mirror,
                found,
                twin,
                judge(*(found, twin, limits), f"{service}/{name}" if mirror.is_paused else None),
            )

    def _wanted(self, service: str | None, mirror: str | None) -> dict[Key, Mirror]:
        compared = self.compared()
        wanted = {key: one for key, one in compared.items() if service in (None, key[0]) and mirror in (None, key[1])}
        if wanted or (service is None and mirror is None):
            return wanted
        mirrors = [(one.name, other.name) for one in self.rules().services for other in one.mirrors]
        name = "/".join(word for word in (service, mirror) if word is not None)
        if not any(service in (None, one) and mirror in (None, other) for one, other in mirrors):
            known = ["/".join(key) if service is not None else key[1] for key in compared]
            raise ValueError(f"there is no mirror {name:.70}: {closest(name, known)}")
        others = f"; compared are {', '.join('/'.join(key) for key in compared)}" if compared else ""
        text = f"mirror {name:.70} is not compared with production: write verdict: on below it in the rules"
        raise ValueError(text + others)
