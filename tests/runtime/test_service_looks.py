"""Looks at all threads' flows: put together in the main thread, and only while this host is active."""

from collections.abc import Callable
from typing import Any

import pytest

from natmirror.events import EventRing
from natmirror.fastpath import ConnectionCounts, ServiceLook, Tally
from natmirror.findings import Findings
from natmirror.linux.reachability import Reachability
from natmirror.linux.vrf import ProductionVrf
from natmirror.rules import parse_rules
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.service_looks import ServiceLooks
from tests.helpers.support import RULES

HOST = Reachability(ProductionVrf())

WAITS = Tally(1, 1, bytes((10, 10, 0, 11)))
IN_VAIN = ServiceLook(open=WAITS, waiting=WAITS)


class Engine:
    """A packet thread that looks when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Callable[[dict[str, ServiceLook]], None]]] = []

    def look(self, number: int, report: Callable[[dict[str, ServiceLook]], None]) -> None:
        self.asked.append((number, report))

    def answer(self, look: ServiceLook) -> None:
        self.asked[-1][1]({"openflow": look})


class Host:
    """The looks of a host with two packet threads."""

    def __init__(self) -> None:
        self.mailbox, self.findings, self.engines = Mailbox(lambda: None), Findings(), [Engine(), Engine()]
        rules = parse_rules(RULES)
        backends = BackendControl(
            rules, self.mailbox, self.findings, EventRing(lambda: 0.0), ConnectionCounts(), HOST, is_active=True
        )
        engines: Any = self.engines
        self.looks = ServiceLooks(engines, backends, self.mailbox, self.findings, is_active=True)
        self.look(ServiceLook(), ServiceLook())

    def look(self, *looks: ServiceLook) -> list[str]:
        """Begin a look, of which these threads tell what they see; return the codes of the findings."""
        self.looks.begin()
        for engine, look in zip(self.engines, looks, strict=False):
            engine.answer(look)
        self.mailbox.read()
        return [one.code for one in self.findings.all()]


def test_the_looks_of_all_threads_count_together() -> None:
    host = Host()
    several = ServiceLook(open=Tally(1, 1, b"\1\2\3\4"))
    assert [host.look(IN_VAIN, several) for _ in range(3)] == [[], [], []], "one of two clients may lie"
    assert host.look(IN_VAIN, IN_VAIN) == ["service-silent"]
    assert host.findings.why_unfit().startswith("service-silent")
    assert host.look(IN_VAIN, ServiceLook(answered=1, answered_data=1)) == []
    assert host.findings.why_unfit() == ""


def test_a_look_waits_for_the_slowest_thread() -> None:
    host = Host()
    host.look(IN_VAIN)
    host.looks.begin()
    assert [len(engine.asked) for engine in host.engines] == [2, 2]
    host.engines[1].answer(IN_VAIN)
    host.mailbox.read()
    host.looks.begin()
    assert [number for number, _ in host.engines[0].asked] == [1, 2, 3]


def test_a_host_that_is_not_active_sees_nothing_and_says_nothing() -> None:
    host = Host()
    for _ in range(3):
        host.look(IN_VAIN, IN_VAIN)
    host.looks.begin()
    host.looks.set_active(False)
    assert host.findings.why_unfit() == ""
    for engine in host.engines:
        engine.answer(IN_VAIN)
    assert host.look() == []
    assert [len(engine.asked) for engine in host.engines] == [5, 5]
    host.looks.set_active(True)
    assert host.look(ServiceLook(answered=1, reached=1), IN_VAIN) == [], "of the time before"
    assert [host.look(IN_VAIN, IN_VAIN) for _ in range(3)] == [[], [], ["service-silent"]]
    assert host.findings.why_unfit() == "", "the other host has given it the addresses for the same reason"


def test_production_goes_on_while_any_end_acknowledges_data(monkeypatch: pytest.MonkeyPatch) -> None:
    host, stops = Host(), []
    host.looks.progress.on_stop = lambda: stops.append(len(host.engines[0].asked))
    now = 100.0
    monkeypatch.setattr("natmirror.runtime.service_looks.time.monotonic", lambda: now)
    well = ServiceLook(answered=1, answered_data=1), ServiceLook(reached=1, reached_data=1)
    for number in range(6):
        now += 1.0
        host.look(well[number % 2], ServiceLook())
    for silent in range(3):
        assert host.looks.progress.stopped_at is None, silent
        now += 1.0
        host.look(ServiceLook(answered=1), ServiceLook())
    assert (host.looks.progress.stopped_at, len(stops)) == (106.0, 1)
    host.looks.set_active(is_active=False)
    assert not host.looks.progress.is_regular
