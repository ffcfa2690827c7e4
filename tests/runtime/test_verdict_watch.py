"""The events about verdicts: one for a change, none for what goes on."""

import pytest

from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.openflow.comparison.shown import Verdict
from natmirror.openflow.comparison.sums import SwitchResults
from natmirror.runtime.verdict_watch import VerdictWatch
from natmirror.runtime.verdicts import WINDOW
from tests.helpers.compared import (
    ARP,
    IP,
    MISSING,
    PRIORITY,
    RULES,
    ComparingEngine,
    agree,
    answer,
    differs,
    tables,
    unasked,
    verdicts,
)


class Watched:
    """A master that is looked at every ten seconds."""

    def __init__(self) -> None:
        self.engine = ComparingEngine()
        self.ring = EventRing(lambda: self.now)
        alone = RULES.replace(", twin: same", "")
        self.watch = VerdictWatch(verdicts(self.engine, rules_text=alone), self.ring)
        self.now = 0.0
        self.switch: SwitchResults = self.engine.of("same").of_switch("10.10.0.11:40001")

    def look(self) -> list[tuple[EventKind, str | None]]:
        """Look ten seconds later, and return the new events of the master."""
        self.now += 10.0
        before = len(self.ring.all())
        self.watch.look(self.now)
        return [(one.kind, one.code) for one in self.ring.all()[before:] if one.mirror == "same"]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_verdict_that_changes_is_told_once(watched: Watched) -> None:
    assert watched.look() == []
    agree(watched.switch, 200, at=watched.now, fields=IP)
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "agrees")]
    assert watched.look() == []
    answer(watched.switch, differs(MISSING, at=watched.now, fields=ARP), times=30)
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "differs")]
    last = watched.ring.all()[-1]
    assert last.severity is EventSeverity.WARNING
    assert last.text == (
        "verdict on mirror same of openflow: DIFFERS, was AGREES; 30 of 230 comparable answers are not equal (13.0 %);"
        " most of all a rule is missing, all where arp (30 times)"
    )
    answer(watched.switch, differs(MISSING, at=watched.now, fields=ARP), times=300)
    assert watched.look() == []


def test_differences_that_are_resolved_and_come_back_are_told(watched: Watched) -> None:
    agree(watched.switch, 200, fields=IP)
    answer(watched.switch, differs(MISSING, fields=ARP), times=3)
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "differs")]
    watched.switch.resolved(watched.now)
    assert watched.look() == [(EventKind.DIFFERENCE_ENDED, None)]
    assert watched.look() == []
    answer(watched.switch, differs(MISSING, at=watched.now, fields=ARP))
    assert watched.look() == [(EventKind.DIFFERENCE_BEGAN, None)]
    assert watched.ring.all()[-1].text == (
        "mirror same of openflow differs from production again: a rule is missing, all where arp"
    )


def test_a_difference_that_lasts_in_the_tables_for_hours_has_not_ended(watched: Watched) -> None:
    agree(watched.switch, 200, fields=IP)
    watched.switch.ordered(unasked(PRIORITY))
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "differs")]
    watched.now += 2 * WINDOW
    watched.switch.compared_tables(tables(watched.now, WINDOW, WINDOW, ("mirror: priority=11",)))
    assert watched.look() == []
    watched.switch.compared_tables(tables(watched.now, 1.0))
    watched.switch.resolved(watched.now)
    assert watched.look()[0] == (EventKind.DIFFERENCE_ENDED, None)


def test_a_difference_that_a_new_process_does_not_know_is_not_called_mended(watched: Watched) -> None:
    agree(watched.switch, 200, fields=IP)
    answer(watched.switch, differs(MISSING))
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "differs")]
    watched.engine.comparisons.forget("openflow", "same")
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "too-little"), (EventKind.DIFFERENCE_ENDED, None)]
    assert watched.ring.all()[-1].text == (
        "the difference between mirror same of openflow and production of the last 20 s is forgotten: the verdict has"
        " begun again"
    )
    agree(watched.engine.of("same", watched.now).of_switch("10.10.0.11:40002"), 200, at=watched.now, fields=IP)
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "agrees")]


def test_a_mended_master_agrees_again_an_hour_later(watched: Watched) -> None:
    agree(watched.switch, 200, fields=IP)
    answer(watched.switch, differs(MISSING))
    watched.look()
    watched.switch.resolved(watched.now)
    watched.look()
    watched.now += WINDOW
    agree(watched.switch, 200, at=watched.now, fields=IP)
    assert watched.look() == [(EventKind.VERDICT_CHANGED, "agrees")]


def test_the_status_has_the_verdict_of_the_last_look(watched: Watched) -> None:
    agree(watched.switch, 200, fields=IP)
    assert watched.watch.view("openflow", "same") is None
    watched.look()
    view = watched.watch.view("openflow", "same")
    assert view is not None
    assert view.verdict is Verdict.AGREES
    assert view.summary == (
        "200 of 200 comparable answers equal, 200 of 200 PACKET_INs comparable, tables equal 100 % of the time"
    )
    candidate = watched.watch.view("openflow", "candidate")
    assert candidate is not None
    assert candidate.verdict is Verdict.TOO_LITTLE
    assert watched.watch.view("openflow", "audit") is None


def test_a_twin_that_differs_is_no_event() -> None:
    engine, ring = ComparingEngine(), EventRing(lambda: 0.0)
    watch = VerdictWatch(verdicts(engine), ring)
    for name in ("candidate", "same"):
        switch = engine.of(name).of_switch("10.10.0.11:40001")
        agree(switch, 200, fields=IP)
        answer(switch, differs(PRIORITY, fields=IP), times=30)
    watch.look(10.0)
    assert [(one.mirror, one.code) for one in ring.all()] == [("candidate", "agrees")]
    assert watch.view("openflow", "same") is None
