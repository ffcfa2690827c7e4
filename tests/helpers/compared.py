"""Results of comparisons, for tests of what collects them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from natmirror.judging.reports import Reports
from natmirror.openflow.comparison.results import (
    AnswerResult,
    ComparedAnswer,
    ComparedOrder,
    ComparedTables,
    Difference,
    DifferenceKind,
    Evidence,
    NotComparable,
)
from natmirror.openflow.comparison.shown import ComparisonEntry
from natmirror.openflow.comparison.sums import Comparisons, MasterSums, SwitchResults
from natmirror.rules import parse_rules
from natmirror.runtime.verdicts import Verdicts

IP, ARP = {"in_port": 1, "eth_type": 0x0800, "eth_dst": 2}, {"in_port": 1, "eth_type": 0x0806, "eth_dst": 2}
MISSING = Difference(DifferenceKind.RULE_MISSING, "a rule is missing")
PRIORITY = Difference(DifferenceKind.RULE_DIFFERENT, "priority 11 for 10", "priority", "11", "10")
NO_ANSWER = Difference(DifferenceKind.NO_ANSWER, "no answer")
EVIDENCE = Evidence("in_port=1,arp", ("add priority=10,arp actions=output:2",), ("frame output:2",))


class Budget:
    """An account with a limit."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        assert count <= self.used
        self.used -= count


def sums(now: float = 0.0) -> MasterSums:
    return MasterSums(Budget(), ADDRESSES["candidate"], now)


def equal(at: float = 0.0, fields: Mapping[str, int] | None = None, lag: float | None = 0.001) -> ComparedAnswer:
    return ComparedAnswer(at, AnswerResult.EQUAL, fields=fields, lag=lag, has_rules=True)


def differs(
    *differences: Difference, at: float = 0.0, fields: Mapping[str, int] | None = None, **more: Any
) -> ComparedAnswer:
    more = {"lag": 0.001, "evidence": EVIDENCE, **more}
    return ComparedAnswer(at, AnswerResult.DIFFERS, differences=differences, fields=fields, **more)


def incomparable(why: NotComparable, at: float = 0.0) -> ComparedAnswer:
    return ComparedAnswer(at, AnswerResult.NOT_COMPARABLE, why)


def unasked(difference: Difference, at: float = 0.0) -> ComparedOrder:
    return ComparedOrder(at, difference, EVIDENCE)


def tables(
    at: float = 0.0, seconds: float = 10.0, differing: float = 0.0, lines: tuple[str, ...] = (), **more: Any
) -> ComparedTables:
    more = {"doubtful": 0, "not_followed": None, "differing_count": len(lines), **more}
    return ComparedTables(at, seconds, differing, lines, **more)


def answer(switch: SwitchResults, *answers: ComparedAnswer, times: int = 1) -> None:
    """Report answers of a session."""
    switch.has_session = True
    for _ in range(times):
        for one in answers:
            switch.answered(one)


def agree(switch: SwitchResults, count: int, *, at: float = 0.0, fields: Mapping[str, int] | None = None) -> None:
    """Report equal answers of a session, and that the tables are equal."""
    answer(switch, equal(at, fields), times=count)
    switch.compared_tables(tables(at))


def texts(found: Iterable[Any]) -> list[tuple[str, int]]:
    """Return the texts of signatures with their counts, as Found has them."""
    return sorted((one.text, count) for one, _, count in found)


RULES = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      backends: [{name: c1, address: 10.20.0.11}]
    mirrors:
      - {name: candidate, address: 10.20.0.13, protocol: openflow, verdict: on, twin: same}
      - {name: same, address: 10.20.0.14, protocol: openflow, verdict: on}
      - {name: audit, address: 10.20.0.15}
"""
ADDRESSES = {"candidate": "10.20.0.13:6653", "same": "10.20.0.14:6653"}


class ComparingEngine:
    """What a packet thread's judges have found: the sums of the masters of RULES."""

    def __init__(self) -> None:
        self.comparisons = Comparisons(Budget())

    def of(self, mirror: str, now: float = 0.0) -> MasterSums:
        return self.comparisons.of_master("openflow", mirror, ADDRESSES[mirror], now)


class Asked:
    """The process of the judges, as natmirror asks it: in this process, but through JSON."""

    def __init__(self, *engines: ComparingEngine) -> None:
        self._reports = Reports([one.comparisons for one in engines])

    def ask(self, what: str, **arguments: Any) -> Any:
        return json.loads(json.dumps(self._reports.answer(what, json.loads(json.dumps(arguments)))))

    def sums(self, service: str, mirror: str) -> ComparisonEntry | None:
        return {(one, other): sums for one, other, sums in self._reports.sums()}.get((service, mirror))


def verdicts(*engines: ComparingEngine, rules_text: str = RULES) -> Verdicts:
    rules = parse_rules(rules_text)
    return Verdicts(Asked(*engines), lambda: rules)
