"""The verdicts on masters: asks the process of the judges for them."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from natmirror.api.values import closest
from natmirror.events.event import read_time
from natmirror.judging.reports import VerdictLook
from natmirror.judging.verdict_entry import Clock, MasterRule
from natmirror.net.endpoint import endpoint_of, show
from natmirror.openflow.comparison.shown import ComparisonEntry, VerdictEntry
from natmirror.openflow.comparison.verdict import AT_LEAST
from natmirror.rules import Mirror, Rules

WINDOW = 3600.0
"""Seconds: without another moment a verdict is about the last hour, so that a mended master agrees again."""

Key = tuple[str, str]
"""A service's name, and a mirror's."""


class JudgesAsked(Protocol):
    """The process of the judges."""

    def ask(self, what: str, **arguments: Any) -> Any:
        """Return the process's answer. TimeoutError where it does not answer soon."""

    def sums(self, service: str, mirror: str) -> ComparisonEntry | None:
        """Return the sums of the comparison with a master, not older than some seconds; None for none."""


class Verdicts:
    """Gives verdicts on the masters with ``verdict: on``; from any thread but those of the engines. TimeoutError where
    the process of the judges does not answer."""

    def __init__(self, judges: JudgesAsked, rules: Callable[[], Rules]) -> None:
        self._judges = judges
        self.rules = rules
        """Returns the rules that run; Reloader has it return them with what commands have changed."""

    def compared(self) -> dict[Key, Mirror]:
        """Return the masters with a verdict, in the order of the rules."""
        return compared(self.rules())

    def twins(self) -> set[Key]:
        """Return the twins of those masters: what differs there is noise."""
        return {(service, mirror.twin) for (service, _), mirror in self.compared().items() if mirror.twin is not None}

    def show(self, arguments: Mapping[str, Any]) -> Iterator[VerdictEntry]:
        """Yield the verdicts as the API's parameters ask for them. ValueError for a master without one."""
        wanted = self._wanted(arguments.get("service"), arguments.get("mirror"))
        clock, since = Clock(time.time(), time.monotonic()), arguments.get("since")
        twins = self.twins()
        for key, mirror in wanted.items():
            entry: VerdictEntry = self._judges.ask(
                "verdict",
                master=self._rule(key, mirror),
                moment=clock.monotonic - WINDOW if since is None else clock.to_monotonic(read_time(since)),
                at_least=arguments.get("at_least") or AT_LEAST,
                fail_below=arguments.get("fail_below") or 100.0,
                clock=[clock.time_of_day, clock.monotonic],
                is_twin=key in twins,
                with_messages=bool(arguments.get("messages")),
            )
            yield entry

    def look(self, key: Key, mirror: Mirror, moment: float) -> VerdictLook:
        """Return the verdict on a master since a moment of the engines' clock, in short."""
        found: VerdictLook = self._judges.ask("look", master=self._rule(key, mirror), moment=moment)
        return found

    def sums(self, service: str, mirror: str) -> ComparisonEntry | None:
        """Return the sums of the comparison with a master; None for none."""
        return self._judges.sums(service, mirror)

    def _rule(self, key: Key, mirror: Mirror) -> MasterRule:
        service, name = key
        twin = None if mirror.twin is None else self.compared().get((service, mirror.twin))
        addresses = ["" if one is None else show(endpoint_of(one)) for one in (mirror, twin)]
        return MasterRule(service, name, addresses[0], mirror.twin, addresses[1], mirror.is_paused)

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


def compared(rules: Rules) -> dict[Key, Mirror]:
    """Return the masters with ``verdict: on``, in the order of the rules."""
    return {
        (service.name, mirror.name): mirror
        for service in rules.services
        for mirror in service.mirrors
        if mirror.is_compared
    }
