"""The verdicts on masters: asks the engines what they have found, adds it up, and judges."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from natmirror.events.event import read_time
from natmirror.openflow.comparison.merging import merge
from natmirror.openflow.comparison.shown import VerdictEntry
from natmirror.openflow.comparison.sums import Found
from natmirror.openflow.comparison.verdict import AT_LEAST, Limits, Outcome, judge
from natmirror.rules import Mirror, Rules
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.verdict_entry import Clock, verdict_entry

WINDOW = 3600.0
"""Seconds: without another moment a verdict is about the last hour, so that a mended master agrees again."""

Key = tuple[str, str]
"""A service's name, and a mirror's."""


class Verdicts:
    """Gives verdicts on the masters with ``verdict: on``; from any thread but those of the engines. ``rules`` returns
    the rules that run."""

    def __init__(self, engines: Sequence[EngineProxy], rules: Callable[[], Rules]) -> None:
        self._engines = engines
        self._rules = rules

    def compared(self) -> dict[Key, Mirror]:
        """Return the masters with a verdict, in the order of the rules."""
        return {
            (service.name, mirror.name): mirror
            for service in self._rules().services
            for mirror in service.mirrors
            if mirror.is_compared
        }

    def show(self, arguments: Mapping[str, Any]) -> Iterator[VerdictEntry]:
        """Yield the verdicts as the API's parameters ask for them. ValueError for a master without one."""
        wanted = self._wanted(arguments.get("service"), arguments.get("mirror"))
        clock, since = Clock(time.time(), time.monotonic()), arguments.get("since")
        moment = clock.monotonic - WINDOW if since is None else clock.to_monotonic(read_time(since))
        limits = Limits(arguments.get("at_least") or AT_LEAST, arguments.get("fail_below") or 100.0)
        sessions = self.sessions()
        for (service, name), mirror in wanted.items():
            found, twin, outcome = self.judge(service, mirror, moment, sessions.get((service, name), 0), limits)
            yield verdict_entry(
                *(service, mirror, found, twin, outcome, sessions.get((service, name), 0), clock),
                with_messages=bool(arguments.get("messages")),
            )

    def judge(
        self, service: str, mirror: Mirror, moment: float, sessions: int, limits: Limits
    ) -> tuple[Found, Found | None, Outcome]:
        """Return what was found since a moment of the engines' clock about a master and its twin, and the verdict.
        ``sessions``: those that it has now."""
        found = self._found(service, mirror.name, moment)
        twin = None if mirror.twin is None else self._found(service, mirror.twin, moment)
        return found, twin, judge(found, twin, sessions, limits)

    def sessions(self) -> dict[Key, int]:
        """Return the open sessions of each mirror."""
        counts: dict[Key, int] = {}
        for engine in self._engines:
            for mirror in engine.snapshot()["mirrors"]:
                key = mirror["service"], mirror["name"]
                counts[key] = counts.get(key, 0) + mirror["legs"]
        return counts

    def _found(self, service: str, mirror: str, moment: float) -> Found:
        return merge([engine.found(service, mirror, moment) for engine in self._engines])

    def _wanted(self, service: str | None, mirror: str | None) -> dict[Key, Mirror]:
        compared = self.compared()
        wanted = {key: one for key, one in compared.items() if service in (None, key[0]) and mirror in (None, key[1])}
        if mirror is not None and not wanted:
            others = ", ".join("/".join(key) for key in compared) or "no mirror"
            name = mirror if service is None else f"{service}/{mirror}"
            raise ValueError(
                f"mirror {name:.70} is not compared with production: write verdict: on below it in the rules (now"
                f" {others} has it)"
            )
        return wanted
