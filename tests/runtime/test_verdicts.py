"""Verdicts of a run: what the API shows, by the sums of several engines."""

import time
from datetime import datetime
from typing import Any

import pytest

from natmirror.api.times import show as show_time
from natmirror.openflow.comparison.results import Difference, DifferenceKind, Evidence
from natmirror.openflow.comparison.shown import Verdict, VerdictEntry
from natmirror.openflow.messages import Message, Type
from natmirror.rules import OverrideKind, Overrides
from natmirror.runtime.verdicts import WINDOW
from tests.helpers.compared import (
    ARP,
    IP,
    MISSING,
    NO_ANSWER,
    RULES,
    ComparingEngine,
    agree,
    answer,
    differs,
    tables,
    verdicts,
)
from tests.helpers.declared import assert_declared
from tests.helpers.overrides import override

NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines' clock is at NOW while the time of day is what it is."""
    monkeypatch.setattr(time, "monotonic", lambda: NOW)


def compared(at: float = NOW - 60) -> ComparingEngine:
    """Return an engine in which candidate and twin have agreed 60 s ago."""
    made = ComparingEngine()
    for mirror in ("candidate", "same"):
        agree(made.of(mirror, at).of_switch("10.10.0.11:40001"), 200, at=at, fields=IP)
    return made


def shown(*engines: ComparingEngine, **arguments: Any) -> list[VerdictEntry]:
    return [*verdicts(*engines).show(arguments)]


def test_without_a_comparison_there_is_no_moment_since_which() -> None:
    assert [one["since"] for one in shown(ComparingEngine(), ComparingEngine())] == [None, None]


def test_a_mirror_that_a_command_has_paused_says_so() -> None:
    made = verdicts(compared())
    rules = made.rules()
    pause = override(rules, OverrideKind.PAUSE, "candidate")
    made.rules = lambda: Overrides({pause.key: pause}).applied(rules)
    candidate, same = made.show({})
    assert candidate["verdict"] == Verdict.TOO_LITTLE
    assert candidate["reasons"] == ["a command has paused the mirror: natmirror mirror resume openflow/candidate"]
    assert same["verdict"] == Verdict.AGREES


def test_each_master_with_the_key_has_a_verdict() -> None:
    found = shown(compared(), compared())
    assert [(one["mirror"], one["twin"], one["verdict"]) for one in found] == [
        ("candidate", "same", Verdict.AGREES),
        ("same", None, Verdict.AGREES),
    ]
    assert found[0]["answers"]["comparable"] == found[0]["twin_answers"]["comparable"] == 400  # type: ignore[index]
    assert found[0]["sessions"]["open"] == 2
    for one in found:
        assert_declared(VerdictEntry, one)


def test_what_was_found_at_another_address_is_about_another_program() -> None:
    moved = RULES.replace("10.20.0.13", "10.20.0.17")
    candidate, same = verdicts(compared(), rules_text=moved).show({})
    assert (candidate["since"], candidate["answers"]["comparable"]) == (None, 0)
    assert candidate["twin_answers"] is not None
    assert candidate["twin_answers"]["comparable"] == same["answers"]["comparable"] == 200
    candidate, same = verdicts(compared(), rules_text=RULES.replace("10.20.0.14", "10.20.0.18")).show({})
    assert candidate["verdict"] == Verdict.TOO_LITTLE
    assert candidate["reasons"] == ["the twin has 0 comparable answers, of 100 that are needed"]


def test_a_filter_chooses_one() -> None:
    [one] = shown(compared(), service="openflow", mirror="same")
    assert one["mirror"] == "same"
    assert len(shown(compared(), service="openflow")) == 2


def test_a_twin_is_said_to_be_one() -> None:
    candidate, twin = shown(compared())
    assert (candidate["is_twin"], twin["is_twin"]) == (False, True)
    assert any("noise" in note for note in twin["notes"])
    assert not any("noise" in note for note in candidate["notes"])


def test_a_mirror_without_the_key_is_refused_with_its_name() -> None:
    with pytest.raises(
        ValueError,
        match=r"mirror openflow/audit is not compared.*verdict: on.*compared are openflow/candidate, openflow/same",
    ):
        shown(compared(), service="openflow", mirror="audit")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            {"service": "openflow", "mirror": "candidat"},
            "there is no mirror openflow/candidat: did you mean",
        ),
        ({"mirror": "zzz"}, "there is no mirror zzz: there are candidate, same"),
        ({"service": "zzz"}, "there is no mirror zzz: there are openflow/candidate, openflow/same"),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_there_are(names: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        shown(compared(), **names)


def test_without_a_moment_it_is_about_the_last_hour() -> None:
    engine = compared(at=NOW - 2 * WINDOW)
    switch = engine.of("same").of_switch("a")
    agree(switch, 7, at=NOW - 100)
    [one] = shown(engine, mirror="same")
    assert one["answers"]["packet_ins"] == 7
    assert one["verdict"] == Verdict.TOO_LITTLE
    [one] = shown(engine, mirror="same", since=show_time(time.time() - 3 * WINDOW))
    assert one["answers"]["packet_ins"] == 207


def test_the_limits_of_the_request_are_used() -> None:
    engine = compared()
    answer(engine.of("same").of_switch("a"), differs(NO_ANSWER, at=NOW - 1))
    [one] = shown(engine, mirror="same")
    assert one["verdict"] == Verdict.DIFFERS
    [one] = shown(engine, mirror="same", fail_below=99.0)
    assert one["verdict"] == Verdict.AGREES
    [one] = shown(engine, mirror="same", fail_below=99.0, at_least=500)
    assert one["verdict"] == Verdict.TOO_LITTLE


def test_a_difference_has_its_times_and_its_example() -> None:
    engine = compared()
    switch = engine.of("same").of_switch("10.10.0.12:40002")
    switch.datapath_id = 7
    messages = (("switch", NOW - 5, Message(4, Type.PACKET_IN, 1, b"\x04\x0a\0\x09\0\0\0\x01x")),)
    evidence = Evidence("in_port=1,arp", ("add priority=10,arp",), (), messages)
    answer(switch, differs(MISSING, at=NOW - 5, fields=ARP, evidence=evidence), times=3)
    switch.compared_tables(tables(NOW, 5.0, 5.0, ("production: priority=10,arp",), doubtful=1))
    switch.session_ended(NOW - 1, "mirror-reset")
    switch.resolved(NOW)
    [one] = shown(engine, mirror="same", messages=True)
    assert_declared(VerdictEntry, one)
    missing, ended = one["differences"]
    assert (missing["text"], missing["where"], missing["count"]) == ("a rule is missing", "arp", 3)
    assert ended["kind"] == DifferenceKind.SESSION_ENDED
    assert ended["example"] is None
    assert missing["first_at"] < (missing["resolved_at"] or "")
    example = missing["example"]
    assert example is not None
    assert (example["switch"], example["datapath_id"]) == ("10.10.0.12:40002", 7)
    assert example["messages"] is not None
    assert [(message["sender"], message["hex"]) for message in example["messages"]] == [
        ("switch", "040a00090000000178")
    ]
    assert abs(time.time() - 5 - datetime.fromisoformat(example["messages"][0]["at"]).timestamp()) < 2
    assert one["tables"]["differing"] == ["10.10.0.12:40002 production: priority=10,arp"]
    assert one["sessions"]["latest_ended"][0]["reason"] == "mirror-reset"
    [one] = shown(engine, mirror="same")
    assert one["differences"][0]["example"]["messages"] is None  # type: ignore[index]


def test_beside_a_twin_it_is_said_how_often_the_twin_differs() -> None:
    engine = compared()
    extra = Difference(DifferenceKind.RULE_MISSING, "a rule is missing")
    for mirror, count in (("candidate", 30), ("same", 20)):
        answer(engine.of(mirror).of_switch("a"), differs(extra, at=NOW - 1), times=count)
    one = shown(engine)[0]
    [difference] = one["differences"]
    assert (difference["count"], difference["twin_count"], difference["counts"]) == (30, 20, False)
    assert 0 < (difference["chance"] or 0) < 1
    assert one["verdict"] == Verdict.AGREES
